"""Runs of jobs: put into the queue, claimed, carried out, tried again. The queue delivers at least once, and keeps for
hours what a killed process had taken out of it; so the JobRun decides, and the queue only knocks.

A job is a function of crm.tasks that takes a Progress. It may be begun again from the start at any time, so it works in
chunks that are harmless when done twice."""

import contextlib
import datetime
import logging
import threading
import traceback
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path

from django.db import Error as DatabaseFailure
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django_q.models import OrmQ
from django_q.tasks import async_task

from crm.choices import QueueName, RunState, Source
from crm.exceptions import CrmError
from crm.models import JobRun, JobSchedule, operation

logger = logging.getLogger(__name__)

RUN = "crm.tasks.run_job"
MOST_ATTEMPTS = 3
RETRY_AFTER = (datetime.timedelta(minutes=1), datetime.timedelta(minutes=5))
BEAT_EVERY_S = 2
AGAIN_EVERY_S = 1
# A process that said nothing for so long is gone; on SQLite a long write of another keeps it silent meanwhile. With the
# beat that finds it out, what it was running runs again within a minute.
SILENT = datetime.timedelta(seconds=40)
# What left the queue and was not begun is knocked for again after so long.
LOST = datetime.timedelta(seconds=20)
PING_TIMEOUT_S = 5
LOG_LENGTH = 20_000
# How the slot of a run begins that no calendar asked for.
BY_HAND = "by hand"

# Set in a worker process that has been asked to stop, by the supervisor that forked it.
stopping = threading.Event()
# What this process calls itself; the supervisor gives its own name to all that it forks.
worker_name = ""


class Cancelled(CrmError):
    message = _("Cancelled.")


class Interrupted(BaseException):
    """The worker is stopping: the run goes back into the queue. No Exception, so that no job swallows it."""


class NotRunnable(CrmError):
    message = _("This run has ended or is running already.")


# --- Into the queue ---


def enqueue(
    name: str,
    *,
    slot: str = "",
    queue: str = QueueName.QUICK,
    due_at=None,
    user=None,
    is_knocked: bool = True,
    **arguments,
) -> JobRun | None:
    """A run for the slot, or None where there was one already: of two who ask at once one gets it. `arguments` are ids and
    ISO dates, kept readable. In the caller's transaction, with its knock, unless the caller carries it out himself."""
    now = timezone.now()
    run = JobRun(
        name=name,
        slot=slot or f"{BY_HAND} {now:%Y-%m-%dT%H:%M:%SZ} {uuid.uuid4().hex[:8]}",
        queue=queue,
        due_at=due_at or now,
        enqueued_at=now,
        claim=uuid.uuid4(),
        arguments=arguments,
        user=user,
        user_name=user.get_display_name() if user else "",
    )
    with transaction.atomic():
        JobRun.objects.bulk_create([run], ignore_conflicts=True)
        made = JobRun.objects.filter(claim=run.claim).first()
        if made is not None and is_knocked:
            _knock(made)
    return made


def _knock(run: JobRun) -> None:
    async_task(RUN, run.pk, cluster=run.queue, task_name=run.name, group=run.name)


def retry(run: JobRun, *, by) -> None:
    """A run that failed or was missed, from its beginning. Raises NotRunnable."""
    now = timezone.now()
    with transaction.atomic():
        ended = JobRun.objects.filter(pk=run.pk, state__in=[RunState.FAILED, RunState.MISSED])
        if not ended.update(
            state=RunState.QUEUED, attempts=0, is_cancelled=False, due_at=now, enqueued_at=now, finished_at=None,
            done_count=0, total_count=0, user=by, user_name=by.get_display_name() if by else "",
        ):  # fmt: skip
            raise NotRunnable()
        _knock(run)


def cancel(run: JobRun, *, by) -> None:
    """A waiting run ends at once, a running one at its next chunk. Raises NotRunnable."""
    ended = {"state": RunState.FAILED, "message": str(Cancelled()), "finished_at": timezone.now()}
    with transaction.atomic():
        is_ended = JobRun.objects.waiting().filter(pk=run.pk).update(is_cancelled=True, **ended)
        if not is_ended and not JobRun.objects.running().filter(pk=run.pk).update(is_cancelled=True):
            raise NotRunnable()
    if is_ended:
        _ping(_ping_url(run), "/fail")


def sweep(now: datetime.datetime) -> None:
    """Brings back what killed processes left: running runs that say nothing any more, waiting ones that nobody knocks for."""
    for run in JobRun.objects.silent(now - SILENT).order_by("pk"):
        _give_back(run, now, said=_("The worker was killed."))
    queued = set(OrmQ.objects.filter(lock__lte=now).values_list("key", flat=True))
    for run in JobRun.objects.waiting().filter(enqueued_at__lt=now - LOST, due_at__lte=now).order_by("pk"):
        if run.queue in queued:
            continue  # somebody knocks there, and is not answered yet
        with transaction.atomic():
            if JobRun.objects.waiting().filter(pk=run.pk, enqueued_at=run.enqueued_at).update(enqueued_at=now):
                _knock(run)


def give_back_all(worker: str, now: datetime.datetime, *, is_wanted: bool = False) -> None:
    """What this worker, which has ended, still seems to run. A wanted stop is no failed attempt."""
    for run in JobRun.objects.running().filter(worker=worker):
        run.attempts -= is_wanted
        _give_back(run, now, said=_("The worker was stopped."))


def _give_back(run: JobRun, now: datetime.datetime, *, said) -> None:
    if run.attempts >= MOST_ATTEMPTS or run.is_cancelled:
        _fail(run, message=str(Cancelled() if run.is_cancelled else said))
    else:
        _queue_again(run, now, said=said)


def _mine(run: JobRun):
    return JobRun.objects.running().filter(pk=run.pk, claim=run.claim)


def _queue_again(run: JobRun, due_at, progress: "Progress | None" = None, *, said, attempts: int | None = None) -> None:
    """To be run at `due_at`, knocked for at once where that has come, else by the sweep. What was cancelled ends."""
    now = timezone.now()
    if _mine(run).filter(is_cancelled=True).exists():
        _fail(run, progress, message=str(Cancelled()))
        return
    values = {"log": progress.columns()["log"]} if progress else {}
    with transaction.atomic():
        if _mine(run).update(
            state=RunState.QUEUED, due_at=due_at, enqueued_at=now, message=str(said),
            attempts=run.attempts if attempts is None else attempts, **values,
        ) and due_at <= now:  # fmt: skip
            _knock(run)


def _end(run: JobRun, state: str, progress: "Progress | None" = None, **values) -> bool:
    values |= progress.columns() if progress else {}
    return bool(_mine(run).update(state=state, finished_at=timezone.now(), operation_id=run.operation_id, **values))


def _fail(run: JobRun, progress: "Progress | None" = None, *, message: str) -> None:
    if _end(run, RunState.FAILED, progress, message=message):
        _ping(_ping_url(run), "/fail")


# --- In the worker ---


class Progress:
    """What a job says of itself while it works. Calling it is the chunk's end: there a job is cancelled or interrupted.
    It asks no database, so it may be called anywhere and often; `_beating` carries it there."""

    def __init__(self, run: JobRun):
        self.run = run
        self.arguments: dict = run.arguments
        self.done = self.total = 0
        self.moved_at = run.started_at
        self.is_cancelled = self.is_taken_over = False
        self._lines: list[str] = []

    def __call__(self, done: int, total: int = 0) -> None:
        """Raises Cancelled; Interrupted where the worker stops, or where somebody began the run again meanwhile."""
        if stopping.is_set() or self.is_taken_over:
            raise Interrupted()
        if self.is_cancelled:
            raise Cancelled()
        self.done, self.total, self.moved_at = done, max(total, self.total), timezone.now()

    def is_mine(self) -> bool:
        """Whether nobody began it again meanwhile; asked in a transaction, that stays so until its end."""
        return _mine(self.run).select_for_update(no_key=True).exists()

    def ends_with(self, error: BaseException) -> bool:
        """Whether the run is not tried again after it."""
        is_last = self.run.attempts >= MOST_ATTEMPTS
        is_final = isinstance(error, CrmError) and error.is_final
        return is_final or (isinstance(error, Exception) and is_last)

    def log(self, line: object) -> None:
        """Without personal data: it is kept readable."""
        self._lines.append(f"{timezone.localtime():%H:%M:%S} {line}".replace("\0", ""))

    def columns(self) -> dict:
        log = "\n".join(self._lines)[-LOG_LENGTH:]
        return {"done_count": self.done, "total_count": self.total, "progressed_at": self.moved_at, "log": log}


def unwatched(done: int, total: int = 0) -> None:
    """The progress that nobody follows."""


def carry_out(run_id: int, works: dict[str, Callable[[Progress], dict | None]]) -> None:
    """Runs it, unless somebody else does or did. What a job raises ends here: it is tried again after RETRY_AFTER, in all
    MOST_ATTEMPTS times, but for a CrmError that `is_final`, which the next try would meet too. What it returns are counts."""
    run = _claim(run_id)
    if run is None:
        return
    ping_url = _ping_url(run)
    progress, counts, error = Progress(run), {}, None
    try:
        with operation(Source.JOB, user=run.user) as done, _beating(progress):
            run.operation_id = done.id
            _ping(ping_url, "/start")
            counts = works[run.name](progress) or {}
    except Interrupted:
        _insist(
            _queue_again, run, timezone.now(), progress, said=_("The worker was stopped."), attempts=run.attempts - 1
        )
        return
    except Exception as raised:
        error = raised
        logger.error("run %s of %s, attempt %s: %s", run.pk, run.name, run.attempts, told(error))
        progress.log(told(error))
        if not progress.ends_with(error):
            _insist(_queue_again, run, timezone.now() + RETRY_AFTER[run.attempts - 1], progress, said=told(error))
            return
    state = RunState.FAILED if error else RunState.DONE
    if not _insist(_end, run, state, progress, counts=counts, message=told(error) if error else ""):
        logger.warning("run %s of %s was taken over while it ended", run.pk, run.name)
    _ping(ping_url, "/fail" if error else "")


def _insist(write: Callable, *args, **values):
    """What became of a run is also said to a database that was away just then: else it would all be done again."""
    while True:
        try:
            return write(*args, **values)
        except (OperationalError, InterfaceError):
            connection.close()
            if stopping.wait(AGAIN_EVERY_S):
                raise


def _claim(run_id: int) -> JobRun | None:
    now, claim = timezone.now(), uuid.uuid4()
    free = JobRun.objects.waiting().filter(pk=run_id, due_at__lte=now)
    taken = free.update(
        state=RunState.RUNNING, claim=claim, worker=worker_name, started_at=now, beat_at=now, progressed_at=now,
        attempts=F("attempts") + 1,
    )  # fmt: skip
    return JobRun.objects.get(pk=run_id, claim=claim) if taken else None


def told(error: BaseException) -> str:
    """An error without what it was about: its kind and where it came from. Our own errors carry nothing personal."""
    if isinstance(error, CrmError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{where}"


@contextlib.contextmanager
def _beating(progress: Progress):
    """A thread writes down that this process lives and how far it is, over a connection of its own, and brings back
    whether the run was cancelled or taken over."""
    ended, mine = threading.Event(), _mine(progress.run)

    def beat():
        while not ended.wait(BEAT_EVERY_S):
            try:
                progress.is_taken_over = not mine.update(beat_at=timezone.now(), **progress.columns())
                progress.is_cancelled = mine.filter(is_cancelled=True).exists()
            except DatabaseFailure:
                connection.close()
        connection.close()

    thread = threading.Thread(target=beat, name="beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _ping_url(run: JobRun) -> str:
    return JobSchedule.objects.filter(name=run.name).values_list("ping_url", flat=True).first() or ""


def _ping(address: str, what: str) -> None:
    """healthchecks' way. Whoever listens there may fail, or answer a byte a second; the job waits PING_TIMEOUT_S at most."""
    if address:
        thread = threading.Thread(target=_call, args=(address, what), name="ping", daemon=True)
        thread.start()
        thread.join(PING_TIMEOUT_S)


def _call(address: str, what: str) -> None:
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}{what}", timeout=PING_TIMEOUT_S):  # noqa: S310
            pass
    except Exception as error:
        logger.warning("ping %s: %s", what or "/", type(error).__name__)
