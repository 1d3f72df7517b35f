"""Spreadsheets into clients and cases. Reading (bytes to rows), columns, values and plans come first and write nothing;
`write` does, in one transaction. The admin, the commands and, later, jobs call only what is named here.

    plan = imports.check(content, "clients.xlsx", user)    # every problem of every row; raises UnusableFile
    run = imports.write(plan, user)                        # the good rows, or none of them with all_or_nothing=True

Between a preview and its confirmation `imports.keep(plan, content, user)` stores the encrypted bytes in an ImportRun,
and `imports.confirm(run, user)` checks them once more and writes: the plan is never stored, so it is never stale.
"""

import base64
import datetime
from functools import partial

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from crm.choices import RunState
from crm.exceptions import NotAllowed
from crm.imports import combined, duplicates, own, people
from crm.imports.columns import COMBINED, PEOPLE, recognise
from crm.imports.plans import Outcome, Plan, sha256
from crm.imports.problems import RowProblem, UnusableFile
from crm.imports.reading import read
from crm.imports.values import Lookups, RowReader
from crm.imports.writing import write, written_runs
from crm.models import ImportRun

__all__ = [
    "Outcome", "Plan", "RowProblem", "UnusableFile", "check", "confirm", "keep", "kept", "kept_content", "read",
    "write",
]  # fmt: skip

# How long an unconfirmed file waits.
KEPT_FOR = datetime.timedelta(hours=2)


def check(content: bytes, file_name: str, user=None, *, on=None) -> Plan:
    """Reads the file and plans every row. `user` sees only his rows of the database (None: all of them). `on` is the
    day of a case without a date. Writes nothing; queries follow the batches of rows. Raises UnusableFile."""
    on = on or timezone.localdate()
    seen = written_runs()
    sheet = read(content, file_name)
    layout, problems = recognise(sheet)
    again = partial(check, content, file_name, user, on=on)
    plan = Plan(file_name, sha256(content), sheet, layout, problems=problems, seen=seen, again=again)
    reader = RowReader(Lookups(), plan.problems)
    rows = []
    for row in sheet.rows:
        if row.is_blank:
            plan.outcomes[row.number] = Outcome.SKIP
        elif reason := sheet.shape_error(row):
            reader.report(row, None, reason)
            plan.outcomes[row.number] = Outcome.ERROR
        else:
            rows.append(row)
    if layout.kind == PEOPLE:
        people.plan_people(plan, reader, rows, on=on)
    elif layout.kind == COMBINED:
        combined.plan_combined(plan, reader, rows, user, on=on)
    else:
        own.plan_own(plan, reader, rows, user, on=on)
    duplicates.report(plan, [item for item in plan.items if item.is_new and item.client.pk is None], user)
    plan.problems.sort(key=lambda problem: problem.row)
    return plan


def keep(plan: Plan, content: bytes, user) -> ImportRun:
    """Stores the file, encrypted, for the confirmation that may follow. What `user` kept before and never confirmed is
    forgotten, and what anybody kept too long, so that no file of personal data lies about."""
    forgotten = Q(user=user) | Q(created_at__lt=timezone.now() - KEPT_FOR)
    ImportRun.objects.filter(forgotten, state=RunState.CHECKED).update(file="", state=RunState.MISSED)
    return ImportRun.objects.create(
        user=user,
        user_name=user.get_display_name(),
        state=RunState.CHECKED,
        file_name=plan.file_name[-255:],
        sha256=plan.sha256,
        rows=plan.rows,
        file=base64.b64encode(content).decode(),
    )


def kept(user):
    """The runs whose file waits for `user`, and for nobody else, to confirm them."""
    return ImportRun.objects.filter(user=user, state=RunState.CHECKED, created_at__gte=timezone.now() - KEPT_FOR)


def kept_content(run: ImportRun) -> bytes:
    return base64.b64decode(run.file)


def confirm(run: ImportRun, user, *, all_or_nothing: bool = False) -> Plan:
    """Checks the kept file once more and writes it, once: of two confirmations one wins. Raises NotAllowed when the
    run is somebody else's, was confirmed before or waited too long."""
    waiting = kept(user).filter(pk=run.pk)
    run = waiting.first()
    if run is None:
        raise NotAllowed()
    plan = check(kept_content(run), run.file_name, user)
    with transaction.atomic():
        if not waiting.update(state=RunState.RUNNING):
            raise NotAllowed()
        write(plan, user, all_or_nothing=all_or_nothing, run=run)
    return plan
