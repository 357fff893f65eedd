"""The status page: what it says, that it is whole HTML, and that a browser shows it without a scroll bar on a phone."""

import re
import shutil
import subprocess
from datetime import UTC, date, datetime, timedelta
from html import escape

import pytest

from ingestion_assets.api.calendar import year
from ingestion_assets.api.snapshot import ChainState, Piece, Snapshot
from ingestion_assets_tests.api.world import ACCOUNTS, ALPHA, config, connect, fill, served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def page(database_url):
    """The url of the page over two chains, one of them with trouble."""
    with connect(database_url) as connection:
        fill(connection, 120)
        connection.execute(
            "INSERT INTO ops.dead_letters (stream, lo, hi, reason, raw) VALUES ('evm/token_transfers/alpha/0x1', 1, 1, %s, %s)",
            ["its <value> is none", b'{"tokenName": "<script>alert(1)</script>"}'],
        )
        connection.execute(
            "INSERT INTO ops.providers (scope, provider, state, failures, until, reason)"
            " VALUES ('beta-2', 'etherscan', 'open', 4, now() + interval '9 min', 'Transient: it hangs')"
        )
        connection.execute("INSERT INTO ops.rate_days VALUES ('host', (now() AT TIME ZONE 'UTC')::date, 7)")
        connection.execute(
            "INSERT INTO ops.cursors (stream, value, epoch, records) VALUES ('events/events/audit', '{}', 1, 5)"
        )
    with served(config(database_url)) as client:
        yield client


def test_it_says_what_a_person_wants_to_know(page):
    """And nothing that others wrote becomes part of it."""
    text = page.get("/").text
    for wanted in (
        "alpha",
        "beta-2",
        "240 transfers",
        "its &lt;value&gt; is none",
        "it hangs",
        "7 of 100",
        "events/events/audit",
    ):
        assert wanted in text
    assert "<script>" not in text
    assert "degraded" in text
    assert text.count("<rect") == text.count("</rect>") > 0


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_scrolling_sideways(page, tmp_path, width):
    """Everything fits into the window; what is wider scrolls by itself."""
    frame = f"""<!doctype html><title></title><iframe id=page width={width} height=900 srcdoc="{escape(page.get("/").text)}"></iframe>
        <script>page.onload = () => document.title = page.contentDocument.documentElement.scrollWidth</script>"""
    (tmp_path / "frame.html").write_text(frame)
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile")
    done = subprocess.run(
        [CHROMIUM, *options, "--hide-scrollbars", "--dump-dom", (tmp_path / "frame.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    [shown] = re.findall("<title>([0-9]+)</title>", done.stdout) or [done.stderr[-2000:]]
    assert 300 < int(shown) <= width


def seen(pieces, final=300, known=(0, 1, 2, 3)):
    """A snapshot of a chain whose days have 100 blocks each."""
    start = ALPHA.start
    return Snapshot(
        datetime.now(UTC),
        "1",
        chains={"alpha": ChainState(final + 50, final, None)},
        pieces={
            key: tuple(Piece(lo, hi, "stated", "x", 1, datetime.now(UTC)) for lo, hi in own)
            for key, own in pieces.items()
        },
        days={"alpha": {start + timedelta(days=n): n * 100 for n in known}},
    )


def shares(pieces, **changes):
    """What each of the first five days is painted as."""
    from dataclasses import replace

    chain = replace(ALPHA, addresses=frozenset(ACCOUNTS[:1]), tokens=frozenset())
    found = year(seen(pieces, **changes), chain, ALPHA.start + timedelta(days=4))
    assert [day.day for day in found] == [ALPHA.start + timedelta(days=n) for n in range(5)]
    return [None if day.share is None else round(day.share, 3) for day in found]


def keys(ranges):
    """All streams of one account, read alike."""
    return {
        f"evm/{kind}/alpha/{ACCOUNTS[0]}": ranges
        for kind in ("transactions", "internal_transactions", "token_transfers")
    }


def test_a_day_is_as_full_as_its_blocks_are_covered():
    """From either end, in the middle, over several days; a day that was not looked up is neither full nor empty."""
    assert shares({}) == [0, 0, 0, None, None]
    assert shares(keys([(0, 299)])) == [1, 1, 1, None, None]
    assert shares(keys([(50, 249)])) == [0.5, 1, 0.5, None, None]
    assert shares(keys([(110, 119), (130, 139)])) == [0, 0.2, 0, None, None]
    assert shares(keys([(0, 99), (100, 198)])) == [1, 0.99, 0, None, None]
    one_of_three = {f"evm/transactions/alpha/{ACCOUNTS[0]}": [(0, 299)]}
    assert shares(one_of_three) == [0.333, 0.333, 0.333, None, None]


def test_days_between_two_that_were_looked_up_are_full_or_empty_together():
    """A run over many days looks up its first and its last; of what lies between in part, nobody knows the day."""
    assert shares(keys([(0, 299)]), known=(0, 3)) == [1, 1, 1, None, None]
    assert shares({}, known=(0, 3)) == [0, 0, 0, None, None]
    assert shares(keys([(0, 298)]), known=(0, 3)) == [None, None, None, None, None]


def test_nothing_short_of_all_is_painted_as_all():
    """One block that is missing shows."""
    from dataclasses import replace

    chain = replace(ALPHA, addresses=frozenset(ACCOUNTS[:1]), tokens=frozenset())
    first = year(seen(keys([(0, 98)])), chain, date(2024, 1, 31))[0]
    assert (first.level, first.said) == ("some3", "2024-01-30: 99.0 % covered")
