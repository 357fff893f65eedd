"""What the CLI tells about feeds: how far they are, what is missing, and what became of their dead letters."""

from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.store import Store
from ingestion_assets.settings import Settings
from ingestion_assets.sources.events.feeds import Feeds, lacking
from ingestion_assets.sources.events.position import Position
from ingestion_assets.sources.events.streams import BY_DAY, WHOLE


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """One feed. `total` is what it says it has; `read_at` is when its mark moved last."""

    asset: str
    feed: str
    records: int
    total: int | None
    missing: int
    dead_letters: int
    state: str
    read_at: datetime | None


@dataclass(frozen=True, slots=True)
class FeedGap:
    """What is wanted of a feed and not stored. Without bounds where only a number is known."""

    stream: str
    since: datetime | None
    until: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class FeedReplay:
    """What became of the dead letters of a feed."""

    stream: str
    settled: int
    open: int


def feeds(settings: Settings, store: Store) -> list[FeedStatus]:
    """One line for each feed, from the marks alone; asks no source."""
    return [
        (_whole if config.start is None else _by_day)(store, name)
        for name, config in settings.sources().events.items()
    ]


_MARK = "SELECT value::text, records, updated_at FROM ops.cursors WHERE stream = %s"
_RANGES = "SELECT coalesce(sum(records), 0), max(updated_at), count(*) FROM ops.coverage WHERE stream = %s"


def _whole(store: Store, name: str) -> FeedStatus:
    key = f"{WHOLE}/{name}"
    found = store.transaction(lambda c: c.execute(_MARK, [key]).fetchone())
    letters = store.count_open_letters(key).get(key, 0)
    if found is None:
        return FeedStatus(WHOLE, name, 0, None, 0, letters, "not read yet", None)
    value, records, read_at = found
    position = msgspec.json.decode(value, type=Position)
    missing = position.missing(records, letters) if position.ended else 0
    state = "caught up" if position.ended else "under way"
    return FeedStatus(WHOLE, name, records, position.total, missing, letters, state, read_at)


def _by_day(store: Store, name: str) -> FeedStatus:
    key = f"{BY_DAY}/{name}"
    records, read_at, ranges = store.transaction(lambda c: c.execute(_RANGES, [key]).fetchone()) or (
        0,
        None,
        0,
    )
    letters = store.count_open_letters(key).get(key, 0)
    return FeedStatus(BY_DAY, name, int(records), None, 0, letters, f"{ranges} ranges", read_at)


def feed_gaps(settings: Settings, store: Store, only: str | None = None) -> list[FeedGap]:
    """What is missing of each feed, from the marks alone: seconds of its days, or a number of events."""
    configs = settings.sources().events
    opened = Feeds(configs, settings.variables, store)
    found: list[FeedGap] = []
    try:
        for name, config in configs.items():
            if only not in (None, name):
                continue
            if config.start is not None:
                days = ((config.start, datetime.now(UTC).date()),)
                found += [
                    FeedGap(f"{BY_DAY}/{name}", _moment(lo), _moment(hi), "not read yet")
                    for lo, hi in opened.gaps(name, days)
                ]
            elif reason := _reason(opened, name):
                found.append(FeedGap(f"{WHOLE}/{name}", None, None, reason))
    finally:
        opened.close()
    return found


def _reason(opened: Feeds, name: str) -> str | None:
    done = opened.done(name)
    position = done.position(Position)
    if position is None:
        return "not read yet"
    if not position.ended:
        return "its sweep is under way; the next run goes on"
    missing = lacking(done)
    return f"the feed says that it has {missing:,} events more than are stored" if missing else None


def _moment(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def replay_feeds(settings: Settings, store: Store, streams: str) -> list[FeedReplay]:
    """Try the dead letters of feeds whose key is LIKE the pattern again, as they were received."""
    query = (
        "SELECT DISTINCT stream FROM ops.dead_letters"
        " WHERE settled_at IS NULL AND lo IS NULL AND stream LIKE %s ORDER BY 1"
    )
    keys = {key for (key,) in store.transaction(lambda c: c.execute(query, [streams]).fetchall())}
    opened = Feeds(settings.sources().events, settings.variables, store)
    found: list[FeedReplay] = []
    try:
        for name, config in opened.configs.items():
            if config.start is None and f"{WHOLE}/{name}" in keys:
                letters = opened.letters(name)
                tally = drain([letters], store).tally
                settled = tally.batches - tally.rejected
                found.append(FeedReplay(f"{WHOLE}/{name}", settled, len(letters.letters) - settled))
    finally:
        opened.close()
    return found
