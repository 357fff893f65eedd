"""When a block happens: a closed formula from block number to time, and back.

No table of times is kept. Every block owns a slot of `block_seconds` and falls somewhere inside
it, which makes the times jitter and still never run backwards.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import overload

from ingestion_assets.sandbox.draw import digest

_DAY = 86_400
_TWIN_EVERY = 97
_TWIN_AT = 40


class Clock:
    """The block times of one chain, in whole seconds since 1970 (UTC)."""

    def __init__(self, genesis: datetime, block_seconds: int, key: str, quiet_day: int | None = None) -> None:
        """Anchor block 0 to `genesis`.

        Args:
            genesis: an aware datetime at midnight UTC.
            block_seconds: the mean distance of two blocks; must divide a day, which is what puts
                one block on every midnight.
            key: what the jitter is drawn from.
            quiet_day: the day without a single block, counted from genesis (0 is its first day).

        Raises:
            ValueError: genesis is no UTC midnight, or block_seconds does not divide a day.

        """
        if genesis.tzinfo is None or int(genesis.timestamp()) % _DAY:
            raise ValueError(f"genesis must be a midnight in UTC, not {genesis.isoformat()}")
        if block_seconds < 1 or _DAY % block_seconds:
            raise ValueError(f"block_seconds must divide {_DAY}, {block_seconds} does not")
        self.genesis = genesis.astimezone(UTC)
        self.block_seconds = block_seconds
        self._start = int(genesis.timestamp())
        self._key = key
        self._quiet_from = None if quiet_day is None else quiet_day * _DAY

    def time_of(self, block: int) -> int:
        """Give the timestamp of `block`; never smaller than that of the block before it.

        The first block of a day is exactly at midnight and the last one at 23:59:59, because that
        is where a day's partition begins and ends. Now and then two neighbours share a second.
        """
        offset = block * self.block_seconds
        if self._quiet_from is not None and offset >= self._quiet_from:
            offset += _DAY
        slot = self._start + offset
        if slot % _DAY == 0:
            return slot
        if (slot + self.block_seconds) % _DAY == 0:
            return slot + self.block_seconds - 1
        turn = block % _TWIN_EVERY
        if turn == _TWIN_AT:
            return slot + self.block_seconds
        if turn == _TWIN_AT + 1:
            return slot
        return slot + int(digest(self._key, "jitter", block, size=4), 16) % self.block_seconds

    def first_block_at(self, time: datetime | int) -> int:
        """Give the first block whose timestamp is at or after `time`, however far ahead it is."""
        seconds = _seconds(time)
        return bisect_left(_Times(self, seconds), seconds)

    def last_block_at(self, time: datetime | int) -> int:
        """Give the last block whose timestamp is at or before `time`; -1 before genesis."""
        seconds = _seconds(time)
        return bisect_right(_Times(self, seconds), seconds) - 1


class _Times(Sequence[int]):
    """The block times up to a little after `until`, as a sequence that `bisect` can search."""

    def __init__(self, clock: Clock, until: int) -> None:
        self._clock = clock
        elapsed = until - int(clock.genesis.timestamp())
        self._length = max(0, elapsed // clock.block_seconds + 2)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...
    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        if isinstance(index, slice):
            return [self._clock.time_of(block) for block in range(self._length)[index]]
        return self._clock.time_of(index)


def _seconds(time: datetime | int) -> int:
    """Whole seconds since 1970; an aware datetime with a fraction is rounded down."""
    return time if isinstance(time, int) else int(time.timestamp())
