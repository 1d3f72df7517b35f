"""What an office keeps as data: kinds of steps, lenders and their aliases, document types, regulatory limits."""

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Max
from django.http import HttpResponseRedirect
from django.urls import reverse
from django.utils.text import capfirst
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from crm import workflow
from crm.admin.base import CrmAdmin
from crm.admin.exports import ExportAdminMixin
from crm.admin.forms import CrmForm, CrmModelForm
from crm.admin.pages import form_page
from crm.admin.ui import ChoicesDropdownFilter, TextareaWidget, action, display
from crm.encryption import refuse_ciphertext
from crm.models import DocumentType, Lender, RegulatoryLimit, Step
from crm.models.reference import lender_key


class CodeOnceMixin:
    """A code is chosen when the row is made; imports and rules know the row by it ever after."""

    def get_readonly_fields(self, request, obj=None):
        return (*super().get_readonly_fields(request, obj), *(("code",) if obj else ()))


@admin.register(Step)
class StepAdmin(ExportAdminMixin, CodeOnceMixin, CrmAdmin):
    list_display = ("number", "name_cs", "name_en", "default_days", "tell_client", "is_active", "code")
    list_display_links = ("number", "name_cs")
    list_filter = ("is_active",)
    search_fields = ("name_cs", "name_en", "code")
    fields = ("number", "code", "name_cs", "name_en", "default_days", "tell_client", "is_active")
    actions_detail = ("add_to_open_cases",)

    def get_changeform_initial_data(self, request):
        last = Step.objects.aggregate(last=Max("number"))["last"] or 0
        return {"number": last + 1, "default_days": 7 * (last + 1), **super().get_changeform_initial_data(request)}

    def save_model(self, request, obj, form, change):
        # The number is a place in the order, not a label: the others move up or down with it.
        wanted = obj.number
        if change:
            obj.number = form.initial["number"]
        super().save_model(request, obj, form, change)
        if not change or wanted != obj.number:
            workflow.renumber_step(obj, wanted, by=request.user)

    def has_add_to_open_cases_permission(self, request, object_id=None):
        return self.has_change_permission(request)

    @action(description=_("Add to open cases"), url_path="add-to-open-cases", permissions=["add_to_open_cases"])
    def add_to_open_cases(self, request, object_id):
        step = self.visible_or_404(request, object_id)
        back = reverse("admin:crm_step_change", args=[step.pk])

        def act(form):
            count = workflow.add_to_open_cases(step, by=request.user)
            text = ngettext("%d case got the step.", "%d cases got the step.", count) % count
            messages.success(request, text)
            return HttpResponseRedirect(back)

        return form_page(
            self,
            request,
            CrmForm,
            act,
            title=gettext("Add to open cases that lack it"),
            about=str(step),
            back=back,
            submit=gettext("Add"),
        )


class LinesField(forms.CharField):
    """A list of short texts, one a line."""

    widget = TextareaWidget

    def prepare_value(self, value):
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value):
        lines = [line.strip() for line in value] if isinstance(value, list) else super().to_python(value).splitlines()
        return [line.strip() for line in lines if line.strip()]

    def validate(self, value):
        for line in value:
            refuse_ciphertext(line)

    def has_changed(self, initial, data):
        return self.to_python(initial or []) != self.to_python(data or "")


class LenderForm(CrmModelForm):
    aliases = LinesField(
        required=False,
        widget=TextareaWidget({"rows": 4}),
        help_text=_("Other spellings that an import takes for this lender, one a line."),
    )

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if "aliases" in self.fields:
            self.fields["aliases"].label = capfirst(Lender._meta.get_field("aliases").verbose_name)

    def clean(self):
        cleaned = super().clean()
        others = Lender.objects.exclude(pk=self.instance.pk).by_key()
        for field in ("name", "aliases"):
            written = cleaned.get(field) or []
            for name in [written] if isinstance(written, str) else written:
                if owner := others.get(lender_key(name)):
                    self.add_error(
                        field,
                        ValidationError(
                            _("“%(name)s” already means %(lender)s."), params={"name": name, "lender": owner}
                        ),
                    )
        return cleaned


@admin.register(Lender)
class LenderAdmin(ExportAdminMixin, CrmAdmin):
    form = LenderForm
    list_display = ("name", "shown_aliases", "business_id", "bank_code", "is_active")
    list_filter = ("is_active",)
    search_fields = ("name", "business_id", "bank_code")
    fields = ("name", "aliases", ("business_id", "bank_code"), "contact", "is_active")

    @display(description=_("aliases"))
    def shown_aliases(self, lender):
        return ", ".join(lender.aliases)


@admin.register(DocumentType)
class DocumentTypeAdmin(ExportAdminMixin, CodeOnceMixin, CrmAdmin):
    list_display = ("name_cs", "name_en", "valid_days", "is_active", "code")
    list_filter = ("is_active",)
    search_fields = ("name_cs", "name_en", "code")
    fields = ("code", "name_cs", "name_en", "valid_days", "is_active")


@admin.register(RegulatoryLimit)
class RegulatoryLimitAdmin(ExportAdminMixin, CrmAdmin):
    list_display = ("metric", "audience", "value", "is_binding", "valid_from", "valid_until", "legal_source")
    list_display_links = ("metric", "audience")
    list_filter = (("metric", ChoicesDropdownFilter), ("audience", ChoicesDropdownFilter), "is_binding")
    search_fields = ("legal_source",)
    fields = (("metric", "audience"), ("value", "is_binding"), ("valid_from", "valid_until"), "legal_source")
