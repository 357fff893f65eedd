"""Interval arithmetic over whole numbers. Pure: no database, no source, no time.

Ranges are inclusive `(lo, hi)` pairs, sorted, disjoint and never adjacent: `((1, 4), (9, 9))`.
"""

from collections.abc import Iterable

Range = tuple[int, int]
Ranges = tuple[Range, ...]


def union(ranges: Iterable[Range]) -> Ranges:
    """Bring ranges in any order, overlapping or adjacent, into normal form."""
    merged: list[Range] = []
    for lo, hi in sorted(ranges):
        if hi < lo:
            continue
        if merged and lo <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], hi))
        else:
            merged.append((lo, hi))
    return tuple(merged)


def difference(wanted: Iterable[Range], covered: Iterable[Range]) -> Ranges:
    """What of `wanted` is not in `covered`: the gaps."""
    gaps: list[Range] = []
    holes = union(covered)
    first = 0  # holes before this one end below the current range, and so below all that follow
    for lo, hi in union(wanted):
        start = lo
        while first < len(holes) and holes[first][1] < lo:
            first += 1
        for at in range(
            first, len(holes)
        ):  # no slice: with many ranges its copies would cost more than all else
            hole_lo, hole_hi = holes[at]
            if hole_lo > hi:
                break
            if hole_lo > start:
                gaps.append((start, hole_lo - 1))
            start = hole_hi + 1
        if start <= hi:
            gaps.append((start, hi))
    return tuple(gaps)


def intersection(one: Iterable[Range], other: Iterable[Range]) -> Ranges:
    """What lies in both."""
    first = union(one)
    return difference(first, difference(first, other))


def size(ranges: Iterable[Range]) -> int:
    """How many whole numbers the ranges hold."""
    return sum(hi - lo + 1 for lo, hi in union(ranges))
