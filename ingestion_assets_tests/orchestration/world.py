"""The project on a database of the test's own, over an explorer whose every row is known."""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import dagster as dg
import pytest
import yaml

from ingestion_assets.definitions import build
from ingestion_assets.sandbox import explorer
from ingestion_assets.settings import Settings
from ingestion_assets.sources.evm.records import KINDS
from ingestion_assets_tests.orchestration.tiny import QUIET
from ingestion_assets_tests.sources.evm.reading import ACTIONS
from ingestion_assets_tests.upstream import Head, Upstream, small_chain

T = TypeVar("T")

CHAINS = {"one": small_chain(1), "two": small_chain(2)}
ACCOUNTS = CHAINS["one"].addresses[:2]
NEWEST = 323  # block of the tenth day; the fifth day has none
EVM = [dg.AssetKey(["evm", kind.name]) for kind in KINDS]


@dataclass
class World:
    """The explorer, where the project finds it, and what should be stored of it."""

    upstream: Upstream
    head: Head
    settings: Settings

    def definitions(self) -> dg.Definitions:
        """Read from sources.yaml anew, as every process does."""
        return build(self.settings)

    def account_pages(self) -> int:
        """How many pages of records were asked for."""
        return self.upstream.count(module="account")

    def run(self, instance, *, first=None, last=None, partition_key=None, assets=EVM):
        """Materialise in process."""
        job = self.definitions().get_repository_def().get_implicit_job_def_for_assets(assets)
        tags = {
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": last,
        }
        return job.execute_in_process(
            instance=instance,
            partition_key=partition_key,
            tags=None if partition_key else tags,
            asset_selection=assets,
            run_config=QUIET,
            raise_on_error=False,
        )


def truth(kind, chain: str, lo: int = 0, hi: int = NEWEST) -> Counter:
    """Day -> rows: a record that two accounts share is one row, and equal records of one account are many."""
    shared: Counter = Counter()
    for address in ACCOUNTS:
        shared |= Counter(map(_identity, CHAINS[chain].rows(ACTIONS[kind], address, lo, hi)))
    days: Counter = Counter()
    for (day, *_), count in shared.items():
        days[f"{chain}|{day}"] += count
    return days


def _identity(row) -> tuple[str, ...]:
    day = datetime.fromtimestamp(int(row["timeStamp"]), UTC).date().isoformat()
    token = row["contractAddress"] if "tokenSymbol" in row else ""
    return day, row["hash"], row["from"], row["to"], row["value"], token


def in_table(connection, kind) -> Counter:
    """Day -> rows, as stored."""
    query = f"SELECT chain || '|' || (block_time AT TIME ZONE 'UTC')::date, count(*) FROM {kind.table.fullname} GROUP BY 1"
    return Counter(dict(connection.execute(query).fetchall()))


def write_sources(path: Path, url: str, **provider) -> None:
    """A sources.yaml with two chains at one explorer."""
    chains = {
        name: {
            "chain_id": chain.chain_id,
            "start": "2024-01-01",
            "finality": {"depth": 0},
            "providers": [{"kind": "etherscan", "url": f"{url}/v2/api", "attempts": 1, **provider}],
            "addresses": list(ACCOUNTS),
        }
        for name, chain in CHAINS.items()
    }
    path.write_text(yaml.safe_dump({"chains": chains}))


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[World]:
    """Two chains, two accounts, ten days; each question is asked once, so that a fault is the run's affair."""
    head = Head(NEWEST)
    with Upstream(explorer({chain.chain_id: chain for chain in CHAINS.values()}, head)) as upstream:
        sources = tmp_path / "sources.yaml"
        write_sources(sources, upstream.url)
        yield World(
            upstream,
            head,
            Settings(
                home=tmp_path, sources_file=sources, database=database_url, automate=False, variables={}
            ),
        )


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Dagster's own storage, in memory."""
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture
def home(world: World, project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DAGSTER_HOME like the shipped one, named by the environment of this process and of its children."""
    folder = world.settings.home
    shutil.copy(project / "dagster_home" / "dagster.yaml", folder)
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    monkeypatch.setenv("INGESTION_DATABASE_URL", world.settings.database or "")
    monkeypatch.setenv("INGESTION_SOURCES", str(world.settings.sources_file))
    return folder


def wait_until(true: Callable[[], T], *, seconds: float = 60.0) -> T:
    """What `true()` gives as soon as it is something; fails when that takes too long."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found
