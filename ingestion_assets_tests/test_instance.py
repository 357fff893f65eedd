"""Dagster's own storage: in our database, in a schema of its own."""

import shutil

import dagster as dg
import psycopg
import pytest
import sqlalchemy as sa

from ingestion_assets.engine.errors import DatabaseUnavailable, Misconfigured
from ingestion_assets.orchestration.launcher import HealthCheckedRunLauncher
from ingestion_assets.orchestration.storage import storage_url

TABLES = "SELECT table_schema FROM information_schema.tables WHERE table_name = ANY(%s)"


def test_dagster_finds_its_instance_with_nothing_but_the_environment(
    project, tmp_path, database_url, connection, monkeypatch
):
    """DAGSTER_HOME and INGESTION_DATABASE_URL, as in any process; all of its tables are in the schema dagster."""
    shutil.copy(project / "dagster_home" / "dagster.yaml", tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("INGESTION_DATABASE_URL", database_url)
    with dg.DagsterInstance.get() as instance:
        run = instance.create_run_for_job(_nothing)
        instance.report_engine_event("hello", run)
        assert isinstance(instance.run_launcher, HealthCheckedRunLauncher)
        assert instance.run_retries_enabled
        assert not instance.run_retries_retry_on_asset_or_op_failure
        assert instance.run_monitoring_enabled
    schemas = connection.execute(TABLES, [["runs", "event_logs", "job_ticks", "kvs"]]).fetchall()
    assert schemas == [("dagster",)] * 4
    assert connection.execute("SELECT count(*) FROM dagster.runs").fetchone() == (1,)
    with dg.DagsterInstance.get() as again:
        assert again.get_run_by_id(run.run_id) is not None


@dg.job
def _nothing():
    """A job of no ops."""


def test_the_schema_is_made_once_and_found_again(database_url, connection):
    """Two processes that start at once ask for the same."""
    assert storage_url(database_url) == storage_url(database_url)
    assert connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'dagster'").fetchone()


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
@pytest.mark.parametrize("more", ["", "options=-cstatement_timeout%3D60s"])
def test_every_url_that_libpq_takes_becomes_one_for_dagsters_driver(database_url, scheme, more):
    """Also with options of its own, which stay."""
    url = database_url.replace("postgresql", scheme, 1) + (f"&{more}" if more else "")
    with sa.create_engine(storage_url(url), poolclass=sa.NullPool).connect() as connection:
        assert connection.execute(sa.text("SHOW search_path")).scalar() == "dagster"
        assert connection.execute(sa.text("SHOW statement_timeout")).scalar() == ("1min" if more else "0")


def test_a_database_that_does_not_answer_is_named():
    """In words for people."""
    with pytest.raises(DatabaseUnavailable, match="Postgres does not answer"):
        storage_url("postgresql://127.0.0.1:1/none?connect_timeout=2")
    with pytest.raises(Misconfigured, match="no Postgres url"):
        storage_url("mysql://host/name")


def test_our_tables_are_not_in_dagsters_way(database_url):
    """A table of ours with a name that Dagster uses too stays ours."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.runs (mine int)")
    with sa.create_engine(storage_url(database_url), poolclass=sa.NullPool).connect() as connection:
        assert connection.execute(sa.text("SELECT to_regclass('runs')")).scalar() is None
