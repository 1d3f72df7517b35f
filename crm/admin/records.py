"""Lists of what belongs to cases and clients: documents, notes, commissions; and the parts that have no list of their
own, whose pages are reached from a case or a client (for their history above all)."""

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from crm import values
from crm.admin import badges
from crm.admin.base import CrmAdmin
from crm.admin.bulk_edit import BulkEditMixin
from crm.admin.exports import ExportAdminMixin
from crm.admin.filters import AdviserFilter, DateRange
from crm.admin.parts import LightCaseMixin, NoteForm, save_note
from crm.admin.ui import ChoicesDropdownFilter, RelatedDropdownFilter, display
from crm.models import CaseParty, Commission, Consent, Document, FinanceItem, Identification, Note, Property
from crm.models.cases import Case


class OfCaseAdmin(ExportAdminMixin, LightCaseMixin, CrmAdmin):
    """Rows of a case: the list names the case and its client."""

    list_select_related = ("case", "case__client")
    list_encrypted = ("case__client__full_name",)
    list_defer = ("case__proposed_terms", "case__approved_terms")
    search_fields = ("case__reference",)
    search_help_text = _("Reference, or the client's name, e-mail, phone, birth number")

    def get_search_results(self, request, queryset, search_term):
        found = Case.objects.search(search_term)
        return (queryset.filter(case__in=found) if search_term.strip() else queryset), False

    def get_readonly_fields(self, request, obj=None):
        return (*super().get_readonly_fields(request, obj), *(("case",) if obj else ()))

    @display(description=_("case"), ordering="case__reference")
    def case_link(self, row):
        url = reverse("admin:crm_case_change", args=[row.case_id])
        return format_html('<a class="hd-link hd-nowrap" href="{}">{}</a>', url, row.case.reference)

    @display(description=_("client"))
    def client_name(self, row):
        return row.case.client.full_name


@admin.register(Document)
class DocumentAdmin(BulkEditMixin, OfCaseAdmin):
    bulk_fields = ("status", "received_on", "expires_on", "note")
    list_display = ("type", "case_link", "client_name", "status_badge", "received", "expires")
    list_select_related = (*OfCaseAdmin.list_select_related, "type")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        ("type", RelatedDropdownFilter),
        AdviserFilter,
        ("expires_on", DateRange),
        ("received_on", DateRange),
    )
    ordering = ("-pk",)
    fields = ("case", ("type", "status"), ("received_on", "expires_on"), "note")

    @display(description=_("status"), ordering="status")
    def status_badge(self, document):
        return badges.choice(document.status, document.get_status_display())

    @display(description=_("received on"), ordering="received_on")
    def received(self, document):
        return values.date(document.received_on)

    @display(description=_("expires on"), ordering="expires_on")
    def expires(self, document):
        return values.date(document.expires_on)


@admin.register(Note)
class NoteAdmin(OfCaseAdmin):
    form = NoteForm
    list_display = ("written", "case_link", "client_name", "kind", "by", "visible_to_client")
    list_select_related = (*OfCaseAdmin.list_select_related, "author")
    list_filter = (("kind", ChoicesDropdownFilter), "visible_to_client", AdviserFilter)
    ordering = ("-created_at", "-pk")
    fields = ("case", "text", "visible_to_client", "written", "by", "kind")
    readonly_fields = ("written", "by", "kind")

    def has_change_permission(self, request, obj=None):
        return super().has_change_permission(request, obj) and not (obj and obj.is_read_only)

    def has_delete_permission(self, request, obj=None):
        return super().has_delete_permission(request, obj) and not (obj and obj.is_read_only)

    def delete_queryset(self, request, queryset):
        for note in queryset:
            if not note.is_read_only:
                note.delete()

    def save_model(self, request, obj, form, change):
        save_note(obj, request.user)

    @display(description=_("written"), ordering="created_at")
    def written(self, note):
        return values.date(note.created_at.date()) if note.pk else ""

    @display(description=_("author"))
    def by(self, note):
        return str(note.author or note.author_name or "–")


@admin.register(Commission)
class CommissionAdmin(BulkEditMixin, OfCaseAdmin):
    bulk_fields = ("invoiced_on", "paid_on", "clawback_until")
    list_display = ("case_link", "client_name", "expected", "invoiced", "paid", "paid_amount", "clawback")
    list_filter = (("invoiced_on", DateRange), ("paid_on", DateRange), ("clawback_until", DateRange), AdviserFilter)
    ordering = ("-pk",)
    list_display_links = ("expected",)
    fields = ("case", ("expected_czk", "invoiced_on"), ("paid_czk", "paid_on"), "clawback_until")

    @display(description=_("expected (CZK)"), ordering="expected_czk", formatting="price")
    def expected(self, commission):
        return values.money_cell(commission.expected_czk)

    @display(description=_("paid (CZK)"), ordering="paid_czk", formatting="price")
    def paid_amount(self, commission):
        return values.money_cell(commission.paid_czk)

    @display(description=_("invoiced on"), ordering="invoiced_on")
    def invoiced(self, commission):
        return values.date(commission.invoiced_on)

    @display(description=_("paid on"), ordering="paid_on")
    def paid(self, commission):
        return values.date(commission.paid_on)

    @display(description=_("clawback until"), ordering="clawback_until")
    def clawback(self, commission):
        return values.date(commission.clawback_until)


class PartAdmin(ExportAdminMixin, CrmAdmin):
    """Not in the menus."""

    def get_model_perms(self, request):
        return {}


@admin.register(CaseParty)
class CasePartyAdmin(LightCaseMixin, PartAdmin):
    list_display = ("case", "client", "role")
    list_filter = (("role", ChoicesDropdownFilter), AdviserFilter)
    list_select_related = ("case", "client")


@admin.register(Property)
class PropertyAdmin(LightCaseMixin, PartAdmin):
    list_display = ("case", "kind", "valuation_czk", "valued_on")
    list_filter = (("kind", ChoicesDropdownFilter), ("valid_until", DateRange), AdviserFilter)
    list_select_related = ("case",)


@admin.register(FinanceItem)
class FinanceItemAdmin(PartAdmin):
    list_display = ("client", "kind", "monthly_czk", "balance_czk")
    list_filter = (("kind", ChoicesDropdownFilter),)
    list_select_related = ("client",)


@admin.register(Consent)
class ConsentAdmin(PartAdmin):
    list_display = ("client", "purpose", "given_on", "withdrawn_on")
    list_filter = (("purpose", ChoicesDropdownFilter), ("given_on", DateRange), ("withdrawn_on", DateRange))
    list_select_related = ("client",)


@admin.register(Identification)
class IdentificationAdmin(PartAdmin):
    list_display = ("client", "method", "done_on", "risk")
    list_filter = (("risk", ChoicesDropdownFilter), ("method", ChoicesDropdownFilter), ("done_on", DateRange))
    list_select_related = ("client",)
