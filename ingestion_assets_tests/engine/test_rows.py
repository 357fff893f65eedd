"""What goes into a COPY block comes out of Postgres."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingestion_assets.engine import rows

ANY_TEXT = st.text(
    st.characters(exclude_categories=()), max_size=20
)  # with NUL, controls and lone surrogates
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def copied(empty_database_url):
    """Copies a block into a table of (text, text, jsonb) and gives its rows back."""
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("CREATE TABLE copied (n serial, one text, other text, payload jsonb)")

        def through(block):
            with (
                connection.cursor() as cursor,
                cursor.copy("COPY copied (one, other, payload) FROM STDIN") as copy,
            ):
                copy.write(block)
            found = connection.execute("DELETE FROM copied RETURNING n, one, other, payload").fetchall()
            return [row[1:] for row in sorted(found)]

        yield through


def storable(value):
    """What Postgres can hold of a Python value: no NUL, no lone surrogates."""
    if isinstance(value, str):
        whole = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in value)
        return whole.replace("\0", "␀")
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    return value


@given(records=st.lists(st.tuples(st.none() | ANY_TEXT, ANY_TEXT), min_size=1, max_size=5))
@example(records=[("\\N", "\\."), ("\t\n\r\\", "\\u0000"), ("\0\ud800\x0b", "")])
def test_texts_survive(copied, records):
    """Tabs, newlines, backslashes, and texts that look like the format's own words."""
    block = b"".join(rows.text(one) + b"\t" + rows.text(other) + b"\t{}\n" for one, other in records)
    assert [row[:2] for row in copied(block)] == [(storable(one), storable(other)) for one, other in records]


@given(value=JSON, pretty=st.booleans(), ascii_only=st.booleans())
def test_payloads_survive(copied, value, pretty, ascii_only):
    """Any JSON, escaped or not, on one line or on many."""
    document = json.dumps(value, indent="\t" if pretty else None, ensure_ascii=ascii_only)
    if not ascii_only:
        document = storable(document)  # surrogates cannot even be sent as UTF-8
    block = b"a\tb\t" + rows.payload(document.encode()) + b"\n"
    found = copied(block)[0][2]
    if ascii_only:
        assert found == storable_json(value)
    else:
        assert found == storable(value)


def storable_json(value):
    """As `storable`, of JSON with escapes: two lone halves side by side are a whole character there."""
    return storable(json.loads(json.dumps(value)))


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (rb'"\u0000"', "␀"),
        (rb'"\\u0000"', "\\u0000"),
        (rb'"\\\u0000"', "\\␀"),
        (rb'"\ud83d\ude00"', "😀"),
        (rb'"\ud83d"', "\ufffd"),
        (rb'"\ude00\ud83d"', "\ufffd\ufffd"),
        (rb'"\ud83d\ud83d\ude00"', "\ufffd😀"),
        (rb'"\\ud83d"', "\\ud83d"),
        (rb'"\t\"\/\n"', '\t"/\n'),
        (b'{\r\n\t"a" :\t[1,\n2]\r\n}\n', {"a": [1, 2]}),
        ('"\\u00e9é"'.encode(), "éé"),
    ],
)
def test_payload_examples(copied, sent, stored):
    """Only what jsonb cannot hold is changed."""
    assert copied(b"a\tb\t" + rows.payload(sent) + b"\n")[0][2] == stored


def test_a_payload_that_is_no_utf8_is_refused_before_it_is_sent():
    """The source turns this into a rejected record."""
    with pytest.raises(UnicodeDecodeError):
        rows.payload(b'"\xff"')


def test_plain_values_survive(empty_database_url):
    """Whole numbers of 78 digits, exact decimals, times, truth and nothing."""
    when = datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    record = (2**256 - 1, Decimal("-0.10"), when, True, None, "a\tb")
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(
            "CREATE TABLE plain (a numeric(78,0), b numeric, c timestamptz, d bool, e text, f text)"
        )
        with connection.cursor() as cursor, cursor.copy("COPY plain FROM STDIN") as copy:
            copy.write(rows.lines([record]))
        assert connection.execute("SELECT * FROM plain").fetchall() == [record]


@given(one=ANY_TEXT, value=JSON)
@example(one="\\", value="\\u0000\t\\t\\")
def test_column_gives_a_payload_back(one, value):
    """As it was received, whatever stands in the columns beside it."""
    document = json.dumps(storable_json(value)).encode()
    line = rows.text(one) + b"\t" + rows.payload(document) + b"\t" + rows.text(one) + b"\n"
    assert rows.column(line, 1) == document


@given(ANY_TEXT)
def test_a_printable_text_can_be_a_parameter(value):
    """It is what `text` would have stored."""
    assert rows.printable(value) == storable(value)
    rows.printable(value).encode()
