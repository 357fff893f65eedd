"""Where Postgres is: messages that help, and migrations that do not race."""

import socket
import struct
import subprocess
import sys
import threading

import psycopg
import pytest

from ingestion_assets import migrations
from ingestion_assets.engine import database
from ingestion_assets.engine.errors import DatabaseUnavailable, Misconfigured


def test_a_server_that_answers_and_is_new_enough_passes(empty_database_url):
    """Nothing is said."""
    assert database.check(empty_database_url) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mysql://me:hushhush@localhost/db",
        "localhost:5432",
        "dbname=here password=hushhush",
        "postgresql://me:hushhush@localhost/db?nope=1",
        "postgresql://me:hush hush@localhost/db",
        "postgresql://me:hushhush@[localhost/db",
        "postgresql://me:%zzhushhush@localhost/db",
    ],
)
def test_what_is_no_url_is_named_as_such_without_its_password(url):
    """A person has to correct it: the variable, and how it should look."""
    with pytest.raises(
        Misconfigured, match=r"INGESTION_DATABASE_URL.*postgresql://user:password@host/name"
    ) as caught:
        database.check(url)
    assert "hush" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_server_that_does_not_answer_is_another_matter():
    """It may come back: what to do is said, the password is not."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(DatabaseUnavailable, match="Start it, or correct INGESTION_DATABASE_URL") as caught:
        database.check(f"postgresql://me:hushhush@127.0.0.1:{port}/db")
    assert "hush" not in str(caught.value)


def test_a_server_that_is_too_old_is_refused():
    """One that says it is Postgres 14; it needs to say no more."""

    def message(kind, body):
        return kind + struct.pack("!i", len(body) + 4) + body

    def serve():
        client, _ = listener.accept()
        with client:
            for answer in (b"N", b"N"):  # neither GSSAPI nor TLS
                size, code = struct.unpack("!ii", client.recv(8, socket.MSG_WAITALL))
                if code not in (80877103, 80877104):
                    break
                client.sendall(answer)
            client.recv(size - 8, socket.MSG_WAITALL)
            client.sendall(message(b"R", struct.pack("!i", 0)))
            client.sendall(
                message(b"S", b"server_version\x0014.11\0") + message(b"S", b"client_encoding\0UTF8\0")
            )
            client.sendall(message(b"Z", b"I"))
            client.recv(100)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(Misconfigured, match="Postgres 14 is too old: version 15 or newer"):
            database.check(
                f"postgresql://me@127.0.0.1:{listener.getsockname()[1]}/db?sslmode=disable&gssencmode=disable"
            )
        thread.join(5)


def test_several_processes_may_migrate_at_once(empty_database_url, project):
    """One works, the others wait, and all find the tables there."""
    code = (
        "import sys; from ingestion_assets import migrations; from ingestion_assets.engine import database;"
        "input(); database.migrate(sys.argv[1], migrations.SCRIPTS)"
    )
    command = [sys.executable, "-c", code, empty_database_url]
    processes = [subprocess.Popen(command, cwd=project, stdin=subprocess.PIPE) for _ in range(3)]
    for process in processes:
        process.stdin.write(b"\n")
        process.stdin.close()
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    with psycopg.connect(empty_database_url) as connection:
        assert len(connection.execute("SELECT * FROM public.migrations").fetchall()) == 1
        assert connection.execute("SELECT count(*) FROM ops.coverage").fetchone() == (0,)


def test_a_migration_that_fails_leaves_nothing(empty_database_url):
    """All steps are one transaction: something in its way, and the schema is as it was."""
    with psycopg.connect(empty_database_url, autocommit=True) as other:
        other.execute("CREATE SCHEMA raw")
        other.execute("CREATE TABLE raw.evm_transactions ()")
        with pytest.raises(Exception, match="already exists"):
            database.migrate(empty_database_url, migrations.SCRIPTS)
        assert other.execute("SELECT to_regclass('ops.coverage')").fetchone() == (None,)
        other.execute("DROP TABLE raw.evm_transactions")
        database.migrate(empty_database_url, migrations.SCRIPTS)
        assert other.execute("SELECT count(*) FROM ops.coverage").fetchone() == (0,)
