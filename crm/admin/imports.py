"""Import pages of clients and cases: upload, preview of every row and every problem, one confirmation, result. The work
is crm.imports'; between preview and confirmation the file waits encrypted with its ImportRun, for the person who brought
it and nobody else. (django-import-export's own pages keep it in the clear in a folder and believe the browser's name.)"""

import io
from collections.abc import Callable
from functools import partial
from pathlib import PurePath

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import RequestDataTooBig
from django.core.paginator import Page, Paginator
from django.db.models import Q
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_GET, require_POST
from import_export.admin import ImportExportMixinBase

from crm import imports, values
from crm.admin import import_choices, import_template
from crm.admin.base import require
from crm.admin.import_forms import ColumnsForm, UploadForm, too_large, too_much_pasted
from crm.admin.import_lines import Line, problems_of
from crm.audit import plans, undo_runs
from crm.audit.undo import undone_by
from crm.choices import ImportPart, ImportState
from crm.exceptions import CrmError, NotAllowed
from crm.exports import given_back
from crm.imports import mappings, preview, runs
from crm.imports.plans import Table, csv_file, problem_table
from crm.models import AuditEntry, Case, Client, ImportMapping, ImportRun, Note

# Links to written records on the result page.
MOST_LINKS = 100
PER_PAGE = 50
VIEW = "crm.view_auditentry"


class ImportAdminMixin(ImportExportMixinBase):
    """Before ExportAdminMixin and CrmAdmin in the bases: the list's buttons are this one's template."""

    import_export_change_list_template = "admin/import_export/change_list_import_export.html"

    def has_import_permission(self, request) -> bool:
        return runs.may_import(request.user, self.model)

    def changelist_view(self, request, extra_context=None):
        context = {"has_import_permission": self.has_import_permission(request), **(extra_context or {})}
        return super().changelist_view(request, context)

    def get_urls(self):
        pages = (
            ("import/", self.import_upload, "import"),
            ("import/template.xlsx", partial(import_template.download, self), "import_template"),
            ("import/<uuid:token>/", self.import_preview, "import_preview"),
            ("import/<uuid:token>/progress/", self.import_progress, "import_progress"),
            ("import/<uuid:token>/cancel/", self.import_cancel, "import_cancel"),
            ("import/<uuid:token>/again/", self.import_again, "import_again"),
            ("import/<uuid:token>/columns/", self.import_columns, "import_columns"),
            ("import/<uuid:token>/cells/", self.import_cells, "import_cells"),
            ("import/forget/", self.import_forget, "import_forget"),
            ("import/<uuid:token>/refused.csv", self.import_refused_rows, "import_refused_rows"),
            ("import/<uuid:token>/refused.xlsx", self.import_refused_book, "import_refused_book"),
            ("import/<uuid:token>/result/", self.import_result, "import_result"),
            ("import/<uuid:token>/problems.csv", self.import_problems, "import_problems"),
        )
        own = [
            path(route, self.admin_site.admin_view(view), name=f"{self.opts.app_label}_{self.opts.model_name}_{name}")
            for route, view, name in pages
        ]
        return [*own, *super().get_urls()]

    # --- Pages ---

    @method_decorator(csrf_exempt)
    def import_upload(self, request):
        """Whatever is sent is looked at here first, and protected below: else the check of the form's token would meet what
        is too long, and answer with a page that says nothing of it."""
        self._require_import(request)
        try:
            request.POST  # noqa: B018
        except RequestDataTooBig:
            form = UploadForm({}, {})
            form.errors.clear()
            form.add_error("text", too_much_pasted())
            return self._upload_page(request, form)
        return self._import_upload(request)

    @method_decorator(csrf_protect)
    def _import_upload(self, request):
        form = UploadForm(request.POST, request.FILES) if request.method == "POST" else UploadForm()
        if int(request.META.get("CONTENT_LENGTH") or 0) > settings.FILE_UPLOAD_MAX_MEMORY_SIZE:
            # Then no upload handler took the file, which is to look like one that is missing.
            form.fields["file"].error_messages["required"] = too_large()
        if form.is_bound and form.is_valid() and (run := self._begun(request, form)):
            return HttpResponseRedirect(self._import_url("import_preview", run))
        return self._upload_page(request, form)

    def _upload_page(self, request, form: UploadForm):
        context = {
            "form": form,
            "title": _("Import"),
            "most_mb": settings.UPLOAD_LIMIT_MB,
            "at_once": runs.ROWS_AT_ONCE,
            "remembered": [
                (each.header, mappings.label_of(each.field)) for each in ImportMapping.objects.filter(user=request.user)
            ],
            "forget_url": self._import_url("import_forget"),
        }
        return self._import_page(request, "crm/import_upload.html", context)

    def import_preview(self, request, token):
        """GET shows how far it is, then what would be written; POST writes it."""
        self._require_import(request)
        run = self._own_run(request, token)
        state = runs.state_of(run)
        if state == ImportState.DONE:
            return HttpResponseRedirect(self._import_url("import_result", run))
        if state == ImportState.MISSED or (state == ImportState.CHECKED and not self._is_kept(request, run)):
            return self._gone(request)
        if request.method == "POST":
            return self._confirm(request, run)
        if state == ImportState.UPLOADED:
            return HttpResponseRedirect(self._import_url("import_columns", run))
        if state != ImportState.CHECKED:
            context = {"title": _("Import"), **self._told(run, state)}
            return self._import_page(request, "crm/import_progress.html", context)
        context = {"title": _("Check the import"), **self._shown(request, run), **self._earlier(request, run)}
        return self._import_page(request, "crm/import_preview.html", context)

    @method_decorator(require_GET)
    def import_progress(self, request, token):
        """The part of the page that asks again until there is nothing to wait for."""
        self._require_import(request)
        run = self._own_run(request, token)
        state = runs.state_of(run)
        headers = {} if state in runs.IN_WORK else {"HX-Refresh": "true"}
        return TemplateResponse(request, "crm/import_state.html", self._told(run, state), headers=headers)

    @method_decorator(require_POST)
    def import_cancel(self, request, token):
        self._require_import(request)
        run = self._own_run(request, token)
        return self._do(request, run, lambda: runs.cancel(run, by=request.user), _("The import will end in a moment."))

    @method_decorator(require_POST)
    def import_again(self, request, token):
        self._require_import(request)
        run = self._own_run(request, token)
        return self._do(request, run, lambda: runs.check_again(run, request.user))

    def import_columns(self, request, token):
        """What the columns mean that nobody knows: said once, and remembered for this person."""
        self._require_import(request)
        run = self._own_run(request, token)
        found = runs.columns_of(run)
        if found is None or runs.state_of(run) not in (ImportState.UPLOADED, ImportState.CHECKED, ImportState.FAILED):
            return HttpResponseRedirect(self._import_url("import_preview", run))
        kind, asked, said, sheets, held = found
        form = ColumnsForm(request.POST or None, kind=kind, asked=asked, said=said, held=held)
        if form.is_valid():
            return self._do(request, run, lambda: runs.name_columns(run, request.user, form.chosen()))
        context = {
            "title": _("Columns of the file"),
            "run": run,
            "form": form,
            "lines": [(header, samples, form[f"column-{index}"]) for index, header, samples in asked],
            "notices": [*sheets, *form.clashes()],
            **self._earlier(request, run),
        }
        return self._import_page(request, "crm/import_columns.html", context)

    @method_decorator(require_POST)
    def import_cells(self, request, token):
        """Cells that were put right in the preview, and what becomes of rows; the file is checked with them."""
        self._require_import(request)
        run = self._own_run(request, token)
        index = preview.index_of(run)
        if index is None:
            return self._gone(request)
        return self._do(request, run, lambda: self._check(request, run, index))

    @method_decorator(require_POST)
    def import_forget(self, request):
        self._require_import(request)
        mappings.forget(request.user)
        messages.success(request, _("Your columns are forgotten."))
        return HttpResponseRedirect(self._import_url("import"))

    def import_refused_rows(self, request, token):
        return self._refused(request, token, lambda table: _csv(csv_file(*table), gettext("refused-rows")))

    def import_refused_book(self, request, token):
        return self._refused(request, token, _refused_book)

    def _refused(self, request, token, made: Callable[[Table], HttpResponse]):
        self._require_import(request)
        run = self._own_run(request, token)
        if not run.pieces.filter(part=ImportPart.INDEX).exists():
            return self._gone(request)
        return made(preview.refused(run))

    def _refused_urls(self, run: ImportRun) -> list[tuple]:
        """The format first in which the file came."""
        urls = [
            ("XLSX", self._import_url("import_refused_book", run)),
            ("CSV", self._import_url("import_refused_rows", run)),
        ]
        return urls if PurePath(run.file_name).suffix.lower() in (".xlsx", ".xlsm") else urls[::-1]

    def import_result(self, request, token):
        self._require_import(request)
        run = self._visible_run(request, token)
        if run.state != ImportState.DONE:
            return HttpResponseRedirect(self._import_url("import_preview", run))
        found = problems_of(run, request.user)
        page = Paginator(found, PER_PAGE).get_page(request.GET.get("p"))
        is_own = run.user_id == request.user.pk
        index = preview.index_of(run) if is_own else None
        has_refused = run.error_count and index and index.kind != preview.DUMP
        context = {
            "title": _("Import finished"),
            "run": run,
            "counts": _counts(run, done=True),
            "problems": page.object_list,
            "problem_count": values.number(len(found)),
            "page": page,
            "written": run.created_count + run.updated_count,
            "notices": index.notices if index else [],
            "lists": [self._written(request, run, model) for model in (Client, Case)],
            "problems_url": self._import_url("import_problems", run) if found else "",
            "refused_urls": self._refused_urls(run) if has_refused else [],
            **operation_urls(request.user, run),
            **_undone(request.user, run),
            "is_being_undone": undo_runs.in_work(run.operation_id) is not None,
        }
        return self._import_page(request, "crm/import_result.html", context)

    def import_problems(self, request, token):
        self._require_import(request)
        problems = problems_of(self._visible_run(request, token), request.user)
        return _csv(csv_file(*problem_table(problems)), gettext("import-problems"))

    # --- Their parts ---

    def _require_import(self, request) -> None:
        require(self.has_import_permission(request))

    def _own_run(self, request, token) -> ImportRun:
        return get_object_or_404(ImportRun.objects.select_related("job", "user").filter(user=request.user), token=token)

    def _visible_run(self, request, token) -> ImportRun:
        """One's own; of others what was written."""
        allowed = Q(user=request.user) | Q(state=ImportState.DONE)
        return get_object_or_404(ImportRun.objects.visible_to(request.user).filter(allowed), token=token)

    def _is_kept(self, request, run: ImportRun) -> bool:
        return runs.kept(request.user).filter(pk=run.pk).exists()

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

    def _begun(self, request, form: UploadForm) -> ImportRun | None:
        """None with the reason on the form. The name is a label, never a path."""
        content, name = form.content()
        try:
            return imports.begin(
                content, name, request.user,
                model=self.opts.model_name, empty_deletes=form.cleaned_data["empty_deletes"],
            )  # fmt: skip
        except CrmError as error:
            form.add_error("file", str(error))
            return None

    def _shown(self, request, run: ImportRun) -> dict:
        index = preview.index_of(run)
        chosen, page = _page(request, index)
        lines = [Line(line, index.header, request.user) for line in preview.lines_at(run, list(page.object_list))]
        has_columns = run.pieces.filter(part=ImportPart.COLUMNS).exists()
        of_file = [preview.problem_of({"row": 1}, each) for each in index.of_file]
        return {
            "run": run,
            "counts": _counts(run),
            "notices": index.notices,
            "source": index.source,
            "of_file": of_file,
            "said": [(header, mappings.label_of(target)) for header, target in index.said.items()],
            "columns_url": self._import_url("import_columns", run) if has_columns else "",
            "preview_url": self._import_url("import_preview", run),
            "cells_url": self._import_url("import_cells", run)
            if index.conflicts or any(line.cells or line.choices for line in lines)
            else "",
            "has_conflicts": bool(index.conflicts),
            "to_write": import_choices.EVERYTHING | run.options,
            "problems": [*of_file, *(problem for line in lines for problem in line.problems)],
            "rows": lines,
            "is_dump": index.kind == preview.DUMP,
            "page": page,
            "query": f"show={chosen}" if chosen else "",
            "here": request.GET.urlencode(),
            "filters": [
                {
                    "value": value,
                    "label": label,
                    "count": values.number(index.count(value)),
                    "is_chosen": value == chosen,
                }
                for value, label in preview.FILTERS.items()
                if value == "" or index.count(value)
            ],
            "writes": run.created_count + run.updated_count,
            "refused_urls": self._refused_urls(run) if run.error_count else [],
            "again_url": self._import_url("import_again", run),
        }

    def _told(self, run: ImportRun, state: str) -> dict:
        """What its job says."""
        job = run.job
        problems = problems_of(run, run.user)
        total = job.total_count if job else 0
        return {
            "run": run,
            "state": state,
            "is_in_work": state in runs.IN_WORK,
            "is_waiting": bool(job and job.state == "queued"),
            "is_written": run.state == ImportState.RUNNING,
            "done": values.number(job.done_count) if job and job.done_count else "",
            "total": values.number(total) if total else "",
            "share": min(100, 100 * job.done_count // total) if total else 0,
            "said": (str(problems[0].reason) if problems else "") or _said(job),
            "progress_url": self._import_url("import_progress", run),
            "cancel_url": self._import_url("import_cancel", run),
            "again_url": self._import_url("import_again", run) if run.state in runs.WAITING else "",
            "upload_url": self._import_url("import"),
        }

    def _earlier(self, request, run: ImportRun) -> dict:
        """The import that wrote the same file already, with a link for who sees it, and whether it was undone."""
        before = runs.earlier(run)
        if before is None:
            return {}
        sees = ImportRun.objects.visible_to(request.user).filter(pk=before.pk).exists()
        return {
            "earlier": before,
            "earlier_at": values.moment(before.finished_at),
            "earlier_url": self._import_url("import_result", before) if sees else "",
            **_undone(request.user, before),
        }

    def _confirm(self, request, run: ImportRun):
        """Takes what was chosen on the page and not checked yet; what that changes is shown before it is written."""
        options = import_choices.to_write(request.POST)
        try:
            index = preview.index_of(run)
            if index is not None and self._is_shown_once_more(request, run, index):
                messages.info(request, _("What you chose and put right is taken. Look at the rows, then import them."))
                return self._back(request, run)
            done = imports.confirm(run, request.user, **options)
        except NotAllowed:
            return self._gone(request)
        except CrmError as error:
            messages.error(request, str(error))
            return self._back(request, run)
        if done.state != ImportState.DONE:
            return HttpResponseRedirect(self._import_url("import_preview", run))
        if options["all_or_nothing"] and done.error_count:
            messages.warning(request, _("Nothing was written, since some rows are refused."))
        return HttpResponseRedirect(self._import_url("import_result", run))

    def _is_shown_once_more(self, request, run: ImportRun, index: preview.Index) -> bool:
        was_shown = run.fingerprint
        sent = self._take(request, run, index)
        is_another = sent.says_what_is_written or run.fingerprint != was_shown or run.state != ImportState.CHECKED
        return bool(sent) and is_another

    def _check(self, request, run: ImportRun, index: preview.Index) -> None:
        if not self._take(request, run, index):
            messages.info(request, _("Nothing was changed."))

    def _take(self, request, run: ImportRun, index: preview.Index) -> import_choices.Sent:
        """What stands in the form; the file is checked with it where it is another than was shown."""
        _chosen, page = _page(request, index)
        sent = import_choices.sent(request.POST, run, index, page.object_list)
        runs.choose(run, request.user, import_choices.to_write(request.POST))
        if sent:
            runs.correct(run, request.user, sent.cells, sent.decisions, sent.taken)
        return sent

    def _do(self, request, run: ImportRun, act, said: str = ""):
        try:
            act()
        except NotAllowed:
            return self._gone(request)
        except CrmError as error:
            messages.error(request, str(error))
        else:
            if said:
                messages.success(request, said)
        return self._back(request, run)

    def _back(self, request, run: ImportRun):
        """To the preview, with the filter and the page that this was sent from."""
        query = f"?{request.GET.urlencode()}" if request.GET else ""
        return HttpResponseRedirect(self._import_url("import_preview", run) + query)

    def _gone(self, request):
        messages.warning(
            request, _("This import was confirmed already, or its file waited too long. Upload the file again.")
        )
        return HttpResponseRedirect(self._import_url("import"))

    def _written(self, request, run: ImportRun, model) -> dict:
        """Links to what this run wrote and this person sees, by the history of its operation."""
        if not request.user.has_perm(f"{model._meta.app_label}.view_{model._meta.model_name}"):
            return {"title": "", "rows": []}
        written = Q(pk__in=model.history.filter(operation_id=run.operation_id).values("id"))
        if model is Case:  # a later dump brings notes alone
            written |= Q(pk__in=Note.history.filter(operation_id=run.operation_id).values("case"))
        rows = model.objects.visible_to(request.user).filter(written).only("reference").order_by("reference")
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


def _page(request, index: preview.Index) -> tuple[str, Page]:
    """The filter, and the positions of the rows on the page."""
    chosen = request.GET.get("show", "")
    chosen = chosen if chosen in preview.FILTERS else ""
    return chosen, Paginator(index.positions(chosen), PER_PAGE).get_page(request.GET.get("p"))


def operation_urls(user, run: ImportRun) -> dict[str, str]:
    """Where what an import wrote is told and undone; nothing for who may not look there."""
    pages = {"operation_url": ("admin:crm_operation", VIEW), "undo_url": ("admin:crm_operation_undo", plans.PERMISSION)}
    if run.state != ImportState.DONE or not AuditEntry.objects.visible_to(user).filter(operation_id=run.operation_id):
        return {}
    if not run.created_count and not run.updated_count:
        del pages["undo_url"]
    return {
        name: reverse(page, args=[run.operation_id])
        for name, (page, permission) in pages.items()
        if user.has_perm(permission)
    }


def _undone(user, run: ImportRun) -> dict[str, str]:
    """When, and by whom for who may look there."""
    undoing = undone_by(run.operation_id)
    told = undoing and AuditEntry.objects.visible_to(user).filter(pk=undoing.pk).exists()
    return {
        "undone_at": values.moment(undoing.at) if undoing else "",
        "undone_by": undoing.user_name if told else "",
    }


def _said(job) -> str:
    if job is None or job.state not in ("failed", "missed"):
        return ""
    return str(runs.jobs.Cancelled()) if job.is_cancelled else job.message


def _counts(run: ImportRun, *, done: bool = False) -> list[tuple]:
    labels = (
        (_("Created"), _("Updated"), _("Skipped"), _("Probable duplicates"), _("Refused"))
        if done
        else (_("New"), _("Changed"), _("Unchanged"), _("Probable duplicates"), _("Refused"))
    )
    numbers = (run.created_count, run.updated_count, run.skipped_count, run.duplicate_count, run.error_count)
    return list(zip(labels, numbers, strict=True))


def _refused_book(table: Table) -> HttpResponse:
    target = io.BytesIO()
    given_back.write(*table, target)
    return import_template.workbook(target.getvalue(), gettext("refused-rows"))


def _csv(content: bytes, name: str) -> HttpResponse:
    return HttpResponse(
        content,
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
    )
