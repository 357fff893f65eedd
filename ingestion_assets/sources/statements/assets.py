"""The asset of the lines, its check, the sensor on the inbox, and how a run's partitions become streams."""

from collections.abc import Iterable
from contextlib import nullcontext
from datetime import date, timedelta
from typing import Any

import dagster as dg

from ingestion_assets.engine.coverage import size
from ingestion_assets.engine.store import Store
from ingestion_assets.orchestration import partitions, resources
from ingestion_assets.orchestration.checks import clean
from ingestion_assets.orchestration.ingest import Ingestion, ingest
from ingestion_assets.orchestration.resources import DATABASE, Database
from ingestion_assets.orchestration.sensors import arrivals, initial_status
from ingestion_assets.sources.environment import Environment
from ingestion_assets.sources.statements import derived_assets
from ingestion_assets.sources.statements.config import StatementsConfig
from ingestion_assets.sources.statements.derived_assets import DERIVED, LINES, underived
from ingestion_assets.sources.statements.files import MEMBER
from ingestion_assets.sources.statements.inbox import Inbox
from ingestion_assets.sources.statements.registry import REGISTERED, STREAM, File, Registry
from ingestion_assets.sources.statements.streams import CHUNK, READ_AHEAD, WRITERS, FileLines
from ingestion_assets.sources.statements.tables import lines

RESOURCE = "inbox"  # resource key
ACCOUNTS = "statement_accounts"  # under which Dagster keeps the accounts that have files
EVERY = (LINES, *DERIVED)  # assets of this family


def definitions(config: StatementsConfig, environment: Environment) -> dg.Definitions:
    """The assets, their checks, the sensor on the inbox, and the resource that they share."""
    of_lines = dg.Definitions(
        assets=[_lines(config)],
        asset_checks=[clean(LINES, _streams, required_resource_keys={RESOURCE})],
        sensors=[_sensor(config, environment)],
        resources={
            RESOURCE: resources.sources(
                lambda database: nullcontext(open_inbox(config, environment, Registry(database.store))),
                "The folder into which statement files are dropped, and what is known of them.",
            )
        },
    )
    return dg.Definitions.merge(of_lines, derived_assets.definitions(config, ACCOUNTS))


def open_inbox(config: StatementsConfig, environment: Environment, registry: Registry) -> Inbox:
    """The inbox of sources.yaml."""
    return Inbox((environment.sources_folder / config.inbox).resolve(), config, registry)


def _lines(config: StatementsConfig) -> dg.AssetsDefinition:
    @ingest(
        key=STREAM,
        table=lines,
        time_column="at",
        partitions_def=partitions.account_weeks(ACCOUNTS, config.first_week),
        group_name="statements",
        required_resource_keys={RESOURCE},
        description="Every line of every statement file, once and verbatim, with the file and the line it stands in.",
    )
    def statement_lines(context: dg.AssetExecutionContext) -> Ingestion:
        inbox: Inbox = getattr(context.resources, RESOURCE)
        streams = _streams_of(inbox, context.partition_keys)
        files = [stream.file for stream in streams]
        for file in files:
            context.log.info(
                "%s: %s, %d records in lines 1–%d", file.path, file.dialect, file.records, file.positions
            )

        def said() -> dict[str, Any]:
            return {"files": dg.MetadataValue.json(_states(inbox, files))}

        return Ingestion(streams, READ_AHEAD, WRITERS, metadata=said, progress=said)

    return statement_lines


def _streams(context: dg.OpExecutionContext) -> list[FileLines]:
    return _streams_of(getattr(context.resources, RESOURCE), context.partition_keys)


def _streams_of(inbox: Inbox, partition_keys: Iterable[str]) -> list[FileLines]:
    """The files that have lines in these partitions, each of them whole."""
    return [
        FileLines(file, inbox.folder, inbox.config.first_week, inbox.last_week())
        for account, spans in partitions.spans(partition_keys, partitions.ACCOUNT_WEEKS).items()
        for file in inbox.registry.files(account)
        if any(first <= week <= last for first, last in spans for week in file.weeks)
    ]


def _states(inbox: Inbox, files: list[File]) -> list[dict[str, Any]]:
    """How far each file is, for people to read."""
    gaps = inbox.registry.missing(files)
    missing = {file.key: size(gaps.get(file.key, ())) for file in files}
    return [
        {
            "file": file.path,
            "sha256": file.hash,
            "dialect": file.dialect,
            "records": file.records,
            "lines": file.positions,
            "lines_missing": missing[file.key],
            "chunks": -(-file.positions // CHUNK),
            "chunks_missing": -(-missing[file.key] // CHUNK),
        }
        for file in files
    ]


def _sensor(config: StatementsConfig, environment: Environment) -> dg.SensorDefinition:
    def arrived(context: dg.SensorEvaluationContext) -> dict[str, set[date]]:
        inbox: Inbox = getattr(context.resources, RESOURCE)
        found = inbox.look()
        for said in (*found.rejected, *found.refused):
            context.log.warning("%s", said)
        known = [context.instance.get_materialized_partitions(asset) for asset in EVERY]
        database: Database = getattr(context.resources, DATABASE)
        found_weeks = unread(inbox, set.intersection(*map(set, known)))
        for account, weeks in behind(inbox, database.store).items():
            found_weeks.setdefault(account, set()).update(weeks)
        return found_weeks

    return arrivals(
        name="statements_inbox",
        accounts=ACCOUNTS,
        assets=EVERY,
        arrived=arrived,
        required_resource_keys={RESOURCE, DATABASE},
        interval=config.sync_seconds,
        status=initial_status(automate=environment.automate),
    )


def unread(inbox: Inbox, materialised: Iterable[str]) -> dict[str, set[date]]:
    """The weeks of each account that a run should read.

    Those of files whose import is not finished, unless they lie no more where they were registered, or changed: a person
    has to act first. And those that Dagster does not know as materialised, for a file is read whole by the first run
    that meets it.
    """
    files = inbox.registry.files()
    missing = inbox.registry.missing(files)
    there = {path for path, (_, state) in inbox.registry.seen().items() if state == REGISTERED}
    known = set(materialised)
    found: dict[str, set[date]] = {}
    for file in files:
        weeks = set(file.weeks)
        if file.key not in missing:
            weeks = {week for week in weeks if partitions.key(file.account, week) not in known}
        elif file.path.split(MEMBER, maxsplit=1)[0] not in there:
            continue
        found.setdefault(file.account, set()).update(weeks)
    return found


def behind(inbox: Inbox, store: Store) -> dict[str, set[date]]:
    """The weeks of each account that hold days whose movements or snapshots are missing, or not true any more."""
    found: dict[str, set[date]] = {}
    first, last = inbox.config.first_week, inbox.last_week()
    for account in sorted({file.account for file in inbox.registry.files()}):
        weeks = {day - timedelta(days=day.weekday()) for day in underived(store, account)}
        found[account] = {max(first, min(last, week)) for week in weeks}
    return found


def span_of(files: Iterable[File], first: date | None, last: date | None) -> partitions.Span | None:
    """The Mondays of the first and the last week that hold lines of these files, within these days; None: there is none."""
    weeks = [
        week
        for file in files
        for week in file.weeks
        if (first is None or week + timedelta(days=6) >= first) and (last is None or week <= last)
    ]
    return (min(weeks), max(weeks)) if weeks else None
