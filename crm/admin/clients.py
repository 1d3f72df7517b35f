"""Clients: who they are, what they earn and owe, which cases they have."""

from django.contrib import admin
from django.db.models import Prefetch
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from crm import workflow
from crm.admin import badges
from crm.admin.base import CrmAdmin, CrmTabularInline
from crm.admin.bulk_edit import BulkEditMixin
from crm.admin.exports import ExportAdminMixin
from crm.admin.filters import CitizenshipFilter, DateRange
from crm.admin.imports import ImportAdminMixin
from crm.admin.past import PastMixin
from crm.admin.privacy import ErasureMixin
from crm.admin.timeline import TimelineMixin
from crm.admin.ui import display
from crm.models import Case, Client, Consent, FinanceItem, Identification


class FinanceItemInline(CrmTabularInline):
    model = FinanceItem
    fields = ("kind", "monthly_czk", "balance_czk", "proof", "note")


class ConsentInline(CrmTabularInline):
    model = Consent
    fields = ("purpose", "text_version", "given_on", "withdrawn_on")


class IdentificationInline(CrmTabularInline):
    model = Identification
    fields = ("method", "done_on", "done_by", "risk", "is_pep", "sanctions_checked_on")


class ClientCaseInline(CrmTabularInline):
    """Links to the cases; a case is worked on at its own page."""

    model = Case
    fields = ("case_link", "status_badge", "adviser", "lender", "deadline_badge", "loan_amount_czk")
    readonly_fields = fields
    can_delete = False
    template_before = "admin/crm/client/new_case.html"
    verbose_name_plural = _("cases")

    def get_queryset(self, request):
        cases = super().get_queryset(request).visible_to(request.user)
        return cases.select_related("adviser", "lender").defer_encrypted()

    def has_add_permission(self, request, obj=None):
        return False

    def has_change_permission(self, request, obj=None):
        return False

    @display(description=_("case"))
    def case_link(self, case):
        return format_html(
            '<a class="hd-link" href="{}">{}</a>', reverse("admin:crm_case_change", args=[case.pk]), case.reference
        )

    @display(description=_("status"))
    def status_badge(self, case):
        return badges.choice(case.status, case.get_status_display())

    @display(description=_("next deadline"))
    def deadline_badge(self, case):
        return badges.deadline(case.next_deadline)


@admin.register(Client)
class ClientAdmin(ErasureMixin, BulkEditMixin, TimelineMixin, PastMixin, ImportAdminMixin, ExportAdminMixin, CrmAdmin):
    list_display = ("reference", "name", "cases", "updated_at")
    list_display_links = ("reference", "name")
    list_encrypted = ("full_name",)
    list_filter = (
        CitizenshipFilter,
        ("created_at", admin.DateFieldListFilter),
        ("id_document_valid_until", DateRange),
        ("retention_until", DateRange),
    )
    search_fields = ("reference",)
    search_help_text = _("Name, e-mail, phone, birth number, document or business id, reference")
    ordering = ("-reference",)
    readonly_fields = ("reference", "legacy_id", "restricted_at", "anonymised_at", "created_at", "updated_at")
    actions_detail = ("timeline", "as_it_was", "erase")
    bulk_fields = (
        "citizenship", "street", "city", "postal_code", "mailing_address", "employer", "id_document_issuer",
        "id_document_valid_until", "retention_until", "note",
    )  # fmt: skip
    inlines = (ClientCaseInline, FinanceItemInline, ConsentInline, IdentificationInline)
    fieldsets = (
        (
            _("Identity"),
            {
                "classes": ["tab"],
                "fields": (
                    ("full_name", "reference"),
                    ("birth_number", "birth_date"),
                    ("birth_place", "citizenship"),
                ),
            },
        ),
        (
            _("Contact"),
            {
                "classes": ["tab"],
                "fields": (("email", "phone"), "street", ("city", "postal_code"), "mailing_address"),
            },
        ),
        (_("Work and account"), {"classes": ["tab"], "fields": (("employer", "business_id"), "bank_account")}),
        (
            _("Identity document"),
            {
                "classes": ["tab"],
                "fields": (("id_document_number", "id_document_valid_until"), "id_document_issuer"),
            },
        ),
        (_("Note"), {"classes": ["tab"], "fields": ("note",)}),
        (
            _("Record"),
            {
                "classes": ["tab"],
                "fields": (
                    "retention_until",
                    ("created_at", "updated_at"),
                    ("restricted_at", "anonymised_at"),
                    "legacy_id",
                ),
            },
        ),
    )

    def get_inlines(self, request, obj):
        return self.inlines if obj else ()

    def save_model(self, request, obj, form, change):
        if change:
            super().save_model(request, obj, form, change)
        else:
            workflow.start_client(obj, by=request.user)

    def for_list(self, request, queryset):
        cases = Case.objects.visible_to(request.user).order_by("-reference").only("reference", "status", "client")
        return super().for_list(request, queryset).prefetch_related(Prefetch("cases", cases, to_attr="shown_cases"))

    def for_choices(self, queryset):
        return queryset.only("reference", "full_name")

    @display(description=pgettext_lazy("of a person", "name"))
    def name(self, client):
        return client.full_name

    @display(description=_("cases"))
    def cases(self, client):
        return format_html_join(
            " ",
            '<a class="hd-link hd-nowrap" href="{}">{}</a> {}',
            (
                (
                    reverse("admin:crm_case_change", args=[case.pk]),
                    case.reference,
                    badges.choice(case.status, case.get_status_display()),
                )
                for case in client.shown_cases
            ),
        )
