"""Consents and the identification that the law against money laundering asks for."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from crm.choices import ConsentPurpose, IdentificationMethod, RiskLevel
from crm.models.base import CrmModel
from crm.models.cases import OfClientQuerySet
from crm.models.clients import Client


class Consent(CrmModel):
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
