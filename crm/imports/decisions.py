"""What a person decided of rows that are probably about somebody known: to leave them out, or to give the case to him."""

import itertools
from collections.abc import Callable, Mapping

from django.utils.translation import gettext as _

from crm.imports.drafts import Draft, NewItem
from crm.imports.plans import Outcome, Plan
from crm.imports.problems import RowProblem
from crm.imports.shelf import Shelf
from crm.models import Client

SKIP = "skip"
BATCH = 500


def reshape(plan: Plan, change: Callable[[Plan], None]) -> Plan:
    """Changes the plan, and any that is made in its place."""
    again = plan.again
    plan.again = lambda: reshape(again(), change)
    change(plan)
    return plan


def narrow(plan: Plan, *, create: bool = True, update: bool = True, leave_out: frozenset[int] = frozenset()) -> None:
    """Leaves new records out, or changes of stored ones, or rows."""
    keep = {True: create, False: update}
    plan.items = [item for item in plan.items if keep[item.is_new] and item.row not in leave_out]
    left = {item.row for item in plan.items}
    for row, outcome in plan.outcomes.items():
        if outcome in (Outcome.CREATE, Outcome.UPDATE) and row not in left:
            plan.outcomes[row] = Outcome.SKIP


def decide(plan: Plan, decisions: Mapping[int, str], user) -> None:
    """By the row's number: SKIP, or the reference of the client that the row's new case is given to. One that the person
    does not see refuses the row."""
    if not decisions:
        return
    narrow(plan, leave_out=frozenset(row for row, choice in decisions.items() if choice == SKIP))
    known = _clients({choice for choice in decisions.values() if choice != SKIP}, user)
    shelf = Shelf()
    for at, item in enumerate(plan.items):
        reference = decisions.get(item.row)
        if reference is None or not item.is_new or item.case is None or item.client.pk:
            continue
        client = known.get(reference)
        plan.items[at] = None
        if client is None:
            reason = _("There is no such record among yours.")
            plan.problems.append(RowProblem(item.row, "", reference, reason))
            plan.outcomes[item.row] = Outcome.ERROR
        else:
            owner = Draft(Client, {"reference": client.reference, "full_name": client.full_name}, client.pk)
            plan.items[at] = NewItem(item.row, shelf, client=owner, case=item.case, lender_text=item.lender_text)
    plan.items = [item for item in plan.items if item is not None]


def _clients(references: set[str], user) -> dict[str, Client]:
    visible = Client.objects.visible_to(user).only("reference", "full_name")
    return {
        client.reference: client
        for some in itertools.batched(references, BATCH)
        for client in visible.filter(reference__in=some)
    }
