"""From bytes to a plan: what every row would do, and every problem of every row. Writes nothing."""

import datetime
from array import array
from collections.abc import Callable, Container, Mapping
from functools import partial

from django.utils import timezone
from django.utils.translation import gettext as _

from crm.imports import combined, conflicts, duplicates, own, people
from crm.imports.columns import COMBINED, PEOPLE, recognise
from crm.imports.decisions import decide
from crm.imports.plans import Outcome, Plan, sha256
from crm.imports.problems import ERROR, WARNING, RowProblem, refused_with
from crm.imports.reading import Sheet, read
from crm.imports.rules import Rules
from crm.imports.values import Lookups, RowReader
from crm.imports.writing import written_runs
from crm.jobs import unwatched
from crm.spreadsheet import EXAMPLE_NAMES

WATCHED_EVERY = 500
EXAMPLES = frozenset(EXAMPLE_NAMES.values())


def check(content: bytes, file_name: str, user=None, **chosen) -> Plan:
    """`chosen` is `check_file`'s."""
    return check_file(partial(read, content, file_name), sha256(content), file_name, user, **chosen)


def check_file(
    reads: Callable[[], Sheet],
    digest: str,
    file_name: str,
    user=None,
    *,
    on: datetime.date | None = None,
    mapping: Mapping[str, str] | None = None,
    asks: bool = False,
    corrections: Mapping[int, Mapping[int, str]] | None = None,
    empty_deletes: bool = False,
    taken: Container[str] = frozenset(),
    decisions: Mapping[int, str] | None = None,
    progress=unwatched,
) -> Plan:
    """`reads` gives the sheet, and gives it anew where the plan is made again. `user` sees only his rows of the database
    (None: all of them). `on` is the day of a case without a date.
    `mapping` and `asks` are `recognise`'s; `corrections` are texts for cells, by the row's number and the column's index;
    `taken` marks conflicts in which the file's value is taken, `decisions` are of rows about somebody known.
    Queries follow the batches of rows. Raises UnusableFile, and ColumnsUnknown where it `asks`."""
    on = on or timezone.localdate()
    seen = written_runs()
    sheet = reads()
    _correct(sheet, corrections or {})
    with refused_with(sheet.sheets):
        layout, problems = recognise(sheet, mapping, asks=asks)
    chosen = {"mapping": mapping, "corrections": corrections, "empty_deletes": empty_deletes}
    again = partial(check_file, reads, digest, file_name, user, on=on, **chosen, taken=taken, decisions=decisions)
    plan = Plan(
        file_name, digest, sheet, layout,
        problems=problems, empty_deletes=empty_deletes, taken=taken, seen=seen, again=again,
    )  # fmt: skip
    rules = Rules(user, is_history=layout.kind == PEOPLE)
    reader = _WatchedReader(Lookups(), rules, plan.problems, partial(progress, total=len(sheet.rows)))
    numbers, name = array("L"), layout.column("full_name")
    for row in sheet.rows:
        if row.is_blank:
            plan.outcomes[row.number] = Outcome.SKIP
        elif name and row.cell(name.index) in EXAMPLES:
            reader.report(row, name, _("The template's example was left out."), WARNING)
            plan.outcomes[row.number] = Outcome.SKIP
        elif reason := sheet.shape_error(row):
            reader.report(row, None, reason)
            plan.outcomes[row.number] = Outcome.ERROR
        else:
            numbers.append(row.number)
    rows = sheet.rows.only(numbers)
    if layout.kind == PEOPLE:
        people.plan_people(plan, reader, rows, on=on)
    elif layout.kind == COMBINED:
        combined.plan_combined(plan, reader, rows, user, on=on)
    else:
        own.plan_own(plan, reader, rows, user, on=on)
    sheet.notices += conflicts.exports_told(plan.exports, user)
    decisions, of_people, of_known = decisions or {}, [], []
    for item in plan.items:
        if item.is_new:
            (of_people if item.client.pk is None else of_known).append(item)
    duplicates.report(plan, of_people, user)
    cases = duplicates.KnownCases(plan, user, on)
    cases.report(of_known)
    decide(plan, reader, decisions, user, on=on)
    cases.report([item for item in plan.items if item.row in decisions and item.is_new and item.client.pk is not None])
    if reader.left_out:
        plan.problems.append(_left_out(reader))
    plan.problems.sort(key=lambda problem: problem.row)
    return plan


def _left_out(reader: RowReader) -> RowProblem:
    reason = _("Not listed here: %(errors)s more errors and %(warnings)s more warnings of rows further down.")
    counts = {"errors": reader.left_out[ERROR], "warnings": reader.left_out[WARNING]}
    return RowProblem(1, "", "", reason % counts, WARNING)


def _correct(sheet: Sheet, corrections: Mapping[int, Mapping[int, str]]) -> None:
    if not corrections:
        return
    for row in sheet.rows.where(lambda row: row.number in corrections):
        for index, text in corrections[row.number].items():
            if index < len(sheet.header):
                row.correct(index, text)


class _WatchedReader(RowReader):
    """Says every some rows how far it is."""

    def __init__(self, lookups: Lookups, rules: Rules, problems: list, progress):
        super().__init__(lookups, rules, problems)
        self.progress, self.told = progress, 0

    def read(self, row, columns):
        if row.number >= self.told + WATCHED_EVERY:
            self.told = row.number
            self.progress(row.number)
        return super().read(row, columns)
