"""A file becomes lines: every one once, equal ones each for itself, whatever is killed, repeated or overlaps."""

import itertools
import random
from contextlib import suppress

import pytest

from ingestion_assets.engine.drain import drain
from ingestion_assets_tests.engine.things import Countdown, Death, SteppingPool, coverage, die, impatient
from ingestion_assets_tests.sources.statements.tiny import Dropped, fill, history, legacy, raws, same, stored
from ingestion_assets_tests.tables import empty

TWINS = [fill(9), fill(8), fill(8), fill(8), fill(5), fill(5, order=2), fill(1)]


def test_every_line_is_stored_verbatim_with_its_file_and_number(inbox, connection):
    """The header is none of them."""
    inbox.put("one.csv", history(*TWINS))
    inbox.imported()
    (file,) = inbox.inbox.registry.files()
    assert stored(connection, "line, raw, file, account") == [
        (number, raw, file.hash, "tastytrade") for number, raw in enumerate(TWINS, 2)
    ]
    assert coverage(connection) == {file.key: ((1, 8),)}


def test_equal_lines_are_told_apart_by_their_ordinal(inbox, connection):
    """Three fills of one order at one price are three fills."""
    inbox.put("one.csv", history(*TWINS))
    inbox.imported()
    assert [ordinal for line, ordinal in stored(connection, "line, ordinal")] == [0, 0, 1, 2, 0, 0, 0]


def test_a_file_is_imported_once_whatever_its_name(inbox, connection):
    """By its content: a copy, a move and another look change nothing."""
    inbox.put("one.csv", history(*TWINS))
    inbox.imported()
    before = stored(connection)
    inbox.put("copy of one.csv", history(*TWINS))
    assert inbox.look().new == []
    assert drain(inbox.streams(), inbox.store).tally.fetched == 0
    assert stored(connection) == before


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_overlapping_exports_merge_as_multisets(inbox, connection, order):
    """The larger count of each line wins, not the sum and not the set; in whatever order they come."""
    exports = [history(*TWINS[:3]), history(*TWINS[1:5]), history(*TWINS[3:])]
    for number in order:
        inbox.put(f"{number}.csv", exports[number])
        inbox.imported()
    assert raws(connection) == same(TWINS)


def test_two_orders_leave_the_same_tables(inbox, connection):
    """Also which of the files a line is said to stand in."""
    exports = [history(*TWINS[:5]), history(*TWINS[2:]), legacy(history(*TWINS[1:6]))]
    for number, export in enumerate(exports):
        inbox.put(f"{number}.csv", export)
        inbox.imported()
    one = stored(connection)
    empty(connection, "raw.statement_lines", "ops.coverage", "ops.statement_files", "ops.statement_inbox")
    for number, export in reversed(list(enumerate(exports))):
        inbox.put(f"{number}.csv", export)
        inbox.imported()
    assert stored(connection) == one
    assert len(one) == len(TWINS)


def test_an_export_without_totals_holds_the_same_lines(inbox, connection):
    """20 columns and 21, another zone, another spelling of numbers."""
    inbox.put("new.csv", history(fill(5, value='"-1,100.00"')))
    inbox.put("old.csv", legacy(history(fill(5, value="-1100").replace("T15:05:00+0100", "T14:05+0000"))))
    inbox.imported()
    assert len(stored(connection)) == 1


def test_the_same_line_of_two_accounts_is_two_lines(inbox, connection):
    """The folder says whose it is."""
    inbox.put("savings/a.csv", history(fill(1)))
    inbox.put("margin/a.csv", history(fill(1)))
    inbox.imported()
    assert stored(connection, "account") == [("margin",), ("savings",)]


def test_a_bad_line_is_a_dead_letter_and_stops_nothing(inbox, connection):
    """With its place and the reason; the lines around it are stored."""
    inbox.put("one.csv", history(fill(9), fill(8).replace("-100.00", "a lot"), fill(7)))
    assert inbox.imported().tally.rejected == 1
    assert len(stored(connection)) == 2
    ((position, reason, raw),) = connection.execute("SELECT position, reason, raw FROM ops.dead_letters")
    assert (position, reason) == (3, "Value: no number: 'a lot'")
    assert b"a lot" in raw


def test_a_line_outside_of_all_partitions_is_a_dead_letter(inbox, connection):
    """Nobody would find it."""
    inbox.put("one.csv", history(fill(9).replace("2025-", "2199-"), fill(7)))
    assert inbox.imported().tally.rejected == 1
    ((reason,),) = connection.execute("SELECT reason FROM ops.dead_letters")
    assert reason == "dated 2199-03-03, which is not between 1999-12-27 and the end of this week"


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_chunks_of_any_size_give_the_same_lines(inbox, connection, chunk):
    """And cover the file from its first line to its last."""
    inbox.put("one.csv", history(*TWINS))
    drained = inbox.imported(chunk)
    assert drained.tally.batches == -(-7 // chunk)
    assert raws(connection) == same(TWINS)


def test_a_crash_at_every_single_step_is_survived(inbox, connection):
    """Two overlapping files; one death for each step that a run has, then a run in peace."""
    inbox.put("a.csv", history(*TWINS[:5], fill(2).replace("-100.00", "much")))
    inbox.put("b.csv", history(*TWINS[2:]))
    inbox.imported()
    quiet, letters = (
        stored(connection),
        connection.execute("SELECT count(*) FROM ops.dead_letters").fetchone(),
    )
    for steps in range(1, 1000):
        empty(connection, "raw.statement_lines", "ops.coverage", "ops.dead_letters")
        countdown = Countdown(steps, die)
        with suppress(Death):
            drain(inbox.streams(2), impatient(SteppingPool(inbox.store.pool, countdown)), read_ahead=0)
        drain(inbox.streams(), inbox.store)
        assert stored(connection) == quiet
        assert connection.execute("SELECT count(*) FROM ops.dead_letters").fetchone() == letters
        if countdown.left > 0:
            break
    assert steps > 30


def test_deaths_at_random_with_other_chunks_each_time(inbox, connection):
    """Any number of them."""
    lines = [fill(minute, order=n % 3) for n, minute in enumerate(sorted(range(60), reverse=True))]
    exports = [history(*lines[:30]), history(*lines[20:50], lines[49]), history(*lines[40:])]
    for number, export in enumerate(exports):
        inbox.put(f"{number}.csv", export)
    inbox.imported()
    quiet = stored(connection)
    assert len(quiet) == 61
    chance = random.Random(5)
    empty(connection, "raw.statement_lines", "ops.coverage")
    for _ in range(12):
        streams = inbox.streams(chance.randint(1, 9))
        chance.shuffle(streams)
        with suppress(Death):
            countdown = Countdown(chance.randint(1, 40), die)
            drain(streams, impatient(SteppingPool(inbox.store.pool, countdown)), writers=chance.randint(1, 2))
    drain(inbox.streams(), inbox.store)
    assert stored(connection) == quiet


def half_imported(inbox: Dropped):
    """A file whose import was stopped after the first of three chunks."""
    path = inbox.put("one.csv", history(*TWINS))
    inbox.look()
    commits = itertools.count()
    drain(inbox.streams(3), inbox.store, read_ahead=0, should_stop=lambda: next(commits) > 0)
    return path


def test_a_file_that_changed_under_an_unfinished_import_is_refused(inbox, connection):
    """What is committed stays, nothing of the new content is mixed with it, and the message says what to do."""
    half_imported(inbox)
    before = stored(connection)
    assert 0 < len(before) < len(TWINS)
    inbox.put("one.csv", history(fill(59), *TWINS), age=60)
    (refused,) = inbox.look().refused
    assert refused.startswith("one.csv is not the file any more that was registered")
    drained = drain(inbox.streams(), inbox.store)
    ((_, error),) = drained.failed.items()
    assert "Put the old file back" in str(error)
    assert stored(connection) == before
    inbox.put("one.csv", history(*TWINS), age=50)
    inbox.put("two.csv", history(fill(59), *TWINS))
    assert not inbox.imported().failed
    assert raws(connection) == same([fill(59), *TWINS])


def test_a_file_that_changes_while_it_is_read_is_refused(inbox, connection):
    """Before the next chunk commits."""
    path = inbox.put("one.csv", history(*TWINS))
    inbox.look()

    def scribble(*_):
        with path.open("a") as opened:
            opened.write("\n" + fill(0))

    drained = drain(inbox.streams(2), inbox.store, read_ahead=0, on_commit=scribble)
    assert len(drained.failed) == 1
    assert len(stored(connection)) <= 4


def test_a_file_that_is_gone_is_asked_for(inbox, connection):
    """The others are read all the same; put back under any name it goes on."""
    half_imported(inbox)
    (inbox.folder / "one.csv").rename(inbox.folder.parent / "elsewhere")
    inbox.put("two.csv", history(fill(59)))
    drained = inbox.imported()
    ((_, error),) = drained.failed.items()
    assert "put it back, under any name" in str(error)
    assert fill(59) in raws(connection)
    inbox.put("again.csv", history(*TWINS))
    assert not inbox.imported().failed
    assert len(raws(connection)) == len(TWINS) + 1


def test_a_whole_file_may_leave_the_inbox(inbox):
    """It is not read again."""
    path = inbox.put("one.csv", history(*TWINS))
    inbox.imported()
    path.unlink()
    assert not inbox.imported().failed


def test_lines_in_no_order_are_counted_all_the_same(inbox, connection):
    """Equal lines far apart."""
    lines = [fill(1), fill(9), fill(1), fill(9), fill(5)]
    inbox.put("one.csv", history(*lines))
    inbox.imported(1)
    assert raws(connection) == same(lines)
