"""Export pages of the lists: django-import-export's button, action, URL and filters around crm.exports, which writes the
file. The stock pieces that would leak or fail are replaced: its permission is ours, its column definitions are ours, and
a selection travels in one field, since a field for each row is an error 400 from the thousandth on."""

import io
from urllib.parse import urlencode

from django import forms
from django.apps import apps
from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import IGNORED_PARAMS, PAGE_VAR, SEARCH_VAR
from django.core.exceptions import PermissionDenied
from django.core.validators import validate_comma_separated_integer_list
from django.http import HttpRequest, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from import_export.admin import ExportMixin
from import_export.formats.base_formats import Format

from crm import exports, values
from crm.admin import ui
from crm.exceptions import CrmError
from crm.exports import waiting

# A file of so many is made while its reader waits; a longer one by a job.
MOST_ROWS = 1_000
_NOT_FILTERS = {*IGNORED_PARAMS, PAGE_VAR, SEARCH_VAR, "_changelist_filters"}


class Spreadsheet(Format):
    file_format = ""
    content_type = ""

    def get_title(self):
        return self.file_format.upper()

    def get_extension(self):
        return self.file_format

    def get_content_type(self):
        return self.content_type

    def can_export(self):
        return True


class Xlsx(Spreadsheet):
    file_format = exports.XLSX
    content_type = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


class Csv(Spreadsheet):
    file_format = exports.CSV
    content_type = "text/csv; charset=utf-8"


FORMATS = (Xlsx, Csv)


class ListResource:
    """What django-import-export's form wants to know of a list. The columns are crm.exports' alone."""

    @classmethod
    def get_display_name(cls) -> str:
        return ""


class ExportForm(ui.ExportForm):
    columns = forms.MultipleChoiceField(
        label=_("Columns"),
        required=False,
        widget=forms.CheckboxSelectMultiple({"class": " ".join(ui.CHECKBOX_CLASSES)}),
    )
    selected = forms.CharField(
        required=False, widget=forms.HiddenInput, validators=[validate_comma_separated_integer_list]
    )

    def __init__(self, formats, resources, *, columns, **kwargs):
        super().__init__(formats, resources, **kwargs)
        del self.fields["export_items"]
        titles = [(str(number), each().get_title()) for number, each in enumerate(formats)]
        self.fields["format"].choices = self.fields["format"].widget.choices = titles
        self.fields["columns"].choices = [(each.name, each.label) for each in columns if not each.is_key]
        self.initial = {
            "format": "0",
            "columns": [each.name for each in columns],
            **self.initial,
        }

    def clean_columns(self):
        if not self.cleaned_data["columns"]:
            raise forms.ValidationError(_("Choose at least one column."))
        return self.cleaned_data["columns"]


class ExportAdminMixin(ExportMixin):
    """Before CrmAdmin in the bases. `queryset` of every door is get_queryset's, so it is `visible_to` the person."""

    resource_classes = [ListResource]
    export_formats = FORMATS

    def has_export_permission(self, request) -> bool:
        return exports.may_export(request.user, self.model)

    def get_export_form_class(self):
        def form(formats, resources, **kwargs):
            return ExportForm(formats, resources, columns=exports.columns_of(self.model), **kwargs)

        return form

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
            return self._by_job(request) or super().export_action(request)
        except IncorrectLookupParameters:
            return HttpResponseRedirect(f"{self.export_url('changelist')}?e=1")
        except CrmError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(request.get_full_path())

    def _by_job(self, request):
        """Where there are more rows than anybody waits for: the page of the run. None for a short list, a bad form too."""
        if request.method != "POST":
            return None
        form = self.get_export_form_class()(
            self.get_export_formats(), self.get_export_resource_classes(request), data=request.POST
        )
        if not form.is_valid() or self.get_export_queryset(request).order_by()[: MOST_ROWS + 1].count() <= MOST_ROWS:
            return None
        run = waiting.order(self._planned(request, form), query=request.GET.urlencode(), selected=_selected(form))
        return HttpResponseRedirect(reverse("admin:crm_exportrun_change", args=[run.pk]))

    def _planned(self, request, form):
        return exports.planned(
            self.model,
            self.get_export_formats()[int(form.cleaned_data["format"])].file_format,
            request.user,
            form.cleaned_data["columns"],
            _filters(request, _selected(form)),
        )

    def export_admin_action(self, request, queryset):
        """The selected rows. All rows of the list selected means the filtered list, which its address says already."""
        if not self.has_export_permission(request):
            raise PermissionDenied
        keys = "" if request.POST.get("select_across") == "1" else ",".join(map(str, _keys(queryset)))
        form = self.get_export_form_class()(
            self.get_export_formats(), self.get_export_resource_classes(request), initial={"selected": keys}
        )
        context = self.init_request_context_data(request, form)
        context["rows"] = queryset.count()
        context["export_url"] = f"{self.export_url('export')}?{urlencode(request.GET, doseq=True)}"
        return render(request, self.export_template_name, context)

    def get_actions(self, request):
        actions = super().get_actions(request)
        if self.has_export_permission(request) and actions is not None:
            actions["export_admin_action"] = (
                type(self).export_admin_action,
                "export_admin_action",
                _("Export selected %(verbose_name_plural)s"),
            )
        return actions

    def init_request_context_data(self, request, form):
        is_post = request.method == "POST"
        return {
            **self.admin_site.each_context(request),
            "title": _("Export"),
            "form": form,
            "opts": self.opts,
            "keys": [each.label for each in exports.columns_of(self.model) if each.is_key],
            "rows": None if is_post else self.get_export_queryset(request).order_by().count(),
            "most_rows": MOST_ROWS,
        }

    def get_export_data(self, file_format, request, queryset, *, export_form, **kwargs):
        target = io.BytesIO()
        request.export_run = self._planned(request, export_form)
        request.export_run.save()
        exports.fill(request.export_run, queryset, target)
        return target.getvalue()

    def get_export_filename(self, request, queryset, file_format):
        return exports.file_name(request.export_run)


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
