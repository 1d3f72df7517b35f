"""The bytes of the older CRM's dump -> its records, read one after another: what is no dump is refused at the first record
that is none, and a hostile one before it fills the memory. What records mean is older_crm.py's matter."""

import json
import re
from collections.abc import Iterator
from pathlib import PurePath

from django.utils.translation import gettext as _

from crm.imports import workbook
from crm.imports.older_clients import storable
from crm.imports.problems import UnusableFile
from crm.imports.reading import Held, encoding_of, is_json

CLIENT = "klient"
LONGEST_INTEGER = 100
# Characters of one record: most are of the first length, and none of an office is longer than the second.
USUAL, LONGEST = 1 << 14, 1 << 21
_SPACE = re.compile(r"[ \t\r\n]*")


def is_dump(content: bytes, file_name: str) -> bool:
    """Whether it is to be read as one. The content decides; a file of another kind may not be named .json."""
    return is_json(content) or (PurePath(file_name).suffix.lower() == ".json" and not workbook.is_zip(content))


def clients(content: bytes) -> int:
    """How many. Raises UnusableFile."""
    return len(read(content)[0].get(CLIENT, ()))


def read(content: bytes) -> tuple[dict[str, list[dict]], list[str]]:
    """Model name in small letters, without its app -> its records; and notices. Raises UnusableFile."""
    found: dict[str, list[dict]] = {}
    # Otherwise each record would keep its own copy of the 59 names.
    names: dict[str, str] = {}
    try:
        encoding, notices = encoding_of(Held(content))
        for record in _records(content.decode(encoding)):
            fields = {
                names.get(column) or names.setdefault(column, storable(column)): value
                for column, value in record["fields"].items()
            }
            model = storable(record["model"].rpartition(".")[2].lower())
            found.setdefault(model, []).append({"pk": storable(record["pk"]), "fields": fields})
    except (UnusableFile, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnusableFile(
            _("This is no dump of the older CRM, or only a part of one. Make it again with its dumpdata command.")
        ) from error
    return found, notices


def _records(text: str) -> Iterator[dict]:
    """Raises ValueError where the text is no list of objects, or goes on after it."""
    decoder = json.JSONDecoder(parse_int=_integer)
    at, mark = _next(text, 0)
    if mark != "[":
        raise ValueError
    at, mark = _next(text, at + 1)
    while mark != "]":
        if mark != "{":
            raise ValueError
        record, at = _record(decoder, text, at)
        yield record
        at, mark = _next(text, at)
        if mark == ",":
            at, mark = _next(text, at + 1)
            if mark == "]":
                raise ValueError
        elif mark != "]":
            raise ValueError
    if _next(text, at + 1)[1]:
        raise ValueError


def _next(text: str, at: int) -> tuple[int, str]:
    at = _SPACE.match(text, at).end()
    return at, text[at : at + 1]


def _record(decoder: json.JSONDecoder, text: str, at: int) -> tuple[dict, int]:
    """And where it ends. An object that a piece of the text cuts off is none, so the piece decides nothing else."""
    try:
        record, length = decoder.raw_decode(text[at : at + USUAL])
    except ValueError:
        record, length = decoder.raw_decode(text[at : at + LONGEST])
    return record, at + length


def _integer(digits: str) -> int | str:
    """Python refuses to read a number of thousands of digits, and the whole dump with it."""
    return int(digits) if len(digits) <= LONGEST_INTEGER else digits
