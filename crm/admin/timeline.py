"""The timeline of a client: one list, filters above it, reached from the client's page."""

import datetime

from django.http import Http404
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from crm import values
from crm.admin.forms import CrmForm, LocalDateField, select
from crm.admin.ui import action
from crm.audit import timeline
from crm.audit.changes import told_fields
from crm.audit.past import newest
from crm.models.history import CHANGED, CREATED, DELETED

KINDS = {
    CREATED: gettext_lazy("Created"),
    CHANGED: gettext_lazy("Changed"),
    DELETED: gettext_lazy("Deleted"),
    timeline.MESSAGE: gettext_lazy("Message"),
    timeline.EXPORT: gettext_lazy("Export"),
    timeline.OLDER: gettext_lazy("Older CRM"),
}


class TimelineFilterForm(CrmForm):
    who = select(label=gettext_lazy("Person"), required=False)
    kind = select(label=gettext_lazy("What"), required=False)
    field = select(label=gettext_lazy("Record or field"), required=False)
    since = LocalDateField(label=gettext_lazy("From"), required=False)
    until = LocalDateField(label=gettext_lazy("To"), required=False)

    def __init__(self, data, people):
        super().__init__(data)
        everything = [("", _("All"))]
        self.fields["who"].choices = everything + [(str(key), name) for key, name in people]
        self.fields["kind"].choices = [*everything, *KINDS.items()]
        self.fields["field"].choices = everything + [
            (
                capfirst(str(model._meta.verbose_name)),
                [
                    (model._meta.model_name, _("all of it")),
                    *(
                        (f"{model._meta.model_name}.{field.name}", capfirst(str(field.verbose_name)))
                        for field in told_fields(model)
                    ),
                ],
            )
            for model in timeline.TRACKED
        ]

    def filters(self) -> timeline.Filters:
        data = self.cleaned_data
        model_name, _dot, field = data["field"].partition(".")
        return timeline.Filters(
            user_id=int(data["who"]) if data["who"] else None,
            kind=data["kind"],
            model=next((model for model in timeline.TRACKED if model._meta.model_name == model_name), None),
            field=field,
            since=_midnight(data["since"]),
            until=_midnight(data["until"] and data["until"] + datetime.timedelta(days=1)),
        )


def _midnight(day):
    return day and timezone.make_aware(datetime.datetime.combine(day, datetime.time()))


class TimelineMixin:
    """Of the client's admin."""

    @action(description=gettext_lazy("Timeline"), url_path="timeline", permissions=["view"])
    def timeline(self, request, object_id):
        client = self._history_owner(request, str(object_id))
        key = self.opts.pk.to_python(object_id)
        gone = None if client else newest(self.model, [key])[key]
        form = TimelineFilterForm(request.GET or None, timeline.people(key, request.user))
        filters = form.filters() if form.is_bound and form.is_valid() else None
        number = request.GET.get("p") or "1"
        if not number.isascii() or not number.isdigit() or not 0 < int(number) < 10**6:
            raise Http404
        page = timeline.page_of(key, request.user, filters=filters, number=int(number))
        query = request.GET.copy()
        query.pop("p", None)
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": client,
            "title": f"{_('Timeline')}: {(client or gone).full_name} ({(client or gone).reference})",
            "gone": gone and {"when": values.moment(gone.history_date), "who": gone.history_user_name},
            "back": reverse(f"admin:crm_client_{'history' if gone else 'change'}", args=[key]),
            "form": form,
            "media": self.media + form.media,
            "days": _by_day(page.entries, with_operations=request.user.has_perm("crm.view_auditentry")),
            "page": page,
            "query": query.urlencode(),
            "is_filtered": filters not in (None, timeline.Filters()),
        }
        return render(request, "admin/crm/timeline.html", context)

    def _history_context(self, request, object_id, owner) -> dict:
        """Of a deleted client the way to its timeline leads over its history."""
        address = reverse("admin:crm_client_timeline", args=[object_id])
        return {**super()._history_context(request, object_id, owner), "timeline": address}


def _by_day(entries, *, with_operations: bool) -> list[dict]:
    days: list[dict] = []
    for entry in entries:
        local = timezone.localtime(entry.at)
        if not days or days[-1]["on"] != local.date():
            days.append({"on": local.date(), "label": values.date(local.date()), "entries": []})
        shown = {"entry": entry, "time": f"{local:%H:%M}", "kind": KINDS[entry.kind]}
        if with_operations and entry.operation_id:
            shown["operation"] = reverse("admin:crm_operation", args=[entry.operation_id])
        days[-1]["entries"].append(shown)
    return days
