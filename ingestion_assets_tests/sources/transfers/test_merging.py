"""The store is the multiset maximum of the raw tables, whatever happens to them and to us."""

import threading
from contextlib import suppress
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.store import Store, connection_pool
from ingestion_assets.sources.transfers.merging import Merge
from ingestion_assets.sources.transfers.streams import Changes, OutdatedTotals
from ingestion_assets_tests.effort import examples
from ingestion_assets_tests.engine.things import Countdown, Death, SteppingPool, die, impatient
from ingestion_assets_tests.sources.transfers.tiny import (
    CHAIN,
    EVER,
    LISTS,
    LOGS,
    Transfer,
    assert_right,
    cover,
    from_lists,
    from_logs,
    normalise,
    remove,
    snapshot,
    stored,
)
from ingestion_assets_tests.tables import empty

TABLES = (LOGS, LISTS, "core.transfers", "core.transfer_daily_totals", "ops.transfer_cells", "ops.transfer_floors", "ops.coverage")  # fmt: skip


def forget(connection):
    """Begin again. The raw rows go first, for their going is noted."""
    empty(connection, *TABLES, "ops.transfer_changes")


def test_a_transfer_of_both_tables_is_one_and_has_what_each_of_them_knows(store, connection):
    """The log index of the log, and the token's name of the list."""
    twin = Transfer(1, ordinal=1)
    from_lists(connection, Transfer(1), twin, Transfer(2))
    from_logs(connection, Transfer(1), Transfer(3))
    assert normalise(store).tally.inserted == 4
    assert_right(connection)
    query = "SELECT block_number, ordinal, log_index, token_symbol, place FROM core.transfers ORDER BY place"
    assert connection.execute(query).fetchall() == [
        (1, 0, 0, "T9", 1 << 24),
        (1, 1, None, "T9", (1 << 24) + (1 << 24) - 1),  # the last of its block, while nobody tells its index
        (2, 0, None, "T9", (2 << 24) + (1 << 24) - 1),
        (3, 0, 0, None, 3 << 24),
    ]


def test_a_log_index_that_is_told_later_moves_the_row_and_changes_nothing_else(store, connection):
    """One row before, one row after; its totals stay."""
    from_lists(connection, Transfer(1, tx=2))
    normalise(store)
    from_logs(connection, Transfer(1, tx=2))
    normalise(store)
    assert_right(connection)
    assert connection.execute("SELECT log_index, place FROM core.transfers").fetchall() == [
        (20, (1 << 24) + 20)
    ]


def test_what_a_reorganisation_takes_out_of_the_raw_tables_goes_from_the_store(store, connection):
    """Rows, totals and coverage; what is read instead of it comes in."""
    cover(connection, f"evm/erc20_transfers/{CHAIN}/0x9", 0, 5)
    from_logs(connection, *(Transfer(block) for block in range(5)))
    normalise(store)
    remove(connection, LOGS, 3, 4)
    from_logs(connection, Transfer(4, tx=7))
    normalise(store)
    assert_right(connection)
    assert sorted(block for _, block, _ in stored(connection)) == [0, 1, 2, 4]


def test_a_row_that_is_changed_by_hand_is_merged_again(store, connection):
    """Nothing of ours updates raw rows, but the triggers see it."""
    from_lists(connection, Transfer(1), Transfer(9))
    normalise(store)
    connection.execute(f"UPDATE {LISTS} SET token_symbol = 'NEW' WHERE block_number = 1")
    normalise(store)
    assert_right(connection)


def test_two_times_of_one_block_make_no_second_row(store, connection):
    """Around midnight, at a month's end; the log's time is believed, and when it is gone, the list's."""
    late = Transfer(16, hours=-1)  # block 16 begins February
    from_lists(connection, late)
    normalise(store)
    from_logs(connection, Transfer(16))
    normalise(store)
    assert [row[2].date() for row in stored(connection).values()] == [date(2024, 2, 1)]
    assert_right(connection)
    remove(connection, LOGS, 16, 16)
    normalise(store)
    assert [row[2].date() for row in stored(connection).values()] == [date(2024, 1, 31)]


def test_a_second_run_finds_nothing_to_do(store, connection):
    """It commits nothing."""
    from_logs(connection, Transfer(1))
    normalise(store)
    again = normalise(store)
    assert (again.tally.batches, again.tally.fetched) == (0, 0)


def test_days_that_were_not_asked_for_wait(store, connection):
    """A run of one partition merges its day; the coverage has a hole where something is left to do."""
    cover(connection, f"evm/erc20_transfers/{CHAIN}/0x9", 0, 99)
    from_logs(connection, Transfer(1), Transfer(20))
    normalise(store, days=((date(2024, 1, 28), date(2024, 1, 28)),))
    assert [block for _, block, _ in stored(connection)] == [1]
    query = "SELECT lo, hi FROM ops.coverage WHERE stream LIKE 'transfers/%' ORDER BY lo"
    assert connection.execute(query).fetchall() == [(0, 19), (21, 99)]
    normalise(store)
    assert_right(connection)


def test_chains_do_not_mix(store, connection):
    """Two chains may have one transaction, and share blocks' numbers; each has partitions of its own."""
    for chain in ("base", "base_2024_02", "b" * 50, "b" * 51):
        from_logs(connection, Transfer(1), Transfer(17), chain=chain)
    for chain in ("base", "base_2024_02", "b" * 50, "b" * 51):
        normalise(store, chain=chain)
    assert_right(connection)
    leaves = "SELECT count(*) FROM pg_partition_tree('core.transfers') WHERE isleaf"
    assert connection.execute(leaves).fetchone() == (8,)


TRANSFERS = st.builds(
    Transfer,
    block=st.integers(12, 18),  # on both sides of a month's end
    tx=st.integers(0, 1),
    receiver=st.integers(1, 2),
    ordinal=st.integers(0, 2),
)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["logs", "lists"]), st.lists(TRANSFERS, min_size=1, max_size=5)),
    st.tuples(st.just("remove"), st.tuples(st.sampled_from([LOGS, LISTS]), st.integers(12, 18), st.integers(0, 3))),
    st.tuples(st.just("normalise"), st.none()),
    st.tuples(st.just("cover"), st.tuples(st.integers(0, 30), st.integers(0, 30), st.sampled_from(["stated", "header"]))),
)  # fmt: skip


def do(store, connection, step):
    """One thing that happens."""
    match step:
        case ("logs", transfers):
            from_logs(connection, *transfers)
        case ("lists", transfers):
            from_lists(connection, *transfers)
        case ("remove", (table, lo, more)):
            remove(connection, table, lo, lo + more)
        case ("cover", (lo, more, level)):
            cover(connection, f"evm/erc20_transfers/{CHAIN}/0x9", lo, lo + more, level)
        case ("normalise", None):
            normalise(store)


@examples(8)
@given(steps=st.lists(STEPS, max_size=8))
def test_in_whatever_order_things_happen_the_store_is_the_multiset_maximum(store, connection, steps):
    """Rows come and go in both tables, with runs between them: at the end each transfer is there once."""
    forget(connection)
    for step in steps:
        do(store, connection, step)
    normalise(store)
    assert_right(connection)


def fill(connection):
    """A bit of everything: both tables, twins, three days, two months, something removed, and a range of evidence."""
    from_logs(connection, *(Transfer(block, tx=tx) for block in (12, 16) for tx in (0, 1)))
    from_lists(connection, Transfer(12), Transfer(12, ordinal=1))
    cover(connection, f"evm/erc20_transfers/{CHAIN}/0x9", 0, 20)


def test_a_crash_at_every_single_step_leaves_the_tables_of_one_quiet_run(store, connection):
    """Before each statement, before each COMMIT and after it; then a run that ends in peace."""
    fill(connection)
    normalise(store)
    quiet = snapshot(connection)
    assert_right(connection)
    for steps in range(1, 1000):
        forget(connection)
        fill(connection)
        countdown = Countdown(steps, die)
        mortal = impatient(SteppingPool(store.pool, countdown))
        with suppress(Death):
            drain([Changes(mortal, CHAIN, EVER)], mortal, read_ahead=0)
            drain([OutdatedTotals(mortal, CHAIN, EVER)], mortal, read_ahead=0)
        normalise(store)
        assert snapshot(connection) == quiet
        if countdown.left > 0:
            break
    assert steps > 30


@pytest.mark.parametrize("chains", [(CHAIN,) * 3, ("base", "one", "two")])
def test_several_at_once_share_the_work(connection, database_url, chains):
    """Three processes begin together, over one chain, or over three that are all new; nothing is done twice."""
    for chain in set(chains):
        from_logs(connection, *(Transfer(block, tx=tx) for block in range(40) for tx in (0, 1)), chain=chain)
    pools = [connection_pool(database_url) for _ in chains]
    failed: list[BaseException] = []
    begin = threading.Barrier(len(chains))

    def work(pool, chain):
        try:
            begin.wait()
            normalise(Store(pool), chain=chain)
        except BaseException as error:  # noqa: BLE001 - told to the test
            failed.append(error)

    workers = [threading.Thread(target=work, args=pair) for pair in zip(pools, chains, strict=True)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for pool in pools:
        pool.close()
    assert not failed
    assert_right(connection)


def test_what_comes_while_a_run_is_under_way_is_left_for_the_next(store, connection):
    """The note of a row that is stored between the reading of notes and their merging stays."""
    from_logs(connection, Transfer(1))
    (first,) = connection.execute("SELECT id FROM ops.transfer_changes").fetchone()
    from_logs(connection, Transfer(1, tx=1))
    store.transaction(Merge(CHAIN, [first]))
    assert len(stored(connection)) == 2  # whoever reads the block reads all of it
    assert connection.execute("SELECT count(*) FROM ops.transfer_changes").fetchone() == (1,)
    normalise(store)
    assert_right(connection)
