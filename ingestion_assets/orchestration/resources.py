"""Resources. Belongs here: what a run opens and closes; not what it does with it.

https://docs.dagster.io/guides/build/external-resources
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import dagster as dg
import sqlalchemy as sa

from ingestion_assets.engine import database as postgres
from ingestion_assets.engine.store import Store, connection_pool
from ingestion_assets.orchestration.io_manager import OnCommit, StoreIOManager

DATABASE = "database"  # resource key


@dataclass(frozen=True, slots=True)
class Database:
    """Our Postgres: `store` commits and knows the marks, `engine` is for queries."""

    store: Store
    engine: sa.Engine


def database(url: Callable[[], str], migrate: Callable[[str], None]) -> dg.ResourceDefinition:
    """The resource `database`: migrated when opened, closed with the run."""

    def opened(_context: dg.InitResourceContext) -> Iterator[Database]:
        address = url()
        migrate(address)
        pool = connection_pool(address)
        try:
            yield Database(Store(pool), postgres.engine(address))
        finally:
            pool.close()

    return dg.ResourceDefinition(
        dg.resource(opened).resource_fn, description="The Postgres that rows and marks are in."
    )


def sources(
    opened: Callable[[Database], AbstractContextManager[object]], description: str
) -> dg.ResourceDefinition:
    """What a family's streams are made from: opened over `database` when a run begins, closed when it ends."""

    def entered(context: dg.InitResourceContext) -> Iterator[object]:
        with opened(getattr(context.resources, DATABASE)) as family:
            yield family

    return dg.ResourceDefinition(
        dg.resource(required_resource_keys={DATABASE})(entered).resource_fn,
        required_resource_keys={DATABASE},
        description=description,
    )


def io_manager(tables: Mapping[str, sa.Table], on_commit: OnCommit | None = None) -> dg.IOManagerDefinition:
    """The resource `store`: drains streams into our tables, and tells `on_commit` of every batch."""

    def opened(context: dg.InitResourceContext) -> StoreIOManager:
        opened_database: Database = getattr(context.resources, DATABASE)
        return StoreIOManager(opened_database.store, opened_database.engine, tables, on_commit=on_commit)

    return dg.IOManagerDefinition(
        opened,
        required_resource_keys={DATABASE},
        description="Drains streams: rows, dead letters and marks, together.",
    )
