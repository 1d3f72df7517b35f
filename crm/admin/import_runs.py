"""The imports: one's own, or everybody's for whoever sees all cases. What there is to see or to do of one lies on the import
pages of the list where it began, in the audit trail, and on the page that undoes an operation."""

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from crm.admin import badges
from crm.admin.base import require
from crm.admin.imports import operation_urls
from crm.admin.runs import RunAdmin
from crm.admin.ui import display
from crm.choices import ImportState
from crm.imports import runs
from crm.models import Case, Client, ImportRun
from crm.models.operations import current_user

COUNTS = ("rows", "created", "updated", "skipped", "duplicate_count", "error_count")


def written(name: str):
    """What was done; before that a count says only what would be."""

    @display(description=ImportRun._meta.get_field(name).verbose_name, ordering=name)
    def shown(self, run):
        return getattr(run, name) if run.state == ImportState.DONE else "–"

    return shown


@admin.register(ImportRun)
class ImportRunAdmin(RunAdmin):
    list_display = ("created_at", "file_name", "page", "by", "state_badge", *COUNTS)
    list_select_related = ("user", "job")
    list_defer = ("job__log", "job__arguments", "job__counts")
    search_fields = ("file_name",)
    fields = (
        "created_at",
        "file_name",
        "by",
        "state_badge",
        *COUNTS,
        "finished_at",
        "sha256",
        "operation_id",
        "message",
    )
    change_form_outer_before_template = "admin/crm/import_links.html"
    created, updated, skipped = written("created_count"), written("updated_count"), written("skipped_count")

    def change_view(self, request, object_id, form_url="", extra_context=None):
        require(self.has_view_permission(request))
        run = self.visible_or_404(request, object_id)
        links = {
            "page_url": page_url(request.user, run),
            "is_done": run.state == ImportState.DONE,
            **operation_urls(request.user, run),
        }
        return super().change_view(request, object_id, form_url, {**links, **(extra_context or {})})

    @display(description=_("state"), ordering="state")
    def state_badge(self, run):
        state = runs.state_of(run)
        return badges.choice(state, ImportState(state).label)

    @display(description=_("page"))
    def page(self, run):
        user = current_user()
        url = page_url(user, run) if user else ""
        text = gettext("Result") if run.state == ImportState.DONE else gettext("Open the import")
        return format_html_join("", '<a href="{}">{}</a>', [(url, text)] if url else []) or "–"


def page_url(user, run: ImportRun) -> str:
    """The result, for whoever sees the run and may import; what is before it for its person alone. Empty otherwise."""
    model = next((each for each in (Client, Case) if each._meta.model_name == run.model), Client)
    if not runs.may_import(user, model):
        return ""
    name = f"admin:crm_{model._meta.model_name}_import"
    if run.state == ImportState.DONE:
        return reverse(f"{name}_result", args=[run.token])
    is_open = run.user_id == user.pk and runs.state_of(run) in (*runs.WAITING, ImportState.FAILED)
    return reverse(f"{name}_preview", args=[run.token]) if is_open else ""
