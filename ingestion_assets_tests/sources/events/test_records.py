"""How records become rows, and what becomes of those that cannot."""

import json
from datetime import UTC, datetime

import pytest

from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.errors import SchemaDrift
from ingestion_assets.sources.events.config import FeedConfig
from ingestion_assets.sources.events.feeds import Feeds
from ingestion_assets.sources.events.records import Records, Unreadable, moment
from ingestion_assets.sources.events.streams import Letters
from ingestion_assets_tests.sources.events.tiny import Tiny, event, read, stored


@pytest.mark.parametrize(
    "written",
    [
        "2024-01-02T03:04:05.678Z", "2024-01-02T03:04:05.678+00:00", "2024-01-02 04:04:05.678+0100", "2024-01-02T03:04:05.678",
        1704164645678, "1704164645678", 1704164645.678, 1704164645678000, 1704164645678000000,
    ],
)  # fmt: skip
def test_a_moment_is_one_however_it_is_written(written):
    """ISO with and without a zone, seconds, milli-, micro-, nanoseconds, and numbers in quotes."""
    assert abs(moment(written) - datetime(2024, 1, 2, 3, 4, 5, 678000, UTC)).total_seconds() < 1e-5


@pytest.mark.parametrize(
    "written", ["yesterday", "", "2024-02-30T00:00:00Z", "2024-01-01", 0, -5, "1e99", 10**25]
)
def test_what_is_no_moment_is_none(written):
    """It goes to the dead letters instead of to 1970."""
    with pytest.raises(Unreadable):
        moment(written)


def test_the_payload_is_the_record_as_it_came(store, connection):
    """Unknown fields, numbers beyond 2^53, the time as it was written; only what Postgres cannot hold is another character."""
    odd = event(1, big=2**70, text="tab\t, newline\n, back\\slash, NUL \0, Москва", nested={"a": [1, None]})
    read(Tiny([event(0), odd, event(2, timestamp=1704067320000)]), store)
    found = dict(
        connection.execute("SELECT (payload->'properties'->>'n')::int, payload FROM raw.events").fetchall()
    )
    assert found[1] == odd | {"text": odd["text"].replace("\0", "␀")}
    assert found[2]["timestamp"] == 1704067320000
    times = connection.execute(
        "SELECT count(DISTINCT event_time), max(event_time) FROM raw.events"
    ).fetchone()
    assert times == (3, datetime(2024, 1, 1, 0, 2, tzinfo=UTC))


BAD = [
    ({"id": None}, "expected int | str, found null"),
    ({"id": "7"}, "no UUID"),
    ({"type": 5}, "$.type: expected str, found int"),
    ({"type": "\ufffd"}, "no word"),
    ({"timestamp": "soon"}, "the time is none"),
    ({"timestamp": None}, "$.timestamp"),
]


@pytest.mark.parametrize(("wrong", "why"), BAD)
def test_a_bad_record_stops_nothing_and_waits_once(store, connection, wrong, why):
    """It is asked for again, for often the source was in a mood; then it is kept as it came, with the reason."""
    source = Tiny([event(n) for n in range(7)])
    source.events[4] |= wrong
    drained, notes = read(source, store)
    assert stored(connection) == [0, 1, 2, 3, 5, 6]
    assert drained.tally.rejected == 1
    assert notes.asked_again == 2
    connection.execute("DELETE FROM ops.cursors")
    read(source, store)
    ((raw, reason),) = connection.execute("SELECT raw, reason FROM ops.dead_letters").fetchall()
    assert json.loads(bytes(raw)) == source.events[4]
    assert why in reason


def test_a_missing_field_is_named(store, connection):
    """With its path."""
    source = Tiny([event(n) for n in range(4)])
    del source.events[1]["type"]
    read(source, store)
    assert connection.execute("SELECT reason FROM ops.dead_letters").fetchone() == (
        "$.type: expected a value, found nothing",
    )


def test_a_record_that_was_bad_in_one_answer_only_is_a_row(store, connection):
    """Chaos that leaves out a field now and then costs a question, and no event."""
    source = Tiny([event(n) for n in range(5)])
    source.spoils = [lambda page: page | {"data": [{"id": 1}, *page["data"][1:]]}]
    drained, _ = read(source, store)
    assert stored(connection) == list(range(5))
    assert drained.tally.rejected == 0


def test_a_page_of_records_that_are_all_unknown_is_drift(store, connection):
    """It names the path, what was expected and what was found; nothing of the page is stored."""
    source = Tiny([event(n) for n in range(9)])
    renamed = lambda page: page | {"data": [{"uuid": one["id"]} for one in page["data"]]}  # noqa: E731
    source.spoils = [None, *[renamed] * 9]
    drained, _ = read(source, store)
    (error,) = drained.failed.values()
    assert isinstance(error, SchemaDrift)
    assert "records[0].id: expected a value, found nothing" in str(error)
    assert stored(connection) == [6, 7, 8]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"data": "busy", "pagination": {"hasMore": False}}, "data: expected array, found str"),
        ({"data": None, "pagination": {"hasMore": False}}, "data: expected array, found null"),
        ({"payload": {}}, "data: expected array, found nothing (there are payload)"),
        ({"data": []}, "hasMore: expected bool, found nothing"),
        ([1], "the answer: expected object, found array"),
    ],
)
def test_an_answer_of_another_shape_is_drift(store, answer, said):
    """After three readings."""
    source = Tiny([event(0)], spoils=[lambda _page: json.dumps(answer).encode()] * 3)
    drained, _ = read(source, store)
    assert said in str(next(iter(drained.failed.values())))


def test_a_new_field_is_noticed_once(store):
    """What the first drain has seen is what there is."""
    source = Tiny([event(0)])

    def fields():
        feeds = Feeds({"tiny": FeedConfig(url="http://tiny.example/")}, {}, store)
        feeds._open["tiny"] = feed = source.feed()
        drain([feeds.history("tiny")], store)
        del feed
        return feeds.new_fields("tiny")

    assert fields() == []
    source.events.append(event(1, colour="red"))
    assert fields() == ["colour"]
    assert fields() == []


def test_letters_are_replayed_as_they_came(store, connection):
    """Those that can be read by now become rows and are settled, the others stay; all is counted where its feed counts."""
    source = Tiny([event(0), event(1, id="one"), event(2, id="two", timestamp="soon")])
    read(source, store)
    feeds = Feeds({"tiny": FeedConfig(url="http://tiny.example/", ids="text")}, {}, store)
    feeds._open["tiny"] = source.feed(ids="text")
    assert drain([feeds.letters("tiny")], store).tally.inserted == 1
    assert stored(connection) == [0, 1]
    assert connection.execute(
        "SELECT count(*) FROM ops.dead_letters WHERE settled_at IS NULL"
    ).fetchone() == (1,)
    done = feeds.done("tiny")
    assert (done.records, done.letters) == (2, 1)
    assert drain([feeds.letters("tiny")], store).tally.batches == 0
    assert isinstance(feeds.letters("tiny"), Letters)


def test_an_id_that_is_no_uuid_is_hashed_with_its_feed():
    """Two feeds that both count from 1 do not meet."""
    line = b'{"id": 7, "type": "a", "timestamp": 1704067200}'
    config = FeedConfig(url="http://tiny.example/", ids="text")
    one, other = (Records(name, config).line(line).split(b"\t")[0] for name in ("one", "other"))
    assert one != other
    assert one == Records("one", config).line(line).split(b"\t")[0]
