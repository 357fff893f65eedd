"""The sync sensor, with the real resources: what it asks, and what it asks for."""

from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.events import EVENT_TYPE_TO_PIPELINE_RUN_STATUS, DagsterEvent
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from ingestion_assets.engine.errors import Transient
from ingestion_assets.orchestration import jobs, partitions, sensors
from ingestion_assets.orchestration.ingest import MAX_PARTITIONS_PER_RUN
from ingestion_assets.sources.evm.records import KINDS
from ingestion_assets.sources.evm.streams import stream_key
from ingestion_assets_tests.orchestration.world import ACCOUNTS, CHAINS, EVM, NEWEST


def first_block(day: int) -> int:
    """Of January 2024."""
    return CHAINS["one"].first_block_at(datetime(2024, 1, day, tzinfo=UTC))


@pytest.fixture
def cover(connection):
    """Say that all streams of a chain are covered from block lo to hi."""

    def covered(lo: int, hi: int, chain: str = "one") -> None:
        for kind in KINDS:
            for account in ACCOUNTS:
                connection.execute(
                    "INSERT INTO ops.coverage (stream, lo, hi, evidence, provider, records) VALUES (%s, %s, %s, 'stated', 'a test', 0)",
                    [stream_key(kind, chain, account), lo, hi],
                )

    return covered


@pytest.fixture
def look(world, instance):
    """One tick of the sensor of chain "one"."""
    definitions = world.definitions()
    repository = definitions.get_repository_def()
    sensor = repository.get_sensor_def("evm_sync_one")

    def tick(cursor: str | None = None):
        keys = ("database", "evm_looking")
        with dg.build_sensor_context(
            instance=instance,
            repository_def=repository,
            cursor=cursor,
            resources={key: repository.get_top_level_resources()[key] for key in keys},
        ) as context:
            return sensor.evaluate_tick(context)

    return tick


@contextmanager
def running(world, instance, status=dg.DagsterRunStatus.STARTED, job=None, **tags):
    """A run that is on its way, of a job that may materialise anything or of the one given, with all its assets."""
    assets = job and set(job.asset_layer.executable_asset_keys)
    job = job or world.definitions().get_repository_def().get_job("tidy")
    names = {
        "partition": sensors.PARTITION,
        "first": sensors.RANGE_START,
        "last": sensors.RANGE_END,
        "sync": sensors.SYNC,
    }
    tags = {names[name]: value for name, value in tags.items()}
    run = instance.create_run_for_job(job, tags=tags, asset_selection=assets)
    if status != dg.DagsterRunStatus.NOT_STARTED:
        event = next(kind for kind, result in EVENT_TYPE_TO_PIPELINE_RUN_STATUS.items() if result == status)
        instance.report_dagster_event(DagsterEvent(event.value, job.name), run.run_id)
    assert instance.get_run_by_id(run.run_id).status == status
    yield run
    instance.delete_run(run.run_id)


def wanted(tick) -> list[dict[str, str]]:
    """The tags of the runs it asks for; it never gives them a key, which Dagster would remember for ever."""
    assert not [request for request in tick.run_requests if request.run_key]
    return [dict(request.tags) for request in tick.run_requests]


def test_nothing_new_costs_at_most_two_requests(world, look, cover):
    """And says so in words. The first look of all notes what it sees; from then on it is: the head, and is it the same chain?"""
    cover(0, NEWEST)
    look()
    before = len(world.upstream.requests)
    tick = look()
    assert tick.run_requests == []
    assert tick.skip_message == "nothing to read of one up to what is final of it"
    assert len(world.upstream.requests) - before <= 2


def test_new_blocks_of_one_day_are_one_partition(look, cover):
    """The day they fall on."""
    cover(0, NEWEST - 3)
    (request,) = look().run_requests
    assert request.partition_key == "one|2024-01-10"
    assert request.run_key is None
    assert request.tags["ingestion/sync"] == "evm/one"


def test_new_blocks_of_several_days_are_one_range(look, cover):
    """From the first uncovered day to the head's."""
    cover(0, first_block(8) - 1)
    (tags,) = wanted(look())
    assert (tags["dagster/asset_partition_range_start"], tags["dagster/asset_partition_range_end"]) == (
        "one|2024-01-08",
        "one|2024-01-10",
    )


def test_accounts_that_are_new_begin_today(look):
    """Their history is a backfill's business."""
    (request,) = look().run_requests
    assert request.partition_key == "one|2024-01-10"


def test_a_hole_and_the_newest_days_take_turns(look, cover, connection):
    """One run at a time: first what is new, then what was left out, even when there is something new again."""
    cover(0, first_block(3) - 1)
    cover(first_block(4), first_block(10) - 1)
    first = look()
    assert first.run_requests[0].partition_key == "one|2024-01-10"
    second = look(first.cursor)
    assert second.run_requests[0].partition_key == "one|2024-01-03"
    assert look(second.cursor).run_requests[0].partition_key == "one|2024-01-10"
    connection.execute("DELETE FROM ops.coverage")
    cover(0, first_block(3) - 1)
    cover(first_block(4), NEWEST)
    (request,) = look().run_requests
    assert request.partition_key == "one|2024-01-03"


def test_what_the_source_could_not_prove_is_left_to_people(look, cover, connection):
    """Otherwise the sensor would ask for it for ever."""
    cover(0, 99)
    cover(101, NEWEST)
    for kind in KINDS:
        for account in ACCOUNTS:
            connection.execute(
                "INSERT INTO ops.unproved (stream, lo, hi, reason) VALUES (%s, 100, 100, 'its pages moved')",
                [stream_key(kind, "one", account)],
            )
    assert look().run_requests == []


# A queued run must have been launched for real, as in test_recovery; to the sensor it is one more status.
STATUSES = [status for status in sensors.UNFINISHED if status != dg.DagsterRunStatus.QUEUED]


def test_one_sync_of_a_chain_at_a_time(world, instance, look, cover):
    """Even when the other one works on other days."""
    cover(0, first_block(8) - 1)
    with running(world, instance, sync="evm/one", first="one|2024-01-02", last="one|2024-01-02"):
        assert look().run_requests == []
    assert look().run_requests


def test_a_feed_of_the_same_name_does_not_hold_it_up(world, instance, look, cover):
    """Nor what that feed's runs are partitioned by."""
    cover(0, first_block(8) - 1)

    @dg.asset(key=["events", "events_by_day"])
    def other() -> None: ...

    @dg.asset(key=["evm", "transactions"])
    def own() -> None: ...

    def job(*assets):
        return dg.Definitions(assets=assets).resolve_implicit_global_asset_job_def()

    days = {"first": "one|2024-01-02", "last": "one|2024-01-20"}
    with running(world, instance, job=job(other), sync="events/one", **days):
        assert look().run_requests
    with running(world, instance, job=job(other, own), **days):
        assert look().run_requests == []


def test_a_chain_whose_syncs_fail_is_asked_less_and_less_often(instance, look, cover):
    """A single failure changes nothing; a success ends the rest."""
    cover(0, first_block(8) - 1)
    for _ in range(2):
        assert look().run_requests
        instance.create_run_for_job(
            jobs.tidy, tags={sensors.SYNC: "evm/one"}, status=dg.DagsterRunStatus.FAILURE
        )
    assert "the last syncs of evm/one failed" in look().skip_message
    instance.create_run_for_job(jobs.tidy, tags={sensors.SYNC: "evm/one"}, status=dg.DagsterRunStatus.SUCCESS)
    assert look().run_requests


def test_a_sync_is_never_longer_than_a_run_may_be():
    """What is older, the next runs read."""
    request = sensors.sync(
        name="years", chain="one", assets=[dg.AssetKey("any")], interval=30, status=dg.DefaultSensorStatus.STOPPED, required_resource_keys=set(),
        pending=lambda _context: [partitions.key("one", date(2015, 1, 1) + timedelta(days=n)) for n in range(3000)],
    )  # fmt: skip
    with dg.instance_for_test() as instance, dg.build_sensor_context(instance=instance) as context:
        (asked,) = request(context).run_requests
    first, last = (partitions.parse(asked.tags[tag])[1] for tag in (sensors.RANGE_START, sensors.RANGE_END))
    assert (last - first).days + 1 == MAX_PARTITIONS_PER_RUN
    assert last == date(2015, 1, 1) + timedelta(days=2999)


@pytest.mark.parametrize("status", STATUSES)
def test_a_run_over_the_same_days_is_waited_for(world, instance, look, cover, status):
    """Whether it has begun or not."""
    cover(0, first_block(8) - 1)
    with running(world, instance, status, first="one|2024-01-01", last="one|2024-01-08") as run:
        tick = look()
        assert tick.run_requests == []
        assert tick.skip_message == f"run {run.run_id[:8]} already works on one"
    assert look().run_requests


@pytest.mark.parametrize(
    "tags",
    [
        {"first": "one|2024-01-01", "last": "one|2024-01-07"},
        {"first": "two|2024-01-01", "last": "two|2024-01-10"},
        {"partition": "one|2024-01-07"},
        {"partition": "two|2024-01-10"},
        {"partition": "2024-01-10"},
        {},
    ],
)
def test_a_run_over_other_days_or_another_chain_is_in_nobodys_way(world, instance, look, cover, tags):
    """Nor are runs with other partitions, or none."""
    cover(0, first_block(8) - 1)
    with running(world, instance, **tags):
        assert len(look().run_requests) == 1


def test_a_range_over_two_chains_works_on_both():
    """Dagster's range over two dimensions is the product of both."""
    tags = {sensors.RANGE_START: "base|2024-01-02", sensors.RANGE_END: "ethereum|2024-01-03"}
    span = (date(2024, 1, 3), date(2024, 1, 9))
    assert [sensors.overlaps(tags, chain, span) for chain in ("arbitrum", "base", "ethereum", "gnosis")] == [
        False,
        True,
        True,
        False,
    ]


def test_a_provider_that_is_down_fails_the_tick_and_not_the_next(world, look, cover):
    """The error says who and what; nothing is waited for, for the next tick asks again."""
    cover(0, NEWEST - 3)
    world.upstream.fail("status", status=502)
    with pytest.raises(Transient, match=r"one answers for head: etherscan: 127\.0\.0\.1 answered HTTP 502$"):
        look()
    assert len(world.upstream.requests) == 1
    assert len(look().run_requests) == 1


@pytest.fixture
def retrying():
    """An instance that retries runs, as ours does."""
    with dg.DagsterInstance.ephemeral(
        settings={"run_retries": {"enabled": True, "max_retries": 5}}
    ) as opened:
        yield opened


@pytest.fixture
def given_up(world, retrying):
    """Record a run that failed and that Dagster will not retry; what makes it lost can be overridden."""
    origin = RemoteRepositoryOrigin(
        InProcessCodeLocationOrigin(LoadableTargetOrigin()), "any"
    ).get_job_origin("any")

    def record(*, status=dg.DagsterRunStatus.FAILURE, origin=origin, assets=(EVM[0],), **tags) -> str:
        job = world.definitions().get_repository_def().get_implicit_job_def_for_assets(EVM)
        defaults = {
            "will_retry": "false",
            "failure_reason": "UNEXPECTED_TERMINATION",
            "partition": "one|2024-01-02",
        }
        tags = {f"dagster/{name}": value for name, value in (defaults | tags).items() if value is not None}
        return retrying.create_run_for_job(
            job, tags=tags, status=status, remote_job_origin=origin, asset_selection=frozenset(assets)
        ).run_id

    return record


@pytest.fixture
def resume(world, retrying):
    """One tick of the safety net."""
    repository = world.definitions().get_repository_def()
    context = dg.build_sensor_context(instance=retrying, repository_def=repository)
    return lambda: repository.get_sensor_def("resume_lost_runs").evaluate_tick(context).run_requests


def test_a_run_whose_retry_was_lost_is_resumed_with_its_partitions_and_once(given_up, resume):
    """Dagster remembers the key of a request for ever, which is just right here."""
    run = given_up()
    (request,) = resume()
    assert request.run_key == run
    assert request.asset_selection == [EVM[0]]
    assert request.tags["dagster/partition"] == "one|2024-01-02"
    assert not {"dagster/will_retry", "dagster/failure_reason"} & set(request.tags)


@pytest.mark.parametrize(
    "but",
    [
        {"will_retry": "true"},
        {"failure_reason": "STEP_FAILURE"},
        {"retry_number": "5"},
        {"auto_retry_run_id": "another"},
        {"status": dg.DagsterRunStatus.CANCELED},
        {"origin": None},
        {"assets": ()},
    ],
)
def test_what_was_not_lost_is_left_alone(given_up, resume, but):
    """It will be retried, it failed by itself, its attempts are used up, it is retried, it was canceled, it is another's."""
    given_up(**but)
    assert resume() == []
