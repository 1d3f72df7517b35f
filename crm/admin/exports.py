"""Export pages of the lists: django-import-export's button, action, URL and filters around crm.exports, which writes the
file. The stock pieces that would leak or fail are replaced: its permission is ours, its column definitions are ours, and
a selection travels in one field, since a field for each row is an error 400 from the thousandth on."""

import io
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import IGNORED_PARAMS, PAGE_VAR, SEARCH_VAR
from django.core.exceptions import PermissionDenied
from django.core.validators import validate_comma_separated_integer_list
from django.http import HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from import_export.admin import ExportMixin
from import_export.formats.base_formats import Format

from crm import exports, values
from crm.admin import ui
from crm.exceptions import CrmError

# A file is made in memory while its reader waits: 20,000 clients are 10 s and 4 MB on a busy machine of two cores.
MOST_ROWS = 50_000
_NOT_FILTERS = {*IGNORED_PARAMS, PAGE_VAR, SEARCH_VAR, "_changelist_filters"}


class TooManyRows(CrmError):
    message = _("More than %(limit)s rows. Narrow the filter, or ask an administrator for “manage.py %(command)s”.")


class TooManyRowsHere(CrmError):
    message = _("More than %(limit)s rows. Narrow the filter.")


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
    export_formats = [Xlsx, Csv]
    # What makes the same file without a limit, for the message; nothing where no command does.
    export_command = "export_clients"

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
        queryset = super().get_export_queryset(request)
        keys = request.POST.get("selected", "")
        return queryset.filter(pk__in=list(filter(None, map(values.key, keys.split(","))))) if keys else queryset

    def export_action(self, request):
        if not self.has_export_permission(request):
            raise PermissionDenied
        try:
            return super().export_action(request)
        except IncorrectLookupParameters:
            return HttpResponseRedirect(f"{self.export_url('changelist')}?e=1")
        except CrmError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(request.get_full_path())

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
        if queryset.order_by()[: MOST_ROWS + 1].count() > MOST_ROWS:
            if not self.export_command:
                raise TooManyRowsHere(limit=MOST_ROWS)
            raise TooManyRows(limit=MOST_ROWS, command=self.export_command)
        target = io.BytesIO()
        exports.write(
            queryset,
            target,
            file_format=file_format.file_format,
            user=request.user,
            columns=export_form.cleaned_data["columns"],
            filtered_by=_filters(request, export_form.cleaned_data["selected"]),
        )
        return target.getvalue()

    def get_export_filename(self, request, queryset, file_format):
        return exports.file_name(self.model, file_format.file_format, timezone.localdate())


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
