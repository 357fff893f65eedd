"""The strictness of what people type: unknown keys are errors, and numbers are numbers."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of sources.yaml: nothing in it is ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Whole = Annotated[int, Field(strict=True)]  # YAML knows its numbers: 1, and neither yes nor "1"
