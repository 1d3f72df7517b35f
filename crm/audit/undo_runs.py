"""The undo of a large operation, by a job of the long queue: nobody's page waits for it. It is one transaction with its
record, so a kill or Cancel leaves nothing, and a job that is begun again after its end finds nothing to do."""

import uuid
from functools import partial

from django.db import transaction
from django.utils import timezone, translation

from crm import jobs
from crm.audit import plans, trail, undo
from crm.choices import OPERATION_KINDS, AuditKind, QueueName, RunState
from crm.exceptions import NotAllowed
from crm.models import AuditEntry, UndoRun
from crm.models.operations import current_operation

JOB = "undo_operation"
# A page plans and puts back so many rows of the history itself.
ROWS_AT_ONCE = 2_000
# Of the records that were left: how many of each kind are listed, and on one page.
MOST_LISTED, LISTED_AT_ONCE = 500, 50
IN_WORK = (RunState.QUEUED, RunState.RUNNING)


# --- What the pages ask for ---


def is_large(entry: AuditEntry) -> bool:
    """By the trail's own count, which it keeps of every operation of some size."""
    counts = trail.counts_of([entry], None)[entry.pk]
    return _rows(counts) > ROWS_AT_ONCE


def order(operation_id: uuid.UUID, user, *, reason: str = "") -> UndoRun:
    """Puts the undo into the queue; one that waits or runs already is not asked for again. Raises NotAllowed,
    NothingToUndo."""
    plans.require(user)
    if run := in_work(operation_id):
        return run  # it may hold the operation until its end
    with transaction.atomic():
        if _entry(operation_id, user, is_held=True) is None:
            raise undo.NothingToUndo()
        run = in_work(operation_id)
        if run is None:
            run = UndoRun.objects.create(
                user=user, user_name=user.get_display_name(), undoes=operation_id, reason=reason.strip()
            )
            run.job = jobs.enqueue(JOB, queue=QueueName.LONG, user=user, run=run.pk)
            run.save(update_fields=["job"])
    return run


def in_work(operation_id: uuid.UUID) -> UndoRun | None:
    runs = UndoRun.objects.filter(undoes=operation_id, state__in=IN_WORK, job__state__in=IN_WORK)
    return runs.select_related("job", "user").first()


def newest(operation_id: uuid.UUID, user) -> UndoRun | None:
    """The last one that this person may know of."""
    runs = UndoRun.objects.visible_to(user).filter(undoes=operation_id)
    return in_work(operation_id) or runs.select_related("job", "user").first()


def state_of(run: UndoRun) -> str:
    """While it is in work the job knows: one that was cancelled or given up tells its run nothing."""
    if run.state not in IN_WORK:
        return run.state
    if run.job and run.job.state in IN_WORK:
        return run.job.state
    run.refresh_from_db(fields=["state"])  # it ended after the run was read
    return RunState.FAILED if run.state in IN_WORK else run.state


def said(run: UndoRun) -> str:
    """Why nothing was put back."""
    if run.job is None:
        return run.message
    return str(jobs.Cancelled()) if run.job.is_cancelled else run.job.message


def cancel(run: UndoRun, *, by) -> None:
    """One that waits ends at once, one that works at its next step, and nothing is put back. Raises jobs.NotRunnable."""
    if run.job is None or state_of(run) not in IN_WORK:
        raise jobs.NotRunnable()
    jobs.cancel(run.job, by=by)


# --- The job ---


def undo_by_job(progress: jobs.Progress) -> dict:
    """Raises NotAllowed where the person left meanwhile, or may not undo any more; what `undo.undo` raises."""
    run = UndoRun.objects.select_related("user").get(pk=progress.arguments["run"])
    if run.state not in IN_WORK:
        return _counts(run)
    user = run.user
    entry = _entry(run.undoes, user) if user is not None and user.is_active and user.is_staff else None
    if entry is None:
        raise NotAllowed()
    rows = _rows(trail.counts_of([entry], None)[entry.pk])
    with translation.override(user.language), undo.fitting(), transaction.atomic():
        _hold(run)
        undo.hold(run.undoes)
        made = plans.plan(run.undoes, user, progress=partial(progress, total=2 * rows))
        if made.count:
            undo.carry_out(
                made, user, kind=AuditKind.UNDO, reason=run.reason, undoes=run.undoes,
                progress=lambda done: progress(rows + done, total=2 * rows),
            )  # fmt: skip
        _keep(run, made)
        if not progress.is_mine():
            raise jobs.Interrupted()
    return _counts(run)


def _hold(run: UndoRun) -> None:
    """Against another worker that began the same job: it waits here for our end, and then finds nothing to do."""
    if not UndoRun.objects.select_for_update().filter(pk=run.pk, state__in=IN_WORK).exists():
        raise jobs.Interrupted()


def _keep(run: UndoRun, made: plans.Plan) -> None:
    """The reason stands in the trail."""
    run.state, run.finished_at, run.operation_id, run.reason = RunState.DONE, timezone.now(), current_operation().id, ""
    run.put_back_count = made.count
    run.touched_count = sum(len(part.touched) for part in made.parts.values())
    run.blocked_count = sum(len(part.blocked) for part in made.parts.values())
    run.left = _portions(plans.families(made, MOST_LISTED))
    run.save()


def _portions(families: list[dict[str, list[int]]]) -> list[dict[str, list[int]]]:
    """As many families as a page lists, together."""
    found = []
    for start in range(0, len(families), LISTED_AT_ONCE):
        portion: dict[str, list[int]] = {}
        for family in families[start : start + LISTED_AT_ONCE]:
            for name, keys in family.items():
                portion.setdefault(name, []).extend(keys)
        found.append(portion)
    return found


def _entry(operation_id: uuid.UUID, user, *, is_held: bool = False) -> AuditEntry | None:
    entries = AuditEntry.objects.visible_to(user).filter(operation_id=operation_id, kind__in=OPERATION_KINDS)
    return (entries.select_for_update() if is_held else entries).first()


def _rows(counts: trail.Counts) -> int:
    return sum(rows for kinds in counts.values() for rows in kinds.values())


def _counts(run: UndoRun) -> dict[str, int]:
    return {"put_back": run.put_back_count, "left": run.touched_count + run.blocked_count}
