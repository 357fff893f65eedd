"""What the API refuses, and how it says so: the parameter, the value, and what is allowed."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

MOST_SHOWN = 80  # characters of a value


@dataclass(frozen=True, slots=True)
class Wrong:
    """One parameter that cannot be meant."""

    parameter: str
    value: object
    allowed: str


class BadQuestion(Exception):
    """The question cannot be meant: answered with 400."""

    def __init__(self, *wrong: Wrong) -> None:
        super().__init__("; ".join(sentence(one) for one in wrong))
        self.wrong = wrong


class CannotServe(Exception):
    """It cannot be answered now: 503. `code` tells why, `retry_after` when to ask again, in seconds."""

    def __init__(self, code: str, message: str, *, retry_after: int = 5) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class WrongParameter(BaseModel):
    """One parameter that was refused."""

    parameter: str
    value: str = Field(description="as it was received, cut if it is long")
    allowed: str = Field(description="what it may be")


class Refusal(BaseModel):
    """Why there is no answer."""

    error: str = Field(description="a code", examples=["BAD_PARAMETER"])
    message: str = Field(description="a sentence")
    parameters: list[WrongParameter] = Field(default_factory=list[WrongParameter])


def refusal(error: BadQuestion) -> Refusal:
    """The body of a 400."""
    return Refusal(
        error="BAD_PARAMETER",
        message=str(error),
        parameters=[
            WrongParameter(parameter=one.parameter, value=shown(one.value), allowed=one.allowed)
            for one in error.wrong
        ],
    )


def sentence(wrong: Wrong) -> str:
    """What is wrong with a parameter."""
    return f"{wrong.parameter}: {wrong.allowed} (found {shown(wrong.value)!r})"


def shown(value: object) -> str:
    """A value short enough to repeat."""
    text = "" if value is None else str(value)
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 1] + "…"


# What pydantic calls an error -> what to write instead.
_WANTED = {
    "missing": "is required",
    "int_parsing": "a whole number is wanted",
    "int_parsing_size": "a whole number below 2^63 is wanted",
    "int_from_float": "a whole number is wanted",
    "bool_parsing": "true or false is wanted",
}


def from_pydantic(error: ValidationError, known: Sequence[str] = ()) -> BadQuestion:
    """The same in our words.

    Args:
        error: of a question's model.
        known: the parameters of the question, for one that is not known.
    """
    return BadQuestion(*(_wrong(detail, known) for detail in error.errors()))


def _wrong(detail: ErrorDetails, known: Sequence[str]) -> Wrong:
    parameter = ".".join(map(str, detail["loc"])) or "query"
    if detail["type"] == "extra_forbidden":
        return Wrong(parameter, detail["input"], f"not known here; allowed are {', '.join(known)}")
    value = None if detail["type"] == "missing" else detail["input"]
    said = detail["msg"].removeprefix("Value error, ").removeprefix("Input ").replace("should be", "must be")
    return Wrong(parameter, value, _WANTED.get(detail["type"], said))
