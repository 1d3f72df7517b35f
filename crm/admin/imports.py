"""Import pages of clients and cases: upload, preview of every row and every problem, one confirmation, result. The work
is crm.imports'; between preview and confirmation the file waits encrypted in its ImportRun, for the person who brought
it and nobody else. (django-import-export's own pages keep it in the clear in a folder and believe the browser's name.)"""

import json

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import path, reverse
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from import_export.admin import ImportExportMixinBase

from crm import imports
from crm.admin import ui
from crm.admin.forms import CrmForm
from crm.choices import RunState
from crm.exceptions import CrmError, NotAllowed
from crm.imports import parsers
from crm.imports.columns import CASES, CLIENTS
from crm.imports.plans import Outcome, Plan, problems_file
from crm.imports.problems import RowProblem
from crm.models import Case, Client, ImportRun

# A page answers within seconds up to here; a longer file is the command's.
MOST_ROWS = 2_000
# Links to written records on the result page.
MOST_LINKS = 100
GOOD_ROWS, ALL_OR_NOTHING = "good", "all"
_BADGES = {Outcome.CREATE: "ok", Outcome.UPDATE: "soon", Outcome.SKIP: "muted", Outcome.ERROR: "overdue"}


class UploadForm(CrmForm):
    file = forms.FileField(
        label=_("File"),
        help_text=_("XLSX or CSV, with the names of the columns in the first row."),
        widget=ui.FileWidget({"accept": ".csv,.txt,.xlsx"}),
        allow_empty_file=True,  # the reader says what to do about it
    )

    def clean_file(self):
        file = self.cleaned_data["file"]
        if file.size > settings.UPLOAD_LIMIT_MB * 1024 * 1024:
            raise forms.ValidationError(_too_large())
        return file


class ImportAdminMixin(ImportExportMixinBase):
    """Before ExportAdminMixin and CrmAdmin in the bases: the list's buttons are this one's template."""

    import_export_change_list_template = "admin/import_export/change_list_import_export.html"

    def has_import_permission(self, request) -> bool:
        return _may_import(request.user, self.model)

    def changelist_view(self, request, extra_context=None):
        context = {"has_import_permission": self.has_import_permission(request), **(extra_context or {})}
        return super().changelist_view(request, context)

    def get_urls(self):
        pages = (
            ("import/", self.import_upload, "import"),
            ("import/<uuid:token>/", self.import_preview, "import_preview"),
            ("import/<uuid:token>/refused.csv", self.import_refused_rows, "import_refused_rows"),
            ("import/<uuid:token>/result/", self.import_result, "import_result"),
            ("import/<uuid:token>/problems.csv", self.import_problems, "import_problems"),
        )
        own = [
            path(route, self.admin_site.admin_view(view), name=f"{self.opts.app_label}_{self.opts.model_name}_{name}")
            for route, view, name in pages
        ]
        return [*own, *super().get_urls()]

    # --- Pages ---

    def import_upload(self, request):
        self._require_import(request)
        form = UploadForm(request.POST, request.FILES) if request.method == "POST" else UploadForm()
        if int(request.META.get("CONTENT_LENGTH") or 0) > settings.FILE_UPLOAD_MAX_MEMORY_SIZE:
            # Then no upload handler took the file, which is to look like one that is missing.
            form.fields["file"].error_messages["required"] = _too_large()
        if form.is_bound and form.is_valid() and (run := self._checked(request, form)):
            return HttpResponseRedirect(self._import_url("import_preview", run))
        context = {"form": form, "title": _("Import"), "most_rows": MOST_ROWS, "most_mb": settings.UPLOAD_LIMIT_MB}
        return self._import_page(request, "crm/import_upload.html", context)

    def import_preview(self, request, token):
        """GET shows what would be written, checked anew; POST writes it."""
        self._require_import(request)
        run = self._own_run(request, token)
        if run.state == RunState.DONE:
            return HttpResponseRedirect(self._import_url("import_result", run))
        if request.method == "POST":
            return self._confirm(request, run)
        plan = self._plan(request, run)
        if plan is None:
            return self._gone(request)
        context = {
            "title": _("Check the import"),
            "run": run,
            "plan": plan,
            "counts": _counts(plan.created, plan.updated, plan.skipped, plan.errors),
            "notices": plan.sheet.notices,
            "problems": plan.problems,
            "rows": _rows(plan),
            "writes": plan.created + plan.updated,
            "refused_url": self._import_url("import_refused_rows", run) if plan.errors else "",
        }
        return self._import_page(request, "crm/import_preview.html", context)

    def import_refused_rows(self, request, token):
        self._require_import(request)
        plan = self._plan(request, self._own_run(request, token))
        return _csv(plan.errors_file(), "refused-rows") if plan else self._gone(request)

    def import_result(self, request, token):
        self._require_import(request)
        run = self._own_run(request, token)
        if run.state != RunState.DONE:
            return HttpResponseRedirect(self._import_url("import_preview", run))
        problems = _problems(run)
        context = {
            "title": _("Import finished"),
            "run": run,
            "counts": _counts(run.created_count, run.updated_count, run.skipped_count, run.error_count, done=True),
            "problems": problems,
            "written": run.created_count + run.updated_count,
            "lists": [self._written(request, run, model) for model in (Client, Case)],
            "problems_url": self._import_url("import_problems", run) if problems else "",
        }
        return self._import_page(request, "crm/import_result.html", context)

    def import_problems(self, request, token):
        self._require_import(request)
        return _csv(problems_file(_problems(self._own_run(request, token))), "import-problems")

    # --- Their parts ---

    def _require_import(self, request) -> None:
        if not self.has_import_permission(request):
            raise PermissionDenied

    def _own_run(self, request, token) -> ImportRun:
        return get_object_or_404(ImportRun.objects.filter(user=request.user), token=token)

    def _import_url(self, page: str, run: ImportRun | None = None) -> str:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_{page}"
        return reverse(name, args=[run.token] if run else [])

    def _import_page(self, request, template: str, context: dict):
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "upload_url": self._import_url("import"),
            **context,
        }
        return render(request, template, context)

    def _checked(self, request, form: UploadForm) -> ImportRun | None:
        """The run that waits for confirmation; None with the reason on the form. The name is a label, never a path."""
        file = form.cleaned_data["file"]
        content = file.read()
        try:
            if len(imports.read(content, file.name).rows) > MOST_ROWS:
                form.add_error(
                    "file",
                    _(
                        "A page takes at most %(limit)s rows. Split the file, or ask an administrator for "
                        "“manage.py import_clients FILE”, which takes any number."
                    )
                    % {"limit": MOST_ROWS},
                )
                return None
            plan = imports.check(content, file.name, request.user)
        except imports.UnusableFile as error:
            form.add_error("file", str(error))
            return None
        if not _may_write(request.user, plan):
            form.add_error("file", NotAllowed.message)
            return None
        return imports.keep(plan, content, request.user)

    def _plan(self, request, run: ImportRun) -> Plan | None:
        kept = imports.kept(request.user).filter(pk=run.pk).first()
        return imports.check(imports.kept_content(kept), kept.file_name, request.user) if kept else None

    def _confirm(self, request, run: ImportRun):
        plan = self._plan(request, run)
        if plan and not _may_write(request.user, plan):
            raise PermissionDenied
        everything = request.POST.get("mode") == ALL_OR_NOTHING
        try:
            done = imports.confirm(run, request.user, all_or_nothing=everything)
        except NotAllowed:
            return self._gone(request)
        except CrmError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(self._import_url("import_preview", run))
        if everything and done.errors:
            messages.warning(request, _("Nothing was written, since some rows are refused."))
        return HttpResponseRedirect(self._import_url("import_result", run))

    def _gone(self, request):
        messages.warning(
            request, _("This import was confirmed already, or its file waited too long. Upload the file again.")
        )
        return HttpResponseRedirect(self._import_url("import"))

    def _written(self, request, run: ImportRun, model) -> dict:
        """Links to what this run wrote and this person sees, by the history of its operation."""
        if not request.user.has_perm(f"{model._meta.app_label}.view_{model._meta.model_name}"):
            return {"title": "", "rows": []}
        keys = model.history.filter(operation_id=run.operation_id).values("id")
        rows = model.objects.visible_to(request.user).filter(pk__in=keys).only("reference").order_by("reference")
        return {
            "title": capfirst(model._meta.verbose_name_plural),
            "total": rows.count(),
            "most": MOST_LINKS,
            "rows": [
                (
                    row.reference,
                    reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[row.pk]),
                )
                for row in rows[:MOST_LINKS]
            ],
        }


def _may_import(user, model) -> bool:
    verb = settings.IMPORT_EXPORT_IMPORT_PERMISSION_CODE
    return user.has_perm(f"{model._meta.app_label}.{verb}_{model._meta.model_name}")


def _may_write(user, plan: Plan) -> bool:
    """Either page takes any file, so what is in it decides which permissions it needs."""
    needed = {CLIENTS: (Client,), CASES: (Case,)}.get(plan.layout.kind, (Client, Case))
    return all(_may_import(user, model) for model in needed)


def _too_large() -> str:
    return _("The file is too large: at most %(limit)s MB.") % {"limit": settings.UPLOAD_LIMIT_MB}


def _counts(created: int, updated: int, skipped: int, errors: int, *, done: bool = False) -> list[tuple]:
    labels = (
        (_("Created"), _("Updated"), _("Skipped"), _("Refused"))
        if done
        else (_("Will be created"), _("Will be updated"), _("Nothing to do"), _("Refused"))
    )
    return list(zip(labels, (created, updated, skipped, errors), strict=True))


def _rows(plan: Plan) -> list[dict]:
    """One line for each row of the file: what happens to it and to whom."""
    items = {item.row: item for item in plan.items}
    column = plan.layout.column("full_name") or plan.layout.column("reference")
    names = {row.number: parsers.shown(row.cell(column.index)) for row in plan.sheet.rows} if column else {}
    return [
        {
            "number": number,
            "outcome": outcome.label,
            "badge": _BADGES[outcome],
            "who": _who(items.get(number)) or names.get(number, ""),
            "changes": _changes(items.get(number)),
        }
        for number, outcome in sorted(plan.outcomes.items())
    ]


def _who(item) -> str:
    if item is None:
        return ""
    record = item.client if item.case is None or item.is_new else item.case
    if item.is_new and item.client is not None:
        return str(item.client.full_name)
    return record.display_name if isinstance(record, Client) else record.reference


def _changes(item) -> str:
    if item is None or not item.changed:
        return ""
    record = item.client if item.case is None else item.case
    return ", ".join(str(record._meta.get_field(name).verbose_name) for name in item.changed)


def _problems(run: ImportRun) -> list[RowProblem]:
    return [RowProblem(**problem) for problem in json.loads(run.problems or "[]")]


def _csv(content: bytes, name: str) -> HttpResponse:
    return HttpResponse(
        content,
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
    )
