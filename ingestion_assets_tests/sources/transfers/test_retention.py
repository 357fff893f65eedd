"""Old months go, as wholes, and nobody misses them; a longer limit brings them back."""

from datetime import date

import psycopg
import pytest

from ingestion_assets.engine.errors import Transient
from ingestion_assets.sources.transfers import looking, months
from ingestion_assets.sources.transfers.retention import first_day, prune
from ingestion_assets_tests.sources.transfers.tiny import (
    CHAIN,
    EVER,
    Transfer,
    assert_right,
    cover,
    coverage,
    from_lists,
    from_logs,
    normalise,
    snapshot,
    stored,
)

FEBRUARY, MARCH = date(2024, 2, 1), date(2024, 3, 1)
FIRST_OF_FEBRUARY = 16  # block


@pytest.fixture
def two_months(store, connection):
    """January and February of a chain, and of another one that keeps all."""
    for chain in (CHAIN, "other"):
        from_logs(connection, *(Transfer(block) for block in range(10, 20)), chain=chain)
        cover(connection, f"evm/erc20_transfers/{chain}/0x9", 0, 30)
        normalise(store, chain=chain)


def run(store, begin):
    """The job, for one chain."""
    return store.transaction(lambda c: prune(c, CHAIN, begin))


@pytest.mark.parametrize(
    ("days", "begin"),
    [(None, None), (1, date(2024, 3, 1)), (20, date(2024, 2, 1)), (49, date(2024, 2, 1)), (50, date(2024, 1, 1))],
)  # fmt: skip
def test_the_month_of_the_oldest_day_that_has_to_be_kept_is_kept_whole(days, begin):
    """Of 21 March in a leap year, so many days back."""
    assert first_day(date(2024, 3, 21), days) == begin


@pytest.mark.usefixtures("two_months")
def test_a_month_goes_with_its_totals_and_its_coverage_and_nothing_else_does(store, connection):
    """The raw rows and their coverage stay, and so does the other chain."""
    raw = coverage(connection, "evm")
    assert run(store, FEBRUARY) == [date(2024, 1, 1)]
    connection.execute("DELETE FROM raw.evm_erc20_transfers WHERE false")
    mine = {key: row for key, row in stored(connection).items() if key[0] == CHAIN}
    assert sorted(block for _, block, _ in mine) == [16, 17, 18, 19]
    assert len(stored(connection)) == 4 + 10
    days = "SELECT min(day) FROM core.transfer_daily_totals WHERE chain = %s"
    assert connection.execute(days, [CHAIN]).fetchone() == (FEBRUARY,)
    assert coverage(connection, "evm") == raw
    assert coverage(connection, "transfers") == [
        (f"erc20_transfers/{CHAIN}/0x9", FIRST_OF_FEBRUARY, 30, "stated", "rpc"),
        ("erc20_transfers/other/0x9", 0, 30, "stated", "rpc"),
    ]


@pytest.mark.usefixtures("two_months")
def test_what_was_pruned_is_neither_missing_nor_merged_again(store, connection):
    """Even if more of it is read, or some of it taken back: no partition is made, no sensor asks, no check fails."""
    run(store, FEBRUARY)
    before = snapshot(connection)
    from_logs(connection, Transfer(10, tx=5))
    from_lists(connection, Transfer(11))
    assert looking.pending(store, CHAIN, date(2009, 1, 3)) == set()
    normalise(store, begin=FEBRUARY)
    assert snapshot(connection) == before
    kept = looking.days_kept(store, {CHAIN: EVER}, {})
    assert kept == {CHAIN: ((FEBRUARY, EVER[0][1]),)}
    assert looking.differing_days(store, kept) == looking.left_to_do(store, kept) == []
    assert store.transaction(lambda c: months.kept(c, CHAIN)) == [FEBRUARY]


def test_a_chain_that_was_never_stored_begins_at_its_floor(store, connection):
    """Its history is not merged first and dropped after."""
    from_logs(connection, *(Transfer(block) for block in range(10, 20)))
    cover(connection, f"evm/erc20_transfers/{CHAIN}/0x9", 0, 30)
    normalise(store, begin=FEBRUARY)
    assert len(stored(connection)) == 4
    assert coverage(connection, "transfers")[0][1] == FIRST_OF_FEBRUARY
    assert_right(connection, since=FEBRUARY)


@pytest.mark.usefixtures("two_months")
@pytest.mark.parametrize("begin", [None, date(2024, 1, 1)])
def test_a_longer_limit_brings_the_months_back(store, connection, begin):
    """From the raw rows, with what has happened to them meanwhile; the next run merges them."""
    before = snapshot(connection)["transfers"]
    run(store, FEBRUARY)
    from_lists(connection, Transfer(3))
    normalise(store, begin=FEBRUARY)
    normalise(store, begin=begin)
    assert len(stored(connection)) == len(before) + 1
    normalise(store, chain="other")
    if begin is None:
        assert_right(connection)


@pytest.mark.usefixtures("two_months")
def test_the_floor_moves_on_with_the_months(store, connection):
    """A second month goes later, and the coverage with it."""
    run(store, FEBRUARY)
    assert run(store, MARCH) == [FEBRUARY]
    assert {chain for chain, *_ in stored(connection)} == {"other"}
    assert run(store, MARCH) == []


@pytest.mark.usefixtures("two_months")
def test_a_month_that_is_being_read_stays_for_now(store, connection, database_url):
    """The job says so and fails; a run of the asset goes on with its work, and what it reports is still true."""
    with psycopg.connect(database_url) as reader:
        reader.execute("SELECT * FROM core.transfers LIMIT 1")
        with pytest.raises(Transient, match="before 2024-02-01 are being read"):
            run(store, FEBRUARY)
        from_logs(connection, Transfer(19, tx=1))
        normalise(store, begin=FEBRUARY)
        assert len(stored(connection)) == 21
    assert_right(connection)
    normalise(store, begin=FEBRUARY)
    assert len(stored(connection)) == 15
