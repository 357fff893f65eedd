"""One transaction for rows, dead letters and the mark; what Postgres refuses; two writers; a database that goes away."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import replace

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects.postgresql import JSONB

from ingestion_assets.engine import database, rows
from ingestion_assets.engine.coverage import union
from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.errors import DatabaseUnavailable, Fenced, Transient
from ingestion_assets.engine.marks import cover, is_outdone, raise_evidence, uncover_beyond, unprove
from ingestion_assets.engine.store import connection_pool
from ingestion_assets.engine.stream import (
    LEVELS,
    Batch,
    Covered,
    Evidence,
    Raised,
    Rejected,
    Rows,
    Settled,
    Tally,
    Unproved,
)
from ingestion_assets_tests.engine.things import (
    STATED,
    Blocks,
    Countdown,
    Death,
    Feed,
    SteppingPool,
    Thing,
    Token,
    batch,
    coverage,
    die,
    forget,
    impatient,
    snapshot,
    table,
)

pytestmark = pytest.mark.usefixtures("shelf")

EMPTY = {"rows": [], "letters": [], "unproved": [], "cursors": [], "covered": []}
STREAM = Blocks("blocks", (), last=99)


def covered(lo, hi, things=(), evidence=STATED):
    """A whole range of the stream `blocks`."""
    return batch(Covered(lo, hi, evidence), "blocks", things)


def letters(connection):
    """Reason, raw and range of the open dead letters."""
    return connection.execute(
        "SELECT reason, raw, lo, hi FROM ops.dead_letters WHERE settled_at IS NULL ORDER BY id"
    ).fetchall()


# One transaction


@pytest.mark.parametrize(
    "mark",
    [Covered(2**63 - 2, 2**63, STATED), Unproved(2**63, 2**63, "too far"), Token(1)],
    ids=["covered", "unproved", "cursor"],
)
def test_a_mark_that_fails_leaves_no_rows_and_no_letters(store, connection, mark):
    """Positions beyond bigint fail here; the cursor fails because somebody else has moved it."""
    writer = store.open(STREAM)
    if isinstance(mark, Token):
        store.open(STREAM).commit(batch(Token(7), "blocks", ()))
    before = snapshot(connection)
    with pytest.raises((psycopg.Error, Fenced)):
        writer.commit(batch(mark, "blocks", [Thing(0), Thing(1, kind="rejected"), Thing(2, kind="null")]))
    assert snapshot(connection) == before


def test_rows_that_fail_leave_no_mark_and_no_letters(store, connection):
    """A table that is not there is no fault of a row."""
    missing = sa.Table("missing", sa.MetaData(), sa.Column("a", sa.Text), schema="raw")
    bad = Batch(
        Covered(0, 9, STATED),
        (covered(0, 9, [Thing(1)]).rows[0], Rows(missing, b"x\n", 1)),
        (Rejected(b"r", "w"),),
    )
    with pytest.raises(psycopg.errors.UndefinedTable):
        store.open(STREAM).commit(bad)
    assert snapshot(connection) == EMPTY


def test_dying_at_any_step_of_a_commit_leaves_all_of_it_or_nothing(store, connection):
    """Before, between and after its statements, and on both sides of COMMIT."""
    whole = covered(0, 9, [Thing(0), Thing(1, kind="rejected"), Thing(2, kind="null"), Thing(3)])
    store.open(STREAM).commit(whole)
    everything = snapshot(connection)
    outcomes = []
    for steps in range(1, 100):
        forget(connection)
        writer = store.open(STREAM)
        writer._store = impatient(SteppingPool(store.pool, Countdown(steps, die)))
        try:
            writer.commit(whole)
        except Death:
            found = snapshot(connection)
            assert found in (EMPTY, everything)
            outcomes.append(found == everything)
        else:
            break
    assert outcomes == sorted(outcomes)  # nothing up to COMMIT, everything after it
    assert len(outcomes) > 10
    assert set(outcomes) == {False, True}


# Rows


def test_rows_that_are_stored_already_are_duplicates(store):
    """Whether they come again in part or in whole, or stand twice in one batch."""
    writer = store.open(STREAM)
    first = covered(0, 4, [Thing(0), Thing(1)])
    assert writer.commit(first) == Tally(fetched=2, inserted=2, batches=1)
    assert writer.commit(first) == Tally(fetched=2, duplicate=2, batches=1)
    assert writer.commit(covered(0, 4, [Thing(0), Thing(2)])) == Tally(
        fetched=2, inserted=1, duplicate=1, batches=1
    )
    twice = Rows(table, Thing(3).line("blocks", 0) * 2, 2)
    assert store.open(STREAM).commit(Batch(Covered(3, 3, STATED), (twice,))).duplicate == 1


@pytest.mark.parametrize("expect_new", [True, False], ids=["new", "known"])
@pytest.mark.parametrize(
    ("kind", "why"),
    [("null", "null value"), ("overflow", "overflow"), ("number", "overflow")],
)
def test_a_row_that_postgres_refuses_becomes_a_dead_letter(store, connection, kind, why, expect_new):
    """With its payload as received and Postgres' own words; all others are stored."""
    writer = store.open(STREAM)
    if not expect_new:
        writer.commit(covered(50, 51, [Thing(50)]))
        writer.commit(covered(50, 51, [Thing(50)]))  # from now on it is careful
    bad = Thing(5, "q", kind)
    tally = writer.commit(covered(0, 9, [*map(Thing, range(5)), bad, *map(Thing, range(6, 10))]))
    assert (tally.fetched, tally.inserted, tally.rejected, tally.duplicate) == (10, 9, 1, 0)
    [(reason, raw, lo, hi)] = letters(connection)
    assert reason.startswith("Postgres refuses it: ")
    assert why in reason
    assert "stage" not in reason, "the same wherever it was refused"
    assert (bytes(raw), lo, hi) == (bad.payload, 0, 9)


@given(kinds=st.lists(st.sampled_from(["good", "good", "good", "null", "number"]), max_size=14))
def test_any_mixture_of_good_and_refused_rows_is_sorted_out(store, connection, kinds):
    """Not one good row is lost, not one bad one is stored, and none counts twice."""
    forget(connection)
    things = [Thing(position, kind=kind) for position, kind in enumerate(kinds)]
    tally = store.open(STREAM).commit(covered(0, 20, things))
    good = [thing.position for thing in things if thing.kind == "good"]
    assert [row[1] for row in snapshot(connection)["rows"]] == good
    assert tally == Tally(len(things), len(good), 0, len(things) - len(good), 1)


def test_json_nested_too_deeply_for_postgres_is_the_rows_fault_not_the_databases(store, connection):
    """Postgres calls this an operational error, and would say so again for ever."""
    deep = b"[" * 100_000 + b"]" * 100_000
    line = Thing(1).line("blocks", 0).replace(rows.payload(Thing(1).payload), deep)
    block = Rows(table, line + Thing(2).line("blocks", 0), 2)
    tally = impatient(store.pool, attempts=2).open(STREAM).commit(Batch(Covered(0, 9, STATED), (block,)))
    assert (tally.inserted, tally.rejected) == (1, 1)
    assert "stack depth" in letters(connection)[0][0]
    assert bytes(letters(connection)[0][1]) == deep


def test_a_value_too_large_for_its_index_is_the_rows_fault(store):
    """The same of a key that no index page can hold."""
    noise = "".join(chr(0x4E00 + n * 7919 % 20000) for n in range(5000))
    tally = impatient(store.pool, attempts=2).open(STREAM).commit(covered(0, 9, [Thing(1, noise), Thing(2)]))
    assert (tally.inserted, tally.rejected) == (1, 1)


def test_tables_of_one_name_in_two_schemas_do_not_meet(store, connection, shelf):
    """Their staging tables differ too."""
    other = sa.Table("things", sa.MetaData(), sa.Column("word", sa.Text, primary_key=True), schema="core")
    other.create(database.engine(shelf))
    writer = store.open(STREAM)
    for _ in range(2):
        writer.commit(
            Batch(Covered(0, 9, STATED), (covered(0, 9, [Thing(1)]).rows[0], Rows(other, b"x\n", 1)))
        )
    assert connection.execute("SELECT word FROM core.things").fetchall() == [("x",)]
    assert len(snapshot(connection)["rows"]) == 1


def test_reasons_may_hold_what_postgres_cannot(store, connection):
    """A source's own words, with NUL and half a character."""
    reason = "no \0 \ud800 name"
    writer = store.open(STREAM)
    writer.commit(Batch(Covered(0, 9, STATED), rejected=(Rejected(b"\0\xff", reason),)))
    writer.commit(Batch(Unproved(10, 19, reason)))
    assert letters(connection) == [("no ␀ \ufffd name", b"\0\xff", 0, 9)]
    assert snapshot(connection)["unproved"] == [("blocks", 10, 19, "no ␀ \ufffd name")]


# Marks


RANGE = st.tuples(st.integers(0, 30), st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(ranges=st.lists(RANGE, max_size=12))
def test_coverage_stays_disjoint_and_grows_instead_of_multiplying(connection, ranges):
    """In any order: in the end there are as many ranges as the union has."""
    forget(connection)
    with connection.transaction():
        for lo, hi in ranges:
            cover(connection, ["blocks"], Covered(lo, hi, STATED))
    assert coverage(connection).get("blocks", ()) == union(ranges)
    assert connection.execute("SELECT count(*) FROM ops.coverage").fetchone() == (len(union(ranges)),)


@given(ranges=st.lists(st.tuples(RANGE, st.sampled_from("ab")), max_size=12))
def test_ranges_with_different_evidence_stay_apart(connection, ranges):
    """The first who covered a position is the one who is believed."""
    forget(connection)
    first: dict[int, str] = {}
    with connection.transaction():
        for (lo, hi), by in ranges:
            cover(connection, ["blocks"], Covered(lo, hi, Evidence("stated", by)))
            first = dict.fromkeys(range(lo, hi + 1), by) | first
    found = connection.execute("SELECT lo, hi, provider FROM ops.coverage").fetchall()
    assert {position: by for lo, hi, by in found for position in range(lo, hi + 1)} == first
    assert coverage(connection).get("blocks", ()) == union(r for r, _ in ranges)


MARK = st.tuples(RANGE, st.sampled_from(["stated", "counted", "receipts"]), st.sampled_from("ab"))


@given(marks=st.lists(st.tuples(MARK, st.sets(st.sampled_from("xyz"), min_size=1)), max_size=12))
def test_many_streams_at_once_are_covered_like_each_by_itself(connection, marks):
    """Every position keeps the strongest evidence; of equally strong ones the first."""
    forget(connection)
    believed: dict[tuple[str, int], tuple[int, str]] = {}
    with connection.transaction():
        for ((lo, hi), level, by), streams in marks:
            cover(connection, sorted(streams), Covered(lo, hi, Evidence(level, by)), records=5)
            for stream in streams:
                for position in range(lo, hi + 1):
                    before = believed.get((stream, position))
                    if before is None or LEVELS.index(level) > before[0]:
                        believed[stream, position] = (LEVELS.index(level), by)
    found = connection.execute("SELECT stream, lo, hi, evidence, provider FROM ops.coverage").fetchall()
    assert {
        (stream, position): (LEVELS.index(level), by)
        for stream, lo, hi, level, by in found
        for position in range(lo, hi + 1)
    } == believed
    assert len(found) == len({(stream, lo) for stream, lo, *_ in found})


@pytest.mark.parametrize(
    "streams", [["sparse"], ["sparse", "also sparse"]], ids=["one stream", "two streams"]
)
def test_a_mark_costs_the_same_however_many_there_are(connection, streams):
    """After thousands of ranges that will never be one, in the middle and at the end of them, it reads a handful."""
    ranges = 3_000
    for table_name, extra in (("coverage", "1, 'stated', 'a'"), ("unproved", "'moved'")):
        column = "records, evidence, provider" if table_name == "coverage" else "reason"
        connection.execute(
            f"INSERT INTO ops.{table_name} (stream, lo, hi, {column})"
            f" SELECT stream, n * 10, n * 10 + 1, {extra}"
            " FROM unnest(%s::text[]) AS stream, generate_series(1, %s) AS n",
            [streams, ranges],
        )
    connection.execute("ANALYZE ops.coverage, ops.unproved")
    for at in (ranges * 5, ranges * 10 + 5):
        with connection.transaction():
            mark = Covered(at + 4, at + 5, STATED)
            cover(connection, streams, mark)
            assert not is_outdone(connection, streams, mark)
            raise_evidence(connection, streams, Raised(at, at + 5, Evidence("counted", "b")))
            unprove(connection, streams, Unproved(at + 7, at + 8, "moved"))
            ((read,),) = connection.execute(
                "SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables"
                " WHERE schemaname = 'ops' AND relname IN ('coverage', 'unproved')"
            ).fetchall()
        assert read < 30 * len(streams)


def test_what_lies_beyond_a_fork_is_wanted_again(store, connection):
    """Covered, unproved and dead alike; what lies before it stays."""
    writer = store.open(STREAM)
    writer.commit(covered(0, 5, [Thing(2, kind="rejected")]))
    writer.commit(covered(6, 9, [Thing(8, kind="rejected")]))
    writer.commit(batch(Unproved(10, 15, "moved"), "blocks", []))
    with connection.transaction():
        uncover_beyond(connection, ["blocks"], 5)
    assert coverage(connection) == {"blocks": ((0, 5),)}
    assert store.unproved(["blocks"]) == {}
    assert len(letters(connection)) == 1


def test_rows_that_are_no_longer_true_go_with_the_mark_that_says_so(store, connection):
    """In one transaction: there is never a moment with both, or with neither."""
    writer = store.open(STREAM)
    writer.commit(covered(0, 9, [Thing(1), Thing(7), Thing(8)]))
    again = batch(Covered(5, 9, STATED), "blocks", [Thing(8, "b")])
    writer.commit(replace(again, removes=(sa.delete(table).where(table.c.position.between(5, 9)),)))
    assert [row[:3] for row in snapshot(connection)["rows"]] == [("blocks", 1, "a"), ("blocks", 8, "b")]


def test_a_batch_whose_ground_has_moved_is_not_committed(store, connection):
    """It was read of something that is not true any more: nothing of it stays, and the same batch may pass later."""
    writer = store.open(STREAM)
    needed = sa.select(table.c.position).where(table.c.value == "ground")
    wanting = replace(covered(0, 9, [Thing(1)]), requires=(needed,))
    with pytest.raises(Transient, match="blocks is not true any more"):
        writer.commit(wanting)
    assert snapshot(connection)["rows"] == []
    assert coverage(connection) == {}
    writer.commit(covered(20, 29, [Thing(20, "ground")]))
    writer.commit(wanting)
    assert coverage(connection) == {"blocks": ((0, 9), (20, 29))}


def test_records_of_a_range_are_counted_once(store, connection):
    """Whatever the order, and however often it is committed."""
    writer = store.open(STREAM)
    for lo, hi in [(0, 2), (6, 8), (3, 5), (0, 8)]:
        writer.commit(covered(lo, hi, [Thing(lo)]))
    assert connection.execute("SELECT lo, hi, records FROM ops.coverage").fetchall() == [(0, 8, 3)]


def test_unproved_is_recorded_once_and_gone_when_covered(store):
    """And `holes` and `unproved` say the same as the tables."""
    writer = store.open(STREAM)
    for _ in range(2):
        assert writer.commit(batch(Unproved(3, 5, "moved"), "blocks", [Thing(4)])).batches == 1
    writer.commit(covered(0, 2))
    writer.commit(covered(6, 9))
    assert store.unproved(["blocks"]) == {"blocks": ((3, 5),)}
    assert store.unproved_reasons(["blocks"]) == {"blocks": [(3, 5, "moved")]}
    assert store.holes("blo") == {"blocks": ((3, 5),)}
    writer.commit(covered(3, 5, [Thing(4)]))
    assert store.unproved(["blocks"]) == {}
    assert store.covered(["blocks", "other"]) == {"blocks": ((0, 9),)}
    assert store.holes("blo") == {}


@given(marks=st.lists(st.tuples(RANGE, st.booleans()), max_size=12))
def test_unproved_is_what_was_asked_and_never_proved(connection, marks):
    """However the ranges of one reading and the next are cut."""
    forget(connection)
    asked: set[int] = set()
    proved: set[int] = set()
    with connection.transaction():
        for (lo, hi), is_proved in marks:
            if is_proved:
                cover(connection, ["blocks"], Covered(lo, hi, STATED))
                proved |= set(range(lo, hi + 1))
            else:
                unprove(connection, ["blocks"], Unproved(lo, hi, "why"))
                asked |= set(range(lo, hi + 1))
    found = [position for _, lo, hi, _ in snapshot(connection)["unproved"] for position in range(lo, hi + 1)]
    assert sorted(found) == sorted(asked - proved)


# Dead letters


def test_the_letters_of_a_range_are_those_of_its_last_reading(store, connection):
    """Reading it again settles them; one that is still bad is one open letter, not two."""
    writer = store.open(STREAM)
    for _ in range(3):
        writer.commit(covered(0, 9, [Thing(1, kind="rejected"), Thing(2, kind="null")]))
    assert len(letters(connection)) == 2
    writer.commit(covered(0, 9, [Thing(1), Thing(2, kind="null")]))
    assert len(letters(connection)) == 1
    writer.commit(covered(0, 9, [Thing(1), Thing(2)]))
    assert letters(connection) == []


def test_a_letter_without_a_position_is_settled_by_pages_that_are_cut_elsewhere(store, connection):
    """It waits for what has not been read again yet."""
    writer = store.open(STREAM)
    writer.commit(covered(0, 9, [Thing(7, kind="rejected")]))
    writer.commit(covered(0, 4))
    assert [letter[2:] for letter in letters(connection)] == [(5, 9)]
    writer.commit(covered(8, 12))
    assert [letter[2:] for letter in letters(connection)] == [(5, 7)]
    writer.commit(covered(5, 7, [Thing(7, kind="rejected")]))
    assert [letter[2:] for letter in letters(connection)] == [(5, 7)]


def test_a_letter_that_lies_about_its_position_stays_where_it_was_read(store, connection):
    """Or the reading of some other range would settle it."""
    writer = store.open(STREAM)
    liar = Batch(
        Covered(10, 19, STATED),
        rejected=(Rejected(b"{}", "bad", 5), Rejected(b"[]", "bad", 2**70), Rejected(b"0", "bad", 12)),
    )
    writer.commit(liar)
    assert [letter[2:] for letter in letters(connection)] == [(10, 19), (10, 19), (12, 12)]
    writer.commit(covered(0, 9))
    assert len(letters(connection)) == 3
    writer.commit(liar)
    assert len(letters(connection)) == 3


def test_a_reading_that_proves_nothing_settles_nothing_and_adds_no_letter_twice(store, connection):
    """The range may be covered by another worker, who saw what this one did not."""
    writer = store.open(STREAM)
    writer.commit(covered(0, 9, [Thing(1, kind="rejected")]))
    for _ in range(2):
        writer.commit(batch(Unproved(0, 9, "moved"), "blocks", [Thing(2, kind="rejected")]))
    assert [bytes(raw) for _, raw, *_ in letters(connection)] == [
        Thing(1, kind="rejected").payload, Thing(2, kind="rejected").payload,
    ]  # fmt: skip
    assert snapshot(connection)["unproved"] == []  # it is covered already


def test_letters_of_a_feed_have_no_range(store, connection):
    """Whatever position their source gives them: there is nothing to read again."""
    store.open(STREAM).commit(Batch(Token(1), rejected=(Rejected(b"{}", "bad", 5),)))
    assert letters(connection) == [("bad", b"{}", None, None)]
    assert store.open_letter_ranges(["blocks"]) == []
    assert store.count_open_letters("blo") == {"blocks": 1}


def test_a_bad_record_of_a_feed_that_begins_again_waits_once(store, connection):
    """Twins on one page are two; the same page again adds none."""
    bad = Thing(1, kind="rejected")
    feed = Feed("feed", ((bad, bad), (bad,), (bad, Thing(2, kind="rejected"))))
    drain([feed], store)
    assert connection.execute("SELECT count(*) FROM ops.dead_letters").fetchone() == (3,)


def test_a_letter_that_became_a_row_is_settled_and_counted_where_its_cursor_counts(store, connection):
    """And one that is refused again stays open, once."""
    feed = Feed("feed", ((Thing(1), Thing(2, kind="rejected"), Thing(3, kind="null")),))
    drain([feed], store)
    first, second = (
        number for (number,) in connection.execute("SELECT id FROM ops.dead_letters ORDER BY id")
    )
    writer = store.open(feed)
    assert writer.done["feed"].records == 1
    assert writer.done["feed"].letters == 2
    assert writer.commit(batch(Settled(first), "feed", [Thing(2)])).inserted == 1
    assert writer.commit(batch(Settled(second), "feed", [Thing(3, kind="null")])).rejected == 1
    again = store.open(feed).done["feed"]
    assert (again.records, again.letters) == (2, 1)
    assert store.open(feed).commit(batch(Settled(first), "feed", [Thing(2)])).duplicate == 1
    assert store.open(feed).done["feed"].records == 2


# Two writers


def together(*works):
    """Run all at the same moment; raise what any of them raises."""
    start = threading.Barrier(len(works))
    errors = []

    def run(work):
        start.wait()
        try:
            work()
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=run, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("widths", [(3, 3), (2, 5), (7, 1)])
def test_two_workers_on_one_range_do_no_harm(store, connection, widths):
    """Same batches or overlapping ones, at the same time: the tables are those of one worker."""
    things = tuple(Thing(n // 2, "abc"[n % 3], "rejected" if n % 11 == 5 else "good") for n in range(80))
    drain([Blocks("blocks", things, 40)], store)
    alone = snapshot(connection)
    forget(connection)
    together(*(lambda width=width: drain([Blocks("blocks", things, 40, width)], store) for width in widths))
    assert snapshot(connection) == alone


def test_rows_in_opposite_orders_deadlock_and_are_stored_nevertheless(store, connection):
    """Postgres breaks the deadlock by failing one of the two, which tries again."""
    connection.execute(f"ALTER DATABASE {connection.info.dbname} SET deadlock_timeout = '50ms'")
    tables = [table.to_metadata(sa.MetaData(), name=f"things_{n}") for n in range(2)]
    for copy in tables:
        copy.create(database.engine(store.pool.conninfo))
    line = Thing(1).line("blocks", 0)
    first, second = (Rows(copy, line, 1) for copy in tables)
    both_have_one = threading.Barrier(2)
    attempts = []

    class Meeting:
        """A pool whose writers meet after their first INSERT or COPY, in their first attempt."""

        conninfo = store.pool.conninfo

        @contextmanager
        def connection(self):
            attempts.append(threading.current_thread().name)
            is_first = attempts.count(threading.current_thread().name) == 1
            with store.pool.connection() as real:
                yield MeetingConnection(real, is_first)

    class MeetingConnection:
        def __init__(self, real, is_first) -> None:
            self._real, self._copies, self._is_first = real, 0, is_first

        def __getattr__(self, name):
            return getattr(self._real, name)

        def cursor(self):
            self._copies += 1
            if self._copies == 2 and self._is_first:
                both_have_one.wait(5)
            return self._real.cursor()

    writers = [store.open(Blocks(f"blocks/{n}", (), 9)) for n in range(2)]
    for writer in writers:
        writer._store = impatient(Meeting())
    together(
        lambda: writers[0].commit(Batch(Covered(0, 9, STATED), (first, second))),
        lambda: writers[1].commit(Batch(Covered(0, 9, STATED), (second, first))),
    )
    assert len(attempts) == 3
    assert coverage(connection) == {"blocks/0": ((0, 9),), "blocks/1": ((0, 9),)}
    for copy in tables:
        assert connection.execute(f"SELECT count(*) FROM {copy.fullname}").fetchone() == (1,)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_a_batch_whose_rows_keep_the_one_before_waiting_takes_them_back(store, connection, order):
    """No database sees this deadlock: one waits in Postgres for the other, and that one for its turn."""
    writer = store.open(STREAM)
    copied = threading.Event()
    waited = []

    def first():
        assert copied.wait(timeout=10)
        return writer.commit(batch(Token(1), "blocks", [Thing(n) for n in order]))

    with ThreadPoolExecutor(2) as pool:
        before = pool.submit(first)

        def turn(seconds=None):
            copied.set()
            is_done = bool(wait([before], seconds).done)
            waited.append(is_done)
            return is_done

        behind = pool.submit(writer.commit, batch(Token(2), "blocks", [Thing(2), Thing(3)]), turn)
        assert before.result(timeout=20).inserted == 2
        tally = behind.result(timeout=20)
    assert waited[0] is False
    assert (tally.inserted, tally.duplicate) == (1, 1)
    left = snapshot(connection)
    assert [position for _, position, *_ in left["rows"]] == [1, 2, 3]
    assert left["cursors"] == [("blocks", '{"page": 2}', 2)]


def test_a_cursor_moves_for_one_writer_and_fences_the_other(store, connection):
    """At its beginning and later on; the late one leaves no trace."""
    for first_page in (1, 2):
        quick, late = store.open(STREAM), store.open(STREAM)
        quick.commit(batch(Token(first_page), "blocks", [Thing(first_page)]))
        before = snapshot(connection)
        with pytest.raises(Fenced, match="blocks"):
            late.commit(batch(Token(99), "blocks", [Thing(99), Thing(98, kind="rejected")]))
        assert snapshot(connection) == before
        with pytest.raises(
            Fenced, match="blocks"
        ):  # to the same place: it would go on beside the other for ever
            late.commit(batch(Token(first_page), "blocks", [Thing(first_page)]))
        assert snapshot(connection) == before


def test_a_feed_drained_by_two_at_once_is_stored_once(store, connection):
    """One of them may be fenced; what is stored is what one would have stored."""
    feed = Feed("feed", tuple((Thing(n), Thing(n, kind="rejected")) for n in range(30)))
    drain([feed], store)
    alone = snapshot(connection)
    forget(connection)

    def work():
        with suppress(Fenced):
            drain([feed], store)

    together(work, work, work)
    drain([feed], store)
    assert snapshot(connection) == alone


# A database that goes away


class Severing:
    """A pool that loses its connection right after COMMIT: the commit stands, its acknowledgement does not arrive."""

    def __init__(self, pool, url) -> None:
        self._pool, self._url, self.conninfo = pool, url, url
        self.severed = 0
        self.armed = False

    @contextmanager
    def connection(self):
        """As the pool's own."""
        with self._pool.connection() as connection:
            pid = connection.info.backend_pid
            yield connection
            if self.armed:
                self.armed = False
                self.severed += 1
                with psycopg.connect(self._url, autocommit=True) as killer:
                    killer.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
                connection.execute("SELECT 1")


@pytest.mark.parametrize(
    "mark", [Token(1), Covered(0, 9, STATED), Unproved(0, 9, "moved")], ids=lambda mark: type(mark).__name__
)
def test_a_commit_whose_acknowledgement_was_lost_is_recognised(store, connection, shelf, mark):
    """It is tried again, and changes nothing: no letter twice, no fence against ourselves."""
    pool = Severing(store.pool, shelf)
    writer = impatient(pool).open(STREAM)
    pool.armed = True
    writer.commit(batch(mark, "blocks", [Thing(1), Thing(2, kind="rejected"), Thing(3, kind="null")]))
    assert pool.severed == 1
    found = snapshot(connection)
    assert len(found["rows"]) == 1
    assert len(found["letters"]) == 2
    if isinstance(mark, Token):
        assert found["cursors"] == [("blocks", '{"page": 1}', 1)]
        writer.commit(batch(Token(2), "blocks", [Thing(4)]))
        assert snapshot(connection)["cursors"] == [("blocks", '{"page": 2}', 2)]


def test_a_drain_survives_losing_all_its_connections_again_and_again(shelf, connection):
    """Before, in the middle of, and after statements: the tables are those of a quiet run."""
    streams = [
        Blocks("blocks", tuple(Thing(n, kind=("good", "null", "rejected")[n % 3]) for n in range(30)), 29),
        Feed("feed", tuple((Thing(n), Thing(n, kind="rejected")) for n in range(10))),
    ]
    with connection_pool(shelf, max_size=1) as pool:  # else it pauses for a second over each dead one it kept
        drain(streams, impatient(pool))
        quiet = snapshot(connection)
        forget(connection)

        lost = []

        def lose():
            lost.append(
                connection.execute(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE application_name = 'ingestion_assets' AND datname = current_database()"
                ).fetchone()[0]
            )
            countdown.left = 17 + 5 * len(lost)  # a longer respite each time, or no commit would ever end

        countdown = Countdown(5, lose)
        drain(streams, impatient(SteppingPool(pool, countdown), attempts=10))
    assert len(lost) > 5
    assert sum(lost) >= len(lost)
    assert snapshot(connection) == quiet


def test_a_database_that_stays_away_is_named_without_its_password():
    """And the reader of the message learns that nothing is lost."""
    with (
        connection_pool("postgresql://someone:hush@127.0.0.1:9/nowhere", timeout=0.05) as pool,
        pytest.raises(DatabaseUnavailable) as caught,
    ):
        drain([STREAM], impatient(pool, attempts=2))
    said = str(caught.value)
    assert "nowhere at 127.0.0.1:9" in said
    assert "what is committed stays" in said
    assert "hush" not in said


def test_a_database_that_goes_away_for_good_in_the_middle_leaves_whole_batches(store, connection):
    """What was committed before is there, and the next run goes on from there."""
    stream = Blocks("blocks", tuple(map(Thing, range(30))), 29)

    def gone():
        raise psycopg.OperationalError("the server is gone")

    class Closing(SteppingPool):
        @contextmanager
        def connection(self):
            if countdown.left <= 0:
                gone()
            with super().connection() as opened:
                yield opened

    countdown = Countdown(60, gone)
    with pytest.raises(DatabaseUnavailable, match="the server is gone"):
        drain([stream], impatient(Closing(store.pool, countdown)))
    found = coverage(connection)["blocks"]
    assert found[0][0] == 0
    assert 0 < found[0][1] < 29
    assert len(snapshot(connection)["rows"]) == found[0][1] + 1
    drain([stream], store)
    assert coverage(connection) == {"blocks": ((0, 29),)}


def test_a_table_without_payload_gives_its_line_as_the_letter(store, connection, shelf):
    """Better than nothing."""
    plain = sa.Table(
        "plain",
        sa.MetaData(),
        sa.Column("n", sa.Integer, primary_key=True),
        sa.Column("j", JSONB),
        schema="raw",
    )
    plain.create(database.engine(shelf))
    block = Rows(plain, b"1\t{}\nx\t{}\n", 2)
    assert store.open(STREAM).commit(Batch(Covered(0, 9, STATED), (block,))).rejected == 1
    assert bytes(letters(connection)[0][1]) == b"x\t{}\n"
