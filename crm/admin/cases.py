"""Cases: the list with its filters, and the page on which an adviser lives. Verbs are in case_actions and step_actions."""

from django.contrib import admin, messages
from django.http import HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from crm import affordability, values, workflow
from crm.admin import badges, step_actions
from crm.admin.base import CrmAdmin
from crm.admin.bulk_edit import BulkEditMixin
from crm.admin.case_actions import CaseActions
from crm.admin.exports import ExportAdminMixin
from crm.admin.filters import AdviserFilter, CaseQuickFilter, DateRange, NumberRange
from crm.admin.imports import ImportAdminMixin
from crm.admin.parts import (
    CommissionInline,
    DocumentInline,
    NoteInline,
    PartyInline,
    PropertyInline,
    StepInline,
    save_note,
    save_step,
)
from crm.admin.past import PastListMixin
from crm.admin.ui import ChoicesDropdownFilter, RelatedDropdownFilter, display
from crm.encryption import encrypted_names
from crm.exceptions import CannotTakeCase
from crm.models import Case, CaseStep, Client, Note

SHOWN_STATE = {"done": "done", "not_applicable": "na"}


def progress(case: Case, today) -> list[dict]:
    """The steps of a case as its progress line shows them. One query."""
    line = []
    steps = CaseStep.objects.filter(case=case).select_related("step", "completed_by").defer("note")
    for step in steps.order_by("step__number", "step"):
        step.case = case
        state = SHOWN_STATE.get(step.state)
        is_current = state is None and step.step_id == case.current_step_id
        if state is None:
            late = case.is_active and badges.urgency(step.deadline, today) == "overdue"
            state = "overdue" if late else "current" if is_current else "pending"
        line.append({"step": step, "state": state, "is_current": is_current})
    return line


@admin.register(Case)
class CaseAdmin(BulkEditMixin, PastListMixin, ImportAdminMixin, ExportAdminMixin, CaseActions, CrmAdmin):
    list_display = (
        "reference", "client_name", "status_badge", "adviser", "lender", "current", "deadline", "amount", "opened",
    )  # fmt: skip
    list_display_links = ("reference", "client_name")
    list_select_related = ("client", "adviser", "lender", "current_step")
    list_encrypted = ("client__full_name",)
    list_defer = ("proposed_terms", "approved_terms")
    list_filter = (
        CaseQuickFilter,
        ("status", ChoicesDropdownFilter),
        AdviserFilter,
        ("lender", RelatedDropdownFilter),
        ("current_step", RelatedDropdownFilter),
        ("next_deadline", DateRange),
        ("loan_amount_czk", NumberRange),
        ("opened_on", DateRange),
        ("fixation_until", DateRange),
        ("purpose_kind", ChoicesDropdownFilter),
    )
    list_before_template = "admin/crm/quick_links.html"
    search_fields = ("reference",)
    search_help_text = _("Reference, or the client's name, e-mail, phone, birth number")
    ordering = ("-reference",)
    change_form_outer_before_template = "admin/crm/case/overview.html"
    inlines = (StepInline, PartyInline, PropertyInline, DocumentInline, NoteInline, CommissionInline)
    readonly_fields = (
        "reference", "status_badge", "current", "deadline", "rejection_reason", "decided_on", "legacy_id",
        "created_at", "updated_at",
    )  # fmt: skip
    add_fieldsets = (
        (
            None,
            {
                "fields": (
                    "client",
                    ("adviser", "opened_on"),
                    "purpose_kind",
                    "loan_purpose",
                    ("property_price_czk", "loan_amount_czk"),
                    ("own_funds_czk", "ltv_percent"),
                )
            },
        ),
    )
    fieldsets = (
        (
            _("Overview"),
            {
                "classes": ["tab"],
                "fields": (
                    ("reference", "status_badge"),
                    "client",
                    ("adviser", "stand_in"),
                    ("opened_on", "deadline"),
                    "purpose_kind",
                    "loan_purpose",
                ),
            },
        ),
        (
            _("Financing"),
            {
                "classes": ["tab"],
                "fields": (
                    ("property_price_czk", "loan_amount_czk"),
                    ("own_funds_czk", "ltv_percent"),
                    ("dti", "dsti_percent"),
                    "proposed_terms",
                ),
            },
        ),
        (
            _("Approval"),
            {
                "classes": ["tab"],
                "fields": (
                    ("lender", "contract_number"),
                    ("approved_amount_czk", "approved_own_funds_czk"),
                    ("approved_ltv_percent", "monthly_payment_czk"),
                    ("interest_rate_percent", "term_months"),
                    ("fixation_years", "fixation_until"),
                    "approved_terms",
                    ("decided_on", "rejection_reason"),
                ),
            },
        ),
        (_("Record"), {"classes": ["tab"], "fields": (("created_at", "updated_at"), "legacy_id")}),
    )

    bulk_fields = (
        "adviser", "stand_in", "purpose_kind", "lender", "interest_rate_percent", "term_months", "fixation_years",
        "fixation_until", "proposed_terms", "approved_terms",
    )  # fmt: skip

    def get_bulk_fields(self, request):
        may_hand_over = request.user.has_perm("crm.hand_over_case")
        return self.bulk_fields if may_hand_over else tuple(name for name in self.bulk_fields if name != "adviser")

    # --- The list ---

    @display(description=_("client"))
    def client_name(self, case):
        return format_html('<span class="hd-nowrap">{}</span>', case.client.full_name)

    @display(description=_("status"), ordering="status")
    def status_badge(self, case):
        return badges.choice(case.status, case.get_status_display())

    @display(description=_("current step"), ordering="current_step__number")
    def current(self, case):
        return case.current_step or "–"

    @display(description=_("next deadline"), ordering="next_deadline")
    def deadline(self, case):
        return badges.deadline(case.next_deadline)

    @display(description=_("amount (CZK)"), ordering="loan_amount_czk", formatting="price")
    def amount(self, case):
        return values.money_cell(case.loan_amount_czk)

    @display(description=_("opened on"), ordering="opened_on")
    def opened(self, case):
        return format_html('<span class="hd-nowrap">{}</span>', values.date(case.opened_on))

    def for_choices(self, queryset):
        return queryset.select_related("client").only("reference", "client__reference", "client__full_name")

    # --- The page ---

    def formfield_for_foreignkey(self, db_field, request, **kwargs):
        if db_field.name in workflow.GIVEN_TO:
            kwargs["error_messages"] = {"invalid_choice": CannotTakeCase.message}
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def allowed_choices(self, rows, name: str):
        return rows.filter(workflow.may_take()) if name in workflow.GIVEN_TO else rows

    def get_inlines(self, request, obj):
        return self.inlines if obj else ()

    def get_readonly_fields(self, request, obj=None):
        # Whose case it is changes by handing it over, which has a permission and a reason of its own.
        return (*self.readonly_fields, "adviser") if obj else self.readonly_fields

    def get_changeform_initial_data(self, request):
        return {
            "adviser": request.user.pk,
            "opened_on": timezone.localdate(),
            **super().get_changeform_initial_data(request),
        }

    def render_change_form(self, request, context, add=False, change=False, form_url="", obj=None):
        if obj:
            today = timezone.localdate()
            hidden = encrypted_names(Case) | {f"client__{name}" for name in encrypted_names(Client) - {"full_name"}}
            stored = Case.objects.select_related("client", "current_step").defer(*hidden).get(pk=obj.pk)
            line = progress(stored, today)
            current = next((entry["step"] for entry in line if entry["is_current"]), None)
            context |= {
                "case": stored,
                "progress": line,
                "settled_count": sum(entry["step"].is_settled for entry in line),
                "current_step": current,
                "current_buttons": step_actions.buttons(current, request.user, request.path) if current else "",
                "deadline_badge": badges.deadline(stored.next_deadline, today),
                "status_badge": badges.choice(stored.status, stored.get_status_display()),
                "case_warnings": affordability.warnings(stored, today),
            }
        return super().render_change_form(request, context, add, change, form_url, obj)

    def save_model(self, request, obj, form, change):
        if change:
            super().save_model(request, obj, form, change)
        else:
            workflow.start_case(obj, by=request.user)

    def save_formset(self, request, form, formset, change):
        if formset.model is CaseStep:
            formset.save(commit=False)
            for step, changed in formset.changed_objects:
                save_step(step, changed, request.user)
        elif formset.model is Note:
            for note in formset.save(commit=False):
                save_note(note, request.user)
            for note in formset.deleted_objects:
                if note.is_read_only:
                    messages.error(request, gettext("An entry of the older CRM stays."))
                else:
                    note.delete()
        else:
            super().save_formset(request, form, formset, change)

    def response_add(self, request, obj, post_url_continue=None):
        if "_addanother" in request.POST or "_popup" in request.POST:
            return super().response_add(request, obj, post_url_continue)
        messages.success(request, gettext("Case %(case)s was opened with its steps.") % {"case": obj.reference})
        if not self.get_queryset(request).filter(pk=obj.pk).exists():
            return HttpResponseRedirect(reverse("admin:crm_case_changelist"))
        return HttpResponseRedirect(reverse("admin:crm_case_change", args=[obj.pk]))
