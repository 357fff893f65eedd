"""The asset, its sensor and its check, on Dagster itself."""

import logging
from datetime import date
from types import SimpleNamespace

import dagster as dg
import pytest
import yaml

from ingestion_assets.definitions import build
from ingestion_assets.engine.drain import drain
from ingestion_assets.orchestration.ingest import Ingestion
from ingestion_assets.orchestration.io_manager import Progress
from ingestion_assets.orchestration.sensors import RANGE_END, RANGE_START, SYNC
from ingestion_assets.settings import Settings
from ingestion_assets.sources.statements.assets import ACCOUNTS, LINES
from ingestion_assets_tests.orchestration.tiny import QUIET, failure, materialised
from ingestion_assets_tests.sources.statements.tiny import Dropped, fill, history, raws, same

EARLY = [fill(9, day=12), fill(8, day=12), fill(8, day=12), fill(1, day=4)]
LATE = [fill(3, day=27), fill(9, day=12)]


@pytest.fixture
def instance():
    """Dagster's own storage, in memory."""
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture
def here(inbox, database_url, tmp_path) -> "Here":
    """A project whose sources.yaml names nothing but the inbox."""
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump({"statements": {"inbox": "inbox"}}))
    settings = Settings(tmp_path, tmp_path / "sources.yaml", database_url, automate=False, variables={})
    return Here(inbox, settings)


class Here:
    """The project, the inbox, and what a person or the daemon would do."""

    def __init__(self, inbox: Dropped, settings: Settings) -> None:
        self.inbox = inbox
        self.settings = settings

    def tick(self, instance):
        """One look of the sensor; what it asks for is noted as Dagster would."""
        repository = build(self.settings).get_repository_def()
        with dg.build_sensor_context(
            instance=instance,
            repository_def=repository,
            resources={key: repository.get_top_level_resources()[key] for key in ("database", "inbox")},
        ) as context:
            said = repository.get_sensor_def("statements_inbox").evaluate_tick(context)
        for added in said.dynamic_partitions_requests or ():
            instance.add_dynamic_partitions(added.partitions_def_name, list(added.partition_keys))
        return said

    def run(self, instance, tags=None, *, partition_key=None):
        """One run, as the sensor or a person asks for it."""
        job = build(self.settings).get_repository_def().get_implicit_job_def_for_assets([LINES])
        return job.execute_in_process(
            instance=instance,
            tags=dict(tags or {}),
            partition_key=partition_key,
            asset_selection=[LINES],
            raise_on_error=False,
            run_config=QUIET,
        )


def test_what_is_dropped_is_registered_and_read(here, instance, connection):
    """A tick, a run, and then there is nothing to do."""
    here.inbox.put("savings/a.csv", history(*EARLY))
    said = here.tick(instance)
    assert instance.get_dynamic_partitions(ACCOUNTS) == ["savings"]
    (request,) = said.run_requests
    assert (request.tags[RANGE_START], request.tags[RANGE_END]) == (
        "savings|2025-03-03",
        "savings|2025-03-10",
    )
    result = here.run(instance, request.tags)
    assert result.success, failure(result)
    assert raws(connection) == same(EARLY)
    assert "all that was dropped is read" in here.tick(instance).skip_message


def test_a_materialisation_says_what_is_in_the_week_and_in_the_files(here, instance):
    """Rows of the partition, and how far each file is."""
    here.inbox.put("savings/a.csv", history(*EARLY))
    result = here.run(instance, here.tick(instance).run_requests[0].tags)
    weeks = materialised(instance, result, LINES)
    assert {key: said["dagster/partition_row_count"] for key, said in weeks.items()} == {
        "savings|2025-03-03": 1,
        "savings|2025-03-10": 3,
    }
    said = weeks["savings|2025-03-10"]
    assert (said["inserted"], said["dagster/row_count"]) == (4, 4)
    assert said["files"][0] | {"sha256": ""} == {
        "file": "savings/a.csv",
        "sha256": "",
        "dialect": "tastytrade",
        "records": 4,
        "lines": 5,
        "lines_missing": 0,
        "chunks": 1,
        "chunks_missing": 0,
    }


def test_what_is_read_so_far_is_shown_while_it_is_read(here, instance):
    """As observations of the asset: how many lines and chunks of each file are left."""
    here.inbox.put("savings/a.csv", history(*EARLY))
    here.tick(instance)
    (stream,) = here.inbox.streams(2)
    seen: list = []
    context = SimpleNamespace(log=logging.getLogger("a test"), log_event=seen.append, asset_key=LINES)
    ingestion = Ingestion(
        [stream], progress=lambda: {"left": len(here.inbox.inbox.registry.missing([stream.file]))}
    )
    progress = Progress(context, ingestion, here.inbox.store, every=0)
    drain([stream], here.inbox.store, read_ahead=0, on_commit=progress)
    assert [event.metadata["left"].value for event in seen] == [1, 0]
    assert {event.asset_key for event in seen} == {LINES}


def test_a_second_file_of_a_week_makes_it_wanted_again(here, instance, connection):
    """And adds what the first did not have."""
    here.inbox.put("savings/a.csv", history(*EARLY))
    here.run(instance, here.tick(instance).run_requests[0].tags)
    here.inbox.put("savings/b.csv", history(*LATE))
    (request,) = here.tick(instance).run_requests
    assert (request.tags[RANGE_START], request.tags[RANGE_END]) == (
        "savings|2025-03-10",
        "savings|2025-03-24",
    )
    assert here.run(instance, request.tags).success
    assert raws(connection) == same([*EARLY, LATE[0]])


def test_one_run_for_each_account(here, instance):
    """And none for one that a run works on."""
    here.inbox.put("savings/a.csv", history(*EARLY))
    here.inbox.put("margin/a.csv", history(*LATE))
    requests = here.tick(instance).run_requests
    assert [request.tags[SYNC] for request in requests] == ["statements/margin", "statements/savings"]
    job = build(here.settings).get_repository_def().get_implicit_job_def_for_assets([LINES])
    instance.create_run_for_job(job, tags=dict(requests[0].tags), status=dg.DagsterRunStatus.STARTED)
    (left,) = here.tick(instance).run_requests
    assert left.tags[SYNC] == "statements/savings"


def test_a_long_history_is_read_once_and_its_weeks_are_told_in_several_runs(here, instance, connection):
    """250 weeks each; the second run asks for nothing of the file."""
    old = fill(1).replace("2025-03-03", "2015-01-05")
    here.inbox.put("a.csv", history(*EARLY, old))
    first = here.run(instance, here.tick(instance).run_requests[0].tags)
    assert first.success
    assert len(raws(connection)) == 5
    (request,) = here.tick(instance).run_requests
    second = here.run(instance, request.tags)
    assert materialised(instance, second, LINES)["tastytrade|2025-03-10"]["fetched"] == 0
    assert "all that was dropped is read" in here.tick(instance).skip_message


def test_a_single_partition_of_a_person(here, instance, connection):
    """It reads the files of that week."""
    here.inbox.put("savings/a.csv", history(*EARLY))
    here.tick(instance)
    assert here.run(instance, partition_key="savings|2025-03-03").success
    assert len(raws(connection)) == 4


def test_a_changed_file_fails_its_run_and_is_not_asked_for_again(here, instance):
    """Until somebody puts it back; the message says how."""
    here.inbox.put("savings/a.csv", history(*EARLY))
    (request,) = here.tick(instance).run_requests
    here.inbox.put("savings/a.csv", history(*LATE), age=60)
    result = here.run(instance, request.tags)
    assert "savings/a.csv is not the file any more that was registered for savings" in failure(result)
    assert "all that was dropped is read" in here.tick(instance).skip_message


def test_a_dead_letter_makes_the_check_warn(here, instance):
    """The partition is not clean."""
    here.inbox.put("savings/a.csv", history(EARLY[0], fill(2, day=12).replace("-100.00", "much")))
    result = here.run(instance, here.tick(instance).run_requests[0].tags)
    assert result.success
    ((check),) = result.get_asset_check_evaluations()
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert check.metadata["dead_letters"].value == 1


def test_rejected_files_disturb_nobody(here, instance, connection):
    """The others of the same tick are read."""
    here.inbox.put("savings/a.csv", history(*EARLY))
    here.inbox.put("savings/b.csv", "who,knows\n1,2\n")
    assert here.run(instance, here.tick(instance).run_requests[0].tags).success
    assert raws(connection) == same(EARLY)
    assert (here.inbox.folder / "rejected/savings/b.csv").exists()


def test_partitions_are_account_and_week(here):
    """From the Monday of the first week to this one."""
    asset = build(here.settings).get_repository_def().assets_defs_by_key[LINES]
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(ACCOUNTS, ["savings"])
        keys = asset.partitions_def.get_partition_keys(dynamic_partitions_store=instance)
    assert keys[0] == "savings|1999-12-27"
    assert date.fromisoformat(keys[-1].split("|")[1]).weekday() == 0
