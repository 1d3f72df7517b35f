"""Sidebar, the command palette's client search, and what else Unfold asks by dotted name."""

import dataclasses

from axes.models import AccessAttempt
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import Group
from django.templatetags.static import static
from django.urls import reverse
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django_q.models import Failure, OrmQ, Success

from crm import calendars
from crm.models import (
    AuditCheck,
    AuditEntry,
    AuditSeal,
    BackupRun,
    CalendarFeed,
    Case,
    CaseParty,
    CaseStep,
    Client,
    Commission,
    Consent,
    Document,
    DocumentType,
    Erasure,
    ExportRun,
    ExportSchedule,
    FinanceItem,
    Identification,
    ImportRun,
    JobRun,
    JobSchedule,
    Lender,
    MessageLog,
    MessageText,
    Note,
    Notice,
    NoticeRule,
    Property,
    RegulatoryLimit,
    Step,
    User,
)

RECYCLE_BIN = "admin:crm_recycle_bin"
MY_CALENDAR = "admin:crm_calendarfeed_mine"
MY_DAY, INBOX, MY_NOTICES = "admin:index", "admin:crm_inbox", "admin:crm_my_notices"
SHORTEST_TERM = 3
MOST_RESULTS = 10
MOST_COUNTED = 99


@dataclasses.dataclass
class Found:
    """One line of the command palette, as Unfold's template reads it."""

    title: str
    description: str
    link: str
    icon: str


def sidebar(request):
    """Only lists that this person may open: each list's own admin is asked, so a link never ends in a 403."""
    groups = [
        (
            "",
            [
                (_("My day"), "today", MY_DAY),
                (_("Inbox"), "notifications", INBOX),
                (_("Clients"), "group", Client),
                (_("Cases"), "home_work", Case),
                (_("What is due"), "event_upcoming", CaseStep),
                (_("Documents"), "description", Document),
                (_("Notes"), "sticky_note_2", Note),
                (_("Commissions"), "payments", Commission),
            ],
        ),
        (
            _("Records"),
            [
                (_plural(CaseParty), "groups", CaseParty),
                (_plural(Property), "apartment", Property),
                (_plural(FinanceItem), "account_balance_wallet", FinanceItem),
                (_plural(Consent), "approval_delegation", Consent),
                (_plural(Identification), "fingerprint", Identification),
            ],
        ),
        (
            _("Catalogues"),
            [
                (_("Kinds of steps"), "checklist", Step),
                (_("Lenders"), "account_balance", Lender),
                (_("Document types"), "folder_open", DocumentType),
                (_("Regulatory limits"), "gavel", RegulatoryLimit),
            ],
        ),
        (
            _("Runs"),
            [
                (_("Imports"), "upload", ImportRun),
                (_("Exports"), "download", ExportRun),
                (_plural(ExportSchedule), "event_repeat", ExportSchedule),
                (_("Messages"), "mail", MessageLog),
                (_plural(NoticeRule), "campaign", NoticeRule),
                (_plural(MessageText), "edit_note", MessageText),
                (_("Jobs"), "history", JobRun),
                (_("Schedules"), "schedule", JobSchedule),
                (_("Backups"), "backup", BackupRun),
            ],
        ),
        (
            _("Audit"),
            [
                (_plural(AuditEntry), "policy", AuditEntry),
                (_plural(AuditSeal), "verified", AuditSeal),
                (_plural(AuditCheck), "fact_check", AuditCheck),
                (_("Recycle bin"), "restore_from_trash", RECYCLE_BIN),
                (_plural(Erasure), "person_off", Erasure),
            ],
        ),
        (
            _("Queue"),
            [
                (_("Waiting"), "hourglass_top", OrmQ),
                (_("Done"), "task_alt", Success),
                (_("Failed"), "error", Failure),
            ],
        ),
        (
            _("People"),
            [
                (_("Users"), "person", User),
                (_plural(CalendarFeed), "event", CalendarFeed),
                (_("Roles"), "badge", Group),
                (_plural(AccessAttempt), "lock", AccessAttempt),
            ],
        ),
    ]
    return [
        {
            "title": title,
            "separator": bool(title),
            "items": [_item(*entry) for entry in entries if _may_open(request, entry[2])],
        }
        for title, entries in groups
    ]


def _plural(model) -> str:
    return capfirst(model._meta.verbose_name_plural)


def _may_open(request, model) -> bool:
    if model in (MY_DAY, INBOX):
        return True
    if model is RECYCLE_BIN:
        return request.user.has_perm("crm.undo_operation") and request.user.has_perm("crm.view_all_cases")
    if not admin.site.is_registered(model):
        return False
    return admin.site.get_model_admin(model).has_view_or_change_permission(request)


def _item(title: str, icon: str, model) -> dict:
    if isinstance(model, str):
        return {"title": title, "icon": icon, "link": reverse(model)}
    item = {"title": title, "icon": icon, "link": list_url(model)}
    if model is CaseStep:
        item["badge"] = "crm.admin.navigation.own_overdue"
    return item


def list_url(model, query: str = "") -> str:
    path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return f"{path}?{query}" if query else path


def change_url(row) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def own_overdue(request):
    """How many steps of one's own cases are overdue; nothing for none. It stands on every page, so the count stops at a
    hundred rows; it is not cached, for a number that stays after a step was ticked would be read as a bug."""
    today = timezone.localdate()
    # The case's own date follows from the step's; with it PostgreSQL finds the rows in 3 ms instead of 20.
    steps = CaseStep.objects.overdue(today).belonging_to(request.user).filter(case__next_deadline__lt=today).order_by()
    return _capped(steps)


def unread(request):
    """What the bell counts, on every page: over an index that holds nothing else."""
    return _capped(Notice.objects.filter(user=request.user).unread().order_by())


def _capped(rows):
    count = rows[: MOST_COUNTED + 1].count()
    return f"{MOST_COUNTED}+" if count > MOST_COUNTED else count or None


def search_clients(request, search_term: str) -> list[Found]:
    """Clients by reference, name, e-mail, phone ...; cases by their own reference. Two queries, one decrypted column."""
    term = search_term.strip()
    if len(term) < SHORTEST_TERM:
        return []
    found = []
    if _may_open(request, Client):
        clients = Client.objects.visible_to(request.user).search(term).only("reference", "full_name")
        found += [
            Found(str(client.full_name), f"{_('Client')} {client.reference}", change_url(client), "person")
            for client in clients.order_by("-reference")[:MOST_RESULTS]
        ]
    if _may_open(request, Case):
        cases = Case.objects.visible_to(request.user).filter(reference__istartswith=term)
        found += [
            Found(case.reference, f"{_('Case')} · {case.get_status_display()}", change_url(case), "home_work")
            for case in cases.only("reference", "status").order_by("-reference")[:MOST_RESULTS]
        ]
    return found


def stylesheet(request):
    return static("crm/admin.css")


def script(request):
    return static("crm/admin.js")


def favicon(request):
    return static("crm/favicon.svg")


def environment(request):
    """The label in the header that says: nothing here is real."""
    return [_("Demo"), "warning"] if settings.DEBUG else None


def language_switch(request):
    return reverse("admin:language")


def account_links(request):
    """In the person's menu. Unfold shows its own link to the password only where there are no others."""
    links = [{"title": _("My notices"), "link": reverse(MY_NOTICES)}]
    if calendars.may_have(request.user):
        links.append({"title": _("My calendar"), "link": reverse(MY_CALENDAR)})
    if request.user.is_authenticated and request.user.has_usable_password():
        links.append({"title": _("Change password"), "link": reverse("admin:password_change")})
    return links
