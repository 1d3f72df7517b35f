"""Export pages of the lists: django-import-export's button, action, URL and filters around crm.exports, which writes the
file. Its page and form are ours: they ask for our permission and know our columns, and a selection travels in one field,
since a field for each row is an error 400 from the thousandth on."""

import io
from urllib.parse import urlencode

from django import forms
from django.apps import apps
from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import IGNORED_PARAMS, PAGE_VAR, SEARCH_VAR
from django.core.exceptions import PermissionDenied
from django.core.validators import validate_comma_separated_integer_list
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from import_export.admin import ExportMixin

from crm import exports, values
from crm.admin import ui
from crm.admin.forms import CrmForm, select
from crm.exceptions import CrmError
from crm.exports import waiting

# A file of so many is made while its reader waits; a longer one by a job.
MOST_ROWS = 1_000
_NOT_FILTERS = {*IGNORED_PARAMS, PAGE_VAR, SEARCH_VAR, "_changelist_filters"}


_CSV = "text/csv; charset=utf-8"
CONTENT_TYPES = {
    exports.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    exports.CSV: _CSV,
    exports.PLAIN_CSV: _CSV,
}
FORMATS = {exports.XLSX: "XLSX", exports.CSV: _("CSV for Excel"), exports.PLAIN_CSV: _("CSV for machines")}


class ExportForm(CrmForm):
    format = select(label=_("Format"), choices=FORMATS)
    columns = forms.MultipleChoiceField(
        label=_("Columns"),
        required=False,
        widget=forms.CheckboxSelectMultiple({"class": " ".join(ui.CHECKBOX_CLASSES)}),
    )
    selected = forms.CharField(
        required=False, widget=forms.HiddenInput, validators=[validate_comma_separated_integer_list]
    )

    def __init__(self, *args, columns, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["columns"].choices = [(each.name, each.label) for each in columns if not each.is_key]
        self.initial = {
            "format": exports.XLSX,
            "columns": [each.name for each in columns if exports.is_own(each)],
            **self.initial,
        }

    def clean_columns(self):
        if not self.cleaned_data["columns"]:
            raise forms.ValidationError(_("Choose at least one column."))
        return self.cleaned_data["columns"]


class ExportAdminMixin(ExportMixin):
    """Before CrmAdmin in the bases. `queryset` of every door is get_queryset's, so it is `visible_to` the person."""

    def has_export_permission(self, request) -> bool:
        return exports.may_export(request.user, self.model)

    def export_form(self, request, **kwargs):
        return ExportForm(columns=exports.offered(request.user, self.model), **kwargs)

    def export_url(self, page: str) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_{page}")

    def get_export_queryset(self, request):
        """The filtered list, or those of its rows that were ticked."""
        return self.listed(request, request.POST.get("selected", ""))

    def listed(self, request, keys: str):
        queryset = super().get_export_queryset(request)
        return queryset.filter(pk__in=list(filter(None, map(values.key, keys.split(","))))) if keys else queryset

    def export_action(self, request):
        if not self.has_export_permission(request):
            raise PermissionDenied
        try:
            if request.method != "POST":
                return self._page(request, self.export_form(request), self.get_export_queryset(request))
            form = self.export_form(request, data=request.POST)
            return self._export(request, form) if form.is_valid() else self._page(request, form)
        except IncorrectLookupParameters:
            return HttpResponseRedirect(f"{self.export_url('changelist')}?e=1")
        except CrmError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(request.get_full_path())

    def _export(self, request, form):
        """The file, or the page of the run where there are more rows than anybody waits for."""
        rows, run = self.get_export_queryset(request), self._planned(request, form)
        if rows.order_by()[: MOST_ROWS + 1].count() > MOST_ROWS:
            waiting.order(run, query=request.GET.urlencode(), selected=_selected(form))
            return HttpResponseRedirect(reverse("admin:crm_exportrun_change", args=[run.pk]))
        target = io.BytesIO()
        run.save()
        exports.fill(run, rows, target)
        headers = {"Content-Disposition": f'attachment; filename="{exports.file_name(run)}"'}
        return HttpResponse(target.getvalue(), content_type=CONTENT_TYPES[run.format], headers=headers)

    def _planned(self, request, form):
        filtered_by = _filters(request, _selected(form))
        chosen = form.cleaned_data
        return exports.planned(self.model, chosen["format"], request.user, chosen["columns"], filtered_by)

    def export_admin_action(self, request, queryset):
        """The selected rows. All rows of the list selected means the filtered list, which its address says already."""
        if not self.has_export_permission(request):
            raise PermissionDenied
        keys = "" if request.POST.get("select_across") == "1" else ",".join(map(str, _keys(queryset)))
        action = f"{self.export_url('export')}?{urlencode(request.GET, doseq=True)}"
        return self._page(request, self.export_form(request, initial={"selected": keys}), queryset, action)

    def _page(self, request, form, rows=None, action: str = ""):
        """`rows` are counted; of a form that comes back they were."""
        context = {
            **self.admin_site.each_context(request),
            "title": _("Export"),
            "form": form,
            "opts": self.opts,
            "keys": [each.label for each in exports.offered(request.user, self.model) if each.is_key],
            "rows": None if rows is None else rows.order_by().count(),
            "most_rows": MOST_ROWS,
            "export_url": action,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/import_export/export.html", context)

    def get_actions(self, request):
        actions = super().get_actions(request)
        if self.has_export_permission(request) and actions is not None:
            actions["export_admin_action"] = (
                type(self).export_admin_action,
                "export_admin_action",
                _("Export selected %(verbose_name_plural)s"),
            )
        return actions


def rows_of(run):
    """Of the list as its address was when the export was asked for, as that person sees it now."""
    query, selected = waiting.source(run)
    request = HttpRequest()
    request.method, request.GET, request.user = "GET", QueryDict(query), run.user
    return admin.site.get_model_admin(apps.get_model("crm", run.model)).listed(request, selected)


def _selected(form) -> str:
    return form.cleaned_data["selected"]


def _keys(queryset):
    return queryset.order_by().values_list("pk", flat=True)


def _filters(request, selected: str) -> dict:
    """For the record, which is not encrypted: that something was searched for, never what."""
    found = {name: request.GET.getlist(name) for name in request.GET if name not in _NOT_FILTERS}
    found = {name: values[0] if len(values) == 1 else values for name, values in found.items()}
    if request.GET.get(SEARCH_VAR):
        found["search"] = True
    if selected:
        found["selected"] = selected.count(",") + 1
    return found
