"""The answers of /api/coverage, /api/gaps, /api/dead-letters and /api/totals."""

from collections.abc import Sequence
from datetime import datetime
from itertools import islice

from msgspec.structs import replace
from psycopg import sql

from ingestion_assets.api import coverage
from ingestion_assets.api.answers import Answer, DailyTotals, TotalLine
from ingestion_assets.api.chains import chosen
from ingestion_assets.api.config import ServedChain
from ingestion_assets.api.errors import BadQuestion, Wrong
from ingestion_assets.api.pages import Wanted
from ingestion_assets.api.parameters import ListQuestion, TotalsQuestion
from ingestion_assets.api.service import Service
from ingestion_assets.api.snapshot import Snapshot
from ingestion_assets.engine.coverage import Range, difference
from ingestion_assets.sources.transfers.tables import daily_totals

MOST_KEPT = 1_000  # lines of an answer that is remembered
MOST_RAW = 2_000  # characters of a dead letter that are shown


class CoverageLine(Answer):
    """A range of a stream that is whole. Positions are blocks, lines, or seconds: whatever the stream counts by."""

    stream: str
    lo: int
    hi: int
    evidence: str
    provider: str
    records: int
    updated_at: datetime


class Coverage(Answer):
    """What is whole."""

    data: Sequence[CoverageLine]
    truncated: bool
    timestamp: datetime


class GapLine(Answer):
    """Blocks of a stream that are wanted and not covered, up to the last final block that was seen."""

    stream: str
    chain_id: int
    chain_name: str
    lo: int
    hi: int
    blocks: int
    reason: str


class Gaps(Answer):
    """What is missing."""

    data: Sequence[GapLine]
    blocks: int  # of all gaps, shown or not
    truncated: bool
    timestamp: datetime


class DeadLetterLine(Answer):
    """A record that could not be stored, and waits for a replay."""

    id: int
    stream: str
    lo: int | None
    hi: int | None
    reason: str
    raw: str  # its beginning, as text
    noticed_at: datetime


class DeadLetters(Answer):
    """Open dead letters, the newest first."""

    data: Sequence[DeadLetterLine]
    total: int
    truncated: bool
    timestamp: datetime


def covered(service: Service, question: ListQuestion) -> Coverage:
    """The covered ranges of all streams; of a chain, those that name it."""
    snapshot = service.snapshot
    names = _names(service, question)
    lines = (
        CoverageLine(
            stream=stream,
            lo=piece.lo,
            hi=piece.hi,
            evidence=piece.evidence,
            provider=piece.provider,
            records=piece.records,
            updated_at=piece.updated_at,
        )
        for stream in sorted(snapshot.pieces)
        if _is_asked(stream, question, names)
        for piece in snapshot.pieces[stream]
    )
    found = list(islice(lines, question.limit + 1))
    return Coverage(
        data=found[: question.limit], truncated=len(found) > question.limit, timestamp=snapshot.taken_at
    )


def _names(service: Service, question: ListQuestion) -> set[str] | None:
    """The chains that are asked for; None: whatever there is."""
    chains = chosen(service.config, question)
    return None if len(chains) == len(service.config.chains) else {chain.name for chain in chains}


def _is_asked(stream: str, question: ListQuestion, names: set[str] | None) -> bool:
    if question.stream is not None and not stream.startswith(question.stream):
        return False
    parts = stream.split("/")
    return names is None or (len(parts) > 2 and parts[2] in names)  # noqa: PLR2004 - family/kind/chain/subject


def gaps(service: Service, question: ListQuestion) -> Gaps:
    """What is wanted of each watched account and token of the chains, and not covered."""
    snapshot = service.snapshot
    found = [
        gap
        for chain in chosen(service.config, question)
        for stream in streams(chain)
        if question.stream is None or stream.startswith(question.stream)
        for gap in _gaps_of(snapshot, chain, stream)
    ]
    return Gaps(
        data=found[: question.limit],
        blocks=sum(gap.blocks for gap in found),
        truncated=len(found) > question.limit,
        timestamp=snapshot.taken_at,
    )


def streams(chain: ServedChain) -> list[str]:
    """All streams of a chain."""
    kinds = (coverage.TRANSACTIONS, coverage.INTERNAL_TRANSACTIONS, coverage.OF_ACCOUNT)
    return [
        *(coverage.key(kind, chain, address) for kind in kinds for address in sorted(chain.addresses)),
        *(coverage.key(coverage.OF_TOKEN, chain, token) for token in sorted(chain.tokens)),
    ]


def reach(snapshot: Snapshot, chain: ServedChain) -> Range | None:
    """The blocks that are wanted of a chain, as far as it was seen."""
    return coverage.span(snapshot, chain, Wanted((chain.name,)), ())


def _gaps_of(snapshot: Snapshot, chain: ServedChain, stream: str) -> list[GapLine]:
    wanted = reach(snapshot, chain)
    missing = difference([wanted], coverage.covered(snapshot, stream)) if wanted else ()
    known = snapshot.unproved.get(stream, ())
    return [
        GapLine(
            stream=stream,
            chain_id=chain.chain_id,
            chain_name=chain.name,
            lo=lo,
            hi=hi,
            blocks=hi - lo + 1,
            reason="; ".join(why for (low, high), why in known if low <= hi and lo <= high) or "not read yet",
        )
        for lo, hi in missing
    ]


_LETTERS = sql.SQL(
    "SELECT id, stream, lo, hi, reason, substring(raw from 1 for {most}), noticed_at FROM ops.dead_letters"
    " WHERE settled_at IS NULL AND starts_with(stream, %(stream)s)"
    " AND (%(names)s::text[] IS NULL OR split_part(stream, '/', 3) = ANY(%(names)s))"
    " ORDER BY id DESC LIMIT %(limit)s"
).format(most=sql.Literal(4 * MOST_RAW))


async def dead_letters(service: Service, question: ListQuestion) -> DeadLetters:
    """What could not be stored."""
    names = _names(service, question)
    prefix = question.stream or ""
    if "\x00" in prefix:
        raise BadQuestion(Wrong("stream", repr(prefix), "the beginning of a stream's key"))
    found = await service.database.rows(
        _LETTERS,
        {"stream": prefix, "names": None if names is None else sorted(names), "limit": question.limit},
    )
    snapshot = service.snapshot
    total = sum(count for stream, count in snapshot.letters.items() if _is_asked(stream, question, names))
    return DeadLetters(
        data=[
            DeadLetterLine(
                id=number,
                stream=stream,
                lo=lo,
                hi=hi,
                reason=reason,
                raw=bytes(raw).decode(errors="replace")[:MOST_RAW],
                noticed_at=noticed_at,
            )
            for number, stream, lo, hi, reason, raw, noticed_at in found
        ],
        total=max(total, len(found)),
        truncated=total > len(found),
        timestamp=snapshot.taken_at,
    )


_SUMS = {
    "day": sql.SQL(
        "SELECT chain, day, NULL, sum(transfer_count)::bigint, {volume}, {unique} FROM {table} WHERE {where}"
        " GROUP BY chain, day ORDER BY day DESC, chain LIMIT %(limit)s"
    ),
    "token": sql.SQL(
        "SELECT chain, NULL, token_address, sum(transfer_count)::bigint AS transfers, sum(volume), NULL FROM {table}"
        " WHERE {where} GROUP BY chain, token_address ORDER BY transfers DESC, chain, token_address LIMIT %(limit)s"
    ),
    "chain": sql.SQL(
        "SELECT chain, NULL, NULL, sum(transfer_count)::bigint, {volume}, NULL FROM {table}"
        " WHERE {where} GROUP BY chain ORDER BY chain LIMIT %(limit)s"
    ),
}
_ALL = sql.SQL("SELECT coalesce(sum(transfer_count), 0)::bigint FROM {table} WHERE {where}")
_TABLE = sql.Identifier(str(daily_totals.schema), daily_totals.name)


async def totals(service: Service, question: TotalsQuestion) -> DailyTotals:
    """Sums over days. Of a token, its volume too, and day by day how many addresses took part. Remembered until something changes."""
    key = service.snapshot.version, question
    known = service.sums.get(key)
    if known is not None:
        return replace(known, timestamp=service.snapshot.taken_at)
    found = await _totals(service, question)
    return service.sums.put(key, found) if len(found.data) <= MOST_KEPT else found


async def _totals(service: Service, question: TotalsQuestion) -> DailyTotals:
    if question.from_ is not None and question.to is not None and question.from_ > question.to:
        raise BadQuestion(
            Wrong("from", question.from_.isoformat(), f"not after to, {question.to.isoformat()}")
        )
    chains = chosen(service.config, question)
    by_name = {chain.name: chain for chain in chains}
    conditions = [sql.SQL("chain = ANY(%(chains)s)")]
    if question.token is not None:
        conditions.append(sql.SQL("token_address = %(token)s"))
    if question.from_ is not None:
        conditions.append(sql.SQL("day >= %(from)s"))
    if question.to is not None:
        conditions.append(sql.SQL("day <= %(to)s"))
    is_one = question.token is not None
    parts = {
        "table": _TABLE,
        "where": sql.SQL(" AND ").join(conditions),
        "volume": sql.SQL("sum(volume)" if is_one else "NULL"),
        "unique": sql.SQL("sum(unique_addresses)::bigint" if is_one else "NULL"),
    }
    values = {
        "chains": list(by_name), "token": question.token, "from": question.from_, "to": question.to,
        "limit": question.limit + 1,
    }  # fmt: skip
    found = await service.database.rows(_SUMS[question.group_by].format(**parts), values)
    [transfers] = await service.database.row(_ALL.format(**parts), values)
    return DailyTotals(
        data=[
            TotalLine(
                chain_id=by_name[chain].chain_id,
                chain_name=chain,
                day=day,
                token=token or question.token,
                transfers=count,
                volume=None if volume is None else f"{volume:f}",
                unique_addresses=unique,
            )
            for chain, day, token, count, volume, unique in found[: question.limit]
        ],
        transfers=transfers,
        exact=not (service.snapshot.uncounted & set(by_name)),
        truncated=len(found) > question.limit,
        timestamp=service.snapshot.taken_at,
    )
