"""The weekly report as a message: to managers and administrators of all cases, to advisers of their own. Its figures are
crm.reports'. Whoever reads the audit trail gets the head of the seals with it: kept in a mailbox, it is an anchor."""

import base64
import datetime
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings
from django.template.loader import render_to_string
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from crm import outbox, reports, values
from crm.audit import sealing
from crm.exports import xlsx_file
from crm.exports.columns import Kind
from crm.exports.tables import text_cell
from crm.models import Case, MessageLog, User

KIND = "weekly_report"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
TITLES = {
    reports.NEW: gettext_lazy("New cases"),
    reports.MOVED: gettext_lazy("Moved on"),
    reports.APPROVED: gettext_lazy("Approved"),
    reports.DECLINED: gettext_lazy("Declined"),
    reports.WITHDRAWN: gettext_lazy("Withdrawn"),
    reports.OVERDUE: gettext_lazy("Overdue"),
}
SHOWN = 20


def messages(first: datetime.date, *, on: datetime.date, to: list[str] | None = None) -> Iterator[MessageLog]:
    """Of the week that began on the Monday `first`. One each, so nobody learns another's address; `to` are addresses of
    people who would get one anyway. Not written yet."""
    readers = User.objects.filter(is_active=True, is_staff=True).exclude(email="").order_by("pk")
    for user in readers.prefetch_related("groups__permissions", "user_permissions"):
        if to is not None and user.email not in to:
            continue
        sees_all = user.has_perm("crm.view_all_cases")
        if not sees_all and not user.has_perm("crm.change_case"):
            continue
        cases = Case.objects.all() if sees_all else Case.objects.belonging_to(user)
        with translation.override(user.language):
            week = reports.week(first, cases, on=on)
            if not sees_all and week.is_empty:
                continue
            yield _message(user, week)


def _message(user: User, week: reports.Week) -> MessageLog:
    number = f"{week.first:%G-W%V}"
    context = {
        "week": week,
        "first": values.date(week.first),
        "last": values.date(week.last),
        "groups": [(title, _listed(week.cases[what]), len(week.cases[what])) for what, title in TITLES.items()],
        "total": values.money(reports.total(week.by_lender)),
        "by_lender": [(each.name or "–", each.count, values.money(each.amount_czk)) for each in week.by_lender],
        "by_adviser": [(each.name or "–", each.count, values.money(each.amount_czk)) for each in week.by_adviser],
        "days": [(each.step, values.number(round(each.median, 1), 1), each.count) for each in week.days],
        "url": settings.SITE_URL,
        "head": sealing.head_line() if user.has_perm("crm.view_auditseal") else "",
    }
    body = render_to_string("mail/weekly_report.txt", context).strip() + "\n"
    title = _("Weekly report %(week)s") % {"week": number}
    message = outbox.message(
        KIND, to=user.email, user=user, subject=title, body=body, about=[user.pk, number], language=user.language
    )
    message.attachments = json.dumps([[f"hypodesk-{number}.xlsx", XLSX, base64.b64encode(workbook(week)).decode()]])
    return message


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
    title: str
    columns: list[_Column]
    rows: list[list]

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
    xlsx_file.write(_Sheet(f"{week.first:%G-W%V}", columns, rows), target)
    return target.getvalue()


def send(now: datetime.datetime, progress=lambda done: None) -> dict[str, object]:
    """Writes the report of the week before into the outbox; each once."""
    on = timezone.localtime(now).date()
    first, count = reports.monday_of(on) - reports.WEEK, 0
    for number, message in enumerate(messages(first, on=on), 1):
        count += outbox.put([message])
        progress(number)
    return {"week": f"{first:%G-W%V}", "messages": count}
