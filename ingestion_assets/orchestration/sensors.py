"""Sensors. Belongs here: noticing that there is something to do, cheaply, and asking for one run that does it.

https://docs.dagster.io/guides/automate/sensors
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from ingestion_assets.engine.errors import QuotaExhausted
from ingestion_assets.orchestration import partitions
from ingestion_assets.orchestration.ingest import MAX_PARTITIONS_PER_RUN

SYNC = "ingestion/sync"  # tag of the runs that sensors ask for; its value is the sensor's subject

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
PARTITION = "dagster/partition"

MOST_FAILURES = 10  # in a row, that are looked at
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]

NEWEST, OLDEST = "newest", "oldest"  # a sync sensor's cursor: whose turn it was

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

Pending = Callable[[dg.SensorEvaluationContext], Iterable[str]]
Arrived = Callable[[dg.SensorEvaluationContext], Mapping[str, Iterable[date]]]


def sync(
    *,
    name: str,
    chain: str,
    assets: Sequence[dg.AssetKey],
    pending: Pending,
    required_resource_keys: set[str],
    interval: int,
    status: dg.DefaultSensorStatus,
) -> dg.SensorDefinition:
    """A sensor that keeps one chain fresh: one run at a time, never two for the same days.

    Args:
        name: of the sensor.
        chain: whose partitions it asks for.
        assets: what a run materialises.
        pending: the partitions that have something to read, from the source and the marks.
        required_resource_keys: what `pending` reads from `context.resources`.
        interval: least seconds between two looks.
        status: whether it is switched on when first seen.
    """

    @dg.sensor(
        name=name,
        asset_selection=dg.AssetSelection.assets(*assets),
        minimum_interval_seconds=interval,
        default_status=status,
        required_resource_keys=required_resource_keys,
        description=f"Reads what is new on {chain}, and fills holes in what was read before.",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        subject = subject_of(assets, chain)
        if (rest := resting(context.instance, subject, interval)) is not None:
            return rest
        try:
            days = partitions.spans(pending(context)).get(chain, ())
        except QuotaExhausted as error:
            return dg.SkipReason(str(error))  # nothing is wrong; there is only nothing to ask for until then
        if not days:
            return dg.SkipReason(f"nothing to read of {chain} up to what is final of it")
        # The newest days, and every other time the oldest hole: a chain that never rests must not keep it waiting.
        turn = OLDEST if context.cursor == NEWEST and len(days) > 1 else NEWEST
        first, last = days[-1] if turn == NEWEST else days[0]
        most = timedelta(days=MAX_PARTITIONS_PER_RUN - 1)  # what is more, the next runs read
        first, last = (max(first, last - most), last) if turn == NEWEST else (first, min(last, first + most))
        for run in unfinished(context.instance, assets):
            if run.tags.get(SYNC) == subject or overlaps(run.tags, chain, (first, last)):
                reason = dg.SkipReason(f"run {run.run_id[:8]} already works on {chain}")
                return dg.SensorResult(skip_reason=reason, cursor=turn)
        return dg.SensorResult(run_requests=[request(chain, (first, last), subject)], cursor=turn)

    return look


def follow(
    *,
    name: str,
    feed: str,
    asset: dg.AssetKey,
    is_pending: Callable[[dg.SensorEvaluationContext], bool],
    required_resource_keys: set[str],
    interval: int,
    status: dg.DefaultSensorStatus,
) -> dg.SensorDefinition:
    """A sensor that keeps one feed fresh, and goes on where a run has left it: one run at a time.

    Args:
        name: of the sensor.
        feed: whose partition it asks for.
        asset: what a run materialises.
        is_pending: whether there is anything to read, from the source and the mark.
        required_resource_keys: what `is_pending` reads from `context.resources`.
        interval: least seconds between two looks.
        status: whether it is switched on when first seen.
    """

    @dg.sensor(
        name=name,
        asset_selection=dg.AssetSelection.assets(asset),
        minimum_interval_seconds=interval,
        default_status=status,
        required_resource_keys=required_resource_keys,
        description=f"Reads what is new in {feed}, and goes on with what a run has left.",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        subject = subject_of([asset], feed)
        if (rest := resting(context.instance, subject, interval)) is not None:
            return rest
        # First who works on it: the question whether anything is new would wait for that run's budget.
        for run in unfinished(context.instance, [asset]):
            if run.tags.get(SYNC) == subject or feed in (run.tags.get(PARTITION), run.tags.get(RANGE_START)):
                return dg.SkipReason(f"run {run.run_id[:8]} already works on {feed}")
        try:
            if not is_pending(context):
                return dg.SkipReason(f"{feed} is caught up")
        except QuotaExhausted as error:
            return dg.SkipReason(str(error))
        return dg.SensorResult(run_requests=[dg.RunRequest(partition_key=feed, tags={SYNC: subject})])

    return look


def arrivals(
    *,
    name: str,
    accounts: str,
    assets: Sequence[dg.AssetKey],
    arrived: Arrived,
    required_resource_keys: set[str],
    interval: int,
    status: dg.DefaultSensorStatus,
) -> dg.SensorDefinition:
    """A sensor that reads what was dropped somewhere: one run for each account, never two of one account at once.

    Args:
        name: of the sensor.
        accounts: name under which Dagster keeps the accounts; those that are new to it are added.
        assets: what a run materialises.
        arrived: the weeks of each account, by their Mondays, that have something to read.
        required_resource_keys: what `arrived` reads from `context.resources`.
        interval: least seconds between two looks.
        status: whether it is switched on when first seen.
    """

    @dg.sensor(
        name=name,
        asset_selection=dg.AssetSelection.assets(*assets),
        minimum_interval_seconds=interval,
        default_status=status,
        required_resource_keys=required_resource_keys,
        description="Registers the files that were dropped, and reads them.",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        weeks = {account: sorted(mondays) for account, mondays in arrived(context).items() if mondays}
        known = set(context.instance.get_dynamic_partitions(accounts))
        at_work = unfinished(context.instance, assets)
        requests: list[dg.RunRequest] = []
        for account, mondays in sorted(weeks.items()):
            # In one run, with the empty weeks between them, which cost nothing; what is more, the next runs read.
            first = mondays[0]
            most = first + timedelta(weeks=MAX_PARTITIONS_PER_RUN - 1)
            span = (first, max(monday for monday in mondays if monday <= most))
            subject = subject_of(assets, account)
            if any(run.tags.get(SYNC) == subject or overlaps(run.tags, account, span) for run in at_work):
                continue
            if rest_until(context.instance, subject, interval) <= datetime.now(UTC):
                requests.append(request(account, span, subject, found=True))
        if not weeks:
            return dg.SkipReason("all that was dropped is read")
        if not requests:
            return dg.SkipReason(f"runs work on {', '.join(weeks)}, or have failed and rest")
        new = sorted(set(weeks) - known)
        add = dg.DynamicPartitionsDefinition(name=accounts).build_add_request
        return dg.SensorResult(run_requests=requests, dynamic_partitions_requests=[add(new)] if new else [])

    return look


def initial_status(*, automate: bool) -> dg.DefaultSensorStatus:
    """What a sensor begins as."""
    return dg.DefaultSensorStatus.RUNNING if automate else dg.DefaultSensorStatus.STOPPED


def subject_of(assets: Sequence[dg.AssetKey], name: str) -> str:
    """What tells a sensor's runs from those of a chain, feed or account of the same name in another family."""
    return f"{assets[0].path[0]}/{name}"


def unfinished(instance: dg.DagsterInstance, assets: Sequence[dg.AssetKey]) -> list[dg.DagsterRun]:
    """The runs that wait or work, and materialise any of these assets."""
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    return [run for run in runs if not (run.asset_selection and run.asset_selection.isdisjoint(assets))]


def request(chain: str, span: partitions.Span, subject: str, *, found: bool = False) -> dg.RunRequest:
    """One run over a span of a chain's days. It has no run key: Dagster remembers those for ever.

    Args:
        chain: or another first dimension.
        span: the days that the first and the last partition begin with.
        subject: whose runs it is not to meet.
        found: the first dimension is one whose names are found at run time.
    """
    first, last = partitions.key(chain, span[0]), partitions.key(chain, span[1])
    tags = {SYNC: subject}
    # Dagster cannot look up a key with a name that is found at run time: it is asked for as a range of one.
    if first == last and not found:
        return dg.RunRequest(partition_key=first, tags=tags)
    return dg.RunRequest(tags={**tags, RANGE_START: first, RANGE_END: last})


def resting(instance: dg.DagsterInstance, subject: str, interval: int) -> dg.SkipReason | None:
    """Why the syncs of a chain or feed pause, if they do."""
    rest = rest_until(instance, subject, interval)
    if rest <= datetime.now(UTC):
        return None
    return dg.SkipReason(
        f"the last syncs of {subject} failed: see their runs; the next one is due at {rest:%H:%M:%S} UTC"
    )


def rest_until(instance: dg.DagsterInstance, subject: str, interval: int) -> datetime:
    """When the next sync of a subject is due: twice as late after each failure in a row, an hour at most."""
    syncs = instance.get_run_records(dg.RunsFilter(tags={SYNC: subject}, statuses=ENDED), limit=MOST_FAILURES)
    failures = list(
        itertools.takewhile(lambda run: run.dagster_run.status == dg.DagsterRunStatus.FAILURE, syncs)
    )
    if len(failures) < 2:  # noqa: PLR2004 - a single one may have been anything
        return datetime.min.replace(tzinfo=UTC)
    ended = datetime.fromtimestamp(failures[0].end_time or failures[0].create_timestamp.timestamp(), UTC)
    return ended + timedelta(seconds=min(3600, interval * 2 ** len(failures)))


def overlaps(tags: Mapping[str, str], chain: str, span: tuple[date, date]) -> bool:
    """Whether a run with these tags reads any of a chain's days."""
    first, last = tags.get(RANGE_START) or tags.get(PARTITION), tags.get(RANGE_END) or tags.get(PARTITION)
    if first is None or last is None:
        return False
    try:
        (first_chain, first_day), (last_chain, last_day) = partitions.parse(first), partitions.parse(last)
    except ValueError:  # the partition of another family
        return False
    # A range over two dimensions is the product of both, and the chains are in the order of their names.
    return first_chain <= chain <= last_chain and first_day <= span[1] and span[0] <= last_day


MOST_LOST = 500  # newest runs that are looked at
LOST_FOR = timedelta(days=7)  # so long a run is looked for whose retry was lost

KEPT_TAGS = (PARTITION, RANGE_START, RANGE_END, SYNC, "dagster/backfill")


def resume_lost_runs() -> dg.SensorDefinition:
    """A sensor that runs again what Dagster meant to retry and could not.

    Dagster's own retry of an interrupted run is tried once. If the code server is down at that moment, as in
    every deploy, Dagster marks the run as "will not retry" and forgets it. A sensor lives in the code server, so
    it looks when there is one. It reads no source, and finishes only what was asked for, so it is always on.
    """

    @dg.sensor(
        name="resume_lost_runs",
        asset_selection=dg.AssetSelection.all(),
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Runs again what was interrupted and could not be retried because the code server was down.",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        # The run key, which Dagster remembers for ever, is what is wanted here: each run is resumed once.
        requests = [
            dg.RunRequest(
                run_key=run.run_id,
                asset_selection=sorted(run.asset_selection or ()),
                tags={tag: run.tags[tag] for tag in KEPT_TAGS if tag in run.tags},
            )
            for run in lost(context.instance, datetime.now(UTC) - LOST_FOR)
        ]
        return dg.SensorResult(run_requests=requests) if requests else dg.SkipReason("no run was lost")

    return look


def lost(instance: dg.DagsterInstance, since: datetime) -> Iterator[dg.DagsterRun]:
    """Runs that failed by interruption, that Dagster gave up although they had attempts left."""
    given_up = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE], tags={"dagster/will_retry": "false"}, updated_after=since
    )
    for run in instance.get_runs(given_up, limit=MOST_LOST):
        backfill = (
            instance.get_backfill(run.tags["dagster/backfill"]) if "dagster/backfill" in run.tags else None
        )
        if (
            run.asset_selection
            and run.tags.get("dagster/failure_reason") in (None, "UNEXPECTED_TERMINATION")
            and int(run.tags.get("dagster/retry_number", 0)) < instance.run_retries_max_retries
            and "dagster/auto_retry_run_id" not in run.tags
            and run.remote_job_origin is not None  # somebody's own process is not ours to start again
            and (backfill is None or backfill.status.value not in ("CANCELING", "CANCELED"))
        ):
            yield run
