"""What dagster.yaml names: Dagster's storage in the Postgres that our settings name, embedded or not."""

from collections.abc import Mapping
from typing import Any, Self

from dagster._config.config_schema import UserConfigSchema
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from ingestion_assets.orchestration.storage import storage_url
from ingestion_assets.settings import Settings


class InstanceStorage(DagsterPostgresStorage):
    """Dagster's Postgres storage without a url in dagster.yaml."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """Nothing to configure."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """Storage where INGESTION_DATABASE_URL points, or in the embedded Postgres, which is started if it must be."""
        del config_value
        return cls(inst_data=inst_data, postgres_url=storage_url(Settings.from_environment().database_url()))
