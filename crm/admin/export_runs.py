"""The exports: one's own, or everybody's for whoever sees all cases. While a job makes one its page shows how far it is and
can cancel it; then its file waits for the person who asked for it, and for nobody else."""

from asgiref.sync import sync_to_async
from django.contrib import admin, messages
from django.http import Http404, HttpResponseRedirect, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET, require_POST

from crm import exports, values
from crm.admin import badges
from crm.admin.base import require
from crm.admin.exports import CONTENT_TYPES, FORMATS
from crm.admin.runs import RunAdmin
from crm.admin.ui import display
from crm.choices import RunState
from crm.exceptions import CrmError
from crm.exports import waiting
from crm.models import ExportRun
from crm.models.operations import current_user


@admin.register(ExportRun)
class ExportRunAdmin(RunAdmin):
    list_display = ("created_at", "title", "kind", "by", "state_badge", "rows", "reason", "file")
    list_select_related = ("user", "job")
    list_defer = ("job__log", "job__arguments", "job__counts")
    search_fields = ("model",)
    list_encrypted = ("reason",)
    fields = (
        "created_at", "title", "kind", "by", "state_badge", "rows", "reason", "finished_at", "filtered", "header",
        "sha256", "operation_id", "message",
    )  # fmt: skip
    change_form_outer_before_template = "admin/crm/export_progress.html"

    def get_urls(self):
        def url(name, view):
            return path(f"<int:pk>/{name}/", self.admin_site.admin_view(view), name=f"crm_exportrun_{name}")

        pages = [url("progress", self.progress_view), url("cancel", self.cancel_view), url("file", self.file_view)]
        return [*pages, *super().get_urls()]

    def change_view(self, request, object_id, form_url="", extra_context=None):
        require(self.has_view_permission(request))
        run = self.visible_or_404(request, object_id)
        return super().change_view(request, object_id, form_url, {**self._told(request, run), **(extra_context or {})})

    @method_decorator(require_GET)
    def progress_view(self, request, pk):
        """The part of the page that asks again until there is nothing to wait for."""
        require(self.has_view_permission(request))
        told = self._told(request, self.visible_or_404(request, str(pk)))
        # What the page shows below has changed too.
        headers = {} if told["is_in_work"] else {"HX-Refresh": "true"}
        return TemplateResponse(request, "admin/crm/export_progress.html", told, headers=headers)

    @method_decorator(require_POST)
    def cancel_view(self, request, pk):
        run = self.visible_or_404(request, str(pk))
        require(_is_own(run, request.user) or request.user.has_perm("crm.run_job"))
        try:
            waiting.cancel(run, by=request.user)
        except CrmError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, gettext("The export will end in a moment."))
        return HttpResponseRedirect(reverse("admin:crm_exportrun_change", args=[run.pk]))

    @method_decorator(require_GET)
    def file_view(self, request, pk):
        run = self.visible_or_404(request, str(pk))
        if not waiting.is_there(run, timezone.now()):
            raise Http404
        require(_is_own(run, request.user) and exports.may_have(request.user, run))
        headers = {
            "Content-Disposition": f'attachment; filename="{exports.file_name(run)}"',
            "Cache-Control": "no-store",
        }
        return StreamingHttpResponse(
            _pieces(run, waiting.numbers(run)), content_type=CONTENT_TYPES[run.format], headers=headers
        )

    def _told(self, request, run: ExportRun) -> dict:
        state = state_of(run)
        job = run.job if run.job_id else None
        return {
            "export": run,
            "state": state,
            "is_in_work": state in waiting.IN_WORK,
            "is_by_job": bool(run.source),
            "done": values.number(job.done_count) if job and job.done_count else "",
            "may_cancel": state in waiting.IN_WORK
            and (_is_own(run, request.user) or request.user.has_perm("crm.run_job")),
            "may_fetch": _may_fetch(run, request.user),
            "is_withheld": _waits_for(run, request.user) and not exports.may_have(request.user, run),
            "kept_until": values.date(timezone.localdate(run.kept_until)) if run.kept_until else "",
            "said": waiting.said(run) if state == RunState.FAILED else "",
        }

    @display(description=_("state"), ordering="state")
    def state_badge(self, run):
        state = state_of(run)
        return badges.choice(state, RunState(state).label)

    @display(description=_("list"), ordering="model")
    def title(self, run):
        return exports.title_of(run)

    @display(description=_("format"), ordering="format")
    def kind(self, run):
        return FORMATS.get(run.format, run.format)

    @display(description=_("filter"))
    def filtered(self, run):
        return exports.filter_text(run, current_user())

    @display(description=_("columns"))
    def header(self, run):
        return exports.header_text(run)

    @display(description=_("file"))
    def file(self, run):
        if not _may_fetch(run, current_user()):
            return "–"
        return format_html(
            '<a href="{}">{}</a>', reverse("admin:crm_exportrun_file", args=[run.pk]), gettext("Download")
        )


def state_of(run: ExportRun) -> str:
    """While it is in work the job knows: one that waits for its next try, was cancelled or given up tells its run nothing."""
    if run.job is None:
        return RunState.FAILED if run.state == RunState.QUEUED else run.state
    return run.job.state if run.state in waiting.IN_WORK else run.state


def _is_own(run: ExportRun, user) -> bool:
    return user is not None and run.user_id == user.pk


def _waits_for(run: ExportRun, user) -> bool:
    return _is_own(run, user) and waiting.is_there(run, timezone.now())


def _may_fetch(run: ExportRun, user) -> bool:
    return _waits_for(run, user) and exports.may_have(user, run)


async def _pieces(run: ExportRun, numbers: range):
    """Async, since the server holds all of what a plain generator gives before it sends any of it."""
    for number in numbers:
        yield await sync_to_async(waiting.piece)(run, number)
