"""What all tests share: one embedded Postgres for the session, and a fresh database for each test that asks."""

import atexit
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import fasteners
import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from psycopg import sql

from ingestion_assets import migrations
from ingestion_assets.engine import database
from ingestion_assets.engine.store import Connection, Store, connection_pool

settings.register_profile(
    "ingestion",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("ingestion")

TEMPLATE = "migrated"
FOLDER = "INGESTION_TESTS_FOLDER"  # variable


def pytest_configure(config: pytest.Config) -> None:
    """Choose the folder of the session's Postgres, which its workers inherit; it goes when the session ends.

    Not below pytest's own folder: as root the server runs as another user, whom a second pytest would shut out.
    """
    if not hasattr(config, "workerinput"):
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="ingestion_tests_")
        atexit.register(shutil.rmtree, os.environ[FOLDER], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that at the end no worker waits for another."""
    last = ("engine/", "sandbox/", "sources/")
    items.sort(key=lambda item: ("acceptance/" not in item.nodeid, any(part in item.nodeid for part in last)))


@pytest.fixture(scope="session")
def postgres() -> str:
    """The url of a Postgres server with a migrated template database, shared by all pytest workers."""
    root = Path(os.environ[FOLDER])
    with fasteners.InterProcessLock(str(root / "lock")):
        url = database.embedded(root / "postgres")
        if not (root / "ready").exists():
            with psycopg.connect(url, autocommit=True) as connection:
                for setting in ("fsync = off", "synchronous_commit = off", "full_page_writes = off"):
                    connection.execute(sql.SQL("ALTER SYSTEM SET " + setting))  # type: ignore[arg-type]
                connection.execute("SELECT pg_reload_conf()")
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
            database.migrate(at(url, TEMPLATE), migrations.SCRIPTS)
            (root / "ready").touch()
    return url


def at(url: str, name: str) -> str:
    """The url of another database of the same server."""
    return sa.make_url(url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def empty_database_url(postgres: str) -> Iterator[str]:
    """A database without our schema."""
    yield from fresh(postgres, "template1")


@pytest.fixture
def database_url(postgres: str) -> Iterator[str]:
    """A migrated, empty database of this test's own."""
    yield from fresh(postgres, TEMPLATE)


def fresh(server: str, template: str) -> Iterator[str]:
    """The url of a new database, which goes when the iterator does."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            # a third of the time that the default way takes, which writes every page to the log too
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
    yield at(server, name)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store on a database of this test's own."""
    pool = connection_pool(database_url)
    yield Store(pool)
    pool.close()


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """A connection to look at what is stored, outside of the store."""
    with psycopg.connect(database_url, autocommit=True) as opened:
        yield opened


@pytest.fixture
def project() -> Path:
    """The folder of the checkout."""
    return Path(__file__).resolve().parent.parent
