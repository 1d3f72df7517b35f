"""The older CRM's nine-column layout and its like: no reference, so every row is a new client with a case. A row that
was imported before, equal in every value, is skipped; a name alone never says that two people are one."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import cached_property
from json.encoder import encode_basestring as _quoted

from django.utils.translation import gettext as _

from crm import search, workflow
from crm.choices import CaseStatus
from crm.imports import parsers
from crm.imports.columns import CASE, CLIENT, REASON_COLUMN, Column, folded
from crm.imports.drafts import Draft, NewItem
from crm.imports.plans import Outcome, Plan
from crm.imports.problems import WARNING, RowProblem
from crm.imports.reading import Row, is_left_out
from crm.imports.scratch import Blocks
from crm.imports.shelf import FirstMet, Shelf
from crm.imports.values import MOST_KNOWN, RELATIONS, RowReader, RowValues
from crm.models import Case

BATCH = 500
# What a spreadsheet may say of a new case; the other statuses are earned by its steps.
_STATUSES_TAKEN = (CaseStatus.OPEN, *workflow.ENDED_BY)
# Before a digest of values. Those of older imports are hexadecimal alone, and of the cells as they were written.
BY_VALUE = "v"


class RowDigests:
    """Keyed digests of what rows say, since a row is personal data: they show equality and nothing else. Cells count by
    what would be stored, however a file spells it; those of unknown columns by their text, and so does who is named, since
    what a name stands for changes with the office. The order of columns does not matter, nor does one that is empty or
    missing."""

    def __init__(self, plan: Plan):
        columns, unknown = plan.layout.columns, plan.layout.unknown.items()
        others = {f"?{folded(header)}": index for index, header in unknown if header != REASON_COLUMN}
        named = {_name(column): column.index for column in columns if column.name in RELATIONS}
        self._values = sorted((_name(each), each.owner, each.name) for each in columns if each.name not in RELATIONS)
        self._texts = _Texts(others | named)
        # As older imports made them; that is asked for where there are any.
        self._cells = _Texts(others | {_name(column): column.index for column in columns})

    def of(self, row: Row, values: RowValues, about: str = "") -> str:
        """`about`: the reference of the client whose case it is."""
        given = values.given
        said = [
            f"{name}: {_quoted(_text(value))}"
            for name, owner, field in self._values
            if (value := given[owner].get(field)) is not None
        ]
        # Of what cannot be read only that it is there: such a row is never one that was stored.
        said += sorted(values.unread - RELATIONS)
        return BY_VALUE + search.digest("row", f"{_quoted(about)} {', '.join(said)} {self._texts.of(row)}").hex()

    def older(self, row: Row) -> str:
        return search.digest("row", self._cells.of(row)).hex()

    def stored(self, rows: Sequence[Row], digests: Sequence[str]) -> Iterator[bool]:
        """Whether a case was imported of each row before: a query for each 500 digests."""
        older = [self.older(row) for row in rows] if self._has_older else digests
        found = _imported({*digests, *older})
        return (one in found or other in found for one, other in zip(digests, older, strict=True))

    @cached_property
    def _has_older(self) -> bool:
        return Case.objects.filter(import_digest__gt="", import_digest__lt=BY_VALUE).exists()


def _name(column: Column) -> str:
    return f"{column.owner}.{column.name}"


def _text(value: object) -> str:
    if type(value) is str:
        return " ".join(value.split())
    return f"{value.normalize():f}" if type(value) is Decimal else str(value)


class _Texts:
    """Cells as a person sees them, but for which kind of space a program writes: as JSON, by the columns' names."""

    def __init__(self, columns: dict[str, int]):
        # What each cell adds to the JSON.
        self._columns = [(index, f"[{_quoted(name)}, ", {}) for name, index in sorted(columns.items())]

    def of(self, row: Row) -> str:
        cells, parts = row.cells, []
        for index, start, known in self._columns:
            cell = cells[index] if index < len(cells) else None
            if cell is None or cell == "":
                continue
            part = known.get(cell) if type(cell) is str else None
            if part is None:
                text = "" if is_left_out(cell) else " ".join(parsers.shown(cell).split())
                part = f"{start}{_quoted(text)}]" if text else ""
                if type(cell) is str and len(known) < MOST_KNOWN:
                    known[cell] = part
            if part:
                parts.append(part)
        return f"[{', '.join(parts)}]"


def _imported(digests: Iterable[str]) -> set[str]:
    found = set()
    for wanted in itertools.batched(digests, BATCH):
        found.update(Case.objects.filter(import_digest__in=wanted).values_list("import_digest", flat=True))
    return found


def plan_people(plan: Plan, reader: RowReader, rows: Sequence[Row], *, on) -> None:
    digests = RowDigests(plan)
    in_file, shelf = FirstMet(len(rows)), Shelf(Blocks())
    has_dates = plan.layout.column("opened_on") is not None
    if not has_dates:
        plan.problems.append(
            RowProblem(1, "", "", _("There is no column with dates; every case is opened today."), WARNING)
        )
    for row, values, digest, is_stored in _with_digests(plan, reader, rows, digests):
        if is_stored:
            plan.outcomes[row.number] = Outcome.SKIP
        elif earlier := in_file.get(digest):
            plan.outcomes[row.number] = Outcome.SKIP
            reason = _("Every cell is equal to row %(row)s, so it was left out.") % {"row": earlier}
            reader.report(row, None, reason, WARNING)
        elif item := _new_person(plan, reader, row, values, digest, shelf, on=on, warn_of_date=has_dates):
            in_file.add(digest, row.number)
            plan.items.append(item)
            plan.outcomes[row.number] = Outcome.CREATE
        else:
            plan.outcomes[row.number] = Outcome.ERROR


def _with_digests(
    plan: Plan, reader: RowReader, rows: Sequence[Row], digests: RowDigests
) -> Iterator[tuple[Row, RowValues, str, bool]]:
    """And whether a case was imported of such a row before."""
    for some in itertools.batched(rows, BATCH):
        values = [reader.read(row, plan.layout.columns) for row in some]
        found = [digests.of(row, each) for row, each in zip(some, values, strict=True)]
        yield from zip(some, values, found, digests.stored(some, found), strict=True)


def _new_person(
    plan: Plan, reader: RowReader, row: Row, values: RowValues, digest: str, shelf: Shelf, *, on, warn_of_date: bool
) -> NewItem | None:
    reader.tell(row, values)
    if row.cell(plan.layout.column("full_name").index) is None:
        reader.report(row, plan.layout.column("full_name"), _("The client's name is missing."))
        values.is_bad = True
    if refusal := reader.rules.refusal("add_client", "add_case"):
        reader.report(row, None, refusal)
        values.is_bad = True
    case = new_case(plan, reader, row, values, on=on, warn_of_date=warn_of_date)
    if case is None:
        return None
    case.given["import_digest"] = digest
    return NewItem(row.number, shelf, client=values.draft(CLIENT), case=case, lender_text=values.lender_text)


def new_case(
    plan: Plan, reader: RowReader, row: Row, values: RowValues, *, on, warn_of_date: bool = True
) -> Draft | None:
    """None where the row is refused."""
    fields, column = values.of(CASE), plan.layout.column
    status = fields.pop("status", CaseStatus.DECLINED if "rejection_reason" in fields else CaseStatus.OPEN)
    if status not in _STATUSES_TAKEN:
        reader.report(row, column("status"), _("A new case is open; its steps make it this status."), WARNING)
        status = CaseStatus.OPEN
    refusals = () if "status" in values.unread else reader.rules.of_new_case(status, fields, on)
    for name, refusal in refusals:
        if name not in values.unread:
            reader.report(row, column(name) or column("status"), refusal)
            values.is_bad = True
    if values.is_bad:
        return None
    if "opened_on" not in fields:
        fields["opened_on"] = on
        if warn_of_date:
            reader.report(row, column("opened_on"), _("No date: the case is opened today."), WARNING)
    if status == CaseStatus.WITHDRAWN:
        reader.report(row, column("rejection_reason"), _("The case's history keeps why it was withdrawn."), WARNING)
        return values.draft(CASE, status=status, history_reason=fields.pop("rejection_reason"))
    return values.draft(CASE, status=status)
