"""What the API answers: the shapes of its JSON. They are encoded as they stand, and documented in /openapi.json by the same classes."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import msgspec

from ingestion_assets.api.records import Transfer


class Answer(msgspec.Struct, rename="camel", kw_only=True, gc=False):
    """The parent of all: names in camel case."""


class Warned(Answer):
    """Something that whoever reads the answer should know."""

    scope: str  # the chain, or `all`
    code: str
    message: str
    retryable: bool


class BlockRange(Answer):
    """Blocks `lo` to `hi`, inclusive."""

    lo: int
    hi: int


class CoveredRange(Answer):
    """Blocks that are whole, and why we believe it: see docs/evidence.md."""

    lo: int
    hi: int
    evidence: str


class ChainCoverage(Answer):
    """What is known to be whole of the blocks that an answer spans, on one chain."""

    chain_id: int
    chain_name: str
    spans: BlockRange | None  # None: nothing was read of the chain yet
    complete: bool  # no gap between both ends
    evidence: str | None  # the weakest level of what is covered
    ranges: Sequence[CoveredRange]
    gaps: Sequence[BlockRange]
    truncated: bool  # there are more ranges or gaps than are shown; /api/coverage and /api/gaps have them
    note: str | None = None  # what the coverage speaks of, where that is less than what was asked


class Meta(Answer):
    """Where the page lies."""

    page: int | None  # None: the page of a cursor
    page_size: int
    total: int | None  # None: not counted
    total_pages: int | None
    has_more: bool
    next_cursor: str | None  # of the next page; None: this is the last one
    end_cursor: str | None  # right after the last row: what comes later in this order begins there
    window_exceeded: bool = False  # there is no window
    max_window_pages: int | None = None
    result_window: int | None = None


class Totals(Answer):
    """How many transfers there are."""

    total: int  # that the filter finds; at least so many where `truncated`
    all_time_total: int  # stored, of the chains that were asked for, whatever the filter
    all_time_total_available: bool
    upstream_total: int | None
    truncated: bool  # counted no further
    result_length: int  # rows on this page
    timestamp: datetime
    stale: bool
    source: str


class ChainName(Answer):
    """A chain."""

    id: int | str
    name: str


class Filters(Answer):
    """What was asked for, as it was understood."""

    start_block: int | None
    end_block: int | None
    address: str | None
    token: str | None
    hash: str | None
    from_: datetime | None = msgspec.field(name="from")
    to: datetime | None


class ChainFreshness(Answer):
    """How fresh a chain is."""

    chain_id: int
    chain_name: str
    ready: bool  # something of it is stored
    stale: bool
    serve: str
    head_block: int | None
    final_block: int | None
    covered_to: int | None
    last_check: datetime | None
    last_ingested_at: datetime | None
    index_lag_seconds: int | None
    total_transfers: int
    upstream_total_transfers: int | None = None


class WarmState(Answer):
    """The pages that are kept ready."""

    chains: Sequence[str]
    timestamp: datetime | None


class Transfers(Answer):
    """A page of transfers, and what it is worth."""

    data: Sequence[Transfer]
    meta: Meta
    totals: Totals | None
    chain: ChainName
    sort: str
    filters: Filters
    timestamp: datetime
    stale: bool
    source: str  # store, cache (a page that is kept ready), stale-cache (the same, while the store is away), upstream
    last_ingested_at: datetime | None
    ingest_lag_seconds: (
        int | None
    )  # since the last check that succeeded, of the chain for which that is longest
    warnings: Sequence[Warned]
    coverage: Sequence[ChainCoverage]
    limits: dict[str, Any]
    defaults: dict[str, Any]
    warm: WarmState
    chains: Sequence[ChainFreshness]
    available_chains: Sequence[ChainName]
    request: dict[str, Any]


class TotalLine(Answer):
    """Transfers of a day, a token or a chain. A volume is a sum of smallest units of one token, so chains have none."""

    chain_id: int
    chain_name: str
    day: date | None
    token: str | None
    transfers: int
    volume: str | None
    unique_addresses: int | None  # of one token on one day; they cannot be added up


class DailyTotals(Answer):
    """Sums over whole days, the newest or the largest first."""

    data: Sequence[TotalLine]
    transfers: int  # of all that was asked for, shown or not
    exact: bool  # no day has changed since it was counted
    truncated: bool
    timestamp: datetime
