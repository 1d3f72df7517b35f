"""What a person decided of rows that are probably about somebody known: to leave them out, that they are about him and
change him as rows with his reference do, or to give him the case and nothing else."""

import itertools
from collections.abc import Callable, Mapping

from django.utils.translation import gettext as _

from crm.imports.columns import CASE, CLIENT, CLIENTS, COMBINED, PEOPLE
from crm.imports.combined import part_of, says
from crm.imports.drafts import Draft, NewItem
from crm.imports.own import plan_own
from crm.imports.plans import Outcome, Plan
from crm.imports.problems import WARNING
from crm.imports.reading import Row
from crm.imports.scratch import Blocks
from crm.imports.shelf import Shelf
from crm.imports.values import RowReader
from crm.models import Client

SKIP = "skip"
# Before the reference of a client who is given the row's case and nothing else.
CASE_ONLY = "case:"
BATCH = 500


def reshape(plan: Plan, change: Callable[[Plan], None]) -> Plan:
    """Changes the plan, and any that is made in its place."""
    again = plan.again
    plan.again = lambda: reshape(again(), change)
    change(plan)
    return plan


def narrow(plan: Plan, *, create: bool = True, update: bool = True, leave_out: frozenset[int] = frozenset()) -> None:
    """Leaves new records out, or changes of stored ones, or the new records of some rows."""
    if create and update and not leave_out:
        return
    plan.items = [item for item in plan.items if (create and item.row not in leave_out if item.is_new else update)]
    left = {item.row for item in plan.items}
    new = {item.row for item in plan.items if item.is_new}
    for row, outcome in plan.outcomes.items():
        if outcome in (Outcome.CREATE, Outcome.UPDATE) and row not in left:
            plan.outcomes[row] = Outcome.SKIP
        elif outcome == Outcome.CREATE and row not in new:
            plan.outcomes[row] = Outcome.UPDATE


def choices(plan: Plan, row: Row, reference: str) -> list[str]:
    """What may become of a row that is probably about the client of this reference."""
    makes_case = plan.layout.kind == PEOPLE or (plan.layout.kind == COMBINED and _has_case(plan, row))
    return [reference, f"{CASE_ONLY}{reference}"] if makes_case else [reference]


def decide(plan: Plan, reader: RowReader, decisions: Mapping[int, str], user, *, on) -> None:
    """By the row's number: SKIP, the reference of the client that the row is about, or that after CASE_ONLY. One that the
    person does not see refuses the row."""
    if not decisions:
        return
    narrow(plan, leave_out=frozenset(row for row, choice in decisions.items() if choice == SKIP))
    new = {item.row: item for item in plan.items if item.row in decisions and item.is_new and item.client.pk is None}
    rows = {row.number: row for row in plan.sheet.rows if row.number in new}
    is_about = {row: decisions[row] for row in rows if not decisions[row].startswith(CASE_ONLY)}
    known = part_of(plan, CLIENTS, [column for column in plan.layout.columns if column.owner == CLIENT])
    plan_own(known, reader, [rows[row] for row in is_about], user, on=on, named=is_about)
    _mend_problems(plan, {row for row in is_about if not _has_case(plan, rows[row])})
    plan.outcomes.update(known.outcomes)

    clients = _clients({decisions[row].removeprefix(CASE_ONLY) for row in rows}, user)
    shelf = Shelf(Blocks())
    for at, item in enumerate(plan.items):
        if new.get(item.row) is not item:
            continue
        row, client = rows[item.row], clients.get(decisions[item.row].removeprefix(CASE_ONLY))
        has_case = item.case is not None
        refusal = _("There is no such record among yours.") if client is None else reader.rules.of_client(client)
        if item.row in is_about:
            has_case = has_case and _has_case(plan, row) and not refusal
        elif refusal:
            reader.report(row, None, refusal)
            plan.outcomes[item.row] = Outcome.ERROR
        else:
            plan.outcomes[item.row] = Outcome.SKIP
            _tell_what_is_not_taken(plan, reader, row, item.client, client)
        plan.items[at] = None
        if has_case and plan.outcomes[item.row] != Outcome.ERROR:
            owner = Draft(Client, {"reference": client.reference, "full_name": client.full_name}, client.pk)
            plan.items[at] = NewItem(item.row, shelf, client=owner, case=item.case, lender_text=item.lender_text)
            plan.outcomes[item.row] = Outcome.CREATE
    plan.items = [*known.items, *(item for item in plan.items if item is not None)]


def _mend_problems(plan: Plan, without_case: set[int]) -> None:
    """A row about somebody known was read twice, and first as if it made a case."""
    of_case = {column.header for column in plan.layout.columns if column.owner == CASE}
    told = dict.fromkeys(plan.problems)
    plan.problems[:] = [each for each in told if each.row not in without_case or each.column not in of_case]


def _has_case(plan: Plan, row: Row) -> bool:
    return says(row, [column for column in plan.layout.columns if column.owner == CASE])


def _tell_what_is_not_taken(plan: Plan, reader: RowReader, row: Row, said: Draft, client: Client) -> None:
    for column in plan.layout.columns:
        if column.owner == CLIENT and said.given.get(column.name) not in (None, getattr(client, column.name)):
            reason = _("Not taken: %(client)s is given the case and nothing else.") % {"client": client.reference}
            reader.report(row, column, reason, WARNING)


def _clients(references: set[str], user) -> dict[str, Client]:
    visible = Client.objects.visible_to(user)
    return {
        client.reference: client
        for some in itertools.batched(references, BATCH)
        for client in visible.filter(reference__in=some)
    }
