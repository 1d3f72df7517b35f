"""Steps of cases as a list of their own: what is due, ticked from the list."""

from django.contrib import admin
from django.db.models import Value
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from crm.admin import badges, step_actions
from crm.admin.base import CrmAdmin, hold_rows
from crm.admin.bulk_edit import BulkEditMixin
from crm.admin.exports import ExportAdminMixin
from crm.admin.filters import AdviserFilter, DateRange, DueFilter
from crm.admin.parts import LightCaseMixin, StepForm, save_step
from crm.admin.step_actions import StepActions
from crm.admin.ui import RelatedDropdownFilter, display
from crm.models import Case, CaseStep
from crm.models.operations import current_user


@admin.register(CaseStep)
class CaseStepAdmin(ExportAdminMixin, BulkEditMixin, StepActions, LightCaseMixin, CrmAdmin):
    form = StepForm
    list_display = ("case_link", "client_name", "step", "deadline_badge", "state_badge", "adviser", "buttons")
    list_display_links = None
    list_select_related = ("case", "case__client", "case__adviser", "step")
    list_encrypted = ("case__client__full_name",)
    list_defer = ("case__proposed_terms", "case__approved_terms")
    list_filter = (
        DueFilter,
        AdviserFilter,
        ("step", RelatedDropdownFilter),
        ("deadline", DateRange),
        ("case__lender", RelatedDropdownFilter),
    )
    list_before_template = "admin/crm/quick_links.html"
    list_after_template = "admin/crm/post_form.html"
    ordering = ("deadline", "case", "step__number")
    search_fields = ("case__reference",)
    search_help_text = _("Reference, or the client's name, e-mail, phone, birth number")
    fields = ("case", "step", "state_badge", "deadline", "completed_on", "completed_by", "note")
    readonly_fields = ("case", "step", "state_badge", "completed_on", "completed_by")
    bulk_fields = ("deadline", "note")

    def has_add_permission(self, request):
        return False

    def has_delete_permission(self, request, obj=None):
        return False

    def export_action(self, request, preset=None):
        # What the list shows where nobody chose: the record says so, and a preset keeps it.
        request.GET = request.GET.copy()
        request.GET.setdefault(DueFilter.parameter_name, DueFilter.default)
        return super().export_action(request, preset)

    def get_ordering(self, request):
        return ("deadline", "pk")

    def get_search_results(self, request, queryset, search_term):
        cases = queryset.model._meta.get_field("case").related_model.objects.search(search_term)
        return (queryset.filter(case__in=cases) if search_term.strip() else queryset), False

    def hold(self, request, key):
        # The case first, as crm.workflow does: two who wait for each other would both be thrown out.
        hold_rows(Case.objects.filter(pk__in=CaseStep.objects.filter(pk=key).values("case")))
        super().hold(request, key)

    def save_model(self, request, obj, form, change):
        save_step(obj, form.changed_data, request.user)

    def for_list(self, request, queryset):
        # A row's buttons come back to the list as it is filtered now.
        return super().for_list(request, queryset).annotate(list_path=Value(request.get_full_path()))

    @display(description=_("case"), ordering="case__reference")
    def case_link(self, step):
        url = reverse("admin:crm_case_change", args=[step.case_id])
        return format_html('<a class="hd-link hd-nowrap" href="{}">{}</a>', url, step.case.reference)

    @display(description=_("client"))
    def client_name(self, step):
        return step.case.client.full_name

    @display(description=_("adviser"))
    def adviser(self, step):
        return step.case.adviser or "–"

    @display(description=_("deadline"), ordering="deadline")
    def deadline_badge(self, step):
        return badges.deadline(step.deadline)

    @display(description=_("state"))
    def state_badge(self, step):
        return badges.choice(step.state, step.get_state_display())

    @display(description=_("actions"))
    def buttons(self, step):
        return step_actions.buttons(step, current_user(), step.list_path, with_edit=True)
