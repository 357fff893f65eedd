"""`ingestion backfill`: which partitions a person means, and having them read, by the daemon or here."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import httpx
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from ingestion_assets.engine.errors import Misconfigured, Transient
from ingestion_assets.orchestration import partitions
from ingestion_assets.settings import Settings
from ingestion_assets.sources.evm.records import KINDS

ASSETS = tuple(f"evm/{kind.name}" for kind in KINDS)


@dataclass(frozen=True, slots=True)
class Selection:
    """Assets, and for each chain its first and last day."""

    assets: tuple[str, ...]
    days: Mapping[str, partitions.Span]

    def partition_keys(self) -> list[str]:
        """One key for each chain and day."""
        return [
            partitions.key(chain, first + timedelta(days=n))
            for chain, (first, last) in self.days.items()
            for n in range((last - first).days + 1)
        ]


def select(
    settings: Settings, asset: str, chain: str | None, first: date | None, last: date | None
) -> Selection:
    """What a person means by an asset or a family, a chain or all, and a span of days.

    Raises:
        Misconfigured: there is no such asset, or no day in the span.
    """
    chosen = ASSETS if asset in ("evm/*", "evm") else tuple(name for name in ASSETS if name == asset)
    if not chosen:
        raise Misconfigured(f"there is no asset {asset!r}; there are {', '.join(ASSETS)} and evm/*")
    days: dict[str, partitions.Span] = {}
    today = datetime.now(UTC).date()
    for name, config in settings.sources().chains.items():
        if chain in (None, name):
            span = (max(first or config.start, config.start), min(last or today, today))
            if span[0] <= span[1]:
                days[name] = span
    if not days:
        raise Misconfigured("the span holds no day between the chain's start and today")
    return Selection(chosen, days)


def run_here(settings: Settings, selection: Selection, console: Console) -> dict[str, Any]:
    """Materialise in this process, one chain after another, recorded in the Dagster instance."""
    from ingestion_assets.definitions import build

    job = (
        build(settings)
        .get_repository_def()
        .get_implicit_job_def_for_assets([dg.AssetKey(name.split("/")) for name in selection.assets])
    )
    if job is None:
        raise Misconfigured("sources.yaml asks for nothing: it has no chains")
    failed: list[str] = []
    runs: list[str] = []
    with _instance(settings) as instance, _progress(console) as progress:
        bar = progress.add_task("backfill", total=len(selection.days))
        for chain, (first, last) in selection.days.items():
            progress.update(bar, description=f"{chain} {first}…{last}")
            ends = {
                "dagster/asset_partition_range_start": partitions.key(chain, first),
                "dagster/asset_partition_range_end": partitions.key(chain, last),
            }
            result = job.execute_in_process(instance=instance, tags=ends, raise_on_error=False)
            runs.append(result.run_id)
            if not result.success:
                failed.append(chain)
            progress.advance(bar)
    return {
        "status": "FAILED: " + ", ".join(failed) if failed else "COMPLETED_SUCCESS",
        "partitions": len(selection.partition_keys()),
        "runs": runs,
    }


@contextmanager
def _instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(settings.home)) as instance:
        yield instance


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


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
    body = response.json()
    if body.get("errors"):
        raise Misconfigured(f"Dagster refuses: {body['errors'][0]['message']}")
    data: dict[str, Any] = body["data"]
    return data
