"""The status page at /: what a person wants to see at a glance. Rendered here, from the snapshot and two small queries."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jinja2
from fastapi import FastAPI
from starlette.responses import HTMLResponse

from ingestion_assets.api import calendar, health, lists
from ingestion_assets.api.calendar import Day
from ingestion_assets.api.config import ServedChain
from ingestion_assets.api.coverage import covered
from ingestion_assets.api.errors import CannotServe
from ingestion_assets.api.health import ChainHealth
from ingestion_assets.api.parameters import ListQuestion
from ingestion_assets.api.service import Service
from ingestion_assets.api.snapshot import Snapshot
from ingestion_assets.engine.coverage import intersection, size

UNDER_WAY = timedelta(minutes=3)  # since a mark moved: what moves them is at work
MOST_LETTERS = 10
SQUARE = 7  # units of the drawing from one day's square to the next

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)

_CURSORS = b"SELECT stream, records, updated_at FROM ops.cursors ORDER BY stream LIMIT 50"
_FILES = b"""
    SELECT f.account, count(*), sum(f.positions)::bigint,
           coalesce(sum((SELECT sum(hi - lo + 1) FROM ops.coverage AS c
                         WHERE c.stream = 'statements/lines/' || f.account || '/' || f.hash)), 0)::bigint,
           max(f.registered_at)
    FROM ops.statement_files AS f GROUP BY 1 ORDER BY 1 LIMIT 50"""


@dataclass(frozen=True, slots=True)
class Kind:
    """The streams of one kind on one chain, together."""

    name: str
    streams: int
    records: int
    covered_to: int | None
    lag_blocks: int | None
    share: float | None  # of what is wanted
    moved_at: datetime | None
    is_under_way: bool


@dataclass(frozen=True, slots=True)
class ChainView:
    """All that the page shows of a chain."""

    served: ServedChain
    health: ChainHealth
    kinds: Sequence[Kind]
    days: Sequence[Day]


@dataclass(frozen=True, slots=True)
class Other:
    """A feed, or the files of an account."""

    name: str
    records: int
    share: float | None
    moved_at: datetime
    is_under_way: bool


def add(app: FastAPI, service: Service) -> None:
    """Add the page to an app."""
    template = _TEMPLATES.get_template("status.html")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def read_page() -> HTMLResponse:
        """How everything is, for people."""
        return HTMLResponse(template.render(await _seen(service)), headers={"Cache-Control": "no-cache"})


async def _seen(service: Service) -> Mapping[str, Any]:
    now, snapshot = datetime.now(UTC), service.snapshot
    answer, _ = health.health(service)
    try:
        letters = (await lists.dead_letters(service, ListQuestion(limit=MOST_LETTERS))).data
        others = await _others(service, now)
    except CannotServe:  # the rest is still worth seeing
        letters, others = (), []
    by_name = {chain.chain_name: chain for chain in answer.chains}
    return {
        "now": now,
        "today": now.date(),
        "health": answer,
        "chains": [_chain(snapshot, chain, by_name[chain.name], now) for chain in service.config.chains],
        "others": others,
        "letters": letters,
        "open_letters": sum(snapshot.letters.values()),
        "warm": health.cache_health(service).transfers_warm,
        "square": SQUARE,
        "ago": lambda moment: ago(moment, now),
        "month_marks": month_marks,
    }


def _chain(snapshot: Snapshot, chain: ServedChain, seen: ChainHealth, now: datetime) -> ChainView:
    wanted = lists.reach(snapshot, chain)
    keys: defaultdict[str, list[str]] = defaultdict(list)
    for key in lists.streams(chain):
        keys[key.split("/")[1]].append(key)
    kinds: list[Kind] = []
    for name, own in keys.items():
        pieces = [piece for key in own for piece in snapshot.pieces.get(key, ())]
        ends = [covered(snapshot, key) for key in own]
        to = min((ranges[-1][1] for ranges in ends), default=None) if all(ends) else None
        moved = max((piece.updated_at for piece in pieces), default=None)
        share = None
        if wanted is not None:
            done = sum(size(intersection(ranges, [wanted])) for ranges in ends)
            share = done / (len(own) * size([wanted]))
        final = seen.final_block
        kinds.append(
            Kind(
                name=name.replace("_", " "),
                streams=len(own),
                records=sum(piece.records for piece in pieces),
                covered_to=to,
                lag_blocks=None if to is None or final is None else max(0, final - to),
                share=share,
                moved_at=moved,
                is_under_way=moved is not None and now - moved < UNDER_WAY,
            )
        )
    return ChainView(chain, seen, kinds, calendar.year(snapshot, chain, now.date()))


async def _others(service: Service, now: datetime) -> list[Other]:
    found = [
        Other(stream, records, None, moved, now - moved < UNDER_WAY)
        for stream, records, moved in await service.database.rows(_CURSORS)
    ]
    for account, files, positions, done, registered in await service.database.rows(_FILES):
        name = f"statements of {account}, {files} {'file' if files == 1 else 'files'}"
        share = min(1.0, done / positions) if positions else None
        found.append(Other(name, done, share, registered, now - registered < UNDER_WAY))
    return found


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago something was, in one unit."""
    if moment is None:
        return "never"
    seconds = max(0, int((now - moment).total_seconds()))
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"


def month_marks(days: Sequence[Day]) -> list[tuple[int, str]]:
    """The column and the name of each month that begins in a calendar, but those too close to its end to be read."""
    last = days[-1].week if days else 0
    return [(day.week, f"{day.day:%b}") for day in days if day.day.day == 1 and day.week < last]
