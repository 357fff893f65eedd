"""The sandbox that is served: which chains there are, and which part of their history is kept.

The rule for dates. Block 0 of every sandbox, anywhere and at any time, is at EPOCH, so a block
number, its time, its hash and its rows never change, however often and whenever the sandbox is
started again. What depends on today is only how far back rows are *kept*: the history starts with
the month that holds the day `days` days ago. A start therefore moves once a month, from one first
of a month to the next, and then the rows of the oldest month are forgotten; no other block changes.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from ingestion_assets.sandbox.chain import Chain
from ingestion_assets.sandbox.parties import address_of

SEED = 7
CHAIN_IDS = (31337, 31338)
ACCOUNTS = 6
BLOCK_SECONDS = 15
TRANSACTIONS_PER_BLOCK = 0.4
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)


def watched_addresses() -> tuple[str, ...]:
    """Give the addresses to watch: 0x and 40 lower-case hex digits, the hub first.

    They are the same on both chains, on every day and in every installation.
    """
    return tuple(address_of(SEED, party) for party in range(ACCOUNTS))


def history_start(days: int, now: datetime) -> datetime:
    """Give the first moment whose rows are kept: the first of a month, never before EPOCH.

    At least `days` whole days lie between it and the midnight (UTC) before `now`.
    """
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return max(EPOCH, (today - timedelta(days=days)).replace(day=1))


def served_chains(days: int, now: datetime) -> Mapping[int, Chain]:
    """Build the chains, by their ids, with their histories grown up to `now`.

    Args:
        days: how many days before today must be there, 0 or more.
        now: an aware datetime.

    """
    start = history_start(days, now)
    chains = {}
    for chain_id in CHAIN_IDS:
        chain = Chain(
            chain_id,
            SEED,
            EPOCH,
            BLOCK_SECONDS,
            ACCOUNTS,
            transactions_per_block=TRANSACTIONS_PER_BLOCK,
            first_block=(start - EPOCH) // timedelta(seconds=BLOCK_SECONDS),
        )
        chain.grow_to(chain.last_block_at(now))
        chains[chain_id] = chain
    return chains


def wall_clock_head(chain: Chain) -> int:
    """Give the newest block of a chain at this moment."""
    return chain.last_block_at(datetime.now(UTC))
