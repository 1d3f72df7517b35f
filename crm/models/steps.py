"""The catalogue of steps, and the steps of one case. What may change them is in crm.workflow."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import get_language, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from crm.choices import ACTIVE_STATUSES, StepState
from crm.encryption import EncryptedTextField
from crm.models.base import CrmModel, OfCaseQuerySet

# The catalogue's codes that rules know by name; the rest is the office's own business.
LENDER_SELECTION = "vyber_banky"
APPROVAL_IN_PRINCIPLE = "schvalene_financovani"
UNDERWRITING = "schvalovani"


class Step(CrmModel):
    number = models.PositiveSmallIntegerField(_("number"))
    code = models.SlugField(
        _("code"),
        max_length=60,
        unique=True,
        help_text=_("Stays the same for ever; imports and rules know the step by it."),
    )
    name_cs = models.CharField(_("name in Czech"), max_length=100)
    name_en = models.CharField(_("name in English"), max_length=100)
    default_days = models.PositiveSmallIntegerField(
        _("deadline after (days)"), help_text=_("Days after the case was opened.")
    )
    tell_client = models.BooleanField(_("tell the client"), default=False)
    is_active = models.BooleanField(_("in new cases"), default=True)

    class Meta:
        verbose_name = _("kind of step")
        verbose_name_plural = _("kinds of steps")
        ordering = ["number", "pk"]

    def __str__(self) -> str:
        return f"{self.number}. {self.name}"

    @property
    def name(self) -> str:
        return self.name_cs if (get_language() or settings.LANGUAGE_CODE).startswith("cs") else self.name_en


class CaseStepQuerySet(OfCaseQuerySet):
    def pending(self):
        return self.filter(state=StepState.PENDING)

    def of_active_cases(self):
        return self.filter(case__status__in=ACTIVE_STATUSES)

    def overdue(self, on):
        return self.pending().of_active_cases().filter(deadline__lt=on)

    def due_on(self, day):
        return self.pending().of_active_cases().filter(deadline=day)

    def due_between(self, first, last):
        return self.pending().of_active_cases().filter(deadline__range=(first, last))


class CaseStep(CrmModel):
    client_path = "case__client"

    case = models.ForeignKey("crm.Case", on_delete=models.CASCADE, related_name="steps", verbose_name=_("case"))
    step = models.ForeignKey(Step, on_delete=models.PROTECT, related_name="case_steps", verbose_name=_("step"))
    deadline = models.DateField(_("deadline"), null=True, blank=True)
    completed_on = models.DateField(_("completed on"), null=True, blank=True)
    completed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("completed by"),
    )
    state = models.CharField(
        pgettext_lazy("of a step", "state"), max_length=20, choices=StepState, default=StepState.PENDING
    )
    note = EncryptedTextField(_("note"), blank=True)

    objects = CaseStepQuerySet.as_manager()

    class Meta:
        verbose_name = _("step of a case")
        verbose_name_plural = _("steps of cases")
        permissions = [("export_casestep", "Can export steps of cases")]
        ordering = ["case", "step__number", "step"]
        constraints = [
            models.UniqueConstraint(fields=["case", "step"], name="case_step_unique"),
            models.CheckConstraint(
                condition=Q(state=StepState.DONE, completed_on__isnull=False)
                | (~Q(state=StepState.DONE) & Q(completed_on__isnull=True)),
                name="case_step_done_has_date",
            ),
        ]
        indexes = [
            models.Index(
                fields=["deadline", "case"],
                include=["id", "step"],
                condition=Q(state=StepState.PENDING),
                name="case_step_pending_deadline",
            )
        ]

    def __str__(self) -> str:
        return f"{self.case_id}/{self.step_id}"

    @property
    def is_settled(self) -> bool:
        return self.state != StepState.PENDING
