"""The weekly report as a message: as shipped to managers and administrators of all cases, to advisers of their own. Its figures are
crm.reports'. Whoever reads the audit trail gets the head of the seals with it: kept in a mailbox, it is an anchor."""

import base64
import datetime
import functools
import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from crm import jobs, notices, outbox, reports, texts, values, weekly_pdf
from crm.audit import sealing
from crm.choices import MessageKind, NoticeKind
from crm.exceptions import ReportsNotMade
from crm.exports import xlsx_file
from crm.exports.columns import Kind
from crm.exports.summary import Line
from crm.exports.tables import text_cell
from crm.models import Case, MessageLog, User

logger = logging.getLogger(__name__)
KIND = MessageKind.WEEKLY_REPORT
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PDF = "application/pdf"
TITLES = {
    reports.NEW: gettext_lazy("New cases"),
    reports.MOVED: gettext_lazy("Moved on"),
    reports.APPROVED: gettext_lazy("Approved"),
    reports.DECLINED: gettext_lazy("Declined"),
    reports.WITHDRAWN: gettext_lazy("Withdrawn"),
    reports.OVERDUE: gettext_lazy("Overdue"),
}
SHOWN = 20


def readers() -> list[User]:
    """Whom the office tells, whatever they chose."""
    rule = notices.rule_of(NoticeKind.WEEKLY_REPORT)
    return [user for user in notices.people(rule) if user.hears_of_all or rule.to_adviser]


def copies(first: datetime.date, *, on: datetime.date) -> Iterator[tuple[User, reports.Week]]:
    """Of the week that began on the Monday `first`, to each reader: of all that he may see, or if there is any of his own and
    of those he stands in for while their adviser is away."""
    people = readers()
    here = notices.at_work(people, on)
    for user in people:
        own = Q(adviser=user) | Q(stand_in=user) & ~Q(adviser__in=here)
        cases = Case.objects.visible_to(user) if user.hears_of_all else Case.objects.filter(own)
        with translation.override(user.language):
            week = reports.week(first, cases, on=on)
        if user.hears_of_all or not week.is_empty:
            yield user, week


def messages(first: datetime.date, *, on: datetime.date, to: list[str] | None = None) -> Iterator[MessageLog]:
    """One each, so nobody learns another's address; `to` are addresses of `readers`. Not written yet."""
    wording = functools.cache(texts.in_force)
    for user, week in copies(first, on=on):
        if user.by_mail if to is None else user.email.casefold() in {each.casefold() for each in to}:
            yield _message(user, week, wording)


def _message(user: User, week: reports.Week, wording) -> MessageLog:
    number = _number(week.first)
    with translation.override(user.language):
        text = wording(KIND, user.language).render(_told(user, week))
        files = [("xlsx", XLSX, workbook(week)), ("pdf", PDF, weekly_pdf.pages(week, TITLES))]
    message = outbox.message(
        KIND, to=user.email, user=user, subject=text.subject, body=text.body, html=text.html,
        about=[user.pk, number] if week.is_over else [user.pk, number, week.last.isoformat()], language=user.language,
    )  # fmt: skip
    message.attachments = json.dumps(
        [[f"hypodesk-{number}.{ending}", kind, base64.b64encode(content).decode()] for ending, kind, content in files]
    )
    return message


def _number(first: datetime.date) -> str:
    return f"{first:%G-W%V}"


def _told(user: User, week: reports.Week) -> dict:
    """The week in the words of the mail's text."""
    number = _number(week.first)
    until = _("%(week)s until %(day)s") % {"week": number, "day": values.date(week.last)}
    return {
        "week": number if week.is_over else until,
        "first": values.date(week.first),
        "last": values.date(week.last),
        "groups": [
            {"title": str(title), "count": len(week.cases[what]), "listed": _listed(week.cases[what])}
            for what, title in TITLES.items()
        ],
        "lenders": [_volume(each) for each in week.by_lender],
        "advisers": [_volume(each) for each in week.by_adviser],
        "total": values.money(reports.total(week.by_lender)),
        "days": [
            {"step": str(each.step), "median": values.number(round(each.median, 1), 1), "count": each.count}
            for each in week.days
        ],
        "url": settings.SITE_URL,
        "head": sealing.head_line() if user.has_perm("crm.view_auditseal") else "",
    }


def _volume(each) -> dict:
    return {"name": each.name or "–", "count": each.count, "amount": values.money(each.amount_czk)}


def _listed(rows: list[reports.Row]) -> str:
    more = f" … +{len(rows) - SHOWN}" if len(rows) > SHOWN else ""
    return ", ".join(row.reference for row in rows[:SHOWN]) + more


@dataclass(frozen=True)
class _Column:
    label: str
    kind: Kind
    width: int


@dataclass(frozen=True)
class _Sheet:
    columns: list[_Column]
    rows: list[list]
    week: str

    def summary(self) -> None:
        """A case may stand in several groups: sums would count it twice. The mail has them."""

    def about(self, rows: int) -> list[Line]:
        return [(_("Weekly report"), self.week, Kind.TEXT), (_("Rows"), rows, Kind.INTEGER)]

    @property
    def header(self) -> list[str]:
        return [column.label for column in self.columns]

    def __iter__(self):
        return iter(self.rows)


def workbook(week: reports.Week) -> bytes:
    """A row a case and what happened to it."""
    columns = [
        _Column(_("What happened"), Kind.TEXT, 14), _Column(_("Reference"), Kind.CODE, 11),
        _Column(_("Status"), Kind.TEXT, 12), _Column(_("Adviser"), Kind.TEXT, 24), _Column(_("Lender"), Kind.TEXT, 24),
        _Column(_("Opened on"), Kind.DATE, 12), _Column(_("Decided on"), Kind.DATE, 12),
        _Column(_("Next deadline"), Kind.DATE, 12), _Column(_("Loan amount (CZK)"), Kind.AMOUNT, 16),
        _Column(_("Approved amount (CZK)"), Kind.AMOUNT, 16),
    ]  # fmt: skip
    rows = [
        [str(title), row.reference, row.status, text_cell(row.adviser), text_cell(row.lender), row.opened_on,
         row.decided_on, row.next_deadline, row.loan_amount_czk, row.approved_amount_czk]
        for what, title in TITLES.items()
        for row in week.cases[what]
    ]  # fmt: skip
    target = io.BytesIO()
    xlsx_file.write(_Sheet(columns, rows, f"{week.first:%G-W%V}"), target)
    return target.getvalue()


def send(
    now: datetime.datetime, progress=lambda done: None, *, asked_on: datetime.date | None = None
) -> dict[str, object]:
    """Writes the report of the week before `asked_on` (today) into the outbox, and a notice of it into inboxes; each once.
    Whose could not be made keeps nobody else waiting; raises ReportsNotMade in the end."""
    on = timezone.localtime(now).date()
    first = reports.monday_of(asked_on or on) - reports.WEEK
    count = failed = 0
    wording = functools.cache(texts.in_force)
    for number, (user, week) in enumerate(copies(first, on=on), 1):
        try:
            mails = [_message(user, week, wording)] if user.by_mail else []  # takes seconds: not while rows are locked
            with transaction.atomic():
                count += outbox.put(mails)
                notices.leave(NoticeKind.WEEKLY_REPORT, {user: 1}, week=_number(first))
        except Exception as error:
            logger.error("weekly report: user %s: %s", user.pk, jobs.told(error))
            failed += 1
        progress(number)
    if failed:
        raise ReportsNotMade(count=failed)
    return {"week": _number(first), "messages": count}
