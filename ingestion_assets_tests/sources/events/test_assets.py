"""Feeds in Dagster: partitions, metadata, checks, sensors, replay, over the sandbox's feeds with a clock of our own."""

import json
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
import yaml
from typer.testing import CliRunner

from ingestion_assets.cli import app
from ingestion_assets.definitions import build
from ingestion_assets.sandbox.feeds import feeds
from ingestion_assets.settings import Settings
from ingestion_assets_tests.orchestration.tiny import QUIET
from ingestion_assets_tests.orchestration.world import instance
from ingestion_assets_tests.upstream import Upstream

__all__ = ["instance"]  # a fixture

WHOLE, BY_DAY = dg.AssetKey(["events", "events"]), dg.AssetKey(["events", "events_by_day"])
SINCE = datetime(2024, 3, 1, tzinfo=UTC)
PER_DAY = 24 * 6  # an event in ten minutes


class Clock:
    """The time at the source."""

    now = SINCE + timedelta(days=3)

    def __call__(self):
        """Now."""
        return self.now


@pytest.fixture
def clock():
    """Three days of events."""
    return Clock()


@pytest.fixture
def upstream(clock):
    """Both feeds."""
    with Upstream(feeds(SINCE, clock, step=timedelta(minutes=10))) as running:
        yield running


@pytest.fixture
def settings(upstream, database_url, tmp_path, monkeypatch):
    """As the environment and sources.yaml would say it."""
    audit = {
        "pages": {"kind": "offset"},
        "fields": {"id": "number", "type": "action", "time": "at"},
        "ids": "text",
    }
    typed = {
        "datasync": {"url": f"{upstream.url}/events", "page_size": 100, "attempts": 1, "sync_seconds": 5},
        "audit": {
            "url": f"{upstream.url}/audit",
            "page_size": 70,
            "attempts": 1,
            "pages_per_run": 4,
            **audit,
        },
    }
    path = tmp_path / "sources.yaml"
    path.write_text(yaml.safe_dump({"events": typed}))
    monkeypatch.setenv("INGESTION_DATABASE_URL", database_url)
    monkeypatch.setenv("INGESTION_SOURCES", str(path))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return Settings(home=tmp_path, sources_file=path, database=database_url, automate=False, variables={})


def run(settings, instance, feed):
    """Materialise one feed."""
    job = build(settings).get_repository_def().get_implicit_job_def_for_assets([WHOLE])
    return job.execute_in_process(
        instance=instance, partition_key=feed, asset_selection=[WHOLE], run_config=QUIET, raise_on_error=False
    )


def metadata(instance):
    """What the last materialisation says."""
    (record,) = instance.fetch_materializations(WHOLE, limit=1).records
    return {name: value.value for name, value in record.asset_materialization.metadata.items()}


def counts(connection):
    """Rows by feed."""
    return dict(connection.execute("SELECT feed, count(*) FROM raw.events GROUP BY 1").fetchall())


def test_a_feed_is_a_partition_and_tells_four_numbers(settings, instance, connection):
    """And again: nothing new, and nothing doubled."""
    assert run(settings, instance, "datasync").success
    found = metadata(instance)
    total = 3 * PER_DAY + 1
    assert counts(connection) == {"datasync": total}
    assert (found["inserted"], found["rejected"], found["dagster/partition_row_count"]) == (total, 0, total)
    assert found["fetched"] == found["inserted"] + found["duplicate"]
    assert found["feeds"]["datasync"]["started_over"] == 0
    assert run(settings, instance, "datasync").success
    assert (metadata(instance)["inserted"], counts(connection)) == (0, {"datasync": total})


def test_a_second_and_different_feed_needs_configuration_only(settings, instance, connection):
    """Offsets, a bare array, numbers for ids and seconds for times; a run ends with its budget of pages."""
    for rows in (280, 3 * PER_DAY + 1):
        assert run(settings, instance, "audit").success
        assert counts(connection) == {"audit": rows}


def requested(settings, instance, feed):
    """The partitions that its sensor asks for, or why there are none."""
    repository = build(settings).get_repository_def()
    resources = {key: repository.get_top_level_resources()[key] for key in ("database", "events_looking")}
    with dg.build_sensor_context(
        instance=instance, repository_def=repository, resources=resources
    ) as context:
        tick = repository.get_sensor_def(f"events_sync_{feed}").evaluate_tick(context)
    return tick.skip_message or [request.partition_key for request in tick.run_requests]


def test_the_sensor_goes_on_until_the_feed_is_caught_up_and_then_when_there_is_more(
    settings, instance, clock
):
    """One question tells whether there is."""
    assert requested(settings, instance, "audit") == ["audit"]
    run(settings, instance, "audit")
    assert requested(settings, instance, "audit") == ["audit"]
    run(settings, instance, "audit")
    run(settings, instance, "audit")
    assert requested(settings, instance, "audit") == "audit is caught up"
    clock.now += timedelta(minutes=20)
    assert requested(settings, instance, "audit") == ["audit"]


def test_a_feed_with_a_start_is_read_by_day(settings, instance, connection, upstream):
    """The filter of this source knows no since: what it gives beyond a day is not lost either, and no day is claimed too early."""
    typed = {"datasync": {"url": f"{upstream.url}/events", "page_size": 100, "start": "2024-03-01"}}
    settings.sources_file.write_text(yaml.safe_dump({"events": typed}))
    job = build(settings).get_repository_def().get_implicit_job_def_for_assets([BY_DAY])
    tags = {
        "dagster/asset_partition_range_start": "datasync|2024-03-01",
        "dagster/asset_partition_range_end": "datasync|2024-03-02",
    }
    done = job.execute_in_process(instance=instance, tags=tags, asset_selection=[BY_DAY], run_config=QUIET)
    assert done.success
    covered = connection.execute("SELECT stream, lo, hi FROM ops.coverage").fetchall()
    first = int(SINCE.timestamp())
    assert covered == [("events/events_by_day/datasync", first, first + 2 * 86_400 - 1)]
    assert counts(connection)["datasync"] >= 2 * PER_DAY


def test_the_check_warns_of_letters_and_the_job_replays_them(settings, instance, connection):
    """What could not be read with the first configuration can be with another."""
    typed = yaml.safe_load(settings.sources_file.read_text())
    connection.execute(
        "INSERT INTO ops.dead_letters (stream, reason, raw) VALUES ('events/events/audit', 'it was', %s)",
        [b'{"number": 5, "action": "login", "at": 1709251200}'],
    )
    job = build(settings).get_repository_def().get_implicit_job_def_for_assets([WHOLE])
    result = job.execute_in_process(instance=instance, partition_key="audit", run_config=QUIET)
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed
    assert check.metadata["dead_letters"].value == 1
    replay = build(settings).get_repository_def().get_job("replay_feed_letters")
    config = {"ops": {"try_letters_again": {"config": {"feed": "audit"}}}, **QUIET}
    assert replay.execute_in_process(instance=instance, run_config=config).success
    assert connection.execute(
        "SELECT count(*) FROM ops.dead_letters WHERE settled_at IS NULL"
    ).fetchone() == (0,)
    assert typed


@pytest.mark.usefixtures("settings")
def test_the_command_knows_feeds(connection):
    """status, gaps, backfill --here, replay."""
    say = CliRunner()

    def told(*arguments):
        answer = say.invoke(app, [*arguments, "--json"])
        assert answer.exit_code == 0, answer.output
        return json.loads(answer.stdout)

    assert [one["reason"] for one in told("gaps")] == ["not read yet", "not read yet"]
    (done,) = told("backfill", "events/events", "--feed", "datasync", "--here")
    assert done["status"] == "COMPLETED_SUCCESS"
    assert done["new_rows"] == 3 * PER_DAY + 1
    status = {one["feed"]: one for one in told("status")}
    assert status["datasync"]["state"] == "caught up"
    assert status["datasync"]["missing"] == 0
    assert status["audit"]["state"] == "not read yet"
    assert [one["stream"] for one in told("gaps")] == ["events/events/audit"]
    assert told("replay") == []
    assert counts(connection) == {"datasync": 3 * PER_DAY + 1}
