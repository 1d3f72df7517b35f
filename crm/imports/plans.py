"""What an import would do, before anything is written: an outcome for every row, and every problem of every row."""

import csv
import dataclasses
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field
from itertools import compress

from django.db.models import TextChoices
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from crm.imports import parsers
from crm.imports.columns import REASON_COLUMN, Layout
from crm.imports.conflicts import Conflict
from crm.imports.problems import RowProblem, unlisted
from crm.imports.reading import Row, Sheet
from crm.imports.shelf import Uncomputed
from crm.models import Case, Client
from crm.spreadsheet import escape_cell

# A formula without a result is given back as this, which is refused again; its text would be taken for a value.
NO_RESULT = "#N/A"

# A header and rows of cells, as texts or as what a workbook held.
type Table = tuple[list[str], Iterable[list]]


class Outcome(TextChoices):
    CREATE = "create", _("will be created")
    UPDATE = "update", _("will be updated")
    SKIP = "skip", _("nothing to do")
    ERROR = "error", _("refused")


@dataclass(slots=True)
class Item:
    """One row that will be written: new objects, or loaded ones with the names of the fields that change."""

    row: int
    client: Client | None = None
    case: Case | None = None
    # Names of the fields to write on a stored object; empty for new ones.
    changed: tuple[str, ...] = ()
    # The text of a lender that the catalogue does not know: it becomes the note of the lender's step.
    lender_text: str = ""
    is_new: bool = True
    # What a stored object said before, by the names of `changed`.
    before: dict[str, object] = field(default_factory=dict)


class Counted:
    """What any plan says of its outcomes."""

    __slots__ = ()

    def count(self, outcome: Outcome) -> int:
        return Counter(self.outcomes.values())[outcome]

    @property
    def rows(self) -> int:
        return len(self.outcomes)

    @property
    def created(self) -> int:
        return self.count(Outcome.CREATE)

    @property
    def updated(self) -> int:
        return self.count(Outcome.UPDATE)

    @property
    def skipped(self) -> int:
        return self.count(Outcome.SKIP)

    @property
    def errors(self) -> int:
        return self.count(Outcome.ERROR)

    def summary_line(self) -> str:
        return summary_line(self.rows, self.created, self.updated, self.skipped, self.errors)


class Outcomes(MutableMapping[int, Outcome]):
    """By the rows' numbers and in their order, a byte each."""

    __slots__ = ("_marks",)
    _OUTCOMES = (None, *Outcome)

    def __init__(self):
        self._marks = bytearray()

    def __getitem__(self, row: int) -> Outcome:
        mark = self._marks[row] if row < len(self._marks) else 0
        if not mark:
            raise KeyError(row)
        return self._OUTCOMES[mark]

    def __setitem__(self, row: int, outcome: Outcome) -> None:
        self._marks.extend(bytes(max(0, row + 1 - len(self._marks))))
        self._marks[row] = self._OUTCOMES.index(outcome)

    def __delitem__(self, row: int) -> None:
        self._marks[row] = 0

    def __iter__(self) -> Iterator[int]:
        return (row for row, mark in enumerate(self._marks) if mark)

    def __len__(self) -> int:
        return len(self._marks) - self._marks.count(0)

    def count(self, outcome: Outcome) -> int:
        return self._marks.count(self._OUTCOMES.index(outcome))


@dataclass(slots=True)
class Plan(Counted):
    file_name: str
    sha256: str
    sheet: Sheet
    layout: Layout
    outcomes: Outcomes = field(default_factory=Outcomes)
    problems: list[RowProblem] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    # Whether an empty cell deletes the value of a stored record.
    empty_deletes: bool = False
    conflicts: list[Conflict] = field(default_factory=list)
    # The marks of those in which the file's value is taken.
    taken: Container[str] = frozenset()
    # By key of each stored client that the file is about, the row.
    rows_of: dict[int, int] = field(default_factory=dict)
    # The exports that its rows came from.
    exports: set[int | None] = field(default_factory=set)
    # What stood before the plan was made (`writing.written_runs`), and how to make it once more.
    seen: tuple = ()
    again: Callable[[], "Plan"] | None = None

    def count(self, outcome: Outcome) -> int:
        """A row that adds a case and changes its client counts as either."""
        return self.outcomes.count(outcome) + (len(self.changed_too()) if outcome == Outcome.UPDATE else 0)

    def changed_too(self) -> set[int]:
        """Rows that create something and change what is stored as well."""
        return {item.row for item in self.items if not item.is_new and self.outcomes[item.row] == Outcome.CREATE}

    def refuse(self, row: int) -> None:
        self.outcomes[row] = Outcome.ERROR
        self.items = [item for item in self.items if item.row != row]

    def problems_of(self, row: int) -> list[RowProblem]:
        return [problem for problem in self.problems if problem.row == row]

    def errors_file(self) -> bytes:
        return csv_file(*self.refused())

    def refused(self) -> Table:
        """The refused rows as they came, with what is wrong in a last column; corrected, they can be imported."""
        reasons: dict[int, list[RowProblem]] = {}
        for problem in self.problems:
            if problem.is_error:
                reasons.setdefault(problem.row, []).append(problem)
        width = len(self.sheet.header)
        bad = (row for row in self.sheet.rows if self.outcomes.get(row.number) == Outcome.ERROR)
        told = ((padded(row, width), reasons.get(row.number) or [unlisted(row.number)]) for row in bad)
        return with_reasons(self.sheet.header, told)


def summary_line(rows: int, created: int, updated: int, skipped: int, errors: int) -> str:
    """The last line on standard output of both import commands; machines read it, so it is never translated."""
    return f"{rows} rows: {created} created, {updated} updated, {skipped} skipped, {errors} errors"


def problems_json(problems: list[RowProblem]) -> str:
    """For the run's record, where they are encrypted: they hold values of the file."""
    return json.dumps([dataclasses.asdict(problem) for problem in problems], ensure_ascii=False)


def problem_table(problems: Iterable[RowProblem]) -> Table:
    """Problems alone, for a source that is no table."""
    return (
        [gettext("row"), gettext("column"), gettext("value"), gettext("problem")],
        ([str(each.record or each.row), each.column, each.value, str(each.reason)] for each in problems),
    )


def with_reasons(header: list[str], rows: Iterable[tuple[list, list[RowProblem]]]) -> Table:
    """In place of what was wrong with rows that came back."""
    own = [name != REASON_COLUMN for name in header]
    return (
        [*compress(header, own), REASON_COLUMN],
        ([*compress(cells, own), "; ".join(map(str, problems))] for cells, problems in rows),
    )


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def padded(row: Row, width: int) -> list:
    cells = [_given_back(cell) for cell in row.cells[:width]]
    return cells + [None] * (width - len(cells))


def _given_back(cell: object) -> object:
    if isinstance(cell, Uncomputed):
        return NO_RESULT
    # `shown` leaves our own export's quote on; it comes off before it is put on again.
    return parsers.unescape_cell(parsers.shown(cell)) if isinstance(cell, str) else cell


def csv_file(header: list[str], rows: Iterable[list]) -> bytes:
    target = io.StringIO(newline="")
    writer = csv.writer(target, delimiter=";", lineterminator="\r\n")
    writer.writerow([escape_cell(cell) for cell in header])
    for row in rows:
        writer.writerow([escape_cell(cell if isinstance(cell, str) else parsers.shown(cell)) for cell in row])
    return target.getvalue().encode("utf-8-sig")
