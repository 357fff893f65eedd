"""What the sandbox's history promises: it is repeatable, it only grows, and it holds the traps."""

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion_assets.sandbox import ACTIONS, Chain, history_start, served_chains, watched_addresses
from ingestion_assets_tests.upstream import small_chain

GENESIS = datetime(2024, 1, 1, tzinfo=UTC)
CHAIN = small_chain()
TOP = CHAIN.height


def everything(chain, action):
    """All rows of one kind, address by address."""
    return [row for address in chain.addresses for row in chain.rows(action, address, 0, chain.height)]


def test_two_instances_tell_the_same_story():
    """Nothing but the arguments decides what a chain holds."""
    again = small_chain()
    assert all(everything(CHAIN, action) == everything(again, action) for action in ACTIONS)


def test_another_process_tells_the_same_story():
    """The hash seed of the process, and whatever ran in it before, do not matter."""
    program = (
        "from hashlib import sha256\n"
        "from ingestion_assets_tests.upstream import small_chain\n"
        "chain = small_chain()\n"
        "rows = chain.rows('tokentx', chain.addresses[0], 0, chain.height)\n"
        "print(sha256(repr(rows).encode()).hexdigest())"
    )
    here = CHAIN.rows("tokentx", CHAIN.addresses[0], 0, TOP)
    command, root = [sys.executable, "-c", program], Path(__file__).parents[2]
    there = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == sha256(repr(here).encode()).hexdigest()


@settings(max_examples=15, deadline=None)
@given(steps=st.lists(st.integers(0, TOP), max_size=6))
def test_growth_in_any_steps_ends_in_the_same_chain(steps):
    """How a chain got to its height, also by asking for less again, leaves no trace."""
    chain = Chain(1, 11, GENESIS, 2_400, transactions_per_block=2.0, quiet_day=4)
    for step in steps:
        chain.grow_to(step)
    chain.grow_to(TOP)
    hub = chain.addresses[0]
    assert chain.rows("txlist", hub, 0, TOP) == CHAIN.rows("txlist", hub, 0, TOP)


def test_growth_never_changes_earlier_rows():
    """With confirmations counted from the same head, old rows stay as they were."""
    chain = small_chain(days=3)
    hub, top = chain.addresses[0], chain.height
    before = [chain.rows(action, hub, 0, top, head=top) for action in ACTIONS]
    chain.grow_to(top + 100)
    assert before == [chain.rows(action, hub, 0, top, head=top) for action in ACTIONS]


@settings(max_examples=40)
@given(cut=st.integers(0, TOP), action=st.sampled_from(ACTIONS), who=st.integers(0, 5))
def test_two_halves_are_the_whole(cut, action, who):
    """A range of blocks can be cut anywhere; both ends of a range are inside it."""
    address = CHAIN.addresses[who]
    halves = CHAIN.rows(action, address, 0, cut) + CHAIN.rows(action, address, cut + 1, TOP)
    assert halves == CHAIN.rows(action, address, 0, TOP)


@given(block=st.integers(1, 5_000))
def test_time_never_runs_backwards(block):
    """Times are monotonic, and the searches by time agree with them."""
    clock = CHAIN.clock
    time = clock.time_of(block)
    assert clock.time_of(block - 1) <= time
    assert clock.time_of(clock.first_block_at(time)) == time
    assert clock.time_of(clock.last_block_at(time)) == time
    assert clock.time_of(clock.first_block_at(time) - 1) < time < clock.time_of(clock.last_block_at(time) + 1)


def test_days_begin_and_end_with_a_block_and_one_day_has_none():
    """Midnight, the last second of a day, a shared second, and the quiet day are all there."""
    times = [CHAIN.time_of(block) for block in range(TOP + 1)]
    midnight = int(GENESIS.timestamp())
    days = Counter((time - midnight) // 86_400 for time in times)
    assert days == {day: 36 for day in range(10) if day != 4}
    assert all(midnight + day * 86_400 in times for day in days)
    assert all(midnight + day * 86_400 + 86_399 in times for day in days)
    assert len(set(times)) < len(times)


def test_no_block_lies_before_genesis():
    """A search before the beginning finds nothing before it and block 0 after it."""
    early = GENESIS - timedelta(seconds=1)
    assert (CHAIN.last_block_at(early), CHAIN.first_block_at(early)) == (-1, 0)


def test_transactions_have_their_odd_cases():
    """Failures with a value, creations, transfers to oneself, no value, and empty blocks."""
    rows = everything(CHAIN, "txlist")
    assert any(
        row["isError"] == "1" and row["txreceipt_status"] == "0" and row["value"] != "0" for row in rows
    )
    assert any(row["to"] == "" and row["contractAddress"].startswith("0x") for row in rows)
    assert any(row["value"] == "0" for row in rows)
    own = [row["hash"] for row in rows if row["from"] == row["to"]]
    assert own
    assert len(own) == len(set(own)), "a transfer to oneself is listed once"
    assert len({row["blockNumber"] for row in rows}) < TOP * 0.95


def test_token_transfers_have_twins_that_no_field_tells_apart():
    """The same row more than once in one transaction, for one address."""
    rows = CHAIN.rows("tokentx", CHAIN.addresses[0], 0, TOP)
    assert max(Counter(tuple(row.items()) for row in rows).values()) > 1
    assert "logIndex" not in rows[0]


def test_internal_transfers_can_differ_only_in_their_trace():
    """Without traceId they are equal, with it they are not."""
    rows = CHAIN.rows("txlistinternal", CHAIN.addresses[0], 0, TOP)
    without = Counter(tuple(value for name, value in row.items() if name != "traceId") for row in rows)
    assert max(without.values()) > 1
    assert len({tuple(row.items()) for row in rows}) == len(rows)
    assert {row["type"] for row in everything(CHAIN, "txlistinternal")} == {"call", "create"}


def test_tokens_say_and_move_what_hurts():
    """The largest value, no value, and names with NUL, quote, backslash, newline and emoji."""
    rows = everything(CHAIN, "tokentx")
    assert {"0", str(2**256 - 1)} <= {row["value"] for row in rows}
    names = "".join({row["tokenName"] + row["tokenSymbol"] for row in rows})
    assert set('\x00"\\\nП⏳🏖') <= set(names)


def test_a_transfer_between_two_watched_accounts_is_listed_for_both():
    """The same row, under either address."""
    for row in everything(CHAIN, "txlist"):
        if row["from"] != row["to"] and {row["from"], row["to"]} <= set(CHAIN.addresses):
            block = int(row["blockNumber"])
            assert all(row in CHAIN.rows("txlist", row[side], block, block) for side in ("from", "to"))
            return
    pytest.fail("no two watched accounts ever met")


def test_the_hub_has_about_two_fifths_of_the_rows_and_a_busy_block():
    """One account is much busier than the others, and one of its blocks much fuller."""
    sizes = [
        sum(len(CHAIN.rows(action, address, 0, TOP)) for action in ACTIONS) for address in CHAIN.addresses
    ]
    assert 0.3 < sizes[0] / sum(sizes) < 0.5
    blocks = Counter(row["blockNumber"] for row in CHAIN.rows("txlist", CHAIN.addresses[0], 0, TOP))
    assert max(blocks.values()) >= 20


def test_chains_share_addresses_and_nothing_else():
    """A table without the chain in its key mixes them up; the hashes do not."""
    other = small_chain(2)
    assert other.addresses == CHAIN.addresses
    hashes = [{row["hash"] for row in everything(chain, "txlist")} for chain in (CHAIN, other)]
    assert not hashes[0] & hashes[1]


def test_every_row_has_the_explorers_fields_and_only_strings():
    """The three kinds have 20, 14 and 21 fields."""
    sizes = {action: {len(row) for row in everything(CHAIN, action)} for action in ACTIONS}
    assert sizes == {"txlist": {20}, "txlistinternal": {14}, "tokentx": {21}}
    assert all(
        isinstance(value, str)
        for action in ACTIONS
        for row in everything(CHAIN, action)
        for value in row.values()
    )


@pytest.mark.parametrize("arguments", [
    {"genesis": datetime(2024, 1, 1, 5, tzinfo=UTC)},
    {"genesis": datetime(2024, 1, 1)},  # noqa: DTZ001 - the missing time zone is what is refused
    {"block_seconds": 7},
    {"accounts": 0},
])  # fmt: skip
def test_an_impossible_chain_is_refused(arguments):
    """A genesis off midnight, seconds that do not divide a day, nobody to watch."""
    with pytest.raises(ValueError, match=r"genesis|block_seconds|account"):
        Chain(**{"chain_id": 1, "seed": 1, "genesis": GENESIS, "block_seconds": 15} | arguments)


def test_a_later_start_of_the_sandbox_keeps_every_block_it_still_holds():
    """Months later, on another day, the same numbers have the same times, hashes and rows."""
    early = datetime(2024, 2, 1, 0, 5, tzinfo=UTC)
    before, after = (served_chains(0, now)[31337] for now in (early, early + timedelta(days=1)))
    assert before.addresses == after.addresses == watched_addresses()
    low, top, hub = before.first_block, before.height, before.addresses[0]
    assert before.rows("txlist", hub, low, top, head=top) == after.rows("txlist", hub, low, top, head=top)
    assert before.hash_of(top) == after.hash_of(top)


@given(now=st.datetimes(datetime(2024, 6, 1), datetime(2030, 1, 1)), days=st.integers(0, 60))  # noqa: DTZ001
def test_the_history_starts_with_a_month_and_is_long_enough(now, days):
    """At least the days asked for, and less than a month more."""
    now = now.replace(tzinfo=UTC)
    start = history_start(days, now)
    assert start.day == 1
    assert timedelta(days=days) <= now - start < timedelta(days=days + 32)
