"""Coloured words: a status, a deadline, a step's state. The word always says what the colour says."""

import datetime

from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from crm import values
from crm.choices import CaseStatus, DocumentStatus, ImportState, MessageState, RunState, StepState

SOON_DAYS = 3

COLOURS = {
    CaseStatus.OPEN: "soon",
    CaseStatus.APPROVED: "ok",
    CaseStatus.DECLINED: "overdue",
    CaseStatus.WITHDRAWN: "muted",
    CaseStatus.COMPLETED: "ok",
    StepState.PENDING: "soon",
    StepState.DONE: "ok",
    StepState.NOT_APPLICABLE: "muted",
    DocumentStatus.REQUESTED: "today",
    DocumentStatus.RECEIVED: "soon",
    DocumentStatus.CHECKED: "ok",
    DocumentStatus.REFUSED: "overdue",
    RunState.QUEUED: "today",
    RunState.RUNNING: "soon",
    RunState.FAILED: "overdue",
    RunState.MISSED: "overdue",
    ImportState.UPLOADED: "today",
    ImportState.CHECKING: "soon",
    MessageState.WAITING: "today",
    MessageState.SENT: "ok",
    MessageState.REFUSED: "overdue",
    MessageState.EXPIRED: "overdue",
}


def badge(text: str, colour: str = "muted", title: str = "") -> str:
    return format_html('<span class="hd-badge hd-badge--{}" title="{}">{}</span>', colour, title, text)


def choice(value: str, text: str) -> str:
    return badge(text, COLOURS.get(value, "muted"))


def urgency(deadline: datetime.date | None, today: datetime.date) -> str:
    """The colour of a deadline: overdue, today, soon, later, or none."""
    if deadline is None:
        return "none"
    days = (deadline - today).days
    if days < 0:
        return "overdue"
    if days == 0:
        return "today"
    return "soon" if days <= SOON_DAYS else "later"


def deadline(day: datetime.date | None, today: datetime.date | None = None) -> str:
    today = today or timezone.localdate()
    kind = urgency(day, today)
    if kind == "none":
        return format_html('<span class="hd-second">{}</span>', _("no deadline"))
    shown, days = values.date(day), (day - today).days
    if kind == "overdue":
        return badge(f"{shown} · {ngettext('%d day late', '%d days late', -days) % -days}", "overdue")
    if kind == "today":
        return badge(f"{shown} · {_('today')}", "today")
    if kind == "soon":
        return badge(f"{shown} · {ngettext('in %d day', 'in %d days', days) % days}", "soon")
    return format_html('<span class="hd-nowrap">{}</span>', shown)
