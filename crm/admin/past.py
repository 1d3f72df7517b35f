"""`?as_of=2026-03-01T08:00`: the pages of a client and a case, and the list of cases, as they were. Read only."""

import datetime

from django.core.exceptions import PermissionDenied
from django.forms import Media
from django.http import HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from crm import values
from crm.admin import badges
from crm.admin.forms import CrmForm, select
from crm.admin.ui import action
from crm.audit import past
from crm.audit.changes import compare, may_read
from crm.choices import CaseStatus
from crm.encryption import encrypted_names
from crm.exceptions import CrmError
from crm.models import Case, CaseStep, Client, Lender, Step, User
from crm.models.base import sees_all_cases

AS_OF = "as_of"


def _yesterday() -> str:
    return f"{timezone.localtime() - datetime.timedelta(days=1):%Y-%m-%dT%H:%M}"


class PastMixin:
    """Of the admins of clients and cases."""

    @action(description=gettext_lazy("As it was on …"), url_path="as-it-was", permissions=["view"])
    def as_it_was(self, request, object_id):
        page = reverse(f"admin:crm_{self.opts.model_name}_change", args=[object_id])
        return HttpResponseRedirect(f"{page}?{AS_OF}={_yesterday()}")

    def change_view(self, request, object_id, form_url="", extra_context=None):
        if AS_OF not in request.GET:
            return super().change_view(request, object_id, form_url, extra_context)
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        owner = self._history_owner(request, object_id)
        key = self.opts.pk.to_python(object_id)
        context = {
            "title": _("As it was"),
            "original": owner,
            "today": reverse(f"admin:crm_{self.opts.model_name}_change", args=[key]) if owner else "",
        }
        try:
            at = past.moment(request.GET[AS_OF], timezone.now())
            row = past.version(self.model, key, at)
            context |= self._then(request, key, row, at) if row else {"at": at, "problem": self._not_then(key, at)}
        except CrmError as error:
            context["problem"] = str(error)
        return self._past_page(request, "admin/crm/past.html", context)

    def _not_then(self, key: int, at) -> str:
        first = past.first_seen(self.model, key)
        if first and first > at:
            return _("The record was not here yet: it begins on %(when)s.") % {"when": values.moment(first)}
        return _("The record had been deleted by then.")

    def _then(self, request, key: int, row, at) -> dict:
        now = timezone.now()
        [record] = compare([(row, past.newest(self.model, [key]).get(key))], request.user)
        sections = []
        for model, column in past.CHILDREN[self.model].items():
            if not may_read(request.user, model):
                continue
            then = {each.id: each for each in self._seen(request, model, past.versions(model, at, **{column: key}))}
            today = {each.id: each for each in self._seen(request, model, past.versions(model, now, **{column: key}))}
            added = [(each, None) for number, each in today.items() if number not in then]
            rows = compare([*((each, today.get(each.id)) for each in then.values()), *added], request.user)
            if not rows:
                continue
            entries = [
                {"version": one, "is_new": one.row.id not in then, "is_gone": one.row.id not in today} for one in rows
            ]
            if model is CaseStep:
                numbers = dict(Step.objects.values_list("pk", "number"))
                entries.sort(key=lambda entry: numbers.get(entry["version"].row.step_id, 0))
            sections.append({"title": capfirst(str(model._meta.verbose_name_plural)), "entries": entries})
        gone = not self.model._base_manager.filter(pk=key).exists()
        return {"at": at, "when": values.moment(at), "record": record, "sections": sections, "is_gone": gone}

    def _seen(self, request, model, rows):
        """A client's cases of other advisers are not told to who sees his own only."""
        if model is Case and not sees_all_cases(request.user):
            rows = rows.filter(id__in=Case.objects.visible_to(request.user).values("pk"))
        return rows

    def _past_page(self, request, template: str, context: dict):
        request.current_app = self.admin_site.name
        asked = request.GET[AS_OF]
        at = context.get("at")
        context |= {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media + (context["form"].media if "form" in context else Media()),
            "asked": f"{timezone.localtime(at):%Y-%m-%dT%H:%M}" if at else asked,
            "latest": f"{timezone.localtime():%Y-%m-%dT%H:%M}",
        }
        return render(request, template, context)


class PastCasesForm(CrmForm):
    """What narrows the list: each field is a column of the version of then."""

    status = select(label=gettext_lazy("Status"), required=False)
    adviser_id = select(label=gettext_lazy("Adviser"), required=False)
    lender_id = select(label=gettext_lazy("Lender"), required=False)
    current_step_id = select(label=gettext_lazy("Current step"), required=False)

    def __init__(self, data):
        super().__init__(data)
        staff = User.objects.filter(is_staff=True)
        choices = {
            "status": CaseStatus.choices,
            "adviser_id": sorted(((str(each.pk), str(each)) for each in staff), key=lambda pair: pair[1]),
            "lender_id": [(str(each.pk), str(each)) for each in Lender.objects.all()],
            "current_step_id": [(str(each.pk), str(each)) for each in Step.objects.all()],
        }
        for name, found in choices.items():
            self.fields[name].choices = [("", _("All")), *found]

    def where(self) -> dict[str, list[str]]:
        """Nothing of what cannot be chosen."""
        self.full_clean()
        return {name: [value] for name, value in self.cleaned_data.items() if value}


class PastListMixin(PastMixin):
    """The list of cases too."""

    actions_list = ("as_they_were",)

    @action(description=gettext_lazy("As it was on …"), url_path="as-they-were", permissions=["view"])
    def as_they_were(self, request):
        return HttpResponseRedirect(f"{reverse('admin:crm_case_changelist')}?{AS_OF}={_yesterday()}")

    def changelist_view(self, request, extra_context=None):
        if AS_OF not in request.GET:
            return super().changelist_view(request, extra_context)
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        form = PastCasesForm(request.GET)
        where = form.where()
        context = {"title": _("Cases as they were"), "today": reverse("admin:crm_case_changelist"), "form": form}
        try:
            at = past.moment(request.GET[AS_OF], timezone.now())
            page = past.cases(request.user, at, before=request.GET.get("before", "")[:20], where=where)
            query = urlencode([(name, value) for name, [value] in where.items()])
            context |= {"at": at, "when": values.moment(at), "cases": _told(page.rows, at), "before": page.next_before,
                        "query": query}  # fmt: skip
        except CrmError as error:
            context["problem"] = str(error)
        return self._past_page(request, "admin/crm/past_cases.html", context)


def _told(rows, at) -> list[dict]:
    clients = past.versions(Client, at, id__in={row.client_id for row in rows})
    names = dict(clients.order_by().values_list("id", "full_name"))
    people = _called(User, rows, "adviser_id")
    lenders, steps = _called(Lender, rows, "lender_id"), _called(Step, rows, "current_step_id")
    return [
        {
            "row": row,
            "client": names.get(row.client_id, ""),
            "status": badges.choice(row.status, row.get_status_display()),
            "adviser": people.get(row.adviser_id, ""),
            "lender": lenders.get(row.lender_id, ""),
            "step": steps.get(row.current_step_id, "–"),
            "deadline": values.date(row.next_deadline),
            "amount": values.money_cell(row.loan_amount_czk),
        }
        for row in rows
    ]


def _called(model, rows, column: str) -> dict[int, str]:
    keys = {getattr(row, column) for row in rows} - {None}
    return {each.pk: str(each) for each in model._base_manager.filter(pk__in=keys).defer(*encrypted_names(model))}
