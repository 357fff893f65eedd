"""The code location: what Dagster sees of it, and what it costs to load."""

import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from ingestion_assets.definitions import build
from ingestion_assets.engine.errors import Misconfigured
from ingestion_assets.orchestration.ingest import MAX_PARTITIONS_PER_RUN, RETRY
from ingestion_assets.settings import Settings

NOWHERE = "postgresql://nobody@192.0.2.1:1/none"  # an address for documentation: no packet ever comes back
EVENTS = dg.AssetKey(["events", "events"])
EVM = {
    dg.AssetKey(["evm", name])
    for name in ("transactions", "internal_transactions", "token_transfers", "erc20_transfers")
}
TRANSFERS = {dg.AssetKey(["transfers", name]) for name in ("transfers", "daily_totals")}


def settings(project: Path, **variables: str) -> Settings:
    """The shipped sources.yaml, unless told otherwise, and a database that cannot be asked."""
    return Settings.from_environment(
        {
            "DAGSTER_HOME": str(project / "dagster_home"),
            "INGESTION_DATABASE_URL": NOWHERE,
            **variables,
        }
    )


@pytest.fixture
def shipped(project):
    """The definitions of the shipped sources.yaml."""
    return build(settings(project))


def test_the_shipped_sources_load_without_a_database(shipped):
    """Everything Dagster validates at load time: keys, resources, partitions, jobs."""
    started = time.monotonic()
    dg.Definitions.validate_loadable(shipped)
    assert time.monotonic() - started < 5
    assert set(shipped.resolve_asset_graph().get_all_asset_keys()) == {*EVM, *TRANSFERS, EVENTS}


def test_an_asset_says_what_it_is(shipped):
    """Group, kind, where its rows are, how it is backfilled and retried."""
    for key in EVM:
        asset = shipped.get_repository_def().assets_defs_by_key[key]
        spec = asset.get_asset_spec(key)
        assert spec.group_name == "evm"
        assert spec.kinds == {"postgres"}
        assert spec.metadata["dagster/table_name"] == f"raw.evm_{key.path[-1]}"
        assert asset.backfill_policy.max_partitions_per_run == MAX_PARTITIONS_PER_RUN
        assert asset.op.retry_policy == RETRY
        assert spec.description


def test_partitions_are_chain_and_day_with_today(shipped):
    """In Dagster's spelling of two dimensions."""
    today = datetime.now(UTC).date().isoformat()
    assets = shipped.get_repository_def().assets_defs_by_key
    assert assets[EVENTS].partitions_def.get_partition_keys() == ["audit", "datasync"]
    for asset in (assets[key] for key in EVM):
        keys = asset.partitions_def.get_partition_keys()
        assert {"sandbox|2026-10-02", f"sandbox|{today}", f"sandbox-two|{today}"} <= set(keys)
        assert "sandbox|2026-09-30" not in keys


def test_every_asset_has_the_checks_clean_and_proved(shipped):
    """And no other."""
    assert shipped.resolve_asset_graph().asset_check_keys == {
        *(dg.AssetCheckKey(key, name) for key in EVM for name in ("clean", "proved")),
        dg.AssetCheckKey(EVENTS, "clean"),
    }


@pytest.mark.parametrize(("automate", "running"), [("", False), ("1", True), ("0", False)])
def test_sensors_and_schedules_are_off_until_asked_for(project, automate, running):
    """INGESTION_AUTOMATE=1 switches them on."""
    repository = build(settings(project, INGESTION_AUTOMATE=automate)).get_repository_def()
    sensors = {sensor.name: sensor.default_status.value for sensor in repository.sensor_defs}
    schedules = {schedule.name: schedule.default_status.value for schedule in repository.schedule_defs}
    status = "RUNNING" if running else "STOPPED"
    assert sensors.pop("resume_lost_runs") == "RUNNING", "it finishes what was asked for"
    names = ("evm_sync_sandbox", "evm_sync_sandbox_two", "events_sync_audit", "events_sync_datasync")
    assert sensors == dict.fromkeys(names, status)
    assert schedules == {"nightly_tidy": status}


def test_the_jobs(shipped):
    """Besides the implicit one of the assets."""
    names = {job.name for job in shipped.get_repository_def().get_all_jobs()}
    assert {"replay_dead_letters", "replay_feed_letters", "tidy", "verify"} <= names


def test_no_sources_is_no_assets_and_no_error(project, tmp_path):
    """An empty file, and an empty section."""
    for text in ("", "chains: {}"):
        (tmp_path / "sources.yaml").write_text(text)
        empty = build(settings(project, INGESTION_SOURCES=str(tmp_path / "sources.yaml")))
        dg.Definitions.validate_loadable(empty)
        assert not empty.resolve_asset_graph().get_all_asset_keys()


def test_wrong_sources_are_told_with_their_line(project, tmp_path):
    """What is wrong, where, and what would be right."""
    path = tmp_path / "sources.yaml"
    path.write_text("chains:\n  base:\n    chain_idd: 1\n")
    with pytest.raises(
        Misconfigured, match=r"sources\.yaml:3: .*chain_idd is not known here; allowed: .*chain_id"
    ):
        build(settings(project, INGESTION_SOURCES=str(path)))
    with pytest.raises(Misconfigured, match="cannot be read"):
        build(settings(project, INGESTION_SOURCES=str(tmp_path / "none.yaml")))


OFFLINE = """
import socket, time
def refuse(*arguments): raise AssertionError(f"the network was asked: {arguments}")
started = time.process_time()
import ingestion_assets.definitions as location
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
import psycopg; psycopg.connect = psycopg.Connection.connect = refuse
location.defs().get_repository_def().load_all_definitions()
print(time.process_time() - started)
"""


def test_loading_asks_neither_a_database_nor_the_network(project):
    """In a fresh interpreter whose sockets refuse; in a few seconds of CPU."""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", OFFLINE],
        env={"PATH": "", "DAGSTER_HOME": str(project / "dagster_home"), "INGESTION_DATABASE_URL": NOWHERE},
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[0]) < 10
