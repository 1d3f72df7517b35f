"""What a text of messages would say of a real case: nothing is written, nothing is sent."""

import datetime

from django.utils import timezone, translation

from crm import due, notifications, radar
from crm.choices import MessageKind, NoticeKind
from crm.models import Case, Notice
from crm.notices import mails


def context(kind: str, language: str, case: Case, *, now: datetime.datetime, by_name: str) -> dict:
    """Of a kind that is about cases (`OF_CASES`): all that the case has to say, whenever it would be told."""
    with translation.override(language):
        return OF_CASES[kind](case, now, by_name)


def _deadlines(case: Case, now: datetime.datetime, by_name: str) -> dict:
    rows = due.as_due(case.steps.pending().exclude(deadline=None))
    return notifications.told_to_staff(rows, notifications.kinds_of(rows), timezone.localdate(now))


def _client_deadlines(case: Case, now: datetime.datetime, by_name: str) -> dict:
    rows = due.as_due(case.steps.pending().exclude(deadline=None))
    return notifications.told_to_client(case.reference, rows, notifications.kinds_of(rows), timezone.localdate(now))


def _radar(case: Case, now: datetime.datetime, by_name: str) -> dict:
    return radar.told(radar.of_case(case), timezone.localdate(now))


def _events(case: Case, now: datetime.datetime, by_name: str) -> list[Notice]:
    """As if it had been opened, and had come a step further, just now."""
    of_case = {"case": case, "created_at": now, "by_name": by_name}
    return [
        Notice(kind=NoticeKind.NEW_CASE, **of_case),
        *(Notice(kind=NoticeKind.STEP_COMPLETED, step=each.step, **of_case) for each in case.steps.all()[:1]),
    ]


def _notices(case: Case, now: datetime.datetime, by_name: str) -> dict:
    return mails.told_to_user(_events(case, now, by_name))


def _client_notices(case: Case, now: datetime.datetime, by_name: str) -> dict:
    return mails.told_to_client(case.reference, _events(case, now, by_name))


OF_CASES = {
    MessageKind.DEADLINES: _deadlines,
    MessageKind.RADAR: _radar,
    MessageKind.NOTICES: _notices,
    MessageKind.CLIENT_DEADLINES: _client_deadlines,
    MessageKind.CLIENT_NOTICES: _client_notices,
}
