"""What the site writes, as values: nothing is guessed, and what cannot be read says so."""

from datetime import date
from decimal import Decimal

import pytest

from ingestion_assets.sources.gomafia import words
from ingestion_assets.sources.gomafia.words import Unreadable

NBSP, NARROW = "\N{NO-BREAK SPACE}", "\N{NARROW NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("written", "roubles"),
    [
        (f"60{NBSP}000{NBSP}₽", "60000"),
        ("60 000 ₽", "60000"),
        ("60000₽", "60000"),
        (f"1{NARROW}500,50 ₽", "1500.50"),
        ("10 000 руб.", "10000"),
        ("1 000 р.", "1000"),
        ("0 ₽", "0"),
        ("1234567890123,45 ₽", "1234567890123.45"),
    ],
)
def test_roubles_have_spaces_of_every_kind_and_decimals(written, roubles):
    """Exact to the kopeck, however large."""
    assert words.roubles(written) == Decimal(roubles)


@pytest.mark.parametrize("nothing", ["–", "—", "-", "", f" {NBSP}", None])
def test_a_dash_is_no_prize(nothing):
    """Whichever dash it is."""
    assert words.roubles(nothing) is None


@pytest.mark.parametrize(
    "wrong", ["-500 ₽", "60 000 $", "много ₽", "1,500.50 ₽", "60 000 ₽ и кубок", "1,2,3", True]
)
def test_what_is_no_sum_is_refused_and_never_zero(wrong):
    """Signs, other currencies, words, two separators."""
    with pytest.raises(Unreadable, match=r"roubles|number"):
        words.roubles(wrong)


@pytest.mark.parametrize(
    "written",
    [
        "07.06.2025",
        "7.6.2025",
        "07.06.2025 19:30",
        "2025-06-07",
        "2025-06-07 00:00:00",
        "2025-06-07T12:00:00Z",
    ],
)
def test_dates_are_russian_or_iso_with_or_without_a_time(written):
    """The API writes one, the pages the other."""
    assert words.day(written) == date(2025, 6, 7)


@pytest.mark.parametrize(
    "wrong", ["вчера", "31.02.2025", "06/07/2025", "2025", "07.06.25", "00.00.0000", "0000-00-00"]
)
def test_a_date_that_cannot_be_read_is_never_today(wrong):
    """Nor any other day."""
    with pytest.raises(Unreadable, match="a date is wanted"):
        words.day(wrong)


@pytest.mark.parametrize(
    ("written", "region"),
    [("МСК", "Москва"), ("мск", "Москва"), (" Москва ", "Москва"), ("СПб", "Санкт-Петербург"), ("ПИТЕР", "Санкт-Петербург"),
     ("Н.Новгород", "Нижний Новгород"), ("Казань", "Казань"), ("–", None), (None, None)],
)  # fmt: skip
def test_regions_get_their_usual_name_whatever_the_case(written, region):
    """One that nobody knows stays as it is."""
    assert words.region(written) == region


@pytest.mark.parametrize(
    ("written", "winner"),
    [("Победа мафии", "BLACK"), ("МАФИЯ", "BLACK"), ("Чёрные", "BLACK"), ("Победа мирных", "RED"), ("город", "RED"),
     ("Красные", "RED"), ("Ничья", "DRAW"), ("mafia", "BLACK"), ("red", "RED"), ("draw", "DRAW"), ("", None), (None, None)],
)  # fmt: skip
def test_who_has_won_is_told_by_a_part_of_a_word(written, winner):
    """In any sentence; nothing said is nobody yet."""
    assert words.winner(written) == winner


@pytest.mark.parametrize(
    ("written", "role"),
    [("Дон", "DON"), ("Маф", "MAFIA"), ("Шер", "SHERIFF"), ("Мир", "CIVILIAN"), ("red", "CIVILIAN")],
)
def test_roles(written, role):
    """By the beginning of their words."""
    assert words.role(written) == role


@pytest.mark.parametrize("read", [words.role, words.winner, words.status])
def test_a_word_that_nobody_knows_is_refused(read):
    """It is repeated in the reason."""
    with pytest.raises(Unreadable, match="is wanted, found 'Комиссар'"):
        read("Комиссар")


def test_nobody_is_without_a_role():
    """A seat without one is no seat."""
    with pytest.raises(Unreadable, match="a role is wanted"):
        words.role("")


@pytest.mark.parametrize("written", ["279 (60%)", "279", f"279{NBSP}(60,5%)", 279, "279(60%)"])
def test_a_count_with_a_share_is_the_same_count(written):
    """With spaces of any kind between them."""
    assert words.count(written) == 279


@pytest.mark.parametrize("wrong", ["(60%)", "279 / 60", "-1", "2.5", "60%"])
def test_what_is_no_count_is_refused(wrong):
    """A share alone is none."""
    with pytest.raises(Unreadable):
        words.count(wrong)


def test_numbers_keep_their_digits_and_signs():
    """As decimals and whole numbers."""
    assert [words.number(text) for text in ("+1,50", "−5", "1 450.25", "–")] == [
        Decimal("1.50"),
        Decimal(-5),
        Decimal("1450.25"),
        None,
    ]
    assert [words.whole(text) for text in ("1 204", "-3", None)] == [1204, -3, None]


@pytest.mark.parametrize("wrong", [None, "", "0", "-5", "abc", "12.5", str(2**60), True])
def test_an_entity_without_a_number_is_none(wrong):
    """Nor is one with a number that none can have."""
    with pytest.raises(Unreadable):
        words.identity(wrong)


def test_texts_keep_every_letter():
    """Only the space around and between them is made even."""
    assert words.text("  Ёж \t 🦔\n«Кот» ") == "Ёж 🦔 «Кот»"
