"""The answer of /api/transfers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ingestion_assets.api import coverage, freshness
from ingestion_assets.api.answers import ChainName, Filters, Meta, Totals, WarmState, Warned
from ingestion_assets.api.answers import Transfers as Answer
from ingestion_assets.api.chains import chosen, filtered
from ingestion_assets.api.config import ApiConfig, ServedChain
from ingestion_assets.api.errors import BadQuestion, CannotServe, Wrong
from ingestion_assets.api.ordering import cursor, fingerprint, read_cursor
from ingestion_assets.api.parameters import TransferQuestion
from ingestion_assets.api.records import Transfer
from ingestion_assets.api.service import Service
from ingestion_assets.api.snapshot import Snapshot
from ingestion_assets.api.store import Counted, Page, described
from ingestion_assets.api.upstream import NotAnswered

STORE, CACHE, STALE_CACHE, UPSTREAM = "store", "cache", "stale-cache", "upstream"


@dataclass(frozen=True, slots=True)
class _Found:
    """A page, whoever gave it."""

    data: Sequence[Transfer]
    has_more: bool
    source: str
    next_cursor: str | None = None
    end_cursor: str | None = None
    warnings: tuple[Warned, ...] = ()
    is_stale: bool = False


class Asked:
    """One question, and all that is needed to answer it.

    Args:
        service: what all answers share.
        question: checked by itself.
        client: who asks.

    Raises:
        BadQuestion: it asks for something that there is not.
        CannotServe: the store was never seen.
    """

    def __init__(self, service: Service, question: TransferQuestion, client: str) -> None:
        self._service = service
        self._config: ApiConfig = service.config
        self._question = question
        self._client = client
        most = self._config.limits.page_size
        if question.page_size > most:
            raise BadQuestion(Wrong("pageSize", question.page_size, f"1 to {most}"))
        self._chains = chosen(self._config, question)
        self._wanted = filtered(self._chains, question, newest_first=question.sort == "desc")
        self._fingerprint = fingerprint(self._wanted.fingerprint())
        self._snapshot: Snapshot = service.snapshot
        self._now = datetime.now(UTC)
        self._after = None if question.cursor is None else read_cursor(question.cursor, self._fingerprint)

    async def answer(self) -> Answer:
        """The answer.

        Raises:
            CannotServe: the store is away, and the page is none of those that are kept ready.
        """
        found = await self._find()
        counted = await self._count(found)
        config, snapshot, now, question = self._config, self._snapshot, self._now, self._question
        fresh_by_chain = freshness.of_chains(config, snapshot, now)
        lags = [fresh_by_chain[chain.name] for chain in self._chains]
        known = [fresh.lag for fresh in lags]
        is_stale = found.is_stale or self._service.is_away or any(fresh.is_stale for fresh in lags)
        ingested = [fresh.ingested_at for fresh in lags if fresh.ingested_at is not None]
        total = None if counted is None else counted.rows
        kept = self._service.warm.kept
        return Answer(
            data=found.data,
            meta=Meta(
                page=None if question.cursor else question.page,
                page_size=question.page_size,
                total=total,
                total_pages=None if total is None else -(-total // question.page_size),
                has_more=found.has_more,
                next_cursor=found.next_cursor,
                end_cursor=found.end_cursor,
            ),
            totals=None if counted is None else self._totals(counted, found, is_stale=is_stale),
            chain=self._chain_name(),
            sort=question.sort,
            filters=Filters(
                start_block=self._wanted.lo,
                end_block=self._wanted.hi,
                address=self._wanted.address,
                token=self._wanted.token,
                hash=self._wanted.hash,
                from_=self._wanted.since,
                to=self._wanted.until,
            ),
            timestamp=now,
            stale=is_stale,
            source=found.source,
            last_ingested_at=min(ingested, default=None),
            ingest_lag_seconds=None
            if None in known
            else freshness.whole(max((lag for lag in known if lag is not None), default=None)),
            warnings=self._warnings(found, counted, fresh_by_chain),
            coverage=[coverage.of_answer(snapshot, chain, self._wanted) for chain in self._chains],
            limits=limits(config),
            defaults=DEFAULTS,
            warm=WarmState(
                chains=[chain.name for chain in config.chains] if kept else [],
                timestamp=kept.made_at if kept else None,
            ),
            chains=[
                freshness.described(snapshot, chain, fresh_by_chain[chain.name]) for chain in config.chains
            ],
            available_chains=available(config),
            request=question.model_dump(mode="json", by_alias=True, exclude_none=True),
        )

    async def _find(self) -> _Found:
        warned: list[Warned] = []
        is_stale = False
        for chain in self._chains:
            if chain.serve != "upstream":
                continue
            try:
                if self._question.cursor is not None or len(self._chains) > 1:
                    raise NotAnswered(
                        "UPSTREAM_CANNOT", "an explorer knows no cursors, and no chain but its own"
                    )
                return await self._ask_upstream(chain)
            except NotAnswered as error:
                is_stale |= error.code == "UPSTREAM_FAILED"
                warned.append(
                    Warned(
                        scope=chain.name,
                        code=error.code,
                        message=f"{chain.name} is served by the store: {error}",
                        retryable=error.code == "UPSTREAM_FAILED",
                    )
                )
        found = await self._ask_store()
        return replace(found, warnings=(*warned, *found.warnings), is_stale=found.is_stale or is_stale)

    async def _ask_upstream(self, chain: ServedChain) -> _Found:
        size, number = self._question.page_size, self._question.page
        head = self._snapshot.of(chain).head
        data = await self._service.upstreams.page(chain, self._wanted, size, number, head)
        return _Found(data, has_more=len(data) >= size, source=UPSTREAM)

    async def _ask_store(self) -> _Found:
        question, service = self._question, self._service
        is_first_pages = question.cursor is None and not question.force
        if is_first_pages:
            kept = service.warm.page(self._wanted, question.page_size, question.page, self._snapshot.version)
            if kept is not None and not service.is_away:
                return self._of_page(kept, CACHE)
        try:
            if self._after is not None or question.cursor is not None:
                page = await service.transfers.after(self._wanted, question.page_size, self._after)
            else:
                page = await service.transfers.numbered(
                    self._wanted,
                    question.page_size,
                    question.page,
                    self._client,
                    counting=self._snapshot if question.include_totals else None,
                )
        except CannotServe as error:
            kept = service.warm.page(self._wanted, question.page_size, question.page, None)
            if kept is None or error.code != "STORE_UNAVAILABLE" or question.cursor is not None:
                raise
            warned = Warned(
                scope="all",
                code="STORE_PAGE_READ_FAILED",
                message=f"{error}; this page was made when it last did",
                retryable=True,
            )
            return replace(self._of_page(kept, STALE_CACHE), warnings=(warned,), is_stale=True)
        return self._of_page(page, STORE)

    def _of_page(self, page: Page, source: str) -> _Found:
        by_name = {chain.name: (chain, self._snapshot.of(chain).head) for chain in self._chains}
        end = None if page.ends is None else cursor(page.ends, self._fingerprint)
        return _Found(
            [described(row, *by_name[row.chain]) for row in page.rows],
            page.has_more,
            source,
            next_cursor=end if page.has_more else None,
            end_cursor=end,
        )

    async def _count(self, found: _Found) -> Counted | None:
        if not self._question.include_totals or found.source == UPSTREAM:
            return None
        question = self._question
        if (
            question.cursor is None
            and question.page == 1
            and not found.has_more
            and found.source != STALE_CACHE
        ):
            return Counted(len(found.data), truncated=False)  # all of them are on this page
        try:
            return await self._service.transfers.count(self._wanted, self._snapshot)
        except CannotServe:
            return None

    def _totals(self, counted: Counted, found: _Found, *, is_stale: bool) -> Totals:
        return Totals(
            total=counted.rows,
            all_time_total=sum(self._snapshot.counts.get(chain.name, 0) for chain in self._chains),
            all_time_total_available=not any(
                chain.name in self._snapshot.uncounted for chain in self._chains
            ),
            upstream_total=None,
            truncated=counted.truncated,
            result_length=len(found.data),
            timestamp=self._snapshot.taken_at,
            stale=is_stale,
            source=STORE,
        )

    def _warnings(
        self, found: _Found, counted: Counted | None, fresh: Mapping[str, freshness.Freshness]
    ) -> list[Warned]:
        warned = [*found.warnings]
        if counted is None and self._question.include_totals and found.source != UPSTREAM:
            message = "the transfers of this filter could not be counted in time"
            warned.append(Warned(scope="all", code="STORE_TOTALS_FAILED", message=message, retryable=True))
        if counted is not None and counted.truncated:
            message = f"there are more than {counted.rows} transfers; no more were counted"
            warned.append(Warned(scope="all", code="TOTAL_COUNT_CAPPED", message=message, retryable=False))
        if self._service.is_away:
            message = f"how far the store is was last seen at {self._snapshot.taken_at:%Y-%m-%d %H:%M:%S} UTC"
            warned.append(Warned(scope="all", code="STORE_SNAPSHOT_FAILED", message=message, retryable=True))
        return warned + freshness.warnings(self._snapshot, self._chains, fresh)

    def _chain_name(self) -> ChainName:
        if self._question.chain_id.strip().lower() in ("", "0", "all"):
            return ChainName(id=0, name="all")
        [chain] = self._chains
        return ChainName(id=chain.chain_id, name=chain.name)


DEFAULTS: dict[str, Any] = {
    name: TransferQuestion.model_fields[field].default
    for field, name in (
        ("chain_id", "chainId"), ("page", "page"), ("page_size", "pageSize"), ("sort", "sort"),
        ("include_totals", "includeTotals"),
    )
}  # fmt: skip


def limits(config: ApiConfig) -> dict[str, Any]:
    """What a client may take."""
    most = config.limits
    return {
        "maxPageSize": most.page_size,
        "maxCounted": most.count,
        "requestsPerSecond": most.requests_per_second,
        "burst": most.burst,
        "querySeconds": most.query_seconds,
    }


def available(config: ApiConfig) -> list[ChainName]:
    """The chains that may be asked for."""
    return [
        ChainName(id=0, name="all"),
        *(ChainName(id=chain.chain_id, name=chain.name) for chain in config.chains),
    ]
