"""A mortgage case, its parties, money, property and commission. Its status and stored step state change in crm.workflow."""

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from crm.choices import ACTIVE_STATUSES, CaseStatus, FinanceKind, PartyRole, PropertyKind, PurposeKind
from crm.encryption import EncryptedCharField, EncryptedTextField
from crm.models.base import CrmModel, CrmQuerySet, OfCaseQuerySet, Stamped, sees_all_cases, with_references
from crm.models.clients import Client
from crm.models.reference import Lender
from crm.models.steps import Step
from crm.search import clean

REFERENCE_PREFIX = "H"


def money(label, **kwargs):
    """CZK with two decimals; empty means unknown."""
    return models.DecimalField(
        label, max_digits=14, decimal_places=2, null=True, blank=True, validators=[MinValueValidator(0)], **kwargs
    )


def percent(label, **kwargs):
    return models.DecimalField(
        label, max_digits=6, decimal_places=2, null=True, blank=True, validators=[MinValueValidator(0)], **kwargs
    )


class CaseQuerySet(CrmQuerySet):
    def visible_to(self, user):
        return self if sees_all_cases(user) else self.belonging_to(user)

    def belonging_to(self, user):
        """Of an adviser, and of who stands in for one."""
        return self.filter(Q(adviser=user) | Q(stand_in=user))

    def active(self):
        return self.filter(status__in=ACTIVE_STATUSES)

    def search(self, text: str):
        text = clean(text)
        if not text:
            return self
        # A union, for the same reason as in the clients' search.
        cases = Case.objects.order_by()
        named = cases.filter(client__in=Client.objects.order_by().search(text).values("pk")).values("pk")
        numbered = cases.filter(reference__startswith=text.upper()).values("pk")
        return self.filter(pk__in=numbered.union(named, all=True))

    def bulk_create(self, objs, *args, **kwargs):
        objs = list(objs)
        with with_references(REFERENCE_PREFIX, objs):
            return super().bulk_create(objs, *args, **kwargs)


class Case(CrmModel, Stamped):
    client_path = "client"

    reference = models.CharField(_("reference"), max_length=20, unique=True, editable=False)
    client = models.ForeignKey(Client, on_delete=models.PROTECT, related_name="cases", verbose_name=_("client"))
    adviser = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="cases",
        verbose_name=_("adviser"),
    )
    stand_in = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="stand_in_cases",
        verbose_name=_("stand-in"),
    )
    opened_on = models.DateField(_("opened on"))
    status = models.CharField(_("status"), max_length=10, choices=CaseStatus, default=CaseStatus.OPEN, editable=False)
    # Stored so that lists and the start page are plain aggregates; crm.workflow alone keeps them true.
    current_step = models.ForeignKey(
        Step, on_delete=models.PROTECT, null=True, editable=False, related_name="+", verbose_name=_("current step")
    )
    next_deadline = models.DateField(_("next deadline"), null=True, editable=False)

    purpose_kind = models.CharField(_("kind of purpose"), max_length=20, choices=PurposeKind, blank=True)
    loan_purpose = EncryptedTextField(_("what is financed"), blank=True)
    property_price_czk = money(_("property price (CZK)"))
    loan_amount_czk = money(_("loan amount (CZK)"))
    own_funds_czk = money(_("own funds (CZK)"))
    ltv_percent = percent(_("LTV (%)"))
    proposed_terms = models.TextField(_("proposed terms"), blank=True)
    lender = models.ForeignKey(
        Lender, on_delete=models.PROTECT, null=True, blank=True, related_name="cases", verbose_name=_("lender")
    )
    approved_terms = models.TextField(_("approved terms"), blank=True)
    approved_amount_czk = money(_("approved amount (CZK)"))
    approved_own_funds_czk = money(_("approved own funds (CZK)"))
    approved_ltv_percent = percent(_("approved LTV (%)"))
    rejection_reason = EncryptedTextField(_("rejection reason"), blank=True)
    decided_on = models.DateField(_("decided on"), null=True, blank=True)
    interest_rate_percent = models.DecimalField(
        _("interest rate (% a year)"),
        max_digits=5,
        decimal_places=3,
        null=True,
        blank=True,
        validators=[MinValueValidator(0), MaxValueValidator(99)],
    )
    term_months = models.PositiveSmallIntegerField(
        _("term (months)"), null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(600)]
    )
    fixation_years = models.PositiveSmallIntegerField(
        _("fixation (years)"), null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(50)]
    )
    fixation_until = models.DateField(_("fixation until"), null=True, blank=True)
    monthly_payment_czk = money(_("monthly payment (CZK)"))
    contract_number = EncryptedCharField(_("contract number"), max_length=60, blank=True)
    dti = models.DecimalField(
        "DTI", max_digits=6, decimal_places=2, null=True, blank=True, validators=[MinValueValidator(0)]
    )
    dsti_percent = percent("DSTI (%)")
    legacy_id = models.CharField(
        _("id in the older CRM"), max_length=40, unique=True, null=True, blank=True, editable=False
    )
    # Keyed digest of the spreadsheet row it came from, so that the same row is not imported twice.
    import_digest = models.CharField(max_length=64, blank=True, editable=False, db_index=True)

    objects = CaseQuerySet.as_manager()

    class Meta:
        verbose_name = _("case")
        verbose_name_plural = _("cases")
        ordering = ["-reference"]
        permissions = [
            ("import_case", "Can import cases"),
            ("export_case", "Can export cases"),
            ("approve_case", "Can approve cases"),
            ("reject_case", "Can reject cases"),
            ("withdraw_case", "Can withdraw cases"),
            ("hand_over_case", "Can hand cases over"),
            ("override_step_order", "Can complete a step before its turn"),
            ("view_all_cases", "Sees all cases whatever ADVISER_SCOPE says"),
        ]
        indexes = [
            models.Index(fields=["status", "next_deadline"], name="case_status_deadline"),
            models.Index(fields=["status", "current_step"], name="case_status_step"),
            models.Index(fields=["next_deadline"], name="case_next_deadline"),
            models.Index(fields=["opened_on"], name="case_opened_on"),
            models.Index(fields=["loan_amount_czk"], name="case_loan_amount"),
            models.Index(fields=["fixation_until"], name="case_fixation_until"),
            # Few of many: whoever asks for the steps of active cases reads the rows of none (docs/bench.md).
            models.Index(
                fields=["id"],
                include=["reference", "client", "adviser", "stand_in"],
                condition=Q(status__in=ACTIVE_STATUSES),
                name="case_active",
            ),
        ]

    def __str__(self) -> str:
        return self.reference

    @property
    def is_active(self) -> bool:
        return self.status in ACTIVE_STATUSES

    def save(self, **kwargs):
        with with_references(REFERENCE_PREFIX, [self] if self.is_new else []):
            super().save(**kwargs)


class CaseParty(CrmModel):
    client_path = "case__client"

    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="parties", verbose_name=_("case"))
    client = models.ForeignKey(Client, on_delete=models.PROTECT, related_name="parties", verbose_name=_("client"))
    role = models.CharField(_("role"), max_length=20, choices=PartyRole, default=PartyRole.CO_APPLICANT)

    objects = OfCaseQuerySet.as_manager()

    class Meta:
        verbose_name = _("party")
        verbose_name_plural = _("parties")
        permissions = [("export_caseparty", "Can export parties")]
        constraints = [models.UniqueConstraint(fields=["case", "client"], name="case_party_unique")]

    def __str__(self) -> str:
        return f"{self.get_role_display()} {self.client_id}"


class Property(CrmModel):
    client_path = "case__client"

    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="properties", verbose_name=_("case"))
    kind = models.CharField(_("kind"), max_length=20, choices=PropertyKind, default=PropertyKind.FLAT)
    address = EncryptedTextField(_("address"), blank=True)
    cadastral_reference = EncryptedCharField(_("cadastral reference"), max_length=200, blank=True)
    valuation_czk = money(_("valuation (CZK)"))
    valued_on = models.DateField(_("valued on"), null=True, blank=True)
    valid_until = models.DateField(_("valuation valid until"), null=True, blank=True)

    objects = OfCaseQuerySet.as_manager()

    class Meta:
        verbose_name = _("property")
        verbose_name_plural = _("properties")
        permissions = [("export_property", "Can export properties")]

    def __str__(self) -> str:
        return str(self.get_kind_display())


class Commission(CrmModel, Stamped):
    client_path = "case__client"

    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="commissions", verbose_name=_("case"))
    expected_czk = money(_("expected (CZK)"))
    invoiced_on = models.DateField(_("invoiced on"), null=True, blank=True)
    paid_on = models.DateField(_("paid on"), null=True, blank=True)
    paid_czk = money(_("paid (CZK)"))
    clawback_until = models.DateField(_("clawback until"), null=True, blank=True)

    objects = OfCaseQuerySet.as_manager()

    class Meta:
        verbose_name = _("commission")
        verbose_name_plural = _("commissions")
        permissions = [("export_commission", "Can export commissions")]

    def __str__(self) -> str:
        return f"{self.case_id}"


class OfClientQuerySet(CrmQuerySet):
    """Rows that are seen by whoever sees their client."""

    def visible_to(self, user):
        if sees_all_cases(user):
            return self
        return self.filter(client__in=Client.objects.visible_to(user))


class FinanceItem(CrmModel):
    client_path = "client"

    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="finance_items", verbose_name=_("client"))
    kind = models.CharField(_("kind"), max_length=20, choices=FinanceKind)
    monthly_czk = money(_("monthly amount (CZK, net)"))
    balance_czk = money(_("outstanding balance (CZK)"))
    proof = models.CharField(_("proof"), max_length=200, blank=True)
    note = EncryptedTextField(_("note"), blank=True)

    objects = OfClientQuerySet.as_manager()

    class Meta:
        verbose_name = _("income or liability")
        verbose_name_plural = _("incomes and liabilities")
        permissions = [("export_financeitem", "Can export incomes and liabilities")]

    def __str__(self) -> str:
        return str(self.get_kind_display())
