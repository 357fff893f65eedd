"""What gomafia.pro writes, as values. Pure functions of texts; nothing here asks, and nothing guesses.

A text that cannot be read raises `Unreadable`, with the text in it: a date is never taken for today, nor a sum for nothing.
Spaces of every kind separate thousands there, the non-breaking ones (U+00A0, U+202F) most of all; `–`, `—` and `-` alone mean
that there is no value. Words are compared without regard to case, and are Cyrillic.

Where these were seen: the formats of roubles, the regions and the winner's and role words in the parsers of
k05m0navt/mafia-insight (`src/lib/gomafia/parsers`, `scrapers/tournament-games-scraper.ts`), the words of statuses in its
`scrapers/tournaments-scraper.ts`, the four role words and the words of wins also in Luka5s5/gomafia_stats (`scraper.py`).
"""

import re
from datetime import date
from decimal import Decimal
from typing import Literal, TypeVar

Winner = Literal["BLACK", "RED", "DRAW"]
Role = Literal["DON", "MAFIA", "SHERIFF", "CIVILIAN"]
Status = Literal["SCHEDULED", "IN_PROGRESS", "COMPLETED", "CANCELLED"]

W = TypeVar("W", bound=str)

DASHES = ("", "–", "—", "-")

_SPACES = re.compile(r"\s+")  # of Unicode: U+00A0, U+2009 and U+202F too
_ROUBLES = re.compile(r"(\d+)(?:[.,](\d{1,2}))?(?:₽|руб\.?|р\.?)?", re.IGNORECASE)
_COUNT = re.compile(r"(\d+)(?:\((\d+(?:[.,]\d+)?)%\))?")
_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?")
_DATE = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})(?: \d{1,2}:\d{2}(?::\d{2})?)?")
_ISO = re.compile(r"(\d{4})-(\d{2})-(\d{2})(?:[ T]\d{2}:\d{2}.*)?")

_REGIONS = {
    "москва": "Москва",
    "мск": "Москва",
    "moscow": "Москва",
    "санкт-петербург": "Санкт-Петербург",
    "спб": "Санкт-Петербург",
    "питер": "Санкт-Петербург",
    "saint petersburg": "Санкт-Петербург",
    "st. petersburg": "Санкт-Петербург",
    "нижний новгород": "Нижний Новгород",
    "н.новгород": "Нижний Новгород",
    "nizhny novgorod": "Нижний Новгород",
}

# The parts of words that tell them, in the order in which they are looked for.
_WINNERS: tuple[tuple[str, Winner], ...] = (
    ("мафи", "BLACK"), ("черн", "BLACK"), ("чёрн", "BLACK"), ("mafia", "BLACK"), ("black", "BLACK"),
    ("мирн", "RED"), ("город", "RED"), ("красн", "RED"), ("red", "RED"),
    ("ничья", "DRAW"), ("draw", "DRAW"),
)  # fmt: skip
_ROLES: tuple[tuple[str, Role], ...] = (
    ("дон", "DON"), ("don", "DON"), ("маф", "MAFIA"), ("mafia", "MAFIA"), ("шер", "SHERIFF"), ("sheriff", "SHERIFF"),
    ("мир", "CIVILIAN"), ("red", "CIVILIAN"), ("civilian", "CIVILIAN"), ("citizen", "CIVILIAN"),
)  # fmt: skip
_STATUSES: tuple[tuple[str, Status], ...] = (
    ("заверш", "COMPLETED"), ("finished", "COMPLETED"), ("completed", "COMPLETED"),
    ("в процессе", "IN_PROGRESS"), ("идёт", "IN_PROGRESS"), ("идет", "IN_PROGRESS"), ("in_progress", "IN_PROGRESS"),
    ("отмен", "CANCELLED"), ("cancel", "CANCELLED"),
    ("заплан", "SCHEDULED"), ("регистрац", "SCHEDULED"), ("scheduled", "SCHEDULED"), ("registration", "SCHEDULED"),
)  # fmt: skip


class Unreadable(ValueError):
    """A text is not what is written in its place."""


def text(value: object) -> str | None:
    """A text without the space around it, its inner space single; None where there is nothing."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise Unreadable(f"a text is wanted, found {value!r}")
    plain = _SPACES.sub(" ", value).strip()
    return None if plain in DASHES else plain


def _packed(value: object) -> str | None:
    """A number's text without any space; JSON numbers are as good."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal | None):
        raise Unreadable(f"a number is wanted, found {value!r}")
    packed = "" if value is None else _SPACES.sub("", str(value)).replace("−", "-")
    return None if packed in DASHES else packed


def whole(value: object) -> int | None:
    """A whole number, `1 204`; None where there is none."""
    packed = _packed(value)
    if packed is None:
        return None
    if not re.fullmatch(r"[+-]?\d+", packed, re.ASCII):
        raise Unreadable(f"a whole number is wanted, found {value!r}")
    return int(packed)


def identity(value: object) -> int:
    """The number of an entity, which is never missing.

    Raises:
        Unreadable: it is.
    """
    number = whole(value)
    if number is None or not 0 < number < 2**53:
        raise Unreadable(f"the number of an entity is wanted, found {value!r}")
    return number


def number(value: object) -> Decimal | None:
    """A number that may have decimals and a sign, `+1,5`; None where there is none."""
    packed = _packed(value)
    if packed is None:
        return None
    if not _NUMBER.fullmatch(packed):
        raise Unreadable(f"a number is wanted, found {value!r}")
    return Decimal(packed.replace(",", "."))


def count(value: object) -> int | None:
    """How many, alone or with a share behind it: `279` and `279 (60%)` are the same."""
    packed = _packed(value)
    if packed is None:
        return None
    match = _COUNT.fullmatch(packed)
    if match is None:
        raise Unreadable(f"a count is wanted, found {value!r}")
    return int(match[1])


def roubles(value: object) -> Decimal | None:
    """A sum, `60 000 ₽`, `1 500,50 ₽`, `10 000 руб.`; None where there is no prize."""
    packed = _packed(value)
    if packed is None:
        return None
    match = _ROUBLES.fullmatch(packed)
    if match is None:
        raise Unreadable(f"a sum of roubles is wanted, found {value!r}")
    return Decimal(f"{match[1]}.{match[2] or '0'}")


def day(value: object) -> date | None:
    """A day, `07.06.2025`, also with a time behind it, or `2025-06-07`; None where there is none.

    Raises:
        Unreadable: it is no day of the calendar.
    """
    plain = text(value)
    if plain is None:
        return None
    russian, iso = _DATE.fullmatch(plain), _ISO.fullmatch(plain)
    try:
        if russian:
            return date(int(russian[3]), int(russian[2]), int(russian[1]))
        if iso:
            return date(int(iso[1]), int(iso[2]), int(iso[3]))
    except ValueError:
        pass
    raise Unreadable(f"a date is wanted, such as 07.06.2025, found {value!r}")


def region(value: object) -> str | None:
    """A region or city by its usual name; one that is not known stays as it is."""
    plain = text(value)
    return None if plain is None else _REGIONS.get(plain.casefold(), plain)


def winner(value: object) -> Winner | None:
    """Who has won, from any sentence that says so; None where nobody has yet."""
    return _found(value, _WINNERS, "who has won")


def role(value: object) -> Role:
    """A role, from its word or its beginning.

    Raises:
        Unreadable: it is none.
    """
    found = _found(value, _ROLES, "a role")
    if found is None:
        raise Unreadable("a role is wanted, found nothing")
    return found


def status(value: object) -> Status | None:
    """How far a tournament is."""
    return _found(value, _STATUSES, "the status of a tournament")


def _found(value: object, words: tuple[tuple[str, W], ...], what: str) -> W | None:
    plain = text(value)
    if plain is None:
        return None
    lower = plain.casefold()
    for part, meaning in words:
        if part in lower:
            return meaning
    raise Unreadable(f"{what} is wanted, found {value!r}")
