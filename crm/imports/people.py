"""The older CRM's nine-column layout and its like: no reference, so every row is a new client with a case. A row that
was imported before, equal in every cell, is skipped; a name alone never says that two people are one."""

import itertools
from collections.abc import Iterator, Sequence
from json.encoder import encode_basestring as _quoted

from django.utils.translation import gettext as _

from crm import search, workflow
from crm.choices import CaseStatus
from crm.imports import parsers
from crm.imports.columns import CASE, CLIENT, REASON_COLUMN, folded
from crm.imports.drafts import Draft, NewItem
from crm.imports.plans import Outcome, Plan
from crm.imports.problems import WARNING, RowProblem
from crm.imports.reading import Row, is_left_out
from crm.imports.scratch import Blocks
from crm.imports.shelf import FirstMet, Shelf
from crm.imports.values import MOST_KNOWN, RowReader, RowValues
from crm.models import Case

BATCH = 500
# What a spreadsheet may say of a new case; the other statuses are earned by its steps.
_STATUSES_TAKEN = (CaseStatus.OPEN, *workflow.ENDED_BY)


class RowDigests:
    """Keyed digests of rows, since a row is personal data: they show equality and nothing else. The order of columns does
    not matter, nor does one that is empty or missing, nor which kind of space a program writes; unknown columns count, so
    rows that differ anywhere are not equal."""

    def __init__(self, plan: Plan):
        names = {f"{column.owner}.{column.name}": column.index for column in plan.layout.columns}
        unknown = plan.layout.unknown.items()
        names |= {f"?{folded(header)}": index for index, header in unknown if header != REASON_COLUMN}
        # What each cell adds to the JSON of the row's names and cells.
        self._columns = [(index, f"[{_quoted(name)}, ", {}) for name, index in sorted(names.items())]

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
        return search.digest("row", f"[{', '.join(parts)}]").hex()


def known_digests(digests: list[str]) -> set[str]:
    """Those of cases that were imported before: a query for each 500."""
    found = set()
    for start in range(0, len(digests), BATCH):
        wanted = digests[start : start + BATCH]
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
    for row, digest, is_stored in _with_digests(rows, digests):
        if is_stored:
            plan.outcomes[row.number] = Outcome.SKIP
        elif earlier := in_file.get(digest):
            plan.outcomes[row.number] = Outcome.SKIP
            reason = _("Every cell is equal to row %(row)s, so it was left out.") % {"row": earlier}
            reader.report(row, None, reason, WARNING)
        elif item := _new_person(plan, reader, row, digest, shelf, on=on, warn_of_date=has_dates):
            in_file.add(digest, row.number)
            plan.items.append(item)
            plan.outcomes[row.number] = Outcome.CREATE
        else:
            plan.outcomes[row.number] = Outcome.ERROR


def _with_digests(rows: Sequence[Row], digests: RowDigests) -> Iterator[tuple[Row, str, bool]]:
    """And whether a case was imported of such a row before."""
    for some in itertools.batched(rows, BATCH):
        found = [digests.of(row) for row in some]
        stored = known_digests(found)
        yield from ((row, digest, digest in stored) for row, digest in zip(some, found, strict=True))


def _new_person(
    plan: Plan, reader: RowReader, row: Row, digest: str, shelf: Shelf, *, on, warn_of_date: bool
) -> NewItem | None:
    values = reader.values(row, plan.layout.columns)
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
