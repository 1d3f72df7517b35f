"""The page that writes the same values into many records of a list: a form, a preview, the writing; all by POST."""

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.http import HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from crm import bulk_edit
from crm.admin.forms import CrmModelForm
from crm.audit import past
from crm.audit.changes import compare, readable
from crm.encryption import encrypted_names
from crm.exceptions import CrmError
from crm.models.operations import current_operation

SHOWN = 50
EMPTY = "empty-"


class BulkForm(CrmModelForm):
    """Nothing is required: what is left alone stays as it is in every record."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.initial = {}
        for field in self.fields.values():
            field.required, field.initial = False, None
            if isinstance(field, forms.ChoiceField) and not isinstance(field, forms.ModelChoiceField):
                field.choices = [("", "–"), *(choice for choice in field.choices if choice[0] != "")]

    def values(self) -> dict:
        """What was touched: filled in, or ticked to be emptied."""
        emptied = {name: _nothing(self._meta.model, name) for name in self.fields if self.data.get(f"{EMPTY}{name}")}
        filled = {name: value for name, value in self.cleaned_data.items() if value not in (None, "")}
        return filled | emptied


def _nothing(model, name: str):
    field = model._meta.get_field(name)
    return None if field.null else ""


class BulkEditMixin:
    """Of the admin of a list. `bulk_fields` are the fields that may get one value in many records."""

    bulk_fields: tuple[str, ...] = ()
    actions = ("bulk_edit",)

    def get_bulk_fields(self, request) -> tuple[str, ...]:
        return self.bulk_fields

    @admin.action(description=gettext_lazy("Edit the selected records at once …"), permissions=["change"])
    def bulk_edit(self, request, queryset):
        step = request.POST.get("step", "")
        names = self.get_bulk_fields(request)
        form_class = self.get_form(request, None, form=BulkForm, fields=names)
        form = form_class(request.POST if step else None)
        context = {"form": form, "step": "form", "rows": self._bulk_rows(form)}
        queryset = queryset.model.objects.filter(pk__in=queryset.order_by().values("pk"))
        if step and form.is_valid():
            values = form.values()
            if not values:
                context["problem"] = _("Fill in at least one field, or tick one to be emptied.")
            else:
                try:
                    done = self._bulk_step(request, queryset, values, step, context)
                except CrmError as error:
                    context["problem"] = str(error)
                else:
                    if done:
                        return done
        return self._bulk_page(request, context)

    def _bulk_step(self, request, queryset, values, step, context):
        if step == "write":
            try:
                done = bulk_edit.carry_out(
                    queryset,
                    values,
                    request.user,
                    seen=request.POST.get("seen", ""),
                    now=timezone.now(),
                    reason=request.POST.get("reason", "")[:2000],
                    filtered_by=request.META["QUERY_STRING"] if request.POST.get("select_across") == "1" else "",
                )
            except bulk_edit.ChangedSincePreview as error:
                context["problem"] = str(error)
            else:
                self._bulk_message(request, done)
                return HttpResponseRedirect(request.get_full_path())
        plan = bulk_edit.plan(queryset, values, request.user)
        context |= {
            "step": "preview",
            "plan": plan,
            "seen": plan.seen,
            "counts": [(capfirst(str(self.opts.get_field(name).verbose_name)), plan.fields[name]) for name in values],
            "changes": self._bulk_changes(request, plan, values),
        }
        return None

    def _bulk_message(self, request, done) -> None:
        text = _("%(changed)s records were changed, %(same)s had these values already.") % {
            "changed": len(done.changed),
            "same": done.same,
        }
        if done.changed and request.user.has_perm("crm.view_auditentry"):
            address = reverse("admin:crm_operation", args=[current_operation().id])
            text = format_html('{} <a class="hd-link" href="{}">{}</a>', text, address, _("operation"))
        messages.success(request, text)

    def _bulk_changes(self, request, plan, values) -> list[dict]:
        keys = list(plan.changed)[:SHOWN]
        labels = {
            each.row.id: each.label
            for each in compare([(row, None) for row in past.newest(self.model, keys).values()], request.user)
        }
        called = {}
        for name in values:
            field = self.opts.get_field(name)
            if field.is_relation:
                olds = {plan.changed[key].get(name) for key in keys} - {None}
                hidden = encrypted_names(field.related_model)
                found = field.related_model._base_manager.filter(pk__in=olds).defer(*hidden)
                called |= {(field.related_model, each.pk): str(each) for each in found}
        return [
            {
                "label": labels.get(key, f"#{key}"),
                "lines": [
                    {
                        "label": capfirst(str(self.opts.get_field(name).verbose_name)),
                        "old": readable(old, self.opts.get_field(name), called),
                        "new": _new(values[name], self.opts.get_field(name)),
                    }
                    for name, old in plan.changed[key].items()
                ],
            }
            for key in keys
        ]

    def _bulk_rows(self, form) -> list[dict]:
        return [
            {
                "field": form[name],
                "may_empty": bulk_edit.may_be_emptied(self.model, name),
                "empty_name": f"{EMPTY}{name}",
                "is_emptied": bool(form.data.get(f"{EMPTY}{name}")),
            }
            for name in form.fields
        ]

    def _bulk_page(self, request, context):
        request.current_app = self.admin_site.name
        selected = request.POST.getlist(ACTION_CHECKBOX_NAME)
        across = request.POST.get("select_across") == "1"
        context |= {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Edit at once"),
            "media": self.media + context["form"].media,
            "selected": selected[:1] if across else selected,
            "checkbox": ACTION_CHECKBOX_NAME,
            "select_across": "1" if across else "0",
            "reason": request.POST.get("reason", ""),
            "back": request.get_full_path(),
        }
        return render(request, "admin/crm/bulk_edit.html", context)


def _new(value, field) -> str:
    return str(value) if field.is_relation and value is not None else readable(value, field)
