"""Exports that a job makes, and their files until they are fetched: encrypted pieces in the database, since web and worker
may share no disk. One person's file is nobody else's."""

import datetime
import io
import itertools
import json

from django.db import transaction
from django.db.models import Q
from django.utils import timezone, translation
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

from crm import jobs
from crm.choices import QueueName, RunState
from crm.encryption import decrypt_bytes, encrypt_bytes
from crm.exceptions import CrmError, NotAllowed
from crm.exports import fill, give_up
from crm.models import ExportPiece, ExportRun, JobRun

JOB = "make_export"
PIECE_BYTES = 1 << 20
CHUNK = 500
KEPT_FOR = datetime.timedelta(days=7)
# Of one person: others wait in the same queue.
MOST_AT_ONCE = 3
IN_WORK = (RunState.QUEUED, RunState.RUNNING)
# Longer than this no page and no command makes a file.
LONGEST = datetime.timedelta(days=1)
# A list's filter is understood by the list alone, which is an edge: the function takes the run and returns its rows.
ROWS_OF = "crm.admin.exports.rows_of"


class TooManyAtOnce(CrmError):
    message = _("%(count)s of your exports are not finished yet. Wait for one, or cancel it.")


@transaction.atomic
def order(run: ExportRun, *, query: str, selected: str) -> ExportRun:
    """Saves the unsaved run with the list's address and ticked keys, and puts it into the queue. Raises TooManyAtOnce."""
    count = JobRun.objects.filter(name=JOB, user=run.user, state__in=IN_WORK).count()
    if count >= MOST_AT_ONCE:
        raise TooManyAtOnce(count=count)
    run.state, run.source = RunState.QUEUED, json.dumps({"query": query, "selected": selected})
    run.save()
    run.job = jobs.enqueue(JOB, queue=QueueName.LONG, user=run.user, run=run.pk)
    run.save(update_fields=["job"])
    return run


def source(run: ExportRun) -> tuple[str, str]:
    """The query of the list's address, and the ticked keys."""
    found = json.loads(run.source)
    return found["query"], found["selected"]


def make(progress: jobs.Progress) -> dict:
    """The job: from its beginning whenever it is begun again. Raises NotAllowed where the person left meanwhile."""
    run = ExportRun.objects.select_related("user").get(pk=progress.arguments["run"])
    if run.state == RunState.DONE:
        return {"rows": run.rows}
    if run.user is None or not (run.user.is_active and run.user.is_staff):
        raise NotAllowed()
    claim = progress.run.claim
    _drop(run.pieces.exclude(claim=claim))  # of who was killed
    run.claim, run.kept_until = claim, timezone.now() + KEPT_FOR
    try:
        with translation.override(run.user.language):
            fill(run, import_string(ROWS_OF)(run), _Pieces(run), progress)
    except BaseException:
        _drop(run.pieces.filter(claim=claim))
        raise
    return {"rows": run.rows}


def cancel(run: ExportRun, *, by) -> None:
    """One that waits ends at once, one that is being made at its next chunk. Raises jobs.NotRunnable."""
    if run.job is None:
        raise jobs.NotRunnable()
    jobs.cancel(run.job, by=by)
    settle(timezone.now())


def settle(now: datetime.datetime) -> int:
    """Ends the records of what is not made any more: its job was cancelled or given up, or who made it was killed."""
    gone = Q(job=None, created_at__lt=now - LONGEST) | Q(job__isnull=False) & ~Q(job__state__in=IN_WORK)
    left = ExportRun.objects.filter(gone, state__in=IN_WORK).select_related("job", "user").order_by("pk")
    return sum(_settle(run, now) for run in left)


def _settle(run: ExportRun, now: datetime.datetime) -> bool:
    with translation.override(run.user and run.user.language):
        return give_up(run, message=said(run), at=now)


def said(run: ExportRun) -> str:
    """Why there is no file. A job keeps it in the words of whoever cancelled; here in the reader's."""
    if run.job is None:
        return run.message
    return str(jobs.Cancelled()) if run.job.is_cancelled else run.job.message


def _drop(pieces) -> int:
    return pieces.order_by()._raw_delete(pieces.db)


def is_there(run: ExportRun, now: datetime.datetime) -> bool:
    return run.state == RunState.DONE and bool(run.kept_until and run.kept_until > now)


def numbers(run: ExportRun) -> range:
    return range(run.pieces.filter(claim=run.claim).count())


def piece(run: ExportRun, number: int) -> bytes:
    found = run.pieces.filter(claim=run.claim).values_list("content", flat=True)
    return decrypt_bytes(bytes(found.get(number=number)))


def tidy(now: datetime.datetime) -> int:
    """Files that nobody fetched in time, and pieces of which no file will ever be; the record of the export stays."""
    settle(now)
    old = Q(run__kept_until__lt=now)
    abandoned = ~Q(run__state=RunState.DONE) & (Q(run__job=None) | ~Q(run__job__state__in=IN_WORK))
    keys = ExportPiece.objects.filter(old | abandoned).order_by().values_list("pk", flat=True)
    return sum(_drop(ExportPiece.objects.filter(pk__in=some)) for some in itertools.batched(keys.iterator(), CHUNK))


class _Pieces(io.RawIOBase):
    """To be written only, from the beginning to the end."""

    def __init__(self, run: ExportRun):
        self.run, self.number, self.waiting = run, 0, bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.waiting += data
        while len(self.waiting) >= PIECE_BYTES:
            self._store(bytes(self.waiting[:PIECE_BYTES]))
            del self.waiting[:PIECE_BYTES]
        return len(data)

    def flush(self) -> None:
        if not self.closed and self.waiting:
            self._store(bytes(self.waiting))
            self.waiting.clear()

    def _store(self, plain: bytes) -> None:
        content = encrypt_bytes(plain)
        ExportPiece.objects.create(run=self.run, claim=self.run.claim, number=self.number, content=content)
        self.number += 1
