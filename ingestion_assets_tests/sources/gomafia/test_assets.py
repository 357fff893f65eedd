"""The phases in Dagster: dependencies, partitions, metadata, checks, the sensor, and the command."""

import json

import dagster as dg
import pytest
import yaml
from typer.testing import CliRunner

from ingestion_assets.cli import app
from ingestion_assets.definitions import build
from ingestion_assets.engine.exclusive import exclusive
from ingestion_assets.settings import Settings
from ingestion_assets.sources.gomafia.assets import Progress
from ingestion_assets.sources.gomafia.phases import GAMES, PHASES, PLAYERS, YEAR_STATS
from ingestion_assets.sources.gomafia.work import streams_of
from ingestion_assets_tests.orchestration.tiny import QUIET
from ingestion_assets_tests.orchestration.world import instance
from ingestion_assets_tests.sources.gomafia.tiny import agrees

__all__ = ["instance"]  # a fixture


@pytest.fixture
def settings(world, database_url, tmp_path, monkeypatch):
    """As the environment and sources.yaml would say it."""
    path = tmp_path / "sources.yaml"
    typed = {
        "url": world.url,
        "requests_per_second": 1000,
        "start_year": 2025,
        "attempts": 1,
        "sync_seconds": 5,
    }
    path.write_text(yaml.safe_dump({"gomafia": typed}))
    monkeypatch.setenv("INGESTION_DATABASE_URL", database_url)
    monkeypatch.setenv("INGESTION_SOURCES", str(path))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return Settings(home=tmp_path, sources_file=path, database=database_url, automate=False, variables={})


def key(phase):
    """Its asset key."""
    return dg.AssetKey(phase.asset.split("/"))


def run(settings, instance, phase, first, last):
    """Materialise some partitions of a phase, with its checks."""
    job = build(settings).get_repository_def().get_implicit_job_def_for_assets([key(phase)])
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    return job.execute_in_process(
        instance=instance, tags=tags, asset_selection=[key(phase)], run_config=QUIET, raise_on_error=False
    )


def tick(settings, instance):
    """What the sensor asks for, or why nothing."""
    repository = build(settings).get_repository_def()
    resources = {name: repository.get_top_level_resources()[name] for name in ("database", "gomafia_looking")}
    with dg.build_sensor_context(
        instance=instance, repository_def=repository, resources=resources
    ) as context:
        return repository.get_sensor_def("gomafia_sync").evaluate_tick(context)


def test_phases_depend_on_one_another_and_have_partitions(settings):
    """As the issue names them."""
    graph = build(settings).get_repository_def().asset_graph
    for phase in PHASES:
        node = graph.get(key(phase))
        assert node.is_partitioned
        assert {parent.path[-1] for parent in node.parent_keys} == set(phase.needs)


def test_the_sensor_brings_in_all_of_it_phase_by_phase(settings, instance, world, connection):
    """Each tick asks for the first phase that has something to read; the checks pass; then there is nothing to do."""
    order = []
    for _ in range(12):
        asked = tick(settings, instance)
        if not asked.run_requests:
            break
        ((request,),) = [asked.run_requests]
        (selected,) = request.asset_selection
        order.append(selected.path[-1])
        phase = next(phase for phase in PHASES if phase.name == order[-1])
        single = request.tags.get("dagster/partition")
        first = single or request.tags["dagster/asset_partition_range_start"]
        result = run(
            settings, instance, phase, first, single or request.tags["dagster/asset_partition_range_end"]
        )
        assert result.success
        errors = [
            e
            for e in result.get_asset_check_evaluations()
            if not e.passed and e.severity == dg.AssetCheckSeverity.ERROR
        ]
        assert errors == []
    assert order == [phase.name for phase in PHASES]
    assert "gomafia is caught up" in asked.skip_message
    agrees(connection, world.league)
    (record,) = instance.fetch_materializations(key(YEAR_STATS), limit=1).records
    told = {name: value.value for name, value in record.asset_materialization.metadata.items()}
    assert told["validation"] == {"checked": len(world.league.of_year), "refused": 0, "rate": 1.0}
    assert told["coverage"]["missing"] == 0
    in_table = connection.execute(
        "SELECT count(*) FROM raw.gomafia_player_year_stats WHERE year = 2026"
    ).fetchone()[0]
    (of_year,) = [
        one.asset_materialization.metadata["dagster/partition_row_count"].value
        for one in instance.fetch_materializations(key(YEAR_STATS), limit=5).records
        if one.partition_key == "2026"
    ]
    assert of_year == in_table


def test_what_failed_keeps_its_partition_from_being_green(settings, instance, world):
    """The other year is materialised, and the check says what to do."""
    assert run(settings, instance, PLAYERS, "2025", "2026").success
    bad = world.league.rating(2025)[0]
    served = world.faults._app

    async def spoiled(scope, receive, send):
        message = await receive()
        in_api = scope["path"].endswith("stats/get") and f"id={bad}&period=2025" in message["body"].decode()
        if in_api or scope["path"] == f"/stats/{bad}":
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:

            async def again():
                return message

            await served(scope, again, send)

    world.faults._app = spoiled
    result = run(settings, instance, YEAR_STATS, "2025", "2026")
    assert not result.success
    assert instance.get_materialized_partitions(key(YEAR_STATS)) == {"2026"}


def test_a_second_run_of_a_phase_fails_with_a_clear_message(settings, instance, world):
    """And is not retried."""
    with exclusive(world.store, PLAYERS.key(2026), "run 1234abcd"):
        result = run(settings, instance, PLAYERS, "2026", "2026")
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert (
        "gomafia/players/2026 is being imported already by run 1234abcd"
        in failure.step_failure_data.user_failure_data.description
    )


def test_progress_tells_done_total_rate_and_time_left(world):
    """From the marks; nothing is asked."""
    now = [0.0]
    world.run(*[phase for phase in PHASES if phase.listing])
    with world.site() as site:
        progress = Progress(site, streams_of(GAMES, site, ["2025", "2026"]), dict, clock=lambda: now[0])
        total = len(list(world.league.played()))
        assert progress() == {"done": 0, "total": total}
        world.run(GAMES, most=2)
        now[0] = 10.0
        assert progress() == {"done": 2, "total": total, "per_second": 0.2, "seconds_left": (total - 2) / 0.2}


@pytest.mark.usefixtures("settings")
def test_the_command_tells_how_far_it_is(world):
    """Status, gaps, check, and a phase read here."""
    world.run(PLAYERS)

    def said(*words):
        result = CliRunner().invoke(app, [*words, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    of = {line["asset"]: line for line in said("status")}
    assert of["gomafia/players"]["done"] == of["gomafia/players"]["total"]
    assert (of["gomafia/games"]["rows"], of["gomafia/clubs"]["total"]) == (0, 1)
    assert {"stream": "gomafia/clubs", "lo": 0, "hi": 0, "reason": "its end is not proved yet"} in said(
        "gaps"
    )
    assert said("check")[0]["seconds_between_requests"] == 0.001
    assert said("backfill", "gomafia/clubs", "--here")[0]["status"] == "COMPLETED_SUCCESS"
    assert {line["asset"]: line["done"] for line in said("status")}["gomafia/clubs"] == 4
    refused = CliRunner().invoke(app, ["backfill", "gomafia/*"])
    assert "follow one another" in refused.stderr


@pytest.mark.usefixtures("settings", "world")
def test_the_command_tells_how_both_ways_are_and_closes_their_breakers(connection):
    """Beside the providers of chains; not when one chain is asked for."""
    connection.execute(
        "INSERT INTO ops.providers (scope, provider, state, failures, until, reason)"
        " VALUES ('gomafia', 'pages', 'open', 5, now() + interval '1 hour', 'Transient: HTTP 502')"
    )

    def states(*more):
        said = CliRunner().invoke(app, ["providers", "--json", *more])
        return [(line["chain"], line["provider"], line["state"]) for line in json.loads(said.stdout)]

    assert states() == [("gomafia", "api", "closed"), ("gomafia", "pages", "open")]
    assert "pages: last failure: Transient: HTTP 502" in CliRunner().invoke(app, ["providers"]).stdout
    assert states("--reset") == [("gomafia", "api", "closed"), ("gomafia", "pages", "closed")]
