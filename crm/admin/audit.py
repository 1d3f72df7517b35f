"""The audit trail: its list, and a page for all that one operation changed. The seals and their verifications, to be
looked at. What an entry was about is told by crm.audit.trail, what a row changed by crm.audit.changes."""

import datetime
import uuid

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import models
from django.db.models import Exists, OuterRef
from django.forms import Media
from django.http import Http404, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import localize
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from crm import values
from crm.admin import badges, filter_words
from crm.admin.base import STYLES, ReadOnlyAdmin, require
from crm.admin.exports import ExportAdminMixin, filters_of
from crm.admin.filters import DateRange, pass_over
from crm.admin.paging import CrmChangeList
from crm.admin.ui import ChoicesDropdownFilter, DropdownFilter, display
from crm.audit import trail, undo_runs, verifying
from crm.audit.changes import describe
from crm.audit.events import detail_of
from crm.audit.verifying import Standing
from crm.choices import OPERATION_KINDS, AuditKind, Source
from crm.models import AuditCheck, AuditEntry, AuditSeal, User
from crm.models.base import sees_all_cases
from crm.models.history import DELETED

VIEW = "crm.view_auditentry"
PER_PAGE = 50
MOST_EVENTS = 50
CHECKS = 50
NOBODY = "none"
# What an operation id is shown as on every page: its first digits.
SHORT_ID = 8
COLOURS = {
    AuditKind.LOGIN_FAILED: "overdue",
    AuditKind.LOCKOUT: "overdue",
    AuditKind.REFUSED: "overdue",
    AuditKind.ERASURE: "overdue",
    AuditKind.PASSWORD: "soon",
    AuditKind.PERMISSIONS: "soon",
    AuditKind.EXPORT: "soon",
    AuditKind.DOWNLOAD: "soon",
    AuditKind.IMPORT: "ok",
    AuditKind.UNDO: "today",
    AuditKind.REVERT: "today",
    AuditKind.RESTORE: "today",
}


# --- Filters ---


class PersonFilter(DropdownFilter):
    """Everybody who ever had a login: of one that was deleted the history knows the name."""

    title = _("person")
    parameter_name = "person"

    def lookups(self, request, model_admin):
        people = {user.pk: user.get_display_name() for user in User.objects.only("first_name", "last_name", "username")}
        for gone in User.history.filter(history_type=DELETED).order_by("history_id"):
            name = f"{gone.first_name} {gone.last_name}".strip() or gone.username
            people.setdefault(gone.id, gettext("%(name)s (deleted)") % {"name": name})
        listed = sorted(people.items(), key=lambda person: person[1].casefold())
        return [(NOBODY, _("nobody who was logged in")), *((str(key), name) for key, name in listed)]

    def queryset(self, request, queryset):
        if self.value() == NOBODY:
            return queryset.filter(user_id=None)
        if (self.value() or "").isdecimal():
            return queryset.filter(user_id=int(self.value()))
        if self.value():
            pass_over(request, self)
        return queryset


class ChangedFilter(DropdownFilter):
    """Operations that changed rows of one model."""

    title = _("what was changed")
    parameter_name = "changed"

    def lookups(self, request, model_admin):
        return [
            (model._meta.model_name, capfirst(model._meta.verbose_name_plural))
            for model in trail.readable_models(request.user)
        ]

    def queryset(self, request, queryset):
        for model in trail.readable_models(request.user):
            if model._meta.model_name == self.value():
                rows = trail.rows_of(model, request.user).order_by()
                return queryset.filter(
                    Exists(rows.filter(operation_id=OuterRef("operation_id"))), kind__in=OPERATION_KINDS
                )
        if self.value():
            pass_over(request, self)
        return queryset


class DayRange(DateRange):
    """Whole days of the office's own clock; the last one is in it."""

    def queryset(self, request, queryset):
        for end, lookup, more in (("from", "gte", 0), ("to", "lt", 1)):
            typed = self.used_parameters.get(f"{self.parameter_name}_{end}")
            try:
                day = self.range_form.field_class(required=False).clean(typed)
                if day is not None:
                    midnight = datetime.datetime.combine(day + datetime.timedelta(days=more), datetime.time.min)
                    at = timezone.make_aware(midnight)
                    queryset = queryset.filter(**{f"{self.parameter_name}__{lookup}": at})
            except (ValidationError, OverflowError):
                pass_over(request, self)
                continue
        return queryset


# --- The list ---


class AuditChangeList(CrmChangeList):
    def get_results(self, request):
        super().get_results(request)
        counts = trail.counts_of(self.result_list, request.user)
        for entry in self.result_list:
            entry.told = trail.summary(entry, counts[entry.pk])

    def url_for_result(self, result):
        return reverse("admin:crm_operation", args=[result.operation_id])


@admin.register(AuditEntry)
class AuditEntryAdmin(ExportAdminMixin, ReadOnlyAdmin):
    list_display = ("when", "who", "kind_badge", "what", "source_label", "why")
    list_filter = (
        PersonFilter,
        ("kind", ChoicesDropdownFilter),
        ChangedFilter,
        ("source", ChoicesDropdownFilter),
        ("at", DayRange),
    )
    list_encrypted = ("reason", "detail")
    list_before_template = "admin/crm/audit_above.html"
    search_fields = ("operation_id",)
    search_help_text = _("An operation’s number, or its first eight digits")
    sortable_by = ()
    fields = ("when", "who", "kind_badge", "what", "source_label", "why", "operation_id")
    readonly_fields = fields

    def get_changelist(self, request, **kwargs):
        return AuditChangeList

    def changelist_view(self, request, extra_context=None):
        proof = _proof() if request.user.has_perm("crm.view_auditcheck") else None
        return super().changelist_view(request, {"proof": proof, **(extra_context or {})})

    def get_search_results(self, request, queryset, search_term):
        if not search_term.strip():
            return queryset, False
        found = _operations(search_term)
        return (queryset.filter(operation_id__range=found) if found else queryset.none()), False

    def has_export_permission(self, request) -> bool:
        return self.has_view_permission(request) and super().has_export_permission(request)

    @display(description=_("when"))
    def when(self, entry):
        return values.moment(entry.at)

    @display(description=_("who"))
    def who(self, entry):
        return entry.user_name or "–"

    @display(description=_("kind"))
    def kind_badge(self, entry):
        return badges.badge(entry.get_kind_display(), COLOURS.get(entry.kind, "muted"))

    @display(description=_("what"))
    def what(self, entry):
        return getattr(entry, "told", None) or trail.summary(entry, {}) or "–"

    @display(description=_("source"))
    def source_label(self, entry):
        return entry.get_source_display()

    @display(description=_("reason"))
    def why(self, entry):
        return entry.reason or "–"


def _operations(term: str) -> tuple[uuid.UUID, uuid.UUID] | None:
    """From the first to the last number that begins so."""
    digits = term.strip().replace("-", "").lower()
    if not SHORT_ID <= len(digits) <= 32 or set(digits) - set("0123456789abcdef"):
        return None
    return uuid.UUID(digits.ljust(32, "0")), uuid.UUID(digits.ljust(32, "f"))


# --- One operation ---


def operation_page(request, operation_id, site):
    """All that one click, import, command or job changed, a page at a time, and what else it has in the trail."""
    require(request.user.has_perm(VIEW))
    entries = AuditEntry.objects.visible_to(request.user).filter(operation_id=operation_id).order_by("at", "pk")
    events = list(entries.exclude(kind__in=OPERATION_KINDS)[: MOST_EVENTS + 1])
    entry = entries.filter(kind__in=OPERATION_KINDS).first() or next(iter(events), None)
    entry = entry or _of_before_the_trail(operation_id, request.user)
    if entry is None:
        raise Http404
    # Counted now, not kept: what the pages below show is what is there.
    counts = trail.counts_of([AuditEntry(pk=0, operation_id=operation_id, kind=AuditKind.CHANGE)], request.user)[0]
    chosen = request.GET.get("model", "")
    shown = {chosen: counts[chosen]} if chosen in counts else counts
    page = Paginator(range(sum(sum(kinds.values()) for kinds in shown.values())), PER_PAGE).get_page(
        request.GET.get("p")
    )
    rows = trail.changed_rows(operation_id, shown, request.user, (page.number - 1) * PER_PAGE, PER_PAGE)
    request.current_app = site.name
    context = {
        **site.each_context(request),
        "title": gettext("Operation %(id)s") % {"id": str(operation_id)[:SHORT_ID]},
        "opts": AuditEntry._meta,
        "media": Media(css=STYLES),
        "entry": entry,
        "operation_id": operation_id,
        "facts": _facts(entry, request.user),
        "events": [_event(each) for each in events[:MOST_EVENTS]],
        "more_events": len(events) > MOST_EVENTS,
        "tabs": _tabs(counts, chosen if chosen in counts else ""),
        "changes": describe(rows, request.user),
        "page": page,
        "query": f"model={chosen}&" if chosen in counts else "",
        **_undone(entry, request.user),
    }
    return render(request, "admin/crm/operation.html", context)


def _of_before_the_trail(operation_id, user) -> AuditEntry | None:
    """Who and when of history rows that are older than the trail and have no entry in it."""
    if AuditEntry.objects.filter(operation_id=operation_id).exists():
        return None
    for model in trail.readable_models(user):
        row = trail.rows_of(model, user).filter(operation_id=operation_id).first()
        if row is not None and (sees_all_cases(user) or row.history_user_id == user.pk):
            return AuditEntry(
                operation_id=operation_id,
                at=row.history_date,
                user_id=row.history_user_id,
                user_name=row.history_user_name,
                source=row.source or Source.SHELL,
                reason=row.history_change_reason or "",
            )
    return None


def _facts(entry, reader) -> list[tuple[str, str]]:
    detail = detail_of(entry)
    model = _list_of(detail)
    told = [
        (_DETAILS[name], _told(name, value, model, reader))
        for name, value in detail.items()
        if name in _DETAILS and value
    ]
    return [
        (gettext("When"), values.moment(entry.at)),
        (gettext("Who"), entry.user_name or "–"),
        (gettext("Kind"), entry.get_kind_display()),
        (gettext("Source"), entry.get_source_display()),
        (gettext("Reason"), entry.reason or "–"),
        *told,
    ]


_DETAILS = {
    "file": _("File"),
    "account": _("Account that was tried"),
    "address": _("Address"),
    "path": _("Page"),
    "filter": _("Filter"),
    "columns": _("Columns"),
    "rows": _("Rows"),
    "fields": _("Fields"),
}


def _list_of(detail: dict) -> type[models.Model] | None:
    try:
        return apps.get_model("crm", str(detail.get("list")))
    except LookupError:
        return None


def _told(name: str, value, model: type[models.Model] | None, reader) -> str:
    """In the words of the list that it was about, where that is known."""
    if model is None:
        return _shown(value)
    if name == "filter" and isinstance(value, dict):
        return "; ".join(filter_words.words(model, value, reader))
    if name == "filter" and isinstance(value, str):
        return "; ".join(_words(model, value, reader))
    if name in ("columns", "fields") and isinstance(value, list):
        return ", ".join(filter_words.named(model, str(each)) for each in value)
    return _shown(value)


def _words(model: type[models.Model], address: str, reader) -> list[str]:
    """Of a list's address, which says what was searched for too."""
    filtered, searched = filters_of(address), QueryDict(address).get(SEARCH_VAR)
    filtered.pop(filter_words.SEARCH, None)
    words = filter_words.words(model, filtered, reader)
    return [*words, f"{gettext('search')}: {searched}"] if searched else words


def _shown(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} = {_shown(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return values.number(value) if isinstance(value, int) and not isinstance(value, bool) else str(localize(value))


def _event(entry) -> dict:
    return {
        "when": values.moment(entry.at),
        "badge": badges.badge(entry.get_kind_display(), COLOURS.get(entry.kind, "muted")),
        "what": trail.summary(entry, {}) or "–",
        "who": entry.user_name or "–",
    }


def _tabs(counts: trail.Counts, chosen: str) -> list[dict]:
    """All, and one tab for each model that was changed."""
    tabs = [
        {
            "url": f"?model={name}",
            "label": capfirst(trail.label_of(name, plural=True)),
            "count": values.number(sum(kinds.values())),
            "active": name == chosen,
        }
        for name, kinds in counts.items()
    ]
    if len(tabs) < 2:
        return []
    total = values.number(sum(sum(kinds.values()) for kinds in counts.values()))
    return [{"url": "?", "label": gettext("All"), "count": total, "active": not chosen}, *tabs]


def _undone(entry, user) -> dict:
    """The operation that this one put back, and those that put this one back, only such as the reader sees; and the run that
    does it just now."""
    seen = AuditEntry.objects.visible_to(user)
    kinds = (AuditKind.UNDO, AuditKind.REVERT, AuditKind.RESTORE)  # few, and the index of kinds finds them
    return {
        "undoes": seen.filter(operation_id=entry.undoes, kind__in=OPERATION_KINDS).first() if entry.undoes else None,
        "in_work": undo_runs.in_work(entry.operation_id),
        "undone_by": list(seen.filter(kind__in=kinds, undoes=entry.operation_id).order_by("-at")[:PER_PAGE]),
    }


# --- Seals and their verifications ---


def _proof() -> dict:
    """When the trail was last verified, and how. A check that found something stays until all seals were found whole
    again: one of the newest seals only says nothing of the older ones."""
    checks = verifying.newest_checks(CHECKS)
    if not checks:
        return {"badge": badges.badge(gettext("Never verified"), "soon"), "facts": []}
    ends = next((number for number, (check, _how) in enumerate(checks) if check.is_whole and not check.since), CHECKS)
    check, standing = next((each for each in checks[:ends] if not each[0].is_whole), checks[0])
    url = reverse("admin:crm_auditcheck_change", args=[check.pk])
    if standing is Standing.FORGED:
        message = gettext("Verification %(number)s was rewritten, or made with a key that AUDIT_KEY has not.")
        badge = badges.badge(gettext("Not whole"), "overdue")
        return {"badge": badge, "facts": [], "message": message % {"number": check.pk}, "url": url}
    facts = [
        gettext("verified %s") % values.moment(check.at),
        gettext("compared with an anchor") if check.is_anchored else gettext("not compared with an anchor"),
        gettext("seals: %s") % values.number(check.seals),
        gettext("rows: %s") % values.number(check.rows),
        gettext("not sealed yet: %s") % values.number(check.unsealed_rows),
    ]
    if check.since:
        facts.append(gettext("only seals since %s") % values.date(check.since))
    if not check.is_whole:
        badge = badges.badge(gettext("Not whole"), "overdue")
    elif standing is Standing.PROVEN:
        badge = badges.badge(gettext("Whole"), "ok")
    else:
        badge = badges.badge(gettext("Whole, not proven"), "soon")
        facts.append(gettext("not proven: AUDIT_KEY is not here, or the verification is an old one"))
    return {"badge": badge, "facts": facts, "message": check.message, "url": url}


@admin.register(AuditSeal)
class AuditSealAdmin(ReadOnlyAdmin):
    list_display = ("number", "at", "kind", "rows")
    list_defer = ("content",)
    fields = ("number", "at", "kind", "rows", "key_fingerprint", "previous", "mac")
    sortable_by = ()


@admin.register(AuditCheck)
class AuditCheckAdmin(ReadOnlyAdmin):
    list_display = ("at", "is_whole", "is_anchored", "seals", "rows", "unsealed_rows", "message")
    fields = list_display
    sortable_by = ()
