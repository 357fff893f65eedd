"""What people type about statements: the section `statements` of sources.yaml."""

from datetime import date, timedelta
from typing import Annotated

from pydantic import Field

from ingestion_assets.sources.section import Section, Whole


class StatementsConfig(Section):
    """Where statement files are dropped, and how often somebody looks."""

    inbox: Annotated[str, Field(min_length=1)]  # a folder; relative to the folder of sources.yaml
    start: date = date(2000, 1, 1)  # of the partitions: the week that it lies in is the first
    settle_seconds: Annotated[Whole, Field(ge=0)] = (
        10  # a file is left alone until it has not changed for so long
    )
    sync_seconds: Annotated[Whole, Field(ge=5)] = 30  # least time between two looks of the sensor

    @property
    def first_week(self) -> date:
        """The Monday of the first partition."""
        return self.start - timedelta(days=self.start.weekday())
