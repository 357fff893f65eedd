"""Interval arithmetic is set arithmetic."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ingestion_assets.engine.coverage import difference, intersection, size, union

RANGES = st.lists(
    st.tuples(st.integers(-5, 40), st.integers(-2, 12)).map(lambda pair: (pair[0], pair[0] + pair[1])),
    max_size=8,
)


def numbers(ranges):
    """The whole numbers that ranges hold; one that ends before it begins holds none."""
    return {number for lo, hi in ranges for number in range(lo, hi + 1)}


def is_normal(ranges):
    """Inclusive, sorted, disjoint and never adjacent."""
    return all(lo <= hi for lo, hi in ranges) and all(
        one[1] + 1 < other[0] for one, other in pairwise(ranges)
    )


@given(RANGES)
def test_union_holds_the_same_numbers_in_normal_form(ranges):
    """And a second union changes nothing."""
    merged = union(ranges)
    assert numbers(merged) == numbers(ranges)
    assert is_normal(merged)
    assert union(merged) == merged


@given(RANGES, RANGES)
def test_difference_is_the_difference_of_the_sets(wanted, covered):
    """Gaps are what is wanted and not covered."""
    gaps = difference(wanted, covered)
    assert numbers(gaps) == numbers(wanted) - numbers(covered)
    assert is_normal(gaps)


@given(RANGES, RANGES)
def test_intersection_is_the_intersection_of_the_sets(one, other):
    """Whichever comes first."""
    both = intersection(one, other)
    assert numbers(both) == numbers(one) & numbers(other)
    assert is_normal(both)
    assert both == intersection(other, one)


@given(RANGES)
def test_size_counts_each_number_once(ranges):
    """Overlaps are not counted twice."""
    assert size(ranges) == len(numbers(ranges))


def test_examples():
    """The cases one would draw on paper."""
    assert union([(5, 9), (1, 4), (11, 12), (3, 2)]) == ((1, 9), (11, 12))
    assert difference([(0, 9)], [(0, 0), (3, 4), (9, 20)]) == ((1, 2), (5, 8))
    assert difference([(0, 1), (4, 9)], [(1, 5)]) == ((0, 0), (6, 9))
    assert difference([(0, 9)], []) == ((0, 9),)
    assert difference([], [(0, 9)]) == ()
    assert intersection([(0, 5), (8, 9)], [(5, 8)]) == ((5, 5), (8, 8))
    assert size([(1, 3), (2, 5)]) == 5


def test_ranges_may_come_from_generators():
    """They are read once."""
    assert difference((pair for pair in [(0, 4)]), (pair for pair in [(2, 2)])) == ((0, 1), (3, 4))
    assert intersection((pair for pair in [(0, 4)]), (pair for pair in [(2, 9)])) == ((2, 4),)
