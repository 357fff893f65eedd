"""Dagster's own storage. Belongs here: putting runs, events and ticks beside our tables, in the schema `dagster`."""

import psycopg
from psycopg import sql

SCHEMA = "dagster"


def storage_url(url: str) -> str:
    """The url under which Dagster finds its schema, made if need be; the driver is dagster-postgres's own, psycopg2."""
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA)))
    scheme, _, rest = url.partition("://")
    joint = "&" if "?" in rest else "?"
    return f"{scheme.partition('+')[0]}+psycopg2://{rest}{joint}options=-csearch_path%3D{SCHEMA}"
