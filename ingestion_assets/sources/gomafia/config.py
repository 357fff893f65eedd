"""What people type about gomafia.pro: the section `gomafia` of sources.yaml."""

from typing import Annotated, Literal

from pydantic import Field, HttpUrl

from ingestion_assets.sources.section import Section, Whole

Way = Literal["api", "pages"]


class GomafiaConfig(Section):
    """Where the site is, how politely it is asked, and which years are wanted."""

    url: HttpUrl = HttpUrl("https://gomafia.pro")
    ways: Annotated[tuple[Way, ...], Field(min_length=1, max_length=2)] = (
        "api",
        "pages",
    )  # the most preferred first
    requests_per_second: Annotated[float, Field(gt=0, le=1000)] = 0.5
    requests_per_day: Annotated[Whole, Field(gt=0)] | None = None
    start_year: Annotated[Whole, Field(ge=2000, le=2100)] = 2022  # of the partitions
    page_size: Annotated[Whole, Field(ge=1, le=10_000)] = (
        100  # entities of one question to a listing of the API
    )
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    attempts: Annotated[Whole, Field(ge=1, le=20)] = 3  # of one question
    tries: Annotated[Whole, Field(ge=1, le=20)] = (
        2  # of one entity or page, at all providers, before it is passed over
    )
    down_minutes: Annotated[float, Field(ge=0, le=1440)] = (
        15.0  # how long a run waits for a site that does not answer
    )
    refresh_hours: Annotated[float, Field(gt=0)] = 24.0  # age at which a listing is read anew
    sync_seconds: Annotated[Whole, Field(ge=5)] = 60  # least time between two looks of the sensor
