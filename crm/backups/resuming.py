"""An office that was put back goes on: nobody is logged in, nothing is half done, and no message leaves twice. What became of
all that since the backup was made, nobody here knows; a person decides what is done again."""

import datetime

from django.contrib.sessions.models import Session
from django.utils import timezone
from django.utils.translation import gettext as _
from django_q.models import OrmQ

from crm.choices import MessageState, RunState, Source, Withheld
from crm.exports import regular
from crm.models import ExportSchedule, Heartbeat, JobRun, JobSchedule, MessageLog, Notice, operation


def resume(now: datetime.datetime) -> dict[str, int]:
    """Returns how much of each. The calendar begins anew: what was due since the backup is neither done late nor told as
    missed, but for deadlines, which the next morning's mail tells back to the last one that it knows of."""
    with operation(Source.COMMAND, reason=_("Put back from a backup.")):
        JobSchedule.objects.update(since=now)
        ExportSchedule.objects.update(since=_first_day_to_export(now))
    OrmQ.objects.all().delete()
    Heartbeat.objects.all().delete()
    _let_inboxes_have_what_no_mail_told()
    return {
        "logged_out": Session.objects.all().delete()[0],
        "ended": JobRun.objects.filter(state__in=[RunState.QUEUED, RunState.RUNNING]).update(
            state=RunState.FAILED,
            finished_at=now,
            message=_("It had not ended when the backup was made from which the office was put back."),
        ),
        "withheld": MessageLog.objects.to_send().update(
            state=MessageState.WITHHELD, error=Withheld.PUT_BACK, next_try_at=None, updated_at=now
        ),
    }


def _first_day_to_export(now: datetime.datetime) -> datetime.date:
    """Whose hour is still to come."""
    local = timezone.localtime(now)
    return local.date() + datetime.timedelta(days=1 if local.time() >= regular.FROM else 0)


def _let_inboxes_have_what_no_mail_told() -> None:
    waiting = Notice.objects.to_mail()
    waiting.exclude(user=None).update(in_inbox=True)
    waiting.update(wants_mail=False)
