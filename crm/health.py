"""Whether the office's machinery works: said in one sentence that names what is wrong, or in none."""

import datetime

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from crm import schedules, values
from crm.choices import MessageState, QueueName
from crm.models import Heartbeat, JobRun, MessageLog

ALIVE_WITHIN = datetime.timedelta(seconds=90)
WAITS_AT_MOST = datetime.timedelta(minutes=5)
# A job's process may live and beat while the job itself stands still.
MOVES_WITHIN = {QueueName.QUICK: datetime.timedelta(minutes=10), QueueName.LONG: datetime.timedelta(minutes=30)}
MOST_COUNTED = 99  # on every page
LATE_TOLD_FOR = datetime.timedelta(days=7)


def worker_trouble(now: datetime.datetime) -> str:
    """Empty where some worker ran a task or got on with a job a moment ago, none stands still, and nothing due waits."""
    return silence(now, last_sign()) or stuck(now) or waiting(now)


def last_sign() -> datetime.datetime | None:
    """The newest beat; two long jobs that get on are as good. One query."""
    beats = Heartbeat.objects.order_by().values_list("at", flat=True)
    jobs = JobRun.objects.running().order_by().values_list("progressed_at", flat=True)
    return max((each for each in beats.union(jobs, all=True) if each), default=None)


def silence(now: datetime.datetime, seen: datetime.datetime | None) -> str:
    """`seen` is the last sign of life."""
    if seen is None:
        return _("No worker runs: reminders, reports and backups wait. Start it with: manage.py worker")
    if abs(now - seen) < ALIVE_WITHIN:
        return ""
    return _(
        "No worker has run since %(when)s: reminders, reports and backups wait. Start it with: manage.py worker"
    ) % {"when": values.moment(seen)}


def mail_trouble() -> str:
    """Where no server is named, and somebody waits for a message, or waited until it was too late."""
    if settings.EMAIL_IS_SET:
        return ""
    waiting = _counted(MessageLog.objects.to_send())
    since = timezone.now() - LATE_TOLD_FOR
    if late := _counted(MessageLog.objects.filter(state=MessageState.EXPIRED, updated_at__gt=since)):
        return _(
            "%(count)s messages wait, and %(late)s of the last seven days were too late: no mail server is named. "
            "Set EMAIL_URL, then try: manage.py send_test_email"
        ) % {"count": waiting or 0, "late": late}
    if not waiting:
        return ""
    return _("%(count)s messages wait: no mail server is named. Set EMAIL_URL, then try: manage.py send_test_email") % {
        "count": waiting
    }


def _counted(messages: QuerySet[MessageLog]) -> str:
    """Empty where there are none."""
    count = messages[: MOST_COUNTED + 1].count()
    return f"{MOST_COUNTED}+" if count > MOST_COUNTED else str(count or "")


def stuck(now: datetime.datetime) -> str:
    for run in JobRun.objects.running().defer("log").order_by("progressed_at"):
        if run.progressed_at and now - run.progressed_at > MOVES_WITHIN[run.queue]:
            named = {"job": schedules.title_of(run.name), "when": values.moment(run.progressed_at)}
            return _("The job %(job)s has not moved since %(when)s.") % named
    return ""


def waiting(now: datetime.datetime) -> str:
    run = JobRun.objects.waiting().filter(due_at__lt=now - WAITS_AT_MOST).order_by("due_at").first()
    if run is None:
        return ""
    named = {"job": schedules.title_of(run.name), "when": values.moment(run.due_at)}
    return _("The job %(job)s has waited since %(when)s.") % named
