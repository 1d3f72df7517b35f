"""Export pages of the lists: django-import-export's button, action, URL and filters around crm.exports, which writes the
file. Its page and form are ours: they ask for our permission and know our columns, and a selection travels in one field,
since a field for each row is an error 400 from the thousandth on."""

import dataclasses
import io
from urllib.parse import urlencode

from django import forms
from django.apps import apps
from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import IGNORED_PARAMS, PAGE_VAR, SEARCH_VAR
from django.core.validators import validate_comma_separated_integer_list
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from import_export.admin import ExportMixin

from crm import exports, values
from crm.admin import ui
from crm.admin.base import require
from crm.admin.filters import UnreadFilter
from crm.admin.forms import CrmForm, select
from crm.exceptions import CrmError
from crm.exports import presets, waiting
from crm.models import ExportPreset

SAVE, SAVE_NEW, DELETE = "_save_preset", "_save_new_preset", "_delete_preset"
NAME_LENGTH = ExportPreset._meta.get_field("name").max_length
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


@dataclasses.dataclass(frozen=True)
class Group:
    """Boxes of the columns of one list, each with whether it is sensitive."""

    title: str
    boxes: list[tuple[forms.boundfield.BoundWidget, bool]]


class ExportForm(CrmForm):
    """`is_export` asks for what a file needs and a preset does not."""

    format = select(label=_("Format"), choices=FORMATS)
    columns = forms.MultipleChoiceField(
        label=_("Columns"),
        required=False,
        widget=forms.CheckboxSelectMultiple({"class": " ".join(ui.CHECKBOX_CLASSES)}),
    )
    # Names with commas between, as the page's script leaves them; without it a file has its usual order.
    order = forms.CharField(required=False, widget=forms.HiddenInput)
    reason = forms.CharField(
        label=_("Reason"),
        required=False,
        max_length=exports.REASON_LENGTH,
        widget=ui.TextInputWidget,
        help_text=_("What the sensitive columns are needed for. It is kept, encrypted, in the record of the export."),
    )
    preset_name = forms.CharField(label=_("Name"), required=False, max_length=NAME_LENGTH, widget=ui.TextInputWidget)
    is_shared = forms.BooleanField(
        label=_("Shared with everybody who may export this list"),
        required=False,
        widget=forms.CheckboxInput({"class": " ".join(ui.CHECKBOX_CLASSES)}),
    )
    selected = forms.CharField(
        required=False, widget=forms.HiddenInput, validators=[validate_comma_separated_integer_list]
    )

    def __init__(self, *args, model, user, is_export: bool = True, **kwargs):
        super().__init__(*args, **kwargs)
        self.model, self.is_export = model, is_export
        self.offered = [each for each in exports.offered(user, model) if not each.is_key]
        self.fields["columns"].choices = [(each.name, each.label) for each in self.offered]
        if not any(each.is_sensitive for each in self.offered):
            del self.fields["reason"]
        if not user.has_perm(presets.SHARE_RIGHT):
            del self.fields["is_shared"]
        usual = [each.name for each in self.offered if exports.is_own(each) and not each.is_sensitive]
        self.initial = {"format": exports.XLSX, "columns": usual, **self.initial}
        self.initial.setdefault("order", ",".join(self.initial["columns"]))

    def groups(self) -> list[Group]:
        found: dict[type, Group] = {}
        for box, column in zip(self["columns"], self.offered, strict=True):
            owner = self.model if exports.is_own(column) else column.owner
            group = found.setdefault(owner, Group(capfirst(str(owner._meta.verbose_name)), []))
            group.boxes.append((box, column.is_sensitive))
        return list(found.values())

    def clean(self):
        given = super().clean()
        place = {name: number for number, name in enumerate(given.get("order", "").split(","))}
        columns = sorted(given.get("columns", ()), key=lambda name: place.get(name, len(place)))
        if columns:
            given["columns"] = columns
        elif "columns" not in self.errors:
            self.add_error("columns", _("Choose at least one column."))
        is_sensitive = any(each.is_sensitive and each.name in columns for each in self.offered)
        if self.is_export and is_sensitive and not given.get("reason"):
            self.add_error("reason", str(exports.NO_REASON))
        if not self.is_export and not given.get("preset_name"):
            self.add_error("preset_name", _("Give the preset a name."))
        return given


class ExportAdminMixin(ExportMixin):
    """Before CrmAdmin in the bases. `queryset` of every door is get_queryset's, so it is `visible_to` the person."""

    def has_export_permission(self, request) -> bool:
        return exports.may_export(request.user, self.model)

    def get_urls(self):
        page = self.admin_site.admin_view(self.export_action)
        name = f"{self.opts.app_label}_{self.opts.model_name}_export_preset"
        return [path("export/<int:preset>/", page, name=name), *super().get_urls()]

    def export_form(self, request, **kwargs):
        return ExportForm(model=self.model, user=request.user, **kwargs)

    def export_url(self, page: str) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_{page}")

    def get_export_queryset(self, request):
        """The filtered list, or those of its rows that were ticked."""
        return self.listed(request, request.POST.get("selected", ""))

    def listed(self, request, keys: str):
        request.wants_whole_filter = True
        queryset = super().get_export_queryset(request)
        return queryset.filter(pk__in=list(filter(None, map(values.key, keys.split(","))))) if keys else queryset

    def export_action(self, request, preset: int | None = None):
        require(self.has_export_permission(request))
        if preset is not None:
            known = ExportPreset.objects.visible_to(request.user).filter(model=self.opts.model_name)
            preset = get_object_or_404(known, pk=preset)
        try:
            if request.method != "POST":
                form = self.export_form(request, initial=self._wanted(request, preset))
                return self._export_page(request, form, preset, self._rows_or_why_not(request))
            return self._posted(request, preset)
        except IncorrectLookupParameters:
            return HttpResponseRedirect(f"{self.export_url('changelist')}?e=1")
        except UnreadFilter:
            return HttpResponseRedirect(request.get_full_path())  # where it is said
        except CrmError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(request.get_full_path())

    def _rows_or_why_not(self, request):
        try:
            return self.get_export_queryset(request)
        except UnreadFilter as error:
            messages.error(request, str(error))
            return None

    def _posted(self, request, preset):
        is_own = preset is not None and preset.user_id == request.user.pk
        if DELETE in request.POST:
            require(is_own)
            presets.delete(preset, by=request.user)
            messages.success(request, gettext("The preset was deleted."))
            return HttpResponseRedirect(f"{self.export_url('export')}?{request.GET.urlencode()}")
        is_export = not {SAVE, SAVE_NEW} & request.POST.keys()
        form = self.export_form(request, data=request.POST, is_export=is_export)
        if not form.is_valid():
            return self._export_page(request, form, preset)
        if is_export:
            return self._export(request, form)
        if SAVE_NEW in request.POST or not is_own:
            preset = ExportPreset(user=request.user, model=self.opts.model_name)
        try:
            self._save_preset(request, form, preset)
        except (presets.NameTaken, presets.SearchIsPrivate) as error:
            is_name = isinstance(error, presets.NameTaken) or "is_shared" not in form.fields
            form.add_error("preset_name" if is_name else "is_shared", str(error))
            return self._export_page(request, form, preset if preset.pk else None)
        messages.success(request, gettext("The preset was saved."))
        return HttpResponseRedirect(self.preset_url(preset))

    def _save_preset(self, request, form, preset) -> None:
        """Raises UnreadFilter, NameTaken and SearchIsPrivate."""
        self.listed(request, "")
        given = form.cleaned_data
        preset.name, preset.format, preset.columns = given["preset_name"], given["format"], given["columns"]
        preset.query = request.GET.urlencode()
        is_shared = given["is_shared"] if "is_shared" in form.fields else preset.is_shared
        presets.save(preset, by=request.user, is_shared=is_shared)

    def _wanted(self, request, preset) -> dict:
        """By the preset, or as last time. What he may not have is left out, and said."""
        wanted = preset or presets.last_choice(request.user, self.model)
        if wanted is None:
            return {}
        columns, left_out = presets.usable(request.user, self.model, wanted.columns)
        if left_out and preset:
            text = gettext("Left out, since your role may not export them or they are gone: %(columns)s.")
            messages.warning(request, text % {"columns": ", ".join(left_out)})
        found = {"format": wanted.format, "columns": columns}
        return found | ({"preset_name": preset.name, "is_shared": preset.is_shared} if preset else {})

    def preset_url(self, preset) -> str:
        url = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_export_preset", args=[preset.pk])
        return f"{url}?{preset.query}" if preset.query else url

    def _export(self, request, form):
        """The file, or the page of the run where there are more rows than anybody waits for."""
        rows, run = self.get_export_queryset(request), self._planned(request, form)
        presets.remember(run)
        if rows.order_by()[: MOST_ROWS + 1].count() > MOST_ROWS:
            waiting.order(run, query=request.GET.urlencode(), selected=_selected(form))
            return HttpResponseRedirect(reverse("admin:crm_exportrun_change", args=[run.pk]))
        target = io.BytesIO()
        run.save()
        exports.fill(run, rows, target)
        headers = {"Content-Disposition": f'attachment; filename="{exports.file_name(run)}"'}
        return HttpResponse(target.getvalue(), content_type=CONTENT_TYPES[run.format], headers=headers)

    def _planned(self, request, form):
        filtered_by, given = _filters(request.GET, _selected(form)), form.cleaned_data
        reason = given.get("reason", "")
        return exports.planned(self.model, given["format"], request.user, given["columns"], filtered_by, reason)

    def export_admin_action(self, request, queryset):
        """The selected rows. All rows of the list selected means the filtered list, which its address says already."""
        require(self.has_export_permission(request))
        keys = "" if request.POST.get("select_across") == "1" else ",".join(map(str, _keys(queryset)))
        action = f"{self.export_url('export')}?{urlencode(request.GET, doseq=True)}"
        form = self.export_form(request, initial={**self._wanted(request, None), "selected": keys})
        return self._export_page(request, form, None, queryset, action)

    def _export_page(self, request, form, preset, rows=None, action: str = ""):
        """`rows` are counted; of a form that comes back they were. None: they cannot be, or were."""
        context = {
            **self.admin_site.each_context(request),
            "title": _("Export"),
            "form": form,
            "opts": self.opts,
            "keys": [each.label for each in exports.offered(request.user, self.model) if each.is_key],
            "rows": None if rows is None else rows.order_by().count(),
            "is_imported": self.model in exports.IMPORTED,
            "most_rows": MOST_ROWS,
            "export_url": action,
            "preset": preset,
            "may_schedule": request.user.has_perm("crm.add_exportschedule"),
            "is_own": preset is not None and preset.user_id == request.user.pk,
            "presets": [(each, self.preset_url(each)) for each in presets.of_list(request.user, self.model)],
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


def filters_of(query: str) -> dict:
    """What the record says of a list's address."""
    return _filters(QueryDict(query), "")


def _filters(query: QueryDict, selected: str) -> dict:
    """For the record, which is not encrypted: that something was searched for, never what."""
    found = {name: query.getlist(name) for name in query if name not in _NOT_FILTERS}
    found = {name: values[0] if len(values) == 1 else values for name, values in found.items()}
    if query.get(SEARCH_VAR):
        found["search"] = True
    if selected:
        found["selected"] = selected.count(",") + 1
    return found
