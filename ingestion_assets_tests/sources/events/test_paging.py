"""The dialects: what is asked, and what an answer says of the next page."""

import json

import pytest

from ingestion_assets.engine.errors import ProtocolError, SchemaDrift
from ingestion_assets.sources.events.config import FeedConfig
from ingestion_assets.sources.events.paging import CursorExpired, ErrorInBody, paging_of


def dialect(**pages):
    """As sources.yaml names it."""
    return paging_of(FeedConfig(url="http://tiny.example/", pages={"kind": "cursor"} | pages))


def test_a_cursor_lies_beside_the_data_or_in_an_object_of_its_own():
    """As documented, and as it is."""
    flat = {"data": [1], "hasMore": True, "nextCursor": "x"}
    nested = {
        "data": [1],
        "pagination": {"hasMore": True, "nextCursor": "x", "cursorExpiresIn": 118.5},
        "meta": {"total": 7},
    }
    for answer in (flat, nested):
        page = dialect().answer(json.dumps(answer).encode(), None)
        assert (page.more, page.token) == (True, "x")
    assert (page.total, page.lives) == (7, 118)
    assert dialect().question("x", 5) == {"limit": 5, "cursor": "x"}


def test_names_are_what_people_type():
    """And the records may lie deeper."""
    pages = dialect(limit="count", cursor="after", records="result.items", more="more", next="after")
    page = pages.answer(b'{"result": {"items": []}, "more": false, "after": 12}', None)
    assert (page.more, page.token) == (False, "12")
    assert pages.question(None, 9) == {"count": 9}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"data": [], "hasMore": true}', ProtocolError),
        (b'{"data": [], "hasMore": true, "nextCursor": "here"}', ProtocolError),
        (b'{"data": [], "hasMore": "yes"}', SchemaDrift),
        (b'{"data": [], "hasMore": true, "nextCursor": {}}', SchemaDrift),
        (b'{"data": {}, "hasMore": false}', SchemaDrift),
        (b'{"error": "Bad Request", "code": "CURSOR_EXPIRED"}', CursorExpired),
        (b'{"error": "Gone", "message": "Cursor expired. Please restart"}', CursorExpired),
        (b'{"error": "busy"}', ErrorInBody),
    ],
)
def test_what_is_no_page_is_told_apart(body, error):
    """Each calls for something else."""
    with pytest.raises(error):
        dialect().answer(body, "here")


def test_whoever_asks_counts_records_not_limits():
    """A limit that the source lowers without a word must not skip any; only an empty page is the end."""
    pages = dialect(kind="offset")
    assert pages.question(None, 100) == {"limit": 100, "offset": 0}
    page = pages.answer(b"[1, 2, 3]", "40")
    assert (page.more, page.token) == (True, "43")
    end = pages.answer(b"[]", "43")
    assert (end.more, end.token) == (False, "43")


def test_numbered_pages_end_with_an_empty_one_and_the_last_is_looked_at_again():
    """It may have grown."""
    pages = dialect(kind="page", first=1, records="items")
    assert pages.question(None, 100) == {"limit": 100, "page": 1}
    following = pages.answer(b'{"items": [1]}', "7")
    assert (following.more, following.token) == (True, "8")
    end = pages.answer(b'{"items": []}', "8")
    assert (end.more, end.token) == (False, "7")


@pytest.mark.parametrize("body", [b'{"error": "busy"}', b"{}", b"7"])
def test_a_bare_array_is_an_array(body):
    """Anything else is not."""
    with pytest.raises(SchemaDrift):
        dialect(kind="offset").answer(body, None)
