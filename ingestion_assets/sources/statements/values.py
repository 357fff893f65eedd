"""The values of columns. Belongs here: what brokers write for numbers, times and dates, and the one way we write each.

Every function takes the text of a cell and gives text, or None where the cell says nothing; it raises ValueError with a
sentence where it says something else. Numbers stay decimal text from the file to the database: never a float.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from zoneinfo import ZoneInfo

Value = Callable[[str], str | None]

NOTHING = frozenset({"", "-", "--", "N/A", "n/a"})
NEW_YORK = ZoneInfo("America/New_York")

# As we write it, but for zeros at the end; nearly every number of a statement is such a one.
_WRITTEN = re.compile(r"(-?(?:[1-9]\d*|0(?=\.\d*[1-9]))(?:\.\d*[1-9])?)(?:\.?0+)?", re.ASCII)
_PLAIN = re.compile(r"[+-]?\d+(?:\.\d+)?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?", re.ASCII)
_SCIENTIFIC = re.compile(r"[+-]?\d+(?:\.\d+)?[eE][+-]?\d{1,2}", re.ASCII)
_CURRENCY = re.compile(r"[€$£¥₽₿\u00a0\u202f ]")
MOST_DIGITS = 100  # Postgres holds more; a longer number is no amount


def text(cell: str) -> str | None:
    """A text, without the blanks around it."""
    return cell.strip() or None


@lru_cache(maxsize=65_536)
def number(cell: str) -> str | None:
    """A decimal: 1,300.00 · -0.12 · €4,250.75 · -€5 · 1.5E-4 · -- -> 1300, -0.12, 4250.75, -5, 0.00015, None."""
    if cell in NOTHING:
        return None
    if len(cell) > MOST_DIGITS:
        raise ValueError(f"no number: it has {len(cell):,} characters")
    if found := _WRITTEN.fullmatch(cell):
        return found[1]
    if _PLAIN.fullmatch(cell):
        return plain(cell)
    bare = _CURRENCY.sub("", cell)
    if bare in NOTHING:
        return None
    if _THOUSANDS.fullmatch(bare):
        bare = bare.replace(",", "")
    elif not (_PLAIN.fullmatch(bare) or _SCIENTIFIC.fullmatch(bare)):
        raise ValueError(f"no number: {cell!r}")
    return plain(bare)


def plain(digits: str) -> str:
    """A decimal without exponent, plus sign, leading and trailing zeros: two spellings of one number become one."""
    try:
        exact = Decimal(digits)
    except InvalidOperation as error:
        raise ValueError(f"no number: {digits!r}") from error
    written = f"{exact:f}"
    if "." in written:
        written = written.rstrip("0").rstrip(".")
    return "0" if written in ("-0", "") else written


@lru_cache(maxsize=4_096)
def moment(when: datetime) -> str:
    """A time as payloads hold it: 2025-10-31T21:00:00Z."""
    if when.tzinfo is not UTC:
        when = when.astimezone(UTC)
    return when.isoformat().removesuffix("+00:00") + "Z"


def zoned(cell: str) -> datetime:
    """An ISO time with its offset: seconds or minutes, +0100, +01:00 or Z."""
    try:
        when = datetime.fromisoformat(cell.strip())
        if when.tzinfo is not None:
            return when.astimezone(UTC)
    except (ValueError, OverflowError) as error:  # the first and the last day of the calendar have no zones
        raise ValueError(f"no time: {cell!r}") from error
    raise ValueError(f"a time without its zone: {cell!r}")


def in_zone(zone: tzinfo) -> Callable[[str], datetime]:
    """A reader of times that are written in this zone and do not say so; where they do, they are believed."""

    def read(cell: str) -> datetime:
        written = cell.strip()
        bare = written.removesuffix(" UTC")
        try:
            when = datetime.fromisoformat(bare)
            if when.tzinfo is None:
                when = when.replace(tzinfo=zone if bare == written else UTC)
            return when.astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"no time: {cell!r}") from error

    return read


def offset(sign: str, hours: str, minutes: str) -> tzinfo:
    """The zone of a header: Time(UTC+08:00)."""
    apart = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(-apart if sign == "-" else apart)


@lru_cache(maxsize=65_536)
def american_date(cell: str) -> str | None:
    """A date written month first: 10/31/25 · 5/03/24 · 1/9/2026 -> 2025-10-31."""
    if cell.strip() in NOTHING:
        return None
    found = re.fullmatch(r"(\d{1,2})/(\d{1,2})/(\d{2}|\d{4})", cell.strip(), re.ASCII)
    if not found:
        raise ValueError(f"no date: {cell!r}")
    month, day, year = map(int, found.groups())
    try:
        return date(year if year > 99 else 2000 + year, month, day).isoformat()  # noqa: PLR2004 - two digits
    except ValueError as error:
        raise ValueError(f"no date: {cell!r}") from error


# What Interactive Brokers writes, in statements and in Flex queries, for whose dates a person chooses one of many forms.
_DATE = r"(?:(?P<y>\d{4})-?(?P<m>\d\d)-?(?P<d>\d\d)|(?P<d3>\d\d)-(?P<b>[A-Z]{3})-(?P<y3>\d\d)|(?P<m4>\d\d)/(?P<d4>\d\d)/(?P<y4>\d{4}|\d\d))"
_TIME = r"(?:(?:[;, T]\s?)(?P<H>\d\d):?(?P<M>\d\d):?(?P<S>\d\d))?(?P<zone> (?:EST|EDT|UTC|GMT))?"
_IBKR = re.compile(_DATE + _TIME, re.ASCII)
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_ZONES: dict[str, tzinfo] = {
    "EST": timezone(timedelta(hours=-5)), "EDT": timezone(timedelta(hours=-4)), "UTC": UTC, "GMT": UTC,
}  # fmt: skip


@lru_cache(maxsize=65_536)
def ibkr(cell: str) -> tuple[datetime, date, bool]:
    """A time or date of Interactive Brokers: when, the day as written, and whether it tells a time of that day.

    Times are those of New York unless they name their zone; a date alone is its midnight, UTC.
    https://www.ibkrguides.com/reportingreference/reportguide/tradesfq.htm

    Raises:
        ValueError: it is neither.
    """
    found = _IBKR.fullmatch(cell.strip().upper())
    if not found:
        raise ValueError(f"no date: {cell!r}")
    part = found.groupdict()
    if part["b"] and part["b"] not in _MONTHS:
        raise ValueError(f"no date: {cell!r}")
    year = int(part["y"] or part["y3"] or part["y4"])
    month = _MONTHS.index(part["b"]) + 1 if part["b"] else int(part["m"] or part["m4"])
    day = int(part["d"] or part["d3"] or part["d4"])
    try:
        when = datetime(year if year > 99 else 2000 + year, month, day, tzinfo=UTC)  # noqa: PLR2004
        written = when.date()
        if not part["H"]:
            return when, written, False
        zone = _ZONES[part["zone"].strip()] if part["zone"] else NEW_YORK
        when = when.replace(hour=int(part["H"]), minute=int(part["M"]), second=int(part["S"]), tzinfo=zone)
        return when.astimezone(UTC), written, True
    except (ValueError, OverflowError) as error:
        raise ValueError(f"no date: {cell!r}") from error


def ibkr_time(cell: str) -> str | None:
    """A time of Interactive Brokers as payloads hold it; a date stays a date."""
    if cell.strip() in NOTHING:
        return None
    when, written, has_time = ibkr(cell)
    return moment(when) if has_time else written.isoformat()
