"""Numbers and dates as the reader's language writes them, for lists, pages and inputs alike."""

import datetime
from decimal import Decimal

from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.translation import get_language

GAP = "\u00a0"
KEY_DIGITS = 18  # of the longest number that every database takes for a key


def is_czech() -> bool:
    return (get_language() or "").startswith("cs")


def key(text: str) -> int | None:
    """The key of a row as a request names it; None where it can be none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= KEY_DIGITS else None


def number(value: Decimal | int | None, places: int | None = None) -> str:
    """Thousands parted by a no-break space in every language: `1 234 567,50` in Czech, `1 234 567.50` in English."""
    if value is None or value == "":
        return ""
    text = f"{value:,.{places}f}" if places is not None else f"{value:,}"
    return text.replace(",", GAP).replace(".", formats.get_format("DECIMAL_SEPARATOR"))


def money(value: Decimal | None) -> str:
    """Without hellers where there are none."""
    if value is None:
        return ""
    return number(value, 0 if value == value.to_integral_value() else 2)


def money_cell(value: Decimal | None) -> str:
    return format_html('<span class="hd-number">{}</span>', money(value)) if value is not None else "-"


def date(day: datetime.date | None) -> str:
    """`31. 12. 2025` in Czech, `2025-12-31` in English: what a date input shows and takes back."""
    if not isinstance(day, datetime.date):
        return str(day or "")
    return f"{day.day}.{GAP}{day.month}.{GAP}{day.year}" if is_czech() else day.isoformat()


def moment(at: datetime.datetime | None) -> str:
    if at is None:
        return ""
    local = timezone.localtime(at)
    return f"{date(local.date())} {local:%H:%M}"
