"""What people type about chains: the section `chains` of sources.yaml."""

from datetime import date
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A part of sources.yaml: nothing in it is ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Whole = Annotated[int, Field(strict=True)]  # YAML knows its numbers: 1, and neither yes nor "1"


class Tag(Section):
    """Blocks are final when the node's own tag says so."""

    tag: Literal["finalized", "safe"]


class Depth(Section):
    """Blocks are final when so many lie on top of them. 0: every block the provider shows is final."""

    depth: Annotated[Whole, Field(ge=0)]


def _one_of_both(value: object, choose: ValidatorFunctionWrapHandler) -> "Tag | Depth":
    try:
        chosen: Tag | Depth = choose(value)
    except ValidationError as error:  # it would explain both, by the names of our classes
        raise PydanticCustomError(
            "finality",
            "allowed are {tag: finalized}, {tag: safe} and {depth: N}, N blocks of 0 or more",
        ) from error
    return chosen


Finality = Annotated[Tag | Depth, WrapValidator(_one_of_both)]


class EtherscanProvider(Section):
    """An explorer that speaks the Etherscan V2 API. https://docs.etherscan.io/etherscan-v2"""

    kind: Literal["etherscan"]
    url: HttpUrl = HttpUrl("https://api.etherscan.io/v2/api")
    key_env: str | None = None  # name of the environment variable that holds the API key
    requests_per_second: Annotated[float, Field(gt=0, le=1000)] | None = None
    requests_per_day: Annotated[Whole, Field(gt=0)] | None = None
    page_size: Annotated[Whole, Field(ge=2, le=10_000)] = 1_000  # the free plan gives no more
    result_window: Annotated[Whole, Field(ge=2)] = 10_000  # page × offset may not pass it
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    read_ahead: Annotated[Whole, Field(ge=0, le=100)] = 1  # pages; so many a crash makes us fetch again
    attempts: Annotated[Whole, Field(ge=1, le=20)] = 5  # of one question, before the run's own retries


def _lower(address: str) -> str:
    return address.lower()


Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$"), AfterValidator(_lower)]


def _once_each(addresses: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(addresses))


class ChainConfig(Section):
    """One chain: where it is read from, and whose history is wanted."""

    chain_id: Annotated[Whole, Field(gt=0)]
    start: date  # first day of the partitions
    finality: Finality = Tag(tag="finalized")
    providers: Annotated[tuple[EtherscanProvider, ...], Field(min_length=1, max_length=1)]
    sync_seconds: Annotated[Whole, Field(ge=5)] = 30  # least time between two looks of the sensor
    addresses: Annotated[tuple[Address, ...], AfterValidator(_once_each)] = ()


ChainName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
