"""A person's inbox behind the bell, how he wants to be told, and the office's table of who is told of what. The words of a
notice are crm.notices'."""

import dataclasses

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import BadRequest
from django.db import transaction
from django.forms.boundfield import BoundField
from django.http import HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from crm import roles, values
from crm.admin.base import STYLES, CrmAdmin, back_to, hold_rows
from crm.admin.forms import CrmForm, CrmModelForm, select
from crm.admin.navigation import INBOX, MY_NOTICES
from crm.admin.paging import CappedPaginator
from crm.admin.ui import CHECKBOX_CLASSES, RADIO_CLASSES, display
from crm.choices import NoticeChannel, NoticeKind
from crm.models import Notice, NoticeChoice, NoticeRule, User
from crm.notices import line, seen
from crm.notices.words import BEFORE, CLIENT_WORDS, OF_CLIENTS

PER_PAGE = 50
UNREAD = "unread"


# --- The inbox ---


class InboxFilterForm(CrmForm):
    kind = select(label=_("Of what"), required=False)

    def __init__(self, data):
        super().__init__(data)
        self.fields["kind"].choices = [("", gettext("All")), *NoticeKind.choices]


def inbox(request, site):
    """One's own notices, the newest first. A fixed number of queries. Which case it was he is not told of one that he may not
    see any more, unless it was his."""
    kind, show = _kind_of(request.GET), request.GET.get("show")
    rows = Notice.objects.of(request.user).with_words()
    rows = rows.unread() if show == UNREAD else rows
    rows = rows.filter(kind=kind) if kind else rows
    page = CappedPaginator(rows, PER_PAGE).get_page(request.GET.get("p"))
    open_to_him = seen(request.user, page)
    named = open_to_him | {each.pk for each in page if each.detail.get("whose") == BEFORE}
    query = {"show": UNREAD} if show == UNREAD else {}
    context = {
        **site.each_context(request),
        "title": gettext("Inbox"),
        "media": forms.Media(css=STYLES),
        "form": InboxFilterForm({"kind": kind}),
        "items": [{"notice": each, "line": line(each), "is_named": each.pk in named} for each in page],
        "page": page,
        "kind": kind,
        "show": show if show == UNREAD else "",
        "query": "".join(f"{name}={value}&" for name, value in (query | ({"kind": kind} if kind else {})).items()),
        "newest": max((each.pk for each in page), default=None),
        "has_unread": any(each.read_at is None for each in page),
    }
    return _page(request, site, "admin/crm/inbox.html", context)


def _page(request, site, template: str, context: dict):
    request.current_app = site.name
    return render(request, template, context)


def _kind_of(data) -> str:
    kind = data.get("kind", "")
    return kind if kind in NoticeKind.values else ""


@require_POST
def open_notice(request, pk, site):
    """Marks it as read and leads to what it is about."""
    notice = get_object_or_404(Notice.objects.of(request.user).with_words(), pk=pk)
    Notice.objects.filter(pk=notice.pk, read_at=None).update(read_at=timezone.now())
    if not seen(request.user, [notice]):
        messages.info(request, gettext("You may not see this case or client any more."))
        return HttpResponseRedirect(back_to(request, reverse(INBOX)))
    return HttpResponseRedirect(line(notice).path)


@require_POST
def mark_read(request, site):
    """What the page showed and what is older; what came since stays unread."""
    newest = values.key(request.POST.get("newest", ""))
    if newest is None:
        raise BadRequest("The page did not say up to which notice")
    rows = Notice.objects.of(request.user).unread().filter(pk__lte=newest)
    if kind := _kind_of(request.POST):
        rows = rows.filter(kind=kind)
    count = rows.update(read_at=timezone.now())
    text = ngettext("%(count)s notice was marked as read.", "%(count)s notices were marked as read.", count)
    messages.success(request, text % {"count": values.number(count)})
    return HttpResponseRedirect(back_to(request, reverse(INBOX)))


# --- One's own choices ---


@dataclasses.dataclass(frozen=True)
class ChoiceRow:
    """A line of the table: what the office does without being asked, and what can be chosen."""

    label: str
    given: str
    channel: BoundField
    all_of_it: BoundField


class ChoicesForm(CrmForm):
    """Two fields a kind that this person could be told of; kinds of what he may not look at are left out."""

    def __init__(self, data, user):
        super().__init__(data)
        self.user = user
        self.roles = {group.name for group in user.groups.all()}
        self.kinds = [kind for kind in NoticeKind if user.has_perm(f"crm.view_{_subject(kind)}")]
        self.rules = {rule.kind: rule for rule in NoticeRule.objects.all()}
        stored = {choice.kind: choice for choice in NoticeChoice.objects.filter(user=user)}
        for kind in self.kinds:
            choice = stored.get(kind) or NoticeChoice(kind=kind)
            self.fields[f"{kind}-channel"] = forms.ChoiceField(
                label=kind.label,
                choices=NoticeChannel.choices,
                initial=choice.channel,
                widget=forms.RadioSelect({"class": " ".join(RADIO_CLASSES)}),
            )
            hears_of_all = bool(self._role_that_hears(kind))
            self.fields[f"{kind}-all"] = forms.BooleanField(
                label=_("Of all that I may see"),
                required=False,
                initial=choice.is_subscribed or hears_of_all,
                disabled=hears_of_all,
                widget=forms.CheckboxInput({"class": " ".join(CHECKBOX_CLASSES)}),
            )

    def rows(self) -> list[ChoiceRow]:
        return [
            ChoiceRow(kind.label, self._given(kind), self[f"{kind}-channel"], self[f"{kind}-all"])
            for kind in self.kinds
        ]

    def _given(self, kind: str) -> str:
        rule = self.rules.get(kind)
        if role := self._role_that_hears(kind):
            return gettext("Of all, by your role: %(role)s") % {"role": roles.LABELS[role]}
        if rule and rule.to_adviser and "to_adviser" not in flags_without_sense(kind):
            return gettext("Of your own cases, and of those whose adviser is absent while you stand in")
        return gettext("Nothing, unless you tick the box")

    def _role_that_hears(self, kind: str) -> str:
        rule = self.rules.get(kind)
        if rule and rule.to_managers and roles.MANAGER in self.roles:
            return roles.MANAGER
        if rule and rule.to_administrators and (self.user.is_superuser or roles.ADMINISTRATOR in self.roles):
            return roles.ADMINISTRATOR
        return ""

    @transaction.atomic
    def save(self) -> None:
        """Writes what differs from what is stored, or from what nobody need say. Two windows of one person wait for each
        other."""
        hold_rows(User.objects.filter(pk=self.user.pk))
        stored = {choice.kind: choice for choice in NoticeChoice.objects.filter(user=self.user)}
        for kind in self.kinds:
            choice = stored.get(kind) or NoticeChoice(user=self.user, kind=kind)
            choice.channel = self.cleaned_data[f"{kind}-channel"]
            if not self.fields[f"{kind}-all"].disabled:
                choice.is_subscribed = self.cleaned_data[f"{kind}-all"]
            if choice.pk or choice.channel != NoticeChannel.BOTH or choice.is_subscribed:
                choice.save()


def _subject(kind: str) -> str:
    return "client" if kind in OF_CLIENTS else "case"


def my_notices(request, site):
    form = ChoicesForm(request.POST if request.method == "POST" else None, request.user)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, gettext("Saved. It holds for what happens from now on."))
        return HttpResponseRedirect(reverse(MY_NOTICES))
    context = {
        **site.each_context(request),
        "title": gettext("My notices"),
        "media": forms.Media(css=STYLES),
        "form": form,
        "rows": form.rows(),
        "channels": [label for _value, label in NoticeChannel.choices],
        "back": reverse(INBOX),
    }
    return _page(request, site, "admin/crm/my_notices.html", context)


# --- The office's table ---

OF_ALL = _("Of all cases, without asking for it.")
FLAGS = {"to_adviser": "", "to_managers": OF_ALL, "to_administrators": OF_ALL, "to_client": ""}
CLOSED = {
    "to_adviser": _("A new client has no adviser yet."),
    "to_client": _("Clients are told what happens to their own case only."),
}


def flags_without_sense(kind: str) -> set[str]:
    of_no_adviser = {"to_adviser"} if kind in OF_CLIENTS else set()
    is_for_clients = kind in CLIENT_WORDS or kind == NoticeKind.DEADLINES
    return of_no_adviser | (set() if is_for_clients else {"to_client"})


class NoticeRuleForm(CrmModelForm):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        closed = flags_without_sense(self.instance.kind)
        for name, field in self.fields.items():
            field.disabled = name in closed
            field.help_text = CLOSED[name] if name in closed else field.help_text or FLAGS[name]


def _mark(flag: str):
    @display(description=NoticeRule._meta.get_field(flag).verbose_name, ordering=flag)
    def mark(rule):
        is_idle = flag in flags_without_sense(rule.kind)
        context = {"is_idle": is_idle, "is_told": not is_idle and getattr(rule, flag)}
        return render_to_string("admin/crm/rule_mark.html", context)

    return mark


@admin.register(NoticeRule)
class NoticeRuleAdmin(CrmAdmin):
    """One row a kind, shipped; the office says who is told."""

    form = NoticeRuleForm
    show_full_result_count = True
    list_before_template = "admin/crm/rules_above.html"
    list_display = ("kind", *(_mark(flag) for flag in FLAGS))
    fields = ("kind", *FLAGS)
    readonly_fields = ("kind",)

    def has_add_permission(self, request):
        return False

    def has_delete_permission(self, request, obj=None):
        return False
