"""`ingestion backfill`: which partitions a person means, and having them read, by the daemon or here."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Self

import dagster as dg
import httpx
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ingestion_assets.engine.errors import Misconfigured, Transient
from ingestion_assets.engine.store import Store
from ingestion_assets.engine.stream import Batch, Stream, Tally
from ingestion_assets.orchestration import partitions
from ingestion_assets.orchestration.ingest import MAX_PARTITIONS_PER_RUN
from ingestion_assets.orchestration.sensors import RANGE_END, RANGE_START
from ingestion_assets.settings import Settings
from ingestion_assets.sources.events.streams import BY_DAY, WHOLE
from ingestion_assets.sources.evm.records import EVERY_KIND
from ingestion_assets.sources.statements.assets import ACCOUNTS, open_inbox, span_of
from ingestion_assets.sources.statements.inbox import Look
from ingestion_assets.sources.statements.registry import STREAM, Registry
from ingestion_assets.sources.transfers.merging import STORE as MERGED
from ingestion_assets.sources.transfers.streams import TOTALS

EVM = tuple(f"evm/{kind.name}" for kind in EVERY_KIND)
TRANSFERS = (MERGED, TOTALS)
ASSETS = (*EVM, *TRANSFERS, WHOLE, BY_DAY)
STATEMENTS = (STREAM,)


@dataclass(frozen=True, slots=True)
class Selection:
    """Assets, and for each chain or feed its first and last day; for each account, the Mondays of its first and last week.

    `feeds` are those that are read as a whole.
    """

    assets: tuple[str, ...]
    days: Mapping[str, partitions.Span]
    grid: partitions.Grid = partitions.CHAIN_DAYS
    feeds: tuple[str, ...] = ()

    def partition_keys(self) -> list[str]:
        """One key for each chain and day, feed and day, or account and week; or for each feed."""
        days = [key for name, span in self.days.items() for key in partitions.keys(name, span, self.grid)]
        return [*self.feeds, *days]

    def runs(self) -> list[tuple[str, partitions.Span | None]]:
        """What one run each reads, as the daemon would cut it: a feed, or a span of days."""
        most = timedelta(days=MAX_PARTITIONS_PER_RUN * self.grid.days)
        found: list[tuple[str, partitions.Span | None]] = [(feed, None) for feed in self.feeds]
        for chain, (first, last) in self.days.items():
            begin = first
            while begin <= last:
                found.append((chain, (begin, min(last, begin + most - timedelta(days=self.grid.days)))))
                begin += most
        return found


def select(
    settings: Settings, asset: str, subject: str | None, first: date | None, last: date | None
) -> Selection:
    """What a person means by an asset or a family, a chain or feed or all of them, and a span of days.

    Raises:
        Misconfigured: there is no such asset, or no day in the span, or no feed is read like this.
    """
    families = {"evm": EVM, "transfers": TRANSFERS}
    chosen = families.get(asset.removesuffix("/*"), tuple(name for name in ASSETS if name == asset))
    if not chosen:
        raise Misconfigured(
            f"there is no asset {asset!r}; there are {', '.join((*ASSETS, *STATEMENTS))}, evm/*, transfers/* and statements/*"
        )
    sources = settings.sources()
    if WHOLE in chosen:
        feeds = tuple(n for n, one in sources.events.items() if one.start is None and subject in (None, n))
        if not feeds:
            raise Misconfigured(
                f"sources.yaml has no such feed without a start, and {WHOLE} holds only those"
            )
        return Selection(chosen, {}, partitions.FEEDS, feeds)
    starts, grid = {name: chain.start for name, chain in sources.chains.items()}, partitions.CHAIN_DAYS
    if BY_DAY in chosen:
        starts = {name: feed.start for name, feed in sources.events.items() if feed.start is not None}
        grid = partitions.FEED_DAYS
    days: dict[str, partitions.Span] = {}
    today = datetime.now(UTC).date()
    for name, start in starts.items():
        if subject in (None, name):
            span = (max(first or start, start), min(last or today, today))
            if span[0] <= span[1]:
                days[name] = span
    if not days:
        raise Misconfigured("the span holds no day between the start of what is asked for and today")
    return Selection(chosen, days, grid)


def is_of_statements(asset: str) -> bool:
    """Whether a person means the assets of statements."""
    return asset in (*STATEMENTS, "statements/*", "statements")


def select_statements(
    settings: Settings, store: Store, account: str | None, first: date | None, last: date | None
) -> tuple[Selection, Look]:
    """What a person means by an account or all, and a span of days, after a look into the inbox.

    Returns:
        The selection, and what the look has found.

    Raises:
        Misconfigured: there is no inbox, or no file with lines in the span.
    """
    config = settings.sources().statements
    if config is None:
        raise Misconfigured(f"{settings.sources_file} names no inbox: statements.inbox does")
    registry = Registry(store)
    look = open_inbox(config, settings, registry).look(seconds=float("inf"))
    files = registry.files(account)
    weeks: dict[str, partitions.Span] = {}
    for name in sorted({file.account for file in files}):
        span = span_of((file for file in files if file.account == name), first, last)
        if span is not None:
            weeks[name] = span
    if not weeks:
        said = "; ".join((*look.rejected, *look.refused)) or "no file that is registered has lines there"
        raise Misconfigured(f"there is nothing to read: {said}")
    with _instance(settings) as instance:
        instance.add_dynamic_partitions(ACCOUNTS, sorted(weeks))
    return Selection(STATEMENTS, weeks, partitions.ACCOUNT_WEEKS), look


def run_here(settings: Settings, selection: Selection, console: Console) -> dict[str, Any]:
    """Materialise in this process, one chain after another, recorded in the Dagster instance.

    Args:
        settings: the project's.
        selection: what to materialise.
        console: where progress is shown; not where the answer is printed.

    Returns:
        `status`, how many `partitions`, the ids of the `runs`, `new_rows`, and `errors` and what checks have `contradicted`,
        a sentence each.
    """
    from ingestion_assets.definitions import build

    runs: list[str] = []
    errors: list[str] = []
    contradicted: list[str] = []
    with _instance(settings) as instance, Bar(console) as bar:
        keys = [dg.AssetKey(name.split("/")) for name in selection.assets]
        repository = build(settings, on_commit=bar.committed).get_repository_def()
        job = repository.get_implicit_job_def_for_assets(
            keys
        )  # it holds all assets: each run selects its own
        if job is None:
            raise Misconfigured("sources.yaml asks for nothing: it has no chains, no feeds and no inbox")
        for chain, span in selection.runs():
            bar.begin(chain if span is None else f"{chain} {span[0]}…{span[1]}")
            result = job.execute_in_process(
                instance=instance,
                partition_key=chain if span is None else None,
                tags=None if span is None else _ends(chain, span),
                asset_selection=keys,
                raise_on_error=False,
                run_config=QUIET,
            )
            runs.append(result.run_id)
            errors += [f"{chain}: {said}" for said in _errors(result)]
            if result.success:  # else the error says it
                contradicted += [f"{chain}: {said}" for said in _contradicted(result)]
            if _interrupted(instance, result.run_id):
                break
    return {
        "status": "COMPLETED_FAILED" if errors else "COMPLETED_SUCCESS",
        "partitions": len(selection.partition_keys()),
        "runs": runs,
        "new_rows": bar.rows,
        "errors": errors,
        "contradicted": contradicted,
    }


def _ends(chain: str, span: partitions.Span) -> dict[str, str]:
    first, last = span
    return {RANGE_START: partitions.key(chain, first), RANGE_END: partitions.key(chain, last)}


# Every event is in Dagster's storage; what went wrong is said by us, once, without a traceback.
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def _contradicted(result: dg.ExecuteInProcessResult) -> list[str]:
    """What failed checks say; warnings are in the UI."""
    return [
        f"{check.asset_key.to_user_string()}, check {check.check_name}: {check.description}"
        for check in result.get_asset_check_evaluations()
        if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR
    ]


def _errors(result: dg.ExecuteInProcessResult) -> list[str]:
    found: list[str] = []
    for event in result.all_events:
        if event.is_step_failure:
            failed = event.step_failure_data
            said = failed.user_failure_data and failed.user_failure_data.description
            found.append(f"{event.step_key}: {said or _cause(failed.error)}")
    if not result.success and not found:
        ended = next(event for event in reversed(result.all_events) if event.is_failure)
        found.append(_cause(ended.job_failure_data.error))
    return found


def _cause(error: Any) -> str:
    """The first line of the error that an error came from."""
    while error is not None and error.cause is not None:
        error = error.cause
    return "it failed" if error is None else error.message.strip().split("\n")[0]


def _interrupted(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is not None and run.tags.get("dagster/failure_reason") == "UNEXPECTED_TERMINATION"


@contextmanager
def _instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(settings.home)) as instance:
        yield instance


class Bar:
    """What a person sees while it runs: one line that changes with every committed batch."""

    def __init__(self, console: Console) -> None:
        self.rows = 0
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console
        )
        self._what = "backfill"
        self._line = self._progress.add_task(self._what, total=None)

    def __enter__(self) -> Self:
        """Show it."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave its last state on the screen."""
        self._progress.stop()

    def begin(self, what: str) -> None:
        """Another run begins."""
        self._what = what
        self._show("")

    def committed(self, stream: Stream, batch: Batch, tally: Tally) -> None:
        """One batch is stored."""
        self.rows += tally.inserted
        asset, position = stream.keys[0].split("/")[1], getattr(batch.mark, "hi", "")
        self._show(f" · {asset} {position}")

    def _show(self, where: str) -> None:
        text = f"{self._what}{where} · {self.rows:,} new"
        self._progress.update(self._line, description=text)


LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on Error { message }
  }
}"""

LOOK = """
query Look($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    __typename
    ... on PartitionBackfill { id status numPartitions error { message } }
    ... on Error { message }
  }
}"""

ENDED = ("COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED", "COMPLETED")


def launch(url: str, selection: Selection) -> dict[str, Any]:
    """Ask the daemon, through the UI's GraphQL API, for a backfill.

    Raises:
        Transient: the UI does not answer.
        Misconfigured: Dagster refuses it; the message says why.
    """
    params = {
        "assetSelection": [{"path": name.split("/")} for name in selection.assets],
        "partitionNames": selection.partition_keys(),
        "title": "ingestion backfill",
    }
    answer = _graphql(url, LAUNCH, {"params": params})["launchPartitionBackfill"]
    if "backfillId" not in answer:
        raise Misconfigured(f"Dagster refuses the backfill: {answer.get('message', answer['__typename'])}")
    return {"id": answer["backfillId"], "status": "REQUESTED", "partitions": len(selection.partition_keys())}


def wait(url: str, backfill: str, console: Console, *, every: float = 2.0) -> dict[str, Any]:
    """Wait until a backfill has ended."""
    with console.status(f"backfill {backfill}"):
        while True:
            found = _graphql(url, LOOK, {"id": backfill})["partitionBackfillOrError"]
            if "status" not in found:
                raise Misconfigured(f"Dagster does not know the backfill {backfill}: {found.get('message')}")
            if found["status"] in ENDED:
                error = (found.get("error") or {}).get("message")
                return {
                    "id": backfill,
                    "status": found["status"],
                    "partitions": found["numPartitions"],
                    **({"error": error} if error else {}),
                }
            time.sleep(every)


def _graphql(url: str, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    try:
        response = httpx.post(
            f"{url.rstrip('/')}/graphql", json={"query": query, "variables": variables}, timeout=120
        )
    except httpx.TransportError as error:
        raise Transient(
            f"the Dagster UI at {url} does not answer ({error}): start it with `ingestion up`, or use --here"
        ) from error
    try:
        body = response.json()
    except ValueError as error:
        raise Misconfigured(f"what answers at {url} is not the Dagster UI: --url names it") from error
    if body.get("errors"):
        raise Misconfigured(f"Dagster refuses: {body['errors'][0]['message']}")
    data: dict[str, Any] = body["data"]
    return data
