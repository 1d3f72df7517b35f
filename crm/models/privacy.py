"""Consents, the identification that the law against money laundering asks for, and the ledger of erasures."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from crm.choices import ConsentPurpose, ErasureScope, IdentificationMethod, RiskLevel
from crm.models.base import CrmModel
from crm.models.cases import OfClientQuerySet
from crm.models.clients import Client


class Consent(CrmModel):
    client_path = "client"

    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="consents", verbose_name=_("client"))
    purpose = models.CharField(_("purpose"), max_length=20, choices=ConsentPurpose)
    text_version = models.CharField(_("version of the text"), max_length=40)
    given_on = models.DateField(_("given on"))
    withdrawn_on = models.DateField(_("withdrawn on"), null=True, blank=True)

    objects = OfClientQuerySet.as_manager()

    class Meta:
        verbose_name = _("consent")
        verbose_name_plural = _("consents")
        permissions = [("export_consent", "Can export consents")]

    def __str__(self) -> str:
        return str(self.get_purpose_display())


class Identification(CrmModel):
    """Kept ten years from the end of the relationship: Act 253/2008, section 16."""

    client_path = "client"

    client = models.ForeignKey(
        Client, on_delete=models.CASCADE, related_name="identifications", verbose_name=_("client")
    )
    method = models.CharField(_("method"), max_length=20, choices=IdentificationMethod)
    done_on = models.DateField(_("done on"))
    done_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("done by"),
    )
    is_pep = models.BooleanField(_("politically exposed person"), default=False)
    risk = models.CharField(_("risk"), max_length=10, choices=RiskLevel, default=RiskLevel.LOW)
    sanctions_checked_on = models.DateField(_("sanctions lists checked on"), null=True, blank=True)

    objects = OfClientQuerySet.as_manager()

    class Meta:
        verbose_name = _("identification")
        verbose_name_plural = _("identifications")
        permissions = [("export_identification", "Can export identifications")]

    def __str__(self) -> str:
        return str(self.get_method_display())


class Erasure(models.Model):
    """What was asked to be erased: ids, scope and times, nothing of the person, so that it may outlive him in every backup.
    `made_at` is when the record itself was made: after an older backup was put back its id may be given to somebody else.
    Internal: no history. Rows are written by crm.privacy and never go."""

    scope = models.CharField(_("of what"), max_length=10, choices=ErasureScope)
    object_id = models.BigIntegerField(_("number"))
    made_at = models.DateTimeField(_("record made"))
    asked_at = models.DateTimeField(_("asked for"))
    # The last day on which the law wants it kept; empty where it never did.
    kept_until = models.DateField(_("kept until"), null=True, blank=True)
    erased_at = models.DateTimeField(_("erased"), null=True, blank=True)

    class Meta:
        verbose_name = _("erasure")
        verbose_name_plural = _("erasures")
        ordering = ["-asked_at", "-pk"]
        default_permissions = ("view",)
        constraints = [models.UniqueConstraint(fields=["scope", "object_id", "made_at"], name="erasure_unique")]
        indexes = [
            models.Index(fields=["kept_until"], name="erasure_waiting", condition=models.Q(erased_at__isnull=True))
        ]

    def __str__(self) -> str:
        return f"{self.get_scope_display()} {self.object_id}"
