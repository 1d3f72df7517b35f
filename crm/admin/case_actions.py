"""What can be done to a whole case: approve, reject, withdraw, reopen, hand over. Each is a page with a POST form;
crm.workflow decides and writes."""

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from crm import workflow
from crm.admin.calendars import CaseCalendarMixin
from crm.admin.forms import CrmForm, CrmModelForm, LocalDateField, OptionalReasonForm, ReasonForm
from crm.admin.pages import form_page, of_held_record
from crm.admin.ui import ActionVariant, TextareaWidget, action
from crm.choices import ACTIVE_STATUSES, CaseStatus
from crm.exceptions import DayToCome
from crm.models import Case

APPROVED_FIELDS = (
    "approved_terms", "approved_own_funds_czk", "approved_ltv_percent", "interest_rate_percent", "term_months",
    "fixation_years", "fixation_until", "monthly_payment_czk",
)  # fmt: skip


def not_in_future(day) -> None:
    if day > timezone.localdate():
        raise ValidationError(DayToCome.message, code="future")


def _on() -> LocalDateField:
    return LocalDateField(label=_("On"), initial=timezone.localdate, validators=[not_in_future])


class ApproveForm(CrmModelForm):
    on = _on()
    override_reason = forms.CharField(
        label=_("Reason to complete underwriting before its turn"),
        widget=TextareaWidget({"rows": 2}),
        required=False,
        max_length=2000,
    )
    field_order = ("on", "lender", "approved_amount_czk", *APPROVED_FIELDS, "override_reason")

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for name in ("lender", "approved_amount_czk"):
            self.fields[name].required = True
        for name, typed in (("approved_amount_czk", "loan_amount_czk"), ("approved_own_funds_czk", "own_funds_czk")):
            if self.initial.get(name) is None:
                self.initial[name] = getattr(self.instance, typed)


class RejectForm(ReasonForm):
    on = _on()
    field_order = ("on", "reason")


class HandOverForm(OptionalReasonForm):
    """Its field `to` is added by the page, which knows the autocomplete."""

    field_order = ("to", "reason")


ALLOWED_IN = {
    "approve": (CaseStatus.OPEN,),
    "reject": ACTIVE_STATUSES,
    "withdraw": ACTIVE_STATUSES,
    "reopen": (CaseStatus.DECLINED, CaseStatus.WITHDRAWN),
    "hand_over": tuple(CaseStatus.values),
    "as_it_was": tuple(CaseStatus.values),
}
# What is left of them while the client's record is restricted.
OF_RESTRICTED = {"reject", "withdraw", "as_it_was"}


class CaseActions(CaseCalendarMixin):
    """Mixin of the case's admin."""

    actions_detail = ("approve", "reject", "withdraw", "reopen", "hand_over", "as_it_was")

    def get_actions_detail(self, request, object_id):
        """Only what the case's status and its client allow; the pages themselves answer with the rule's sentence."""
        found = super().get_actions_detail(request, object_id) if str(object_id).isdecimal() else []
        status = Case.objects.filter(pk=object_id).values_list("status", flat=True).first() if found else None
        names = {name for name, statuses in ALLOWED_IN.items() if status in statuses}
        if found and Case.objects.restricted().filter(pk=object_id).exists():
            names &= OF_RESTRICTED
        return [each for each in found if each.action_name.removeprefix("crm_case_") in names]

    def has_approve_permission(self, request, object_id=None):
        return request.user.has_perm("crm.approve_case")

    def has_reject_permission(self, request, object_id=None):
        return request.user.has_perm("crm.reject_case")

    def has_withdraw_permission(self, request, object_id=None):
        return request.user.has_perm("crm.withdraw_case")

    def has_hand_over_permission(self, request, object_id=None):
        return request.user.has_perm("crm.hand_over_case")

    def _page(self, request, case, form_class, act, *, done, **options):
        def acted(form):
            act(form.cleaned_data)
            messages.success(request, done % {"case": case.reference})
            return HttpResponseRedirect(reverse("admin:crm_case_change", args=[case.pk]))

        client = f"{case.reference} · {case.client.full_name}"
        back = reverse("admin:crm_case_change", args=[case.pk])
        return form_page(self, request, form_class, acted, about=client, back=back, **options)

    @action(description=_("Approve"), url_path="approve", permissions=["approve"], variant=ActionVariant.SUCCESS)
    @of_held_record(ApproveForm)
    def approve(self, request, object_id):
        case = self.visible_or_404(request, object_id)
        fields = ("lender", "approved_amount_czk", *APPROVED_FIELDS)
        form_class = self.get_form(request, case, change=True, form=ApproveForm, fields=fields)

        def act(data):
            workflow.approve(
                case,
                by=request.user,
                on=data["on"],
                lender=data["lender"],
                amount_czk=data["approved_amount_czk"],
                override_reason=data.get("override_reason", ""),
                **{name: data[name] for name in APPROVED_FIELDS},
            )

        def prepare(form):
            if not request.user.has_perm("crm.override_step_order"):
                del form.fields["override_reason"]

        return self._page(
            request,
            case,
            lambda data: form_class(data, instance=case),
            act,
            title=gettext("Approve"),
            submit=gettext("Approve"),
            done=gettext("Case %(case)s is approved."),
            prepare=prepare,
        )

    @action(description=_("Reject"), url_path="reject", permissions=["reject"])
    @of_held_record(RejectForm)
    def reject(self, request, object_id):
        case = self.visible_or_404(request, object_id)
        return self._page(
            request,
            case,
            RejectForm,
            lambda data: workflow.reject(case, by=request.user, on=data["on"], reason=data["reason"]),
            title=gettext("Reject"),
            submit=gettext("Reject"),
            done=gettext("Case %(case)s is declined."),
            danger=True,
        )

    @action(description=_("Withdraw"), url_path="withdraw", permissions=["withdraw"])
    @of_held_record(RejectForm)
    def withdraw(self, request, object_id):
        case = self.visible_or_404(request, object_id)
        return self._page(
            request,
            case,
            RejectForm,
            lambda data: workflow.withdraw(case, by=request.user, on=data["on"], reason=data["reason"]),
            title=gettext("Withdraw"),
            submit=gettext("Withdraw"),
            done=gettext("Case %(case)s is withdrawn."),
            danger=True,
        )

    @action(description=_("Reopen"), url_path="reopen", permissions=["reject"])
    @of_held_record(ReasonForm)
    def reopen(self, request, object_id):
        case = self.visible_or_404(request, object_id)
        return self._page(
            request,
            case,
            ReasonForm,
            lambda data: workflow.reopen_case(case, by=request.user, reason=data["reason"]),
            title=gettext("Reopen"),
            submit=gettext("Reopen"),
            done=gettext("Case %(case)s is open again."),
        )

    @action(description=_("Hand over"), url_path="hand-over", permissions=["hand_over"])
    @of_held_record(HandOverForm)
    def hand_over(self, request, object_id):
        case = self.visible_or_404(request, object_id)

        def prepare(form: CrmForm):
            adviser = self.formfield_for_dbfield(Case._meta.get_field("adviser"), request)
            adviser.label, adviser.required = gettext("New adviser"), True
            form.fields["to"] = adviser
            form.order_fields(HandOverForm.field_order)

        return self._page(
            request,
            case,
            HandOverForm,
            lambda data: workflow.hand_over(case, by=request.user, to=data["to"], reason=data["reason"]),
            title=gettext("Hand over"),
            submit=gettext("Hand over"),
            done=gettext("Case %(case)s was handed over."),
            prepare=prepare,
        )
