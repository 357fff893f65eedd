"""What may be asked: the parameters of each question, checked. Nothing is looked up here."""

import re
from datetime import UTC, date, datetime, time
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

LARGEST = 2**63 - 1  # a bigint
LARGEST_PAGE = 10**12  # times the rows of a page, it still is one

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_HASH = re.compile(r"0x[0-9a-fA-F]{64}|genesis_0x[0-9a-fA-F]{40}", re.ASCII | re.IGNORECASE)
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)

EXAMPLE_ADDRESS = "0xd8da6bf26964af9d7eed9e03e53415d37aa96045"


def _matching(pattern: "re.Pattern[str]", wanted: str) -> BeforeValidator:
    def check(value: object) -> object:
        text = str(value)
        if not pattern.fullmatch(text):
            raise PydanticCustomError("pattern", "{wanted} is wanted", {"wanted": wanted})
        return text.lower()

    return BeforeValidator(check, json_schema_input_type=str)


def _whole(value: object) -> object:
    # int() would also take "1_000", " 7" and digits of every script
    text = str(value)
    if not _NUMBER.fullmatch(text):
        raise PydanticCustomError("number", "a whole number of 0 or more is wanted")
    return int(text)


def moment(value: object) -> datetime:
    """A time: ISO 8601, a day (its first moment), or seconds since 1970. Without a zone it is UTC."""
    text = str(value)
    try:
        if _SECONDS.fullmatch(text):
            return datetime.fromtimestamp(int(text), UTC)
        if len(text) == len("2024-01-31"):
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise PydanticCustomError(
            "moment",
            "a time is wanted: 2024-01-31, 2024-01-31T12:00:00Z, or seconds since 1970 ('+' is %2B in a url)",
        ) from error


def _yes_or_no(value: object) -> object:
    # as the dashboards have it that ask this: whatever is not false is true
    return str(value).lower() != "false"


Address = Annotated[str, _matching(_ADDRESS, "an address, 0x and 40 hexadecimal digits,")]
Hash = Annotated[str, _matching(_HASH, "the hash of a transaction, 0x and 64 hexadecimal digits,")]
Block = Annotated[int, BeforeValidator(_whole), Field(ge=0, le=LARGEST)]
Moment = Annotated[datetime, BeforeValidator(moment, json_schema_input_type=str)]
Flag = Annotated[bool, BeforeValidator(_yes_or_no, json_schema_input_type=str)]
ChainKey = Annotated[str, Field(max_length=64)]
Sort = Literal["asc", "desc"]


class Question(BaseModel):
    """What all questions share: a parameter that is not known is refused, not passed over."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)

    @classmethod
    def known(cls) -> list[str]:
        """The names of its parameters."""
        return [field.alias or name for name, field in cls.model_fields.items()]


class OfChains(Question):
    """About one chain, or all."""

    chain_id: ChainKey = Field("all", description="number or name of a chain; 0 or `all`: every chain")


class Filter(OfChains):
    """Which transfers. Blocks are inclusive; of times, `from` is and `to` is not."""

    start_block: Block | None = Field(None, description="the first block")
    end_block: Block | None = Field(None, description="the last block")
    block: Block | None = Field(None, description="this block only")
    address: Address | None = Field(None, description="sender or receiver", examples=[EXAMPLE_ADDRESS])
    hash: Hash | None = Field(None, description="of the transaction")
    token: Address | None = Field(None, description="the token's contract")
    from_: Moment | None = Field(None, alias="from", description="not before this time")
    to: Moment | None = Field(None, description="before this time")


class TransferQuestion(Filter):
    """A page of transfers."""

    page: Annotated[int, BeforeValidator(_whole), Field(ge=1, le=LARGEST_PAGE)] = Field(
        1, description="counted from 1; deep pages cost what lies before them, cursors do not"
    )
    page_size: Annotated[int, BeforeValidator(_whole), Field(ge=1, le=LARGEST)] = Field(
        25, description="transfers on a page"
    )
    cursor: Annotated[str, Field(max_length=512)] | None = Field(
        None, description="`meta.nextCursor` of the page before; takes the place of `page`"
    )
    sort: Sort = Field("desc", description="newest first, or oldest first")
    include_totals: Flag = Field(True, description="`false` leaves the counting out")
    force: Flag = Field(False, description="read the store now, and not a page that is kept ready")


class TotalsQuestion(OfChains):
    """Sums over whole days (UTC); `from` and `to` are inclusive."""

    token: Address | None = Field(None, description="the token's contract")
    from_: date | None = Field(None, alias="from", description="first day")
    to: date | None = Field(None, description="last day")
    group_by: Literal["day", "token", "chain"] = Field("day", description="one line for each")
    limit: Annotated[int, BeforeValidator(_whole), Field(ge=1, le=10_000)] = Field(
        1_000, description="most lines"
    )


class ListQuestion(OfChains):
    """A list of what is covered, missing or broken."""

    stream: Annotated[str, Field(max_length=300)] | None = Field(
        None, description="only streams whose key begins with this"
    )
    limit: Annotated[int, BeforeValidator(_whole), Field(ge=1, le=10_000)] = Field(
        500, description="most lines"
    )


class ExportQuestion(Filter):
    """All transfers of a filter as a file."""

    format: Literal["csv", "parquet"] = Field("csv", description="what is made")
    sort: Sort = Field("asc", description="oldest first, or newest first")
