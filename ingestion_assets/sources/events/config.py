"""What people type about feeds: the section `events` of sources.yaml."""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, HttpUrl, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from ingestion_assets.engine.answers import Unit
from ingestion_assets.sources.section import Section, Variable, Whole

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,62}$")]
Step = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,62}(\.[A-Za-z_][A-Za-z0-9_-]{0,62})*$")
]


class FieldNames(Section):
    """What the three fields are called that every record must have."""

    id: Name = "id"
    type: Name | None = "type"  # null: the records have none
    time: Name = "timestamp"


class CursorPages(Section):
    """The source says whether there is more, and gives a token for it. Its words may lie in `pagination` or beside the data."""

    kind: Literal["cursor"] = "cursor"
    limit: Name = "limit"  # query parameters
    cursor: Name = "cursor"
    records: Step = "data"  # where they are in the answer
    more: Name = "hasMore"
    next: Name = "nextCursor"


class OffsetPages(Section):
    """Whoever asks counts the records; an empty page is the end."""

    kind: Literal["offset"]
    limit: Name = "limit"
    offset: Name = "offset"
    records: Step | None = None  # null: the answer is the array


class NumberedPages(Section):
    """Whoever asks counts the pages; an empty page is the end."""

    kind: Literal["page"]
    limit: Name = "limit"
    page: Name = "page"
    first: Annotated[Whole, Field(ge=0)] = 1
    records: Step | None = None


Pages = Annotated[CursorPages | OffsetPages | NumberedPages, Field(discriminator="kind")]


class TimeFilter(Section):
    """The query parameters that bound the time of the events, and how a moment is written there."""

    since: Name = "since"
    until: Name = "until"
    unit: Literal["milliseconds", "seconds", "iso"] = "milliseconds"


class FeedConfig(Section):
    """One feed: where it is, how it is asked, and how its records look."""

    url: HttpUrl
    key_env: Variable | None = None
    key_header: Name = "X-API-Key"
    page_size: Annotated[Whole, Field(ge=1, le=100_000)] = 1_000
    requests_per_second: Annotated[float, Field(gt=0, le=1000)] | None = None
    requests_per_minute: Annotated[Whole, Field(gt=0, le=100_000)] | None = None
    requests_per_day: Annotated[Whole, Field(gt=0)] | None = None
    reset_unit: Unit | None = None  # of the times to go in its rate-limit headers, where it is known
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    attempts: Annotated[Whole, Field(ge=1, le=20)] = 5
    sync_seconds: Annotated[Whole, Field(ge=5)] = 60  # least time between two looks of the sensor
    pages_per_run: Annotated[Whole, Field(ge=1)] | None = (
        None  # then the sensor goes on; null: until caught up
    )
    pages: Pages = CursorPages()
    fields: FieldNames = FieldNames()
    ids: Literal["uuid", "text"] = "uuid"
    parameters: dict[Name, str | int] = Field(default_factory=dict)  # of every question
    order: Literal["newest first", "oldest first"] | None = None  # null: seen from its pages
    time_filter: TimeFilter = (
        TimeFilter()
    )  # tried after a cursor has expired, and believed when it proves itself
    start: date | None = None  # first day; then the feed is read day by day, through its time filter
    settle_seconds: Annotated[Whole, Field(ge=0)] = (
        60  # by day: how long after its time an event may still appear
    )

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        if self.start is not None and self.pages_per_run is not None:
            raise PydanticCustomError(
                "combination",
                "a feed with a start is read day by day, which bounds a run already: remove pages_per_run",
            )
        return self


FeedName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$")]
