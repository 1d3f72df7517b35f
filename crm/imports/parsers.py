"""One raw cell -> one value of ours, as Czech spreadsheets write them. What cannot be read raises UnreadableValue with
the reason and the cure; only an empty cell gives None.
`warn` is called with a sentence where a value was taken in a way that a person should look at."""

import datetime
import math
import re
from decimal import ROUND_HALF_UP, Decimal

from django.utils.translation import gettext as _

from crm.encryption import looks_encrypted
from crm.exceptions import CiphertextRefused
from crm.imports.problems import NegativeAmount, UnreadableValue
from crm.imports.reading import bare, is_empty
from crm.imports.shelf import CellError, Uncomputed
from crm.search import fold
from crm.spreadsheet import unescape_cell

HALER = Decimal("0.01")
EARLIEST_YEAR, LATEST_YEAR = 1900, 2100
# Excel counts days from here (its 1900 has a 29 February). Below 10,000 (1927) a number is a year or a mistake.
EXCEL_EPOCH = datetime.date(1899, 12, 30)
SERIAL_DAYS = range(10_000, 73_416)
# No column holds more; beyond 15 digits a spreadsheet's number is noise.
LARGEST = 10**15
# A fraction where percent are meant: 0.8 is 80 %. Between 1 and 3 nobody can tell 1.2 % from 120 %.
LARGEST_FRACTION = 1
SMALLEST_PERCENT = 3
SMALLEST_RATE = Decimal("0.3")

_SPACES = re.compile(r"[\s\u00a0\u202f\u2007\u2009\u200a\u200b\ufeff]+")
_WIDTHLESS = re.compile("[\u200b\ufeff]")
# Control characters and halves of a character.
_UNSTORABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_MINUS = str.maketrans({"\u2212": "-", "\u2013": "-", "\uff0d": "-", "\u2010": "-", "\u2011": "-"})
_CURRENCY = re.compile(r"^(kč|kc|czk)\s*|\s*(kč|kc|czk|korun|koruny)\.?$", re.IGNORECASE)
_MULTIPLES = {
    "tis": 1_000,
    "tisic": 1_000,
    "mil": 10**6,
    "milion": 10**6,
    "milionu": 10**6,
    "miliony": 10**6,
    "mio": 10**6,
}
_MULTIPLE = re.compile(rf"\s*({'|'.join(sorted(_MULTIPLES, key=len, reverse=True))})\.?$")
_WHOLE_CROWNS = re.compile(r"[,.]\s?[-\u2013\u2014=]{1,2}$")
_PLAIN = re.compile(r"[0-9]+([.,][0-9]+)?")
_GROUPED = re.compile(
    r"[0-9]{1,3}( [0-9]{3})+([.,][0-9]{1,2})?"
    r"|[0-9]{1,3}(\.[0-9]{3})+,[0-9]{1,2}|[0-9]{1,3}(\.[0-9]{3}){2,}"
    r"|[0-9]{1,3}(,[0-9]{3})+\.[0-9]{1,2}|[0-9]{1,3}(,[0-9]{3}){2,}"
)
_AMBIGUOUS = re.compile(r"[1-9][0-9]{0,2}[.,][0-9]{3}")
_MONTHS = (
    "ledna leden", "unora unor", "brezna brezen", "dubna duben", "kvetna kveten", "cervna cerven",
    "cervence cervenec", "srpna srpen", "zari", "rijna rijen", "listopadu listopad", "prosince prosinec",
)  # fmt: skip
_MONTH_NUMBERS = {name: number for number, names in enumerate(_MONTHS, start=1) for name in names.split()}
_TIME = r"(?:[T ]\s*[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?\s*(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?"
_YEAR_FIRST = re.compile(rf"([0-9]{{4}})\s*([-/.])\s*([0-9]{{1,2}})\s*\2\s*([0-9]{{1,2}}){_TIME}", re.IGNORECASE)
_DAY_FIRST = re.compile(rf"([0-9]{{1,2}})\s*([-/.])\s*([0-9]{{1,2}})\s*\2\s*([0-9]{{4}}){_TIME}", re.IGNORECASE)
_DAY_MONTH_NAME = re.compile(r"([0-9]{1,2})\.?\s*([a-z]+)\.?\s*([0-9]{4})")
# As a CSV has them, in English and Czech; in a workbook they are cells of a kind of their own.
_ERROR = re.compile(
    r"#(REF!|N/A|DIV/0!|NAME\?|VALUE!|NUM!|NULL!|SPILL!|CALC!|ODKAZ!|NÁZEV\?|HODNOTA!|ČÍSLO!|DĚLENÍ_NULOU!)"
)
# As a spreadsheet writes a number that is too long for its cell.
_EXPONENT = re.compile(r"[0-9]+([.,][0-9]+)?E[+-][0-9]{2,3}", re.IGNORECASE)
_SHORT_YEAR = re.compile(r"[0-9]{1,2}\s*[-/.]\s*[0-9]{1,2}\s*[-/.]\s*[0-9]{2}")


def ignore(_warning: str) -> None:
    pass


def shown(cell: object) -> str:
    """The cell as a person would see it, for reports, error files and digests; empty for an empty one."""
    if is_empty(cell):
        return ""
    if isinstance(cell, datetime.datetime):
        return cell.date().isoformat() if cell.time() == datetime.time() else cell.isoformat(" ")
    if isinstance(cell, float):
        return _number_text(cell)
    # A dump may hold halves of characters, which no report could print.
    return str(cell).strip().encode("utf-8", "replace").decode()


def is_token(value: object) -> bool:
    return isinstance(value, str) and looks_encrypted(bare(value))


def text(cell: object, warn=ignore) -> str:
    """What looks like a formula, HTML and emoji are text like any other. A number or a date is taken as its text, with a warning."""
    if is_empty(cell):
        return ""
    _refuse_error(cell)
    if not isinstance(cell, str):
        warn(_("The cell is a number or a date where text is meant; leading zeros may be missing."))
        return shown(cell)
    found = unescape_cell(cell.strip())
    if _ERROR.fullmatch(found):
        raise UnreadableValue(_an_error())
    if is_token(found):
        raise UnreadableValue(CiphertextRefused.message)
    if _UNSTORABLE.search(found):
        raise UnreadableValue(_("The text has characters that cannot be stored. Type it again."))
    return found.replace("\r\n", "\n").replace("\r", "\n")


def line(cell: object, warn=ignore) -> str:
    """A text of one line."""
    return one_line(text(cell, warn))


def one_line(written: str) -> str:
    """Runs of white space are one space, and what nobody sees parts no word."""
    return _SPACES.sub(" ", _WIDTHLESS.sub("", written)).strip()


def code(cell: object, warn=ignore) -> str:
    """A line whose every digit and zero counts."""
    found = line(cell, warn)
    if is_cut(found) or (isinstance(cell, int | float) and abs(cell) >= LARGEST):
        raise UnreadableValue(was_cut())
    return found


def is_cut(written: str) -> bool:
    return bool(_EXPONENT.fullmatch(written))


def is_without_zeros(written: str, kept: str) -> bool:
    """Whether a code is `kept` but for zeros that it lost at its beginning."""
    return len(written) < len(kept) and written.lstrip("0") == kept.lstrip("0")


def amount(cell: object, warn=ignore) -> Decimal | None:
    """Crowns. `1 234 567,50 Kč`, `2.500.000,-`, `3 mil.`; `1,234` is refused, since it may be 1234 or 1.234."""
    number = _number(cell, money=True)
    if number is None:
        return None
    if number < 0:
        raise NegativeAmount()
    rounded = number.quantize(HALER, ROUND_HALF_UP)
    if rounded != number:
        warn(_("The amount was rounded to hundredths of a crown."))
    return rounded


def percent(cell: object, warn=ignore) -> Decimal | None:
    """Percent of a value: `79,9 %`, `80` and `0.8` (= 80) are three ways to write an LTV."""
    number = _number(cell)
    if number is None:
        return None
    if number < 0:
        raise NegativeAmount(_("A percentage cannot be negative."))
    if not _has_percent_sign(cell):
        if LARGEST_FRACTION < number < SMALLEST_PERCENT:
            raise UnreadableValue(_("This may be a share or percent. Write it with the sign: 120 % or 1.2 %."))
        if number <= LARGEST_FRACTION:
            number *= 100
    rounded = number.quantize(HALER, ROUND_HALF_UP)
    if rounded != number:
        warn(_("The percentage was rounded to two decimal places."))
    return rounded


def decimal(cell: object, warn=ignore) -> Decimal | None:
    """A plain number as it stands: interest rates, DTI."""
    return _number(cell)


def rate(cell: object, warn=ignore) -> Decimal | None:
    """Percent a year as they stand, `3,99 %` or 3.99. Below 0.3 without the sign it is a share or a tiny rate."""
    number = _number(cell)
    if number and number < SMALLEST_RATE and not _has_percent_sign(cell):
        raise UnreadableValue(_("This may be a share or percent. Write it with the sign: 3.99 % or 0.04 %."))
    return number


def integer(cell: object, warn=ignore) -> int | None:
    number = _number(cell)
    if number is None:
        return None
    if number != number.to_integral_value():
        raise UnreadableValue(_("This is not a whole number."))
    return int(number)


def date(cell: object, warn=ignore) -> datetime.date | None:
    """Day first, or year first, or an Excel serial day. The year has four digits."""
    found = any_date(cell)
    return None if found is None else in_range(found)


def any_date(cell: object) -> datetime.date | None:
    """Also one that no import takes."""
    if is_empty(cell):
        return None
    if isinstance(cell, datetime.datetime):
        return cell.date()
    if isinstance(cell, datetime.date):
        return cell
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        return _serial(cell)
    _refuse_error(cell)
    if not isinstance(cell, str):
        raise UnreadableValue(_not_a_date())
    written = _SPACES.sub(" ", cell).strip()
    if re.fullmatch(r"[0-9]{5}(\.0+)?", written):
        return _serial(float(written))
    if found := _YEAR_FIRST.fullmatch(written):
        return _day(found[1], found[3], found[4])
    if found := _DAY_FIRST.fullmatch(written):
        return _day(found[4], found[3], found[1])
    if found := re.fullmatch(r"([0-9]{4})([0-9]{2})([0-9]{2})", written):
        return _day(found[1], found[2], found[3])
    if (found := _DAY_MONTH_NAME.fullmatch(fold(written))) and found[2] in _MONTH_NUMBERS:
        return _day(found[3], _MONTH_NUMBERS[found[2]], found[1])
    if _SHORT_YEAR.fullmatch(written):
        raise UnreadableValue(_("Write the year with four digits."))
    raise UnreadableValue(_not_a_date())


def _number(cell: object, *, money: bool = False) -> Decimal | None:
    if is_empty(cell):
        return None
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        if not -LARGEST < cell < LARGEST:  # not so for NaN either
            raise UnreadableValue(_not_a_number())
        return Decimal(_number_text(cell))
    _refuse_error(cell)
    if not isinstance(cell, str):
        raise UnreadableValue(_not_a_number())
    if _PLAIN.fullmatch(cell):  # as nearly all are, so nothing else is looked for
        return _below_largest(_magnitude(cell, whole=False, scaled=not money))
    written = _SPACES.sub(" ", unescape_cell(cell.strip())).strip().translate(_MINUS)
    factor, whole = 1, False
    if money:
        written = _CURRENCY.sub("", written)
        # A dash after the separator says "no hellers", so a separator before it can only group thousands.
        if found := _WHOLE_CROWNS.search(written):
            written, whole = written[: found.start()].rstrip(), True
        if found := _MULTIPLE.search(folded := fold(written)):
            if len(folded) != len(written):
                raise UnreadableValue(_not_a_number())
            written, factor = written[: found.start()].rstrip(), _MULTIPLES[found[1]]
    else:
        written = written.removesuffix("%").rstrip()
    sign = -1 if written.startswith("-") else 1
    written = written.lstrip("+-").lstrip() if written[:1] in "+-" and written[1:2] not in "+-" else written
    return sign * factor * _below_largest(_magnitude(written, whole=whole, scaled=factor > 1 or not money))


def _below_largest(magnitude: Decimal) -> Decimal:
    if magnitude >= LARGEST:
        raise UnreadableValue(_not_a_number())
    return magnitude


def _magnitude(written: str, *, whole: bool, scaled: bool) -> Decimal:
    if whole:
        if not re.fullmatch(r"[0-9]+|[0-9]{1,3}([ .,])[0-9]{3}(\1[0-9]{3})*", written):
            raise UnreadableValue(_not_a_number())
        return Decimal(re.sub(r"[ .,]", "", written))
    if not scaled and _AMBIGUOUS.fullmatch(written):
        raise UnreadableValue(
            _("The point or comma may part thousands or decimals. Write it with spaces (1 234) or decimals (1,23).")
        )
    if _PLAIN.fullmatch(written):
        return Decimal(written.replace(",", "."))
    if _GROUPED.fullmatch(written):
        written = written.replace(" ", "")
        groups, separator, decimals = re.fullmatch(r"(.*?)(?:([.,])([0-9]{1,2}))?", written).groups()
        return Decimal(re.sub(r"[.,]", "", groups) + (f".{decimals}" if separator else ""))
    raise UnreadableValue(_not_a_number())


def _number_text(number: float) -> str:
    """Excel keeps 15 digits; the rest of a binary fraction is noise."""
    if not math.isfinite(number):
        return str(number)
    found = format(Decimal(format(number, ".15g")), "f")
    return found.rstrip("0").rstrip(".") if "." in found else found


def _has_percent_sign(cell: object) -> bool:
    return isinstance(cell, str) and cell.rstrip().endswith("%")


def _serial(number: float) -> datetime.date:
    if not math.isfinite(number) or int(number) not in SERIAL_DAYS:
        raise UnreadableValue(_("This number is not a day. Write it as 31.12.2025."))
    return EXCEL_EPOCH + datetime.timedelta(days=int(number))


def _day(year, month, day) -> datetime.date:
    try:
        return datetime.date(int(year), int(month), int(day))
    except ValueError as error:
        raise UnreadableValue(_("There is no such day in the calendar (day comes before month).")) from error


def in_range(day: datetime.date) -> datetime.date:
    if not EARLIEST_YEAR <= day.year <= LATEST_YEAR:
        raise UnreadableValue(
            _("The year has to be between %(first)s and %(last)s."), first=EARLIEST_YEAR, last=LATEST_YEAR
        )
    return day


def _refuse_error(cell: object) -> None:
    if isinstance(cell, Uncomputed):
        raise UnreadableValue(
            _(
                "The cell holds a formula without a result: open the file in Excel or LibreOffice, save it, and import it "
                "again."
            )
        )
    if isinstance(cell, CellError):
        raise UnreadableValue(_an_error())


def _an_error() -> str:
    return _("The cell holds a spreadsheet's error. Repair its formula or type the value.")


def was_cut() -> str:
    return _(
        "A spreadsheet took this code for a number and cut it. Make the column a text (Format cells, Text) and type the code "
        "again."
    )


def _not_a_date() -> str:
    return _("This is not a date. Write it as 31.12.2025.")


def _not_a_number() -> str:
    return _("This is not a number. Write it as 1 234 567,50.")
