"""What an import would do, before anything is written: an outcome for every row, and every problem of every row."""

import csv
import dataclasses
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _

from crm.imports import parsers
from crm.imports.columns import REASON_COLUMN, Layout
from crm.imports.problems import RowProblem
from crm.imports.reading import Row, Sheet
from crm.models import Case, Client
from crm.spreadsheet import escape_cell


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


@dataclass(slots=True)
class Plan:
    file_name: str
    sha256: str
    sheet: Sheet
    layout: Layout
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    problems: list[RowProblem] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    # Whether an empty cell deletes the value of a stored record.
    empty_deletes: bool = False
    # What stood before the plan was made (`writing.written_runs`), and how to make it once more.
    seen: tuple = ()
    again: Callable[[], "Plan"] | None = None

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

    def refuse(self, row: int) -> None:
        self.outcomes[row] = Outcome.ERROR
        self.items = [item for item in self.items if item.row != row]

    def problems_of(self, row: int) -> list[RowProblem]:
        return [problem for problem in self.problems if problem.row == row]

    def summary_line(self) -> str:
        return summary_line(self.rows, self.created, self.updated, self.skipped, self.errors)

    def errors_file(self) -> bytes:
        """The refused rows as they came, with what is wrong in a last column; corrected, it can be imported."""
        reasons: dict[int, list[RowProblem]] = {}
        for problem in self.problems:
            if problem.is_error:
                reasons.setdefault(problem.row, []).append(problem)
        width = len(self.sheet.header)
        rows = ((padded(row, width), reasons.get(row.number, [])) for row in self._refused())
        return errors_csv(self.sheet.header, rows)

    def _refused(self):
        return (row for row in self.sheet.rows if self.outcomes.get(row.number) == Outcome.ERROR)


def summary_line(rows: int, created: int, updated: int, skipped: int, errors: int) -> str:
    """The last line on standard output of both import commands; machines read it, so it is never translated."""
    return f"{rows} rows: {created} created, {updated} updated, {skipped} skipped, {errors} errors"


def problems_json(problems: list[RowProblem]) -> str:
    """For the run's record, where they are encrypted: they hold values of the file."""
    return json.dumps([dataclasses.asdict(problem) for problem in problems], ensure_ascii=False)


def problems_file(problems: list[RowProblem]) -> bytes:
    """A table of problems alone, for a source that is no table."""
    return _csv(
        ["row", "column", "value", REASON_COLUMN],
        ([str(each.row), each.column, each.value, str(each.reason)] for each in problems),
    )


def errors_csv(header: list[str], rows: Iterable[tuple[list[str], list[RowProblem]]]) -> bytes:
    return _csv([*header, REASON_COLUMN], ([*cells, "; ".join(map(str, problems))] for cells, problems in rows))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def padded(row: Row, width: int) -> list[str]:
    # `shown` leaves our own export's quote on; it comes off before it is put on again.
    cells = [parsers.unescape_cell(parsers.shown(cell)) for cell in row.cells[:width]]
    return cells + [""] * (width - len(cells))


def _csv(header: list[str], rows) -> bytes:
    target = io.StringIO(newline="")
    writer = csv.writer(target, delimiter=";", lineterminator="\r\n")
    writer.writerow([escape_cell(cell) for cell in header])
    for row in rows:
        writer.writerow([escape_cell(cell) for cell in row])
    return target.getvalue().encode("utf-8-sig")
