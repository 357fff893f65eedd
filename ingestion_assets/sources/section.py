"""What people type, in every family: unknown keys are errors, numbers are numbers, and keys are named, never written."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A part of sources.yaml: nothing in it is ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Whole = Annotated[int, Field(strict=True)]  # YAML knows its numbers: 1, and neither yes nor "1"


def _is_variable(name: str) -> str:
    """A key that was pasted here by mistake is not repeated in the message."""
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", name):
        raise PydanticCustomError(
            "combination",
            "the name of an environment variable is wanted, in capitals, such as ETHERSCAN_API_KEY; the key itself stands in "
            "that variable and never in this file",
        )
    return name


Variable = Annotated[str, AfterValidator(_is_variable)]
