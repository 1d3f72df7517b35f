"""What stands in the preview's form when it is sent: cells put right, what becomes of rows that are probably about somebody
known, whose value is taken in conflicts, and which rows are to be written."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from crm.admin.import_lines import cell_name, choice_name, conflict_name
from crm.encryption import refuse_ciphertext, refuse_unstorable
from crm.exceptions import CrmError, ImpossibleValue
from crm.imports import preview
from crm.models import ImportRun

# What is chosen where both changed a cell: the file's value.
FILE = "file"
# What a confirmation writes where nobody said otherwise.
EVERYTHING = {"all_or_nothing": False, "create": True, "update": True, "duplicates": True}
_LINE_ENDS = re.compile("[\r\n]")


class CheckedAnew(CrmError):
    message = _("The rows were checked anew meanwhile. Look at them again, and choose again what you had not checked.")


@dataclass(frozen=True)
class Sent:
    """What is another than the preview showed; `taken` is None where no choice of a conflict is."""

    cells: dict[tuple[int, int], str]
    decisions: dict[int, str]
    taken: frozenset[str] | None

    def __bool__(self) -> bool:
        return bool(self.cells or self.says_what_is_written)

    @property
    def says_what_is_written(self) -> bool:
        """Of a cell that was put right the check has to say it."""
        return bool(self.decisions) or self.taken is not None


def sent(data: QueryDict, run: ImportRun, index: preview.Index, positions: Iterable[int]) -> Sent:
    """`positions` are those of the rows on the page. Raises CheckedAnew where that was another preview; ImpossibleValue."""
    if data.get("seen", run.fingerprint) != run.fingerprint:
        raise CheckedAnew()
    lines = preview.lines_at(run, list(positions))
    cells, decisions = {}, {}
    for line in lines:
        for column, value in line.get("bad", {}).items():
            text = data.get(cell_name(line, column))
            if text is not None and text != _LINE_ENDS.sub("", value):  # as a browser has it
                cells[line["row"], int(column)] = text
        choice = data.get(choice_name(line))
        if choice in ("", *line.get("choices", ())) and choice != line.get("choice", ""):
            decisions[line["row"]] = choice
    _require_storable(cells.values())
    return Sent(cells, decisions, _taken(data, run, index, lines))


def _require_storable(texts: Iterable[str]) -> None:
    try:
        for text in texts:
            refuse_ciphertext(text)
            refuse_unstorable(text)
    except forms.ValidationError as error:
        raise ImpossibleValue(" ".join(error.messages)) from error


def _taken(data: QueryDict, run: ImportRun, index: preview.Index, lines: list[dict]) -> frozenset[str] | None:
    """The marks of all conflicts of the file in which its value is taken."""
    if not data.get("conflicts") and all(_is_taken(data, *each) == each[1]["is_taken"] for each in _open(lines)):
        return None
    conflicts = list(_open(preview.lines_at(run, index.conflicts)))
    taken = frozenset(each["mark"] for line, each in conflicts if _is_taken(data, line, each))
    return None if taken == {each["mark"] for _line, each in conflicts if each["is_taken"]} else taken


def _open(lines: list[dict]) -> Iterable[tuple[dict, dict]]:
    return ((line, each) for line in lines for each in line.get("conflicts", ()) if not each["refusal"])


def _is_taken(data: QueryDict, line: dict, stored: dict) -> bool:
    """By the choice for all conflicts of the file, else for this one, else as before."""
    choice = data.get("conflicts") or data.get(conflict_name(line, stored))
    return choice == FILE if choice else stored["is_taken"]


def to_write(data: QueryDict) -> dict[str, bool]:
    """Which rows, as `imports.confirm` takes it."""
    return {
        "all_or_nothing": data.get("mode") == "all",
        "create": data.get("what") != "update",
        "update": data.get("what") != "create",
        "duplicates": data.get("duplicates") != "skip",
    }
