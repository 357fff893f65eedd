"""Dagster's own storage. Belongs here: putting runs, events and ticks beside our tables, in the schema `dagster`."""

import psycopg
import sqlalchemy as sa
from psycopg import sql

from ingestion_assets.engine import database

SCHEMA = "dagster"


def storage_url(url: str) -> str:
    """The url under which Dagster finds its schema, made if need be; the driver is dagster-postgres's own, psycopg2.

    Raises:
        DatabaseUnavailable: nobody answers there.
        Misconfigured: the url is none.
    """
    database.check(url)
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA)))
    address = sa.make_url(url)
    options = " ".join([*address.normalized_query.get("options", ()), f"-csearch_path={SCHEMA}"])
    address = address.set(drivername="postgresql+psycopg2").update_query_dict({"options": options})
    return address.render_as_string(hide_password=False)
