"""The assets of this family, and how a run's partitions become streams. The only module here that knows Dagster's resources."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from ingestion_assets.engine.coverage import Ranges
from ingestion_assets.engine.drain import drain
from ingestion_assets.engine.stream import Stream
from ingestion_assets.orchestration import partitions, resources
from ingestion_assets.orchestration.checks import clean
from ingestion_assets.orchestration.ingest import Ingestion, ingest, sorted_for_dagster
from ingestion_assets.orchestration.resources import DATABASE, Database
from ingestion_assets.orchestration.sensors import follow, initial_status, sync
from ingestion_assets.sources.environment import Environment
from ingestion_assets.sources.events.config import FeedConfig
from ingestion_assets.sources.events.feeds import Feeds, lacking
from ingestion_assets.sources.events.streams import BY_DAY, WHOLE, WRITERS
from ingestion_assets.sources.events.tables import events

RESOURCE, LOOKING = "events", "events_looking"  # resource keys


def definitions(configs: Mapping[str, FeedConfig], environment: Environment) -> dg.Definitions:
    """Assets, their checks, one sensor for each feed, the replay job, and the resource they share."""
    whole = sorted(name for name, config in configs.items() if config.start is None)
    by_day = sorted(name for name, config in configs.items() if config.start is not None)
    status = initial_status(automate=environment.automate)

    def opened(*, attempts: int | None) -> dg.ResourceDefinition:
        def feeds(database: Database) -> AbstractContextManager[Feeds]:
            return closing(Feeds(configs, environment.variables, database.store, attempts=attempts))

        return resources.sources(feeds, "The feeds of sources.yaml.")

    assets = [*([_whole(whole)] if whole else []), *([_by_day(by_day, configs)] if by_day else [])]
    return dg.Definitions(
        assets=assets,
        asset_checks=[*([_whole_clean()] if whole else []), *([_by_day_clean()] if by_day else [])],
        jobs=[_replay_job()] if whole else [],
        sensors=[
            *(_follow(name, configs[name], status) for name in whole),
            *(_sync(name, configs[name], status) for name in by_day),
        ],
        resources={
            RESOURCE: opened(attempts=None),
            # A sensor tick must not wait: what fails now is asked again by the next tick.
            LOOKING: opened(attempts=1),
        },
    )


def _whole(names: list[str]) -> dg.AssetsDefinition:
    @ingest(
        key=WHOLE,
        table=events,
        time_column="event_time",
        partitions_def=partitions.feeds(names),
        group_name="events",
        required_resource_keys={RESOURCE},
        description="Every event of each feed, once: from its beginning to what is there now.",
    )
    def history(context: dg.AssetExecutionContext) -> Ingestion:
        feeds: Feeds = getattr(context.resources, RESOURCE)
        return _ingestion(
            context, feeds, context.partition_keys, [feeds.history(n) for n in context.partition_keys]
        )

    return history


def _by_day(names: list[str], configs: Mapping[str, FeedConfig]) -> dg.AssetsDefinition:
    start = min(day for name in names if (day := configs[name].start) is not None)

    @ingest(
        key=BY_DAY,
        table=events,
        time_column="event_time",
        partitions_def=partitions.feed_days(names, start),
        group_name="events",
        required_resource_keys={RESOURCE},
        description="The events of feeds that can filter by time, by feed and day.",
    )
    def days(context: dg.AssetExecutionContext) -> Ingestion:
        feeds: Feeds = getattr(context.resources, RESOURCE)
        wanted = partitions.spans(context.partition_keys, partitions.FEED_DAYS)
        return _ingestion(
            context, feeds, list(wanted), [feeds.days(name, own) for name, own in wanted.items()]
        )

    return days


def _ingestion(
    context: dg.AssetExecutionContext, feeds: Feeds, names: Iterable[str], streams: list[Stream]
) -> Ingestion:
    def metadata() -> dict[str, object]:
        for name in names:
            fields = feeds.new_fields(name)
            if fields:
                context.log_event(
                    dg.AssetObservation(
                        context.asset_key,
                        description=f"The records of {name} have new fields: {', '.join(fields)}",
                        metadata={"feed": name, "new_fields": dg.MetadataValue.json(fields)},
                    )
                )
        return {"feeds": dg.MetadataValue.json({name: feeds.notes(name) for name in names})}

    return Ingestion(streams=streams, read_ahead=1, writers=WRITERS, metadata=metadata)


def _whole_clean() -> dg.AssetChecksDefinition:
    def names(context: dg.OpExecutionContext, feeds: Feeds) -> Iterable[str]:
        if context.has_partition_key or context.has_partition_key_range:
            return context.partition_keys
        return [name for name, config in feeds.configs.items() if config.start is None]

    def streams(context: dg.OpExecutionContext) -> list[Stream]:
        feeds: Feeds = getattr(context.resources, RESOURCE)
        return [feeds.history(name) for name in names(context, feeds)]

    def missing(context: dg.OpExecutionContext) -> Iterator[str]:
        feeds: Feeds = getattr(context.resources, RESOURCE)
        for name in names(context, feeds):
            count = lacking(feeds.done(name))
            if count:
                yield f"{name}: {count} events that the feed says it has are not stored; the next run reads it again"

    return clean(dg.AssetKey(WHOLE.split("/")), streams, required_resource_keys={RESOURCE}, lacking=missing)


def _by_day_clean() -> dg.AssetChecksDefinition:
    def streams(context: dg.OpExecutionContext) -> list[Stream]:
        feeds: Feeds = getattr(context.resources, RESOURCE)
        return [
            feeds.days(name, own)
            for name, own in partitions.spans(context.partition_keys, partitions.FEED_DAYS).items()
        ]

    return clean(dg.AssetKey(BY_DAY.split("/")), streams, required_resource_keys={RESOURCE})


class ReplayFeedConfig(dg.Config):
    """Whose dead letters to try again."""

    feed: str


def _replay_job() -> dg.JobDefinition:
    @dg.op(required_resource_keys={DATABASE, RESOURCE})
    def try_letters_again(context: dg.OpExecutionContext, config: ReplayFeedConfig) -> None:
        """Make rows of what can be read now; the rest stays as it is."""
        feeds: Feeds = getattr(context.resources, RESOURCE)
        database: Database = getattr(context.resources, DATABASE)
        with sorted_for_dagster():
            letters = feeds.letters(config.feed)
            tally = drain([letters], database.store).tally
        settled = tally.batches - tally.rejected
        context.add_output_metadata({"settled": settled, "open": len(letters.letters) - settled})

    @dg.job(
        name="replay_feed_letters",
        description="Tries the dead letters of a feed again, as they were received: what can be read now becomes a row.",
    )
    def job() -> None:
        try_letters_again()

    return job


def _follow(name: str, config: FeedConfig, status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    def is_pending(context: dg.SensorEvaluationContext) -> bool:
        feeds: Feeds = getattr(context.resources, LOOKING)
        return feeds.is_pending(name)

    return follow(
        name=f"events_sync_{name.replace('-', '_')}",
        feed=name,
        asset=dg.AssetKey(WHOLE.split("/")),
        is_pending=is_pending,
        required_resource_keys={LOOKING},
        interval=config.sync_seconds,
        status=status,
    )


def _sync(name: str, config: FeedConfig, status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    def pending(context: dg.SensorEvaluationContext) -> set[str]:
        feeds: Feeds = getattr(context.resources, LOOKING)
        first, today = config.start, datetime.now(UTC).date()
        if first is None:
            return set()
        return {partitions.key(name, day) for day in _days(feeds.gaps(name, ((first, today),)))}

    return sync(
        name=f"events_sync_{name.replace('-', '_')}",
        chain=name,
        assets=[dg.AssetKey(BY_DAY.split("/"))],
        pending=pending,
        required_resource_keys={LOOKING},
        interval=config.sync_seconds,
        status=status,
    )


def _days(seconds: Ranges) -> Iterator[date]:
    """The days that ranges of seconds touch."""
    for lo, hi in seconds:
        first, last = (datetime.fromtimestamp(second, UTC).date() for second in (lo, hi))
        yield from (first + timedelta(days=n) for n in range((last - first).days + 1))
