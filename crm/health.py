"""Whether the office's machinery works: said in one sentence that names what is wrong, or in none."""

import datetime

from django.conf import settings
from django.utils.translation import gettext as _

from crm import outbox, values
from crm.models import Heartbeat, JobRun

ALIVE_WITHIN = datetime.timedelta(seconds=90)
WAITS_AT_MOST = datetime.timedelta(minutes=5)


def worker_trouble(now: datetime.datetime) -> str:
    """Empty where some worker ran a task or got on with a job a moment ago, and nothing due waits."""
    return silence(now, Heartbeat.objects.newest()) or waiting(now)


def silence(now: datetime.datetime, seen: datetime.datetime | None) -> str:
    """`seen` is the newest beat. Where there is none, two long jobs that get on are as good."""
    if seen and abs(now - seen) < ALIVE_WITHIN:
        return ""
    running = JobRun.objects.running().order_by("-progressed_at").values_list("progressed_at", flat=True)
    last = max((each for each in (seen, running.first()) if each), default=None)
    if last is None:
        return _("No worker runs: reminders, reports and backups wait. Start it with: manage.py worker")
    if abs(now - last) < ALIVE_WITHIN:
        return ""
    return _(
        "No worker has run since %(when)s: reminders, reports and backups wait. Start it with: manage.py worker"
    ) % {"when": values.moment(last)}


def mail_trouble() -> str:
    """Where no server is named, and somebody waits for a message."""
    if settings.EMAIL_IS_SET or not (count := outbox.waiting()):
        return ""
    return _("%(count)s messages wait: no mail server is named. Set EMAIL_URL, then try: manage.py send_test_email") % {
        "count": count
    }


def waiting(now: datetime.datetime) -> str:
    run = JobRun.objects.waiting().filter(due_at__lt=now - WAITS_AT_MOST).order_by("due_at").first()
    if run is None:
        return ""
    return _("The job %(job)s has waited since %(when)s.") % {"job": run.name, "when": values.moment(run.due_at)}
