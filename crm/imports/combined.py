"""Rows of an export of clients with their cases: each is planned as a client's row and as a case's, and written as far as
both are good. A client who stands in several rows says the same in each."""

from django.utils.translation import gettext as _

from crm.imports import own, parsers, people
from crm.imports.columns import CASE, CASES, CLIENT, CLIENTS, PEOPLE, Column, Layout
from crm.imports.plans import Outcome, Plan
from crm.imports.reading import Row
from crm.imports.values import RowReader

# Of the two halves of a row the first of these counts.
_WORST_FIRST = (Outcome.ERROR, Outcome.CREATE, Outcome.UPDATE, Outcome.SKIP)


def plan_combined(plan: Plan, reader: RowReader, rows: list[Row], user, *, on) -> None:
    of_client = [column for column in plan.layout.columns if column.owner == CLIENT]
    of_case = [column for column in plan.layout.columns if column.owner == CASE and column.name != "client"]
    reference = plan.layout.column("reference", CLIENT)
    owner = [Column(reference.index, reference.header, CASE, "client")] if reference else []
    keys = [column for column in plan.layout.columns if column.is_key]

    new = [row for row in rows if not says(row, keys) and says(row, of_case)]
    new_rows = {row.number for row in new}
    known = [row for row in rows if row.number not in new_rows]
    people_part = part_of(plan, PEOPLE, [column for column in plan.layout.columns if not column.is_key])
    if new:
        people.plan_people(people_part, reader, new, on=on)
    clients = part_of(plan, CLIENTS, of_client)
    first, later = _once(clients, reader, known, of_client)
    own.plan_own(clients, reader, first, user, on=on)
    cases = part_of(plan, CASES, [*of_case, *owner])
    own.plan_own(cases, reader, [row for row in known if says(row, of_case)], user, on=on)

    for row in rows:
        found = {part.outcomes.get(row.number) for part in (people_part, clients, cases)}
        plan.outcomes[row.number] = next(each for each in _WORST_FIRST if each in found)
    _hand_on(plan, clients, later)
    items = [*people_part.items, *clients.items, *cases.items]
    plan.items += [item for item in items if plan.outcomes[item.row] != Outcome.ERROR]


def part_of(plan: Plan, kind: str, columns: list[Column]) -> Plan:
    layout = Layout(kind, columns, versions=plan.layout.versions)
    return Plan(
        plan.file_name, plan.sha256, plan.sheet, layout,
        problems=plan.problems, empty_deletes=plan.empty_deletes, conflicts=plan.conflicts, taken=plan.taken,
        rows_of=plan.rows_of, exports=plan.exports,
    )  # fmt: skip


def says(row: Row, columns: list[Column]) -> bool:
    return any(row.cell(column.index) is not None for column in columns)


def _once(
    part: Plan, reader: RowReader, rows: list[Row], columns: list[Column]
) -> tuple[list[Row], dict[int, list[int]]]:
    """The first row of each client, and by its number those of later ones; one that says anything else of him is refused."""
    reference = part.layout.column("reference")
    first: dict[str, Row] = {}
    found, later = [], {}
    for row in rows:
        key = parsers.shown(row.cell(reference.index)) if reference else ""
        earlier = first.setdefault(key, row) if key else row
        if earlier is row:
            found.append(row)
            continue
        differs = next((each for each in columns if row.cell(each.index) != earlier.cell(each.index)), None)
        part.outcomes[row.number] = Outcome.ERROR if differs else Outcome.SKIP
        if differs:
            reader.report(
                row, differs, _("Row %(row)s says something else of the same client.") % {"row": earlier.number}
            )
        else:
            later.setdefault(earlier.number, []).append(row.number)
    return found, later


def _hand_on(plan: Plan, clients: Plan, later: dict[int, list[int]]) -> None:
    """What a client's first row changes of him is written by his next good one, where its case has it refused."""
    for item in clients.items:
        if plan.outcomes[item.row] == Outcome.ERROR:
            heirs = (row for row in later.get(item.row, ()) if plan.outcomes[row] != Outcome.ERROR)
            item.row = next(heirs, item.row)
            if plan.outcomes[item.row] == Outcome.SKIP:
                plan.outcomes[item.row] = Outcome.UPDATE
