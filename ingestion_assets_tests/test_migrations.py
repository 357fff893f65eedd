"""The migrations make the tables that the code speaks of, and no others."""

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from ingestion_assets import migrations
from ingestion_assets.engine import database, schema
from ingestion_assets.sources.events import tables as events
from ingestion_assets.sources.evm import tables as evm
from ingestion_assets.sources.statements import tables as statements
from ingestion_assets.sources.transfers import tables as transfers


def known():
    """Every table that the package defines, in one place."""
    together = sa.MetaData()
    for metadata in (schema.metadata, evm.metadata, events.metadata, statements.metadata, transfers.metadata):
        for table in metadata.tables.values():
            table.to_metadata(together)
    return together


def is_ours(_name, kind, parents):
    """Schemas other than ours are none of our business."""
    schema_name = parents.get("schema_name") if kind != "schema" else _name
    return schema_name in ("raw", "core", "ops")


def test_the_migrated_schema_is_the_one_the_code_speaks_of(database_url):
    """Columns, types, defaults, keys, indexes and comments."""
    with database.engine(database_url).connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "include_name": is_ours,
                "compare_type": True,
                "compare_server_default": True,
            },
        )
        assert compare_metadata(context, known()) == []


def test_columns_stand_in_the_order_in_which_they_are_copied(database_url):
    """And primary keys have their columns in the order of their index."""
    inspector = sa.inspect(database.engine(database_url))
    for table in known().tables.values():
        columns = inspector.get_columns(table.name, schema=table.schema)
        assert [column["name"] for column in columns] == [column.name for column in table.columns]
        key = inspector.get_pk_constraint(table.name, schema=table.schema)
        assert key["constrained_columns"] == [column.name for column in table.primary_key.columns]


def test_migrating_twice_changes_nothing(database_url):
    """Every start does it."""
    database.migrate(database_url, migrations.SCRIPTS)
