"""Of two rows with one key that of the later reading stays; and what a batch says of other streams is done with it."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
import sqlalchemy as sa

from ingestion_assets.engine import database
from ingestion_assets.engine.coverage import difference, union
from ingestion_assets.engine.errors import Busy, DatabaseUnavailable
from ingestion_assets.engine.exclusive import exclusive
from ingestion_assets.engine.marks import reopen
from ingestion_assets.engine.stream import Batch, Covered, Newest, Reopens, Rows
from ingestion_assets_tests.engine.things import STATED, Blocks

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
TABLE = sa.Table(
    "rated",
    sa.MetaData(),
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("elo", sa.Text, nullable=False),
    sa.Column("city", sa.Text),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
    sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
    schema="raw",
)
RULE = Newest(("seen_at",), since="as_of", digest="digest", partial=("city",))


@pytest.fixture
def commit(store, database_url):
    """Commit one row as a reading of some day tells it, and reopen what it has changed."""
    TABLE.metadata.create_all(database.engine(database_url))

    def committed(day, elo, city="M"):
        at = (BEGAN + timedelta(days=day)).isoformat()
        line = f"1\t{elo}\t{city or chr(92) + 'N'}\t{elo}\t{at}\t{at}\n".encode()
        changed = sa.select(TABLE.c.id).where(TABLE.c.as_of == BEGAN + timedelta(days=day))
        batch = Batch(
            Covered(0, 9, STATED),
            (Rows(TABLE, line, 1, newest=RULE),),
            reopens=(Reopens("details", changed),),
        )
        return store.open(Blocks("listing", (), 9)).commit(batch).inserted

    return committed


def row(connection):
    """What it says, where it is from, and for how many days it has said so and was seen."""
    elo, city, since, seen = connection.execute("SELECT elo, city, as_of, seen_at FROM raw.rated").fetchone()
    return elo, city, (since - BEGAN).days, (seen - BEGAN).days


@pytest.mark.parametrize("order", list(permutations([(1, "a"), (2, "b"), (3, "c")])))
def test_whatever_the_order_the_latest_reading_stays(commit, connection, order):
    """And the row is new once."""
    assert sum(commit(day, elo) for day, elo in order) == 1
    assert row(connection) == ("c", "M", 3, 3)


def test_a_reading_that_says_the_same_keeps_the_moment_since_which_it_is_so(commit, connection):
    """A, A, B, B, A: each change has its own moment, also the way back."""
    found = []
    for day, elo in enumerate("aabba"):
        commit(day, elo)
        found.append(row(connection)[2:])
    assert found == [(0, 0), (0, 1), (2, 2), (2, 3), (4, 4)]


def test_what_one_provider_does_not_know_stays_what_another_told(commit, connection):
    """NULL takes no value's place there."""
    commit(1, "a", "Казань")
    commit(2, "b", None)
    assert row(connection)[:2] == ("b", "Казань")
    commit(3, "b", "Москва")
    assert row(connection)[:2] == ("b", "Москва")


def test_the_same_reading_twice_changes_nothing(commit, connection):
    """A replay of a page."""
    commit(1, "a")
    assert commit(1, "b") == 0
    assert row(connection)[0] == "a"


def test_what_has_changed_is_wanted_again_and_nothing_else(commit, store):
    """In the transaction of the rows."""
    details = store.open(Blocks("details", (), 9))
    details.commit(Batch(Covered(0, 9, STATED)))
    commit(1, "a")
    assert store.covered(["details"]) == {"details": ((0, 0), (2, 9))}
    details.commit(Batch(Covered(1, 1, STATED)))
    commit(2, "a")
    assert store.covered(["details"]) == {"details": ((0, 9),)}


def test_positions_are_reopened_one_by_one_whatever_is_around_them(store):
    """Those that are not covered cost nothing."""
    writer = store.open(Blocks("details", (), 99))
    for lo, hi in ((0, 10), (20, 20), (30, 60)):
        writer.commit(Batch(Covered(lo, hi, STATED)))
    gone = {0, 5, 10, 15, 20, 45, 99}
    store.transaction(lambda c: reopen(c, "details", gone))
    left = difference([(0, 10), (20, 20), (30, 60)], [(n, n) for n in gone])
    assert store.covered(["details"])["details"] == left


@pytest.mark.parametrize("step", [1, -1, 7])
def test_single_positions_in_any_order_become_the_same_few_ranges(store, step):
    """Forwards, backwards and mixed; holes stay holes."""
    wanted = [n for n in range(60) if n not in (13, 40, 41)]
    writer = store.open(Blocks("details", (), 99))
    order = wanted[::step] if abs(step) == 1 else sorted(wanted, key=lambda n: (n * step) % 60)
    for position in order:
        writer.commit(Batch(Covered(position, position, STATED)))
    assert store.covered(["details"])["details"] == union((n, n) for n in wanted)


def test_one_holds_a_name_to_itself_until_it_ends(store):
    """Another name is free, and afterwards so is this one."""
    with exclusive(store, "games", "run a") as still_held:
        still_held()
        with exclusive(store, "players", "run b"):
            pass
        with (
            pytest.raises(Busy, match="games is being imported already by run a"),
            exclusive(store, "games", "run b"),
        ):
            pass
    with exclusive(store, "games", "run b"):
        pass


def test_a_lock_that_was_lost_is_noticed(store, connection):
    """Its connection is gone; whoever works on must not go on as if nothing were."""
    with exclusive(store, "games", "run a") as still_held:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'run a'"
        )
        with pytest.raises(DatabaseUnavailable, match="what is committed stays"):
            still_held()
