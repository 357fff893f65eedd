"""Of two rows with one key the one that has less in a column stays, whoever comes first."""

import threading
from itertools import permutations

import pytest
import sqlalchemy as sa

from ingestion_assets.engine import database
from ingestion_assets.engine.stream import Batch, Covered, Rows
from ingestion_assets_tests.engine.things import STATED, Blocks
from ingestion_assets_tests.tables import empty

TABLE = sa.Table(
    "shared",
    sa.MetaData(),
    sa.Column("said", sa.Text, nullable=False),
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("source", sa.Text, nullable=False),
    schema="raw",
)


@pytest.fixture
def commit(store, database_url):
    """Commit rows 0..2 as one source tells them, or others; how many were new."""
    TABLE.metadata.create_all(database.engine(database_url))

    def committed(source: str, *ids: int) -> int:
        numbers = ids or (0, 1, 2)
        lines = "".join(f"{source} says\t{number}\t{source}\n" for number in numbers).encode()
        rows = Rows(TABLE, lines, len(numbers), least="source")
        writer = store.open(Blocks(source, (), 9))
        return writer.commit(Batch(Covered(0, 9, STATED), (rows,))).inserted

    return committed


def stored(connection):
    """The table."""
    return connection.execute("SELECT id, source, said FROM raw.shared ORDER BY 1").fetchall()


@pytest.mark.parametrize("order", list(permutations("abc")))
def test_any_order_leaves_the_same_rows(commit, connection, order):
    """Those of the least source, whole; and each is new once."""
    assert [commit(source) for source in order] == [3, 0, 0]
    assert stored(connection) == [(number, "a", "a says") for number in range(3)]


def test_a_part_that_is_shared(commit, connection):
    """What only the greater one has stays its own."""
    assert commit("b", 1, 2, 3) == 3
    assert commit("a", 0, 1) == 1
    assert stored(connection) == [
        (0, "a", "a says"),
        (1, "a", "a says"),
        (2, "b", "b says"),
        (3, "b", "b says"),
    ]


def test_a_row_that_postgres_refuses_does_not_take_the_others_with_it(store, commit, connection):
    """The rest is replaced and inserted as before."""
    commit("b", 1, 2)
    lines = b"a says\t1\ta\na says\tno number\ta\na says\t3\ta\n"
    tally = store.open(Blocks("a", (), 9)).commit(
        Batch(Covered(0, 9, STATED), (Rows(TABLE, lines, 3, least="source"),))
    )
    assert (tally.inserted, tally.rejected, tally.duplicate) == (1, 1, 1)
    assert stored(connection) == [(1, "a", "a says"), (2, "b", "b says"), (3, "a", "a says")]


def test_two_writers_at_once_leave_the_same_rows(commit, connection):
    """Ten times, all rows of both at the same moment."""
    for _ in range(10):
        empty(connection, "raw.shared")
        threads = [threading.Thread(target=commit, args=(source, *range(500))) for source in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {source for _, source, _ in stored(connection)} == {"a"}
