"""The backups: what each is, how far it is proven, where it lies; one made now, one taken away. A download asks for the
password again and stands in the audit trail: its file holds the whole office, though encrypted."""

import os

from asgiref.sync import sync_to_async
from django import forms
from django.contrib import admin, messages
from django.contrib.auth import authenticate
from django.http import HttpResponseRedirect, StreamingHttpResponse
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html, format_html_join
from django.utils.timesince import timesince
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET, require_POST

from crm import jobs, schedules, values
from crm.admin import badges
from crm.admin.base import require
from crm.admin.pages import form_page
from crm.admin.runs import RunAdmin
from crm.admin.site import backups
from crm.admin.ui import ChoicesDropdownFilter, PasswordWidget, display
from crm.audit.events import enter
from crm.audit.hooks import address_of
from crm.backups import offsite, watch
from crm.choices import AuditKind, BackupProof, QueueName, RunState
from crm.exceptions import BackupDamaged, BackupGone
from crm.models import BackupRun, JobRun
from crm.models.operations import current_user

PAGE = "admin:crm_backuprun_changelist"
JOBS = ("make_backup", "nightly_backup", "hourly_backup")
BLOCK = 1024 * 1024
COLOURS = {BackupProof.RESTORED: "ok", BackupProof.DIGESTS: "today", BackupProof.BAD: "overdue"}


class PasswordForm(forms.Form):
    """Failures count as those of the login do, and lock as they do."""

    password = forms.CharField(
        label=_("Your password"), strip=False, widget=PasswordWidget({"autocomplete": "current-password"})
    )
    request = None

    def clean_password(self):
        user, password = self.request.user, self.cleaned_data["password"]
        if authenticate(self.request, username=user.get_username(), password=password) != user:
            raise forms.ValidationError(_("This is not your password."))
        return password


@admin.register(BackupRun)
class BackupRunAdmin(RunAdmin):
    list_display = ("of", "kind", "proven", "where", "size", "took", "rows", "file")
    list_filter = (
        ("kind", ChoicesDropdownFilter),
        ("proof", ChoicesDropdownFilter),
        ("state", ChoicesDropdownFilter),
        "created_at",
    )
    list_before_template = "admin/crm/backups_above.html"
    search_fields = ("file_name",)
    fields = (
        "of", "kind", "state_badge", "proven", "verify_message", "verify_took", "where", "file_name",
        "size", "took", "rows", "files_total", "version", "engine", "sha256", "offsite_key", "offsite_etag",
        "offsite_at", "removed_at", "by", "message", "file",
    )  # fmt: skip

    def get_urls(self):
        def url(route, view, name):
            return path(route, self.admin_site.admin_view(view), name=f"crm_backuprun_{name}")

        return [
            url("now/", self.now_view, "now"),
            url("progress/", self.progress_view, "progress"),
            url("<int:pk>/download/", self.download_view, "download"),
            *super().get_urls(),
        ]

    def changelist_view(self, request, extra_context=None):
        return super().changelist_view(request, {**_above(request), **(extra_context or {})})

    @method_decorator(require_GET)
    def progress_view(self, request):
        """The part above the list, which asks again while something is being made."""
        require(self.has_view_permission(request))
        told = _above(request)
        headers = {} if told["in_work"] else {"HX-Refresh": "true"}
        return TemplateResponse(request, "admin/crm/backups_above.html", told, headers=headers)

    @method_decorator(require_POST)
    def now_view(self, request):
        require(request.user.has_perm("crm.make_backup"))
        why = watch.cannot_make()
        if why:
            messages.error(request, why)
        elif _in_work().filter(name="make_backup").exists():
            messages.info(request, gettext("A backup is being made already."))
        else:
            jobs.enqueue("make_backup", queue=QueueName.LONG, user=request.user)
            messages.success(request, gettext("The backup is in the queue."))
        return HttpResponseRedirect(reverse(PAGE))

    def download_view(self, request, pk):
        require(request.user.has_perm("crm.download_backup"))
        run = self.visible_or_404(request, str(pk))

        def ask(form):
            form.request = request

        def give(form):
            content = _content(run)
            told = {"file": run.file_name, "rows": run.rows_total, **address_of(request)}
            enter(AuditKind.DOWNLOAD, user=request.user, model="backuprun", object_id=run.pk, detail=told)
            headers = {
                "Content-Disposition": f'attachment; filename="{run.file_name}"',
                "Content-Length": str(run.size_bytes),
            }
            return StreamingHttpResponse(content, content_type="application/octet-stream", headers=headers)

        return form_page(
            self, request, PasswordForm, give,
            title=gettext("Download a backup"), about=run.file_name, back=reverse(PAGE), submit=gettext("Download"),
            prepare=ask,
        )  # fmt: skip

    # --- Columns ---

    @display(description=_("made"), ordering="created_at")
    def of(self, run):
        age = timesince(run.created_at, timezone.now(), depth=1)
        return format_html(
            '<span class="hd-nowrap">{}</span><br><span class="hd-second">{}</span>',
            values.moment(run.created_at),
            gettext("%(age)s ago") % {"age": age},
        )

    @display(description=_("verified"), ordering="verified_at")
    def proven(self, run):
        if run.state == RunState.FAILED:
            return format_html(
                '{}<br><span class="hd-second">{}</span>',
                badges.choice(run.state, run.get_state_display()),
                run.message,
            )
        if not run.proof:
            return badges.badge(gettext("Not verified yet"), "today", run.verify_message)
        return format_html(
            '{}<br><span class="hd-second">{}</span>',
            badges.badge(run.get_proof_display(), COLOURS[run.proof], run.verify_message),
            values.moment(run.verified_at),
        )

    @display(description=_("where"))
    def where(self, run):
        places = [gettext("on the worker's disk")] if run.is_local else []
        if run.removed_at:
            places = [gettext("removed %(when)s") % {"when": values.moment(run.removed_at)}]
        elif run.offsite_at:
            places.append(gettext("off-site since %(when)s") % {"when": values.moment(run.offsite_at)})
        lines = format_html_join("", '<div class="hd-nowrap">{}</div>', ((place,) for place in places)) or "–"
        if not run.offsite_message:
            return lines
        return format_html('{}<div class="hd-second">{}</div>', lines, run.offsite_message)

    @display(description=_("size"), ordering="size_bytes")
    def size(self, run):
        return filesizeformat(run.size_bytes) if run.size_bytes else "–"

    @display(description=_("rows"), ordering="rows_total")
    def rows(self, run):
        return values.number(run.rows_total) if run.rows_total else "–"

    @display(description=_("took"), ordering="took_s")
    def took(self, run):
        return _minutes(run.took_s) if run.size_bytes else "–"

    @display(description=_("verification took"))
    def verify_took(self, run):
        return _minutes(run.verify_took_s) if run.verified_at else "–"

    @display(description=_("download"))
    def file(self, run):
        user = current_user()
        if not _is_there(run) or user is None or not user.has_perm("crm.download_backup"):
            return "–"
        return format_html(
            '<a href="{}">{}<span class="hd-visually-hidden"> {}</span></a>',
            reverse("admin:crm_backuprun_download", args=[run.pk]), gettext("Download"), run.file_name,
        )  # fmt: skip


def _minutes(seconds: int) -> str:
    return f"{seconds // 60}:{seconds % 60:02d}"


def _is_there(run: BackupRun) -> bool:
    return run.state == RunState.DONE and not run.removed_at and bool(run.is_local or run.offsite_at)


def _in_work():
    return JobRun.objects.filter(name__in=JOBS, state__in=[RunState.QUEUED, RunState.RUNNING])


def _above(request) -> dict:
    found = backups(request)
    return {
        "finding": found,
        "is_fine": found.code == watch.FINE,
        "disk": watch.disk_trouble(),
        "is_copied": offsite.is_set(),
        "may_make": request.user.has_perm("crm.make_backup"),
        "in_work": [
            {
                "title": schedules.title_of(run.name),
                "percent": run.done_count,
                "is_waiting": run.state == RunState.QUEUED,
            }
            for run in _in_work().order_by("pk").defer("log", "arguments", "counts")
        ],
    }


def _content(run: BackupRun):
    """Async, since the server holds all of what a plain generator gives before it sends any of it. What can fail at once
    fails here. Raises BackupGone, BackupDamaged, OffsiteFailed."""
    file, size = _opened(run)
    has_copy = run.offsite_at and offsite.is_set()
    if size == run.size_bytes and not (has_copy and run.proof == BackupProof.BAD):
        return _of_file(file)
    if file:
        file.close()
    if has_copy:
        blocks = offsite.blocks(run.file_name, run.size_bytes)
        return _of_store(next(blocks, b""), blocks)
    if size is None:
        raise BackupGone(file=run.file_name)
    raise BackupDamaged(file=run.file_name, at=min(size, run.size_bytes))


def _opened(run: BackupRun):
    """The file and its size; neither where it is not here, or not the office's to read."""
    try:
        file = run.path.open("rb")
    except OSError:
        return None, None
    return file, os.fstat(file.fileno()).st_size


async def _of_file(file):
    try:
        while block := await sync_to_async(file.read)(BLOCK):
            yield block
    finally:
        file.close()


async def _of_store(first: bytes, blocks):
    while first:
        yield first
        first = await sync_to_async(next)(blocks, b"")
