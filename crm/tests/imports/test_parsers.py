import datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.imports import parsers
from crm.imports.problems import NegativeAmount, UnreadableValue
from crm.imports.shelf import CellError

DAY = datetime.date


@pytest.mark.parametrize(
    ("cell", "crowns"),
    [
        ("1 234 567,50 Kč", "1234567.50"),
        ("1\u00a0234\u00a0567,50\u00a0Kč", "1234567.50"),
        ("1\u202f234\u202f567,50 Kč", "1234567.50"),
        ("1\u2009234\u2009567 CZK", "1234567"),
        ("2.500.000,-", "2500000"),
        ("2 500 000,--", "2500000"),
        ("500.000,-", "500000"),
        ("500,-", "500"),
        ("2500000,– Kč", "2500000"),
        ("3 mil.", "3000000"),
        ("2,5 mil. Kč", "2500000"),
        ("1.234 milionu", "1234000"),
        ("750 tis.", "750000"),
        ("5000000.50", "5000000.50"),
        ("1.234.567,89", "1234567.89"),
        ("1,234,567.89", "1234567.89"),
        ("1.234,5", "1234.50"),
        ("1234,567", "1234.57"),
        ("0,125", "0.13"),
        ("Kč 1 000", "1000"),
        ("4849250.0", "4849250"),
        ("+5", "5"),
        (3000000.5, "3000000.50"),
        (2000000.0, "2000000"),
        (1234567.333333333, "1234567.33"),
        (7, "7"),
        ("'5", None),
    ],
)
def test_amounts_as_czech_spreadsheets_write_them(cell, crowns):
    if crowns is None:
        with pytest.raises(UnreadableValue):
            parsers.amount(cell)
    else:
        assert parsers.amount(cell) == Decimal(crowns)


@pytest.mark.parametrize("cell", [None, "", "   ", "\u00a0"])
def test_an_empty_amount_is_unknown(cell):
    assert parsers.amount(cell) is None


@pytest.mark.parametrize("cell", [0, 0.0, "0", "0,00 Kč", "0,-"])
def test_an_amount_of_zero_is_one(cell):
    assert parsers.amount(cell) == 0


@pytest.mark.parametrize(
    "cell",
    [
        "asi milion", "1,234", "1.234", "500.000", "500.000 Kč", "12 34", "1 234 56", "1.23.456", "1,234.567", "1 000 EUR",
        "1E+06", "#####", "(500)", "--5", "Kč", "mil.", "5 mil. 300 tis.", "1 234,567,8", "٣٠٠", "½", "1_000", "0x10",
        True, datetime.date(2025, 1, 1), float("nan"), float("inf"), CellError("#REF!"), "=1000", "12,", ",5", "1 000,-5",
    ],
)  # fmt: skip
def test_what_is_no_amount_is_refused_with_a_reason(cell):
    with pytest.raises(UnreadableValue) as refused:
        parsers.amount(cell)
    assert str(refused.value)


@pytest.mark.parametrize("cell", ["-500000", "-1 000,- Kč", "\u2212500", -0.01])
def test_a_negative_amount_is_refused_by_name(cell):
    with pytest.raises(NegativeAmount):
        parsers.amount(cell)


def test_an_amount_that_is_rounded_says_so():
    said = []
    parsers.amount(10.005, said.append)
    assert len(said) == 1


@given(st.decimals(min_value="0.01", max_value="999999999.99", places=2), st.sampled_from(" \u00a0\u202f"))
def test_every_amount_written_the_czech_way_is_read_back(crowns, space):
    written = f"{crowns:,.2f}".replace(",", space).replace(".", ",") + f"{space}Kč"
    assert parsers.amount(written) == crowns


@given(st.text(max_size=12) | st.floats() | st.booleans() | st.dates() | st.none())
def test_any_cell_gives_a_number_or_a_named_error(cell):
    for parse in (parsers.amount, parsers.percent, parsers.decimal, parsers.integer, parsers.date, parsers.text):
        try:
            parse(cell)
        except UnreadableValue as refused:
            assert str(refused)


@pytest.mark.parametrize(
    ("cell", "percent"),
    [
        ("79,9 %", "79.9"), ("79.9%", "79.9"), (80, "80"), ("80", "80"), (0.8, "80"), ("0.8", "80"), ("0,8", "80"),
        ("0,8 %", "0.8"), (1, "100"), ("120", "120"), ("120 %", "120"), ("66.67", "66.67"), (0.6667, "66.67"), (3, "3"),
    ],
)  # fmt: skip
def test_an_ltv_may_be_percent_or_a_fraction(cell, percent):
    assert parsers.percent(cell) == Decimal(percent)


@pytest.mark.parametrize("cell", ["-80", -0.8, "1,2", 2.99, "osmdesát", "80 %%", "%", True, CellError("#N/A")])
def test_what_is_no_percentage_is_refused(cell):
    with pytest.raises(UnreadableValue):
        parsers.percent(cell)


def test_an_interest_rate_is_taken_as_it_stands():
    assert parsers.decimal("3,99 %") == Decimal("3.99")


@pytest.mark.parametrize("cell", ["2,5", 2.5, "dva"])
def test_months_are_whole_numbers(cell):
    with pytest.raises(UnreadableValue):
        parsers.integer(cell)


@pytest.mark.parametrize(
    ("cell", "day"),
    [
        ("31.12.2025", DAY(2025, 12, 31)),
        ("1. 2. 2025", DAY(2025, 2, 1)),
        ("1.\u00a02.\u00a02025", DAY(2025, 2, 1)),
        ("15/01/2025", DAY(2025, 1, 15)),
        ("15-01-2025", DAY(2025, 1, 15)),
        ("2025-01-15", DAY(2025, 1, 15)),
        ("2025-01-15 00:00:00", DAY(2025, 1, 15)),
        ("2025-01-15T09:15:00Z", DAY(2025, 1, 15)),
        ("2025/1/5", DAY(2025, 1, 5)),
        ("31.12.2025 14:30", DAY(2025, 12, 31)),
        ("1. února 2025", DAY(2025, 2, 1)),
        ("24. Prosinec 2025", DAY(2025, 12, 24)),
        ("20250131", DAY(2025, 1, 31)),
        ("29.2.2024", DAY(2024, 2, 29)),
        ("45805", DAY(2025, 5, 28)),
        (45805.0, DAY(2025, 5, 28)),
        (45805.75, DAY(2025, 5, 28)),
        (45805, DAY(2025, 5, 28)),
        (datetime.datetime(2025, 1, 2, 3, 4), DAY(2025, 1, 2)),
        (DAY(2025, 1, 2), DAY(2025, 1, 2)),
        (10_000, DAY(1927, 5, 18)),
        ("", None),
        (None, None),
    ],
)
def test_dates_as_czech_spreadsheets_write_them(cell, day):
    assert parsers.date(cell) == day


@pytest.mark.parametrize(
    "cell",
    [
        "31.2.2025", "29.2.2025", "01/15/2025", "31.12.25", "32.1.2025", "0.1.2025", "1.13.2025", "zítra", "2025",
        2025, 9_999, 73_416, -1, 1e300, float("nan"), True, "1.1.1899", "1.1.2101", "1.1-2025", "1. 2.", "2025-13-01",
        "31. února 2025", "1. foo 2025", datetime.time(1, 2), datetime.timedelta(1), CellError("#VALUE!"), "=TODAY()",
    ],
)  # fmt: skip
def test_what_is_no_date_is_refused(cell):
    with pytest.raises(UnreadableValue):
        parsers.date(cell)


@given(st.dates(DAY(1900, 1, 1), DAY(2100, 12, 31)))
def test_every_day_is_read_back_in_every_way_of_writing(day):
    ways = [
        f"{day.day}.{day.month}.{day.year}",
        f"{day:%d/%m/%Y}",
        day.isoformat(),
        f"{day.day}. {day.month}. {day.year}",
    ]
    assert {parsers.date(written) for written in ways} == {day}


@pytest.mark.parametrize(
    "cell", ['=HYPERLINK("http://x")', "<script>alert(1)</script>", "Růžena 🏡", 'Byt "3+kk"', "a\nb", "O'Brien"]
)
def test_formulas_html_and_emoji_are_text(cell):
    assert parsers.text(cell) == cell


@pytest.mark.parametrize("cell", ["gAAAAABk0000", "  gAAAAABk0000", "'gAAAAA"[1:], "gAAAAA"])
def test_ciphertext_is_refused(cell):
    with pytest.raises(UnreadableValue):
        parsers.text(cell)


@pytest.mark.parametrize("cell", ["a\0b", "\x07", "\ud800", CellError("#REF!")])
def test_text_that_no_database_holds_is_refused(cell):
    with pytest.raises(UnreadableValue):
        parsers.text(cell)


@pytest.mark.parametrize(
    ("cell", "text"),
    [(12345.0, "12345"), (420777123456, "420777123456"), (1.5, "1.5"), (DAY(2025, 1, 2), "2025-01-02")],
)
def test_a_number_where_text_is_meant_is_taken_with_a_warning(cell, text):
    said = []
    assert (parsers.text(cell, said.append), len(said)) == (text, 1)


def test_the_quote_that_our_export_put_on_is_taken_off():
    assert parsers.text("'=1+1") == "=1+1"


def test_a_line_has_single_spaces():
    assert parsers.line("  Jan \u00a0  Dvořák ") == "Jan Dvořák"


@pytest.mark.parametrize("unseen", ["\u200b", "\ufeff"])
def test_what_nobody_sees_parts_no_word(unseen):
    assert parsers.line(f"Nov{unseen}ák {unseen} Jan{unseen}") == "Novák Jan"
