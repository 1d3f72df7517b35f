"""What an office keeps as data and ships in fixtures/: lenders, regulatory limits. (Steps are in steps.py.)"""

from django.db import models
from django.utils.translation import gettext_lazy as _

from crm.choices import LimitAudience, LimitMetric
from crm.models.base import CrmModel, CrmQuerySet
from crm.search import fold


def lender_key(text: str) -> str:
    """`KB`, `kb` and `K.B.` are one: letters and digits only, folded."""
    return "".join(char for char in fold(text) if char.isalnum())


class LenderQuerySet(CrmQuerySet):
    def by_key(self) -> dict[str, "Lender"]:
        """Every name and alias, folded by `lender_key`, to its lender. One query."""
        found = {}
        for lender in self:
            for name in [*lender.aliases, lender.name]:
                found[lender_key(name)] = lender
        return found


class Lender(CrmModel):
    name = models.CharField(_("name"), max_length=100, unique=True)
    aliases = models.JSONField(
        _("aliases"), default=list, blank=True, help_text=_("Other spellings that an import takes for this lender.")
    )
    business_id = models.CharField(_("business id (IČO)"), max_length=8, blank=True)
    bank_code = models.CharField(_("bank code"), max_length=4, blank=True)
    contact = models.TextField(_("contact"), blank=True)
    is_active = models.BooleanField(_("active"), default=True)

    objects = LenderQuerySet.as_manager()

    class Meta:
        verbose_name = _("lender")
        verbose_name_plural = _("lenders")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class RegulatoryLimitQuerySet(CrmQuerySet):
    def valid_on(self, day):
        return self.filter(valid_from__lte=day).exclude(valid_until__lt=day)


class RegulatoryLimit(CrmModel):
    metric = models.CharField(_("metric"), max_length=10, choices=LimitMetric)
    audience = models.CharField(_("audience"), max_length=20, choices=LimitAudience, default=LimitAudience.ALL)
    value = models.DecimalField(
        _("limit"), max_digits=6, decimal_places=2, help_text=_("Percent for LTV and DSTI, years of income for DTI.")
    )
    is_binding = models.BooleanField(_("binding"), default=True, help_text=_("Not binding means a recommendation."))
    valid_from = models.DateField(_("valid from"))
    valid_until = models.DateField(_("valid until"), null=True, blank=True)
    legal_source = models.CharField(_("source"), max_length=300)

    objects = RegulatoryLimitQuerySet.as_manager()

    class Meta:
        verbose_name = _("regulatory limit")
        verbose_name_plural = _("regulatory limits")
        ordering = ["metric", "audience", "-valid_from"]
        constraints = [
            models.UniqueConstraint(fields=["metric", "audience", "valid_from"], name="regulatory_limit_unique")
        ]

    def __str__(self) -> str:
        return f"{self.get_metric_display()} {self.value.normalize():f}"
