"""The promise: die anywhere, any number of times, run again, and the tables are those of one quiet run."""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_assets.engine.drain import drain
from ingestion_assets_tests.effort import examples
from ingestion_assets_tests.engine.things import (
    Blocks,
    Countdown,
    Death,
    Feed,
    SteppingPool,
    Thing,
    die,
    forget,
    impatient,
    long_streams,
    snapshot,
)

pytestmark = pytest.mark.usefixtures("shelf")


@dataclass(frozen=True)
class Run:
    """How the streams are read, and after how many steps the process dies."""

    steps: int
    width: int = 3
    read_ahead: int = 1
    readers: int = 1
    writers: int = 1


KINDS = st.sampled_from(["good"] * 6 + ["rejected", "null", "overflow", "number"])
THINGS = st.builds(Thing, st.integers(0, 9), st.sampled_from("ab"), KINDS)
BLOCKS = st.builds(
    Blocks,
    st.just("blocks"),
    st.lists(THINGS, max_size=12).map(tuple),
    st.integers(3, 9),
    unprovable=st.sets(st.integers(0, 9), max_size=2).map(frozenset),
)
FEEDS = st.builds(
    Feed, st.just("feed"), st.lists(st.lists(THINGS, max_size=3).map(tuple), max_size=4).map(tuple)
)
STREAMS = st.lists(st.one_of(BLOCKS, FEEDS), min_size=1, max_size=3).map(
    lambda streams: [replace(stream, key=f"{stream.key}/{n}") for n, stream in enumerate(streams)]
)
RUNS = st.lists(
    st.builds(
        Run,
        steps=st.integers(1, 150),
        width=st.integers(1, 4),
        read_ahead=st.integers(0, 2),
        readers=st.integers(1, 2),
        writers=st.integers(1, 3),
    ),
    max_size=5,
)


def drain_until_death(streams, pool, run):
    """One process: it ends by dying at its step, or by being done. What commits beside the death may still succeed."""
    cut = [replace(stream, width=run.width) if isinstance(stream, Blocks) else stream for stream in streams]
    mortal = impatient(SteppingPool(pool, Countdown(run.steps, die)))
    with suppress(Death):
        drain(cut, mortal, read_ahead=run.read_ahead, readers=run.readers, writers=run.writers)


@examples(60)
@given(streams=STREAMS, runs=RUNS)
def test_crashes_anywhere_leave_the_tables_of_one_quiet_run(store, connection, streams, runs):
    """Before, inside and after any commit; pages cut otherwise in each run; equal, rejected and refused records."""
    forget(connection)
    drain(streams, store)
    quiet = snapshot(connection)
    forget(connection)
    for run in runs:
        drain_until_death(streams, store.pool, run)
    drain(streams, store)
    assert snapshot(connection) == quiet


@pytest.mark.parametrize("writers", [1, 2])
def test_a_crash_at_every_single_step_is_survived(store, connection, writers):
    """One stream of each kind, one death for each step that a run has."""
    streams = [
        Blocks(
            "blocks",
            (Thing(0), Thing(0), Thing(1, kind="rejected"), Thing(4, kind="null")),
            5,
            3,
            frozenset({3}),
        ),
        Feed("feed", ((Thing(1), Thing(1), Thing(2, kind="rejected")), (Thing(3, kind="number"),))),
    ]
    drain(streams, store)
    quiet = snapshot(connection)
    for steps in range(1, 1000):
        forget(connection)
        countdown = Countdown(steps, die)
        with suppress(Death):
            drain(streams, impatient(SteppingPool(store.pool, countdown)), read_ahead=0, writers=writers)
        drain(streams, store)
        assert snapshot(connection) == quiet
        if countdown.left > 0:
            break
    assert steps > 50


def start(url, project, step=0, writers=1):
    """Another process that drains the long streams, and kills itself at a step if there is one."""
    command = [sys.executable, "-m", "ingestion_assets_tests.engine.things", url, str(step), str(writers)]
    return subprocess.Popen(command, cwd=project)


@pytest.mark.parametrize("writers", [1, 2])
def test_a_process_that_is_killed_leaves_what_a_quiet_one_would(store, connection, project, shelf, writers):
    """SIGKILL, three times at moments that chance picks, twice at steps of its own; then one that ends in peace."""
    drain(long_streams(), store)
    quiet = snapshot(connection)
    forget(connection)

    for rows in (1, 40, 100):
        with start(shelf, project, writers=writers) as process:
            deadline = time.monotonic() + 30
            while connection.execute("SELECT count(*) FROM raw.things").fetchone()[0] < rows:
                assert time.monotonic() < deadline
                assert process.poll() is None
            process.kill()
        assert process.returncode == -signal.SIGKILL
    for step in (83, 84):
        with start(shelf, project, step, writers) as process:
            assert process.wait(30) == -signal.SIGKILL

    assert 100 <= connection.execute("SELECT count(*) FROM raw.things").fetchone()[0] < len(quiet["rows"])
    drain(long_streams(), store)
    assert snapshot(connection) == quiet


def step_after_the_first_commit(store, connection):
    """The number of the step that comes right after the first COMMIT of rows; the one before it comes right before."""
    visible = []

    def look():
        visible.append(connection.execute("SELECT EXISTS (SELECT FROM raw.things)").fetchone()[0])

    mortal = impatient(SteppingPool(store.pool, look))
    drain(long_streams(), mortal, read_ahead=2, should_stop=lambda: True in visible)
    return visible.index(True) + 1


def test_a_process_that_is_killed_around_a_commit_has_done_all_of_it_or_nothing(
    store, connection, project, shelf
):
    """The first batch with rows, and SIGKILL as the last thing before its COMMIT, or the first thing after it."""
    after = step_after_the_first_commit(store, connection)
    first = snapshot(connection)
    assert first["rows"]
    for step, left in ((after - 1, False), (after, True)):
        forget(connection)
        with start(shelf, project, step) as process:
            assert process.wait(30) == -signal.SIGKILL
        found = snapshot(connection)
        assert bool(found["rows"]) == bool(found["covered"]) == left
        assert set(found["rows"]) <= set(first["rows"])
