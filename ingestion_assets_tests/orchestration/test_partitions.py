"""Keys, spans and counts of partitions."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion_assets.engine import database
from ingestion_assets.orchestration import partitions
from ingestion_assets_tests.orchestration import tiny

DAYS = st.dates(date(2015, 7, 30), date(2030, 1, 1))
NEAR = st.dates(date(2024, 2, 25), date(2024, 3, 5))
KEYS = st.lists(
    st.tuples(st.sampled_from(["base", "sandbox-two", "x_1"]), st.one_of(NEAR, DAYS)), max_size=40
)


def days_of(span):
    """Every day of a span."""
    first, last = span
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


@given(st.sampled_from(["base", "sandbox-two"]), DAYS)
def test_a_key_says_its_chain_and_day(chain, day):
    """There and back, in Dagster's own spelling."""
    written = partitions.key(chain, day)
    assert partitions.parse(written) == (chain, day)
    assert written == f"{chain}|{day:%Y-%m-%d}"


@given(KEYS)
def test_spans_hold_exactly_the_days_of_the_keys(found):
    """None lost, none invented, in order, and as few spans as there can be."""
    spans = partitions.spans([partitions.key(chain, day) for chain, day in found])
    back = [(chain, day) for chain, all_spans in spans.items() for span in all_spans for day in days_of(span)]
    assert sorted(back) == sorted(set(found))
    for all_spans in spans.values():
        for (_, last), (first, _) in pairwise(all_spans):
            assert first > last + timedelta(days=1)


def test_the_partitions_are_the_days_of_every_chain_until_today():
    """Today included, for what is final of it can be read; tomorrow not."""
    today = datetime.now(UTC).date()
    keys = partitions.chain_days(["base", "ethereum"], today - timedelta(days=2)).get_partition_keys()
    days = [(today - timedelta(days=n)).isoformat() for n in (2, 1, 0)]
    if datetime.now(UTC).date() == today:  # not at midnight
        assert sorted(keys) == [f"{chain}|{day}" for chain in ("base", "ethereum") for day in days]


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/Los_Angeles"])
def test_rows_are_counted_by_the_day_they_fall_on_in_utc(database_url, connection, zone):
    """Whatever time zone the server speaks; the first and last moment of a day belong to it."""
    engine = database.engine(database_url)
    tiny.TABLE.metadata.create_all(engine)
    name = connection.info.dbname
    connection.execute(f"ALTER DATABASE \"{name}\" SET timezone TO '{zone}'")
    moments = [
        ("a", "2024-01-01 23:59:59.999999+00"),
        ("a", "2024-01-02 00:00:00+00"),
        ("a", "2024-01-02 23:59:59.999999+00"),
        ("a", "2024-01-03 00:00:00+00"),
        ("a", "2024-01-05 12:00:00+00"),
        ("b", "2024-01-02 12:00:00+00"),
    ]
    for number, (chain, moment) in enumerate(moments):
        connection.execute("INSERT INTO raw.tiny VALUES (%s, %s, %s)", [chain, moment, number])
    truth = Counter(f"{chain}|{moment[:10]}" for chain, moment in moments)
    wanted = ["a|2024-01-02", "a|2024-01-03", "a|2024-01-04", "a|2024-01-05", "b|2024-01-02", "b|2024-01-01"]
    counts = partitions.rows_by_partition(engine, tiny.TABLE, "at", wanted)
    assert counts == {key: truth[key] for key in wanted if key in truth}


def test_what_cannot_be_counted_in_time_is_not_counted(database_url, connection):
    """A partition may be a whole feed; a run does not wait for a number that nothing depends on."""
    engine = database.engine(database_url)
    tiny.TABLE.metadata.create_all(engine)
    with connection.transaction():
        connection.execute("LOCK TABLE raw.tiny")
        assert partitions.rows_by_partition(engine, tiny.TABLE, "at", ["a|2024-01-02"], seconds=0.1) is None
    assert partitions.rows_by_partition(engine, tiny.TABLE, "at", ["a|2024-01-02"], seconds=0.1) == {}


def test_a_chain_with_a_strange_name_counts_as_any_other(database_url, connection):
    """Values are bound, never written into SQL."""
    engine = database.engine(database_url)
    tiny.TABLE.metadata.create_all(engine)
    connection.execute("INSERT INTO raw.tiny VALUES ('it''s %s', '2024-01-02', 1)")
    assert partitions.rows_by_partition(engine, tiny.TABLE, "at", ["it's %s|2024-01-02"]) == {
        "it's %s|2024-01-02": 1
    }
