"""What can be done to one step of a case: the buttons, and the POST-only addresses behind them.

A button belongs to the small form `crm-post` beside the big one (HTML nests no forms) and says where to return. Without
JavaScript it works the same."""

from django.contrib import messages
from django.http import HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from crm import workflow
from crm.admin.base import back_to, require
from crm.admin.forms import OptionalReasonForm, ReasonForm
from crm.admin.pages import form_page, of_held_record
from crm.choices import CaseStatus
from crm.exceptions import CrmError
from crm.models import CaseStep


def buttons(step: CaseStep, user, back: str, *, with_edit: bool = False) -> str:
    """The case has to be loaded with the step. Only what this person may do, and what the case allows now."""
    case = step.case
    if user is None or not user.has_perm("crm.change_casestep"):
        return ""
    return render_to_string(
        "admin/crm/casestep/buttons.html",
        {
            "step": step,
            "back": back,
            "with_edit": with_edit,
            "may_complete": case.is_active and not step.is_settled and case.current_step_id == step.step_id,
            "may_override": case.is_active
            and not step.is_settled
            and case.current_step_id != step.step_id
            and user.has_perm("crm.override_step_order"),
            "may_skip": case.is_active and not step.is_settled,
            "may_reopen": step.is_settled and (case.is_active or case.status == CaseStatus.COMPLETED),
        },
    )


def step_label(step: CaseStep) -> str:
    return f"{step.case.reference} · {step.step}"


class StepActions:
    """Mixin of the steps' own admin."""

    def get_urls(self):
        def url(name, view):
            return path(
                f"<path:object_id>/{name.replace('_', '-')}/",
                self.admin_site.admin_view(view),
                name=f"crm_casestep_{name}",
            )

        return [
            url("complete", self.complete_view),
            url("reopen", self.reopen_view),
            url("override", self.override_view),
            url("not_applicable", self.not_applicable_view),
            *super().get_urls(),
        ]

    def _step(self, request, object_id, permission: str = "crm.change_casestep") -> CaseStep:
        require(self.has_change_permission(request) and request.user.has_perm(permission))
        return self.visible_or_404(request, object_id)

    def _done(self, request, step, text):
        messages.success(request, text % {"step": step_label(step)})
        return HttpResponseRedirect(back_to(request, reverse("admin:crm_case_change", args=[step.case_id])))

    @method_decorator(require_POST)
    def complete_view(self, request, object_id):
        step = self._step(request, object_id)
        try:
            workflow.complete_step(step, by=request.user, on=timezone.localdate())
        except CrmError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(back_to(request, reverse("admin:crm_case_change", args=[step.case_id])))
        return self._done(request, step, _("%(step)s is done."))

    @method_decorator(require_POST)
    def reopen_view(self, request, object_id):
        step = self._step(request, object_id)
        try:
            workflow.reopen_step(step, by=request.user)
        except CrmError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(back_to(request, reverse("admin:crm_case_change", args=[step.case_id])))
        return self._done(request, step, _("%(step)s is pending again."))

    @of_held_record(ReasonForm)
    def override_view(self, request, object_id):
        step = self._step(request, object_id, "crm.override_step_order")

        def act(form):
            reason = form.cleaned_data["reason"]
            workflow.complete_step(step, by=request.user, on=timezone.localdate(), override_reason=reason)
            return self._done(request, step, _("%(step)s is done."))

        return form_page(
            self,
            request,
            ReasonForm,
            act,
            title=_("Complete before its turn"),
            about=step_label(step),
            back=reverse("admin:crm_case_change", args=[step.case_id]),
            submit=_("Complete"),
        )

    @of_held_record(OptionalReasonForm)
    def not_applicable_view(self, request, object_id):
        step = self._step(request, object_id)

        def act(form):
            workflow.mark_not_applicable(step, by=request.user, reason=form.cleaned_data["reason"])
            return self._done(request, step, _("%(step)s does not apply."))

        return form_page(
            self,
            request,
            OptionalReasonForm,
            act,
            title=_("Step does not apply"),
            about=step_label(step),
            back=reverse("admin:crm_case_change", args=[step.case_id]),
            submit=_("Mark as not applicable"),
        )
