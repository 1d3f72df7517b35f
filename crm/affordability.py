"""LTV, DTI, DSTI and the annuity, and the warnings they lead to. Nothing here changes a typed amount."""

import dataclasses
import datetime
from decimal import ROUND_HALF_UP, Decimal

from django.utils import formats
from django.utils.translation import gettext as _

from crm.choices import DEBT_KINDS, INCOME_KINDS, FinanceKind, LimitAudience, LimitMetric, PurposeKind
from crm.models import Case, Client, FinanceItem, RegulatoryLimit

CENT = Decimal("0.01")
# Typed and computed LTV may differ by rounding, not by more (percentage points).
LTV_TOLERANCE = Decimal("0.5")
YOUNG_APPLICANT_YEARS = 36


def _shown(value: Decimal) -> str:
    return formats.number_format(value, use_l10n=True)


def _rounded(value: Decimal) -> Decimal:
    return value.quantize(CENT, rounding=ROUND_HALF_UP)


def ltv_percent(loan_czk: Decimal | None, collateral_czk: Decimal | None) -> Decimal | None:
    """Loan to value in percent; None where a part is unknown."""
    if not loan_czk or not collateral_czk:
        return None
    return _rounded(loan_czk / collateral_czk * 100)


def dti(debt_czk: Decimal, net_monthly_income_czk: Decimal) -> Decimal | None:
    """Total debt over net annual income, in years of income."""
    return _rounded(debt_czk / (net_monthly_income_czk * 12)) if net_monthly_income_czk else None


def dsti_percent(instalments_czk: Decimal, net_monthly_income_czk: Decimal) -> Decimal | None:
    """Monthly instalments over net monthly income, in percent."""
    return _rounded(instalments_czk / net_monthly_income_czk * 100) if net_monthly_income_czk else None


def annuity_czk(loan_czk: Decimal, rate_percent: Decimal, term_months: int) -> Decimal:
    """The level monthly instalment; `rate_percent` is nominal a year, paid monthly. Raises ValueError for no term."""
    if term_months <= 0:
        raise ValueError("term_months must be positive")
    if not rate_percent:
        return _rounded(loan_czk / term_months)
    monthly = Decimal(rate_percent) / 1200
    return _rounded(loan_czk * monthly / (1 - (1 + monthly) ** -term_months))


@dataclasses.dataclass(frozen=True)
class Figures:
    """Of a case over all its parties; money in CZK a month but `debt_czk`, which is what would be owed in all."""

    income_czk: Decimal
    instalments_czk: Decimal
    debt_czk: Decimal
    ltv_percent: Decimal | None
    dti: Decimal | None
    dsti_percent: Decimal | None


@dataclasses.dataclass(frozen=True)
class Warning:
    text: str
    source: str = ""
    is_binding: bool = False

    def __str__(self) -> str:
        return f"{self.text} ({self.source})" if self.source else self.text


def _instalment(case: Case) -> Decimal:
    if case.monthly_payment_czk:
        return case.monthly_payment_czk
    loan = case.approved_amount_czk or case.loan_amount_czk
    if loan and case.interest_rate_percent is not None and case.term_months:
        return annuity_czk(loan, case.interest_rate_percent, case.term_months)
    return Decimal(0)


def figures(case: Case) -> Figures:
    """Three queries at most."""
    people = {case.client_id, *case.parties.values_list("client_id", flat=True)}
    items = list(FinanceItem.objects.filter(client__in=people).only("kind", "monthly_czk", "balance_czk"))
    income = sum((item.monthly_czk or Decimal(0) for item in items if item.kind in INCOME_KINDS), Decimal(0))
    paying = (*DEBT_KINDS, FinanceKind.MAINTENANCE)
    instalments = sum((item.monthly_czk or Decimal(0) for item in items if item.kind in paying), Decimal(0))
    owed = sum((item.balance_czk or Decimal(0) for item in items if item.kind in DEBT_KINDS), Decimal(0))
    loan = case.approved_amount_czk or case.loan_amount_czk or Decimal(0)
    values = [value for value in case.properties.values_list("valuation_czk", flat=True) if value]
    instalments += _instalment(case)
    return Figures(
        income_czk=income,
        instalments_czk=instalments,
        debt_czk=owed + loan,
        ltv_percent=ltv_percent(loan, sum(values, Decimal(0)) or case.property_price_czk),
        dti=dti(owed + loan, income),
        dsti_percent=dsti_percent(instalments, income),
    )


def _age(born: datetime.date, on: datetime.date) -> int:
    return on.year - born.year - ((on.month, on.day) < (born.month, born.day))


def _audiences(case: Case, on: datetime.date) -> tuple[str, ...]:
    """Whose limits count: an investment home's besides everybody's, a young applicant's instead of everybody's."""
    if case.purpose_kind == PurposeKind.INVESTMENT:
        return LimitAudience.ALL, LimitAudience.INVESTMENT
    people = {case.client_id, *case.parties.values_list("client_id", flat=True)}
    births = [person.birth_date for person in Client.objects.filter(pk__in=people).only("birth_date")]
    young = all(isinstance(born, datetime.date) and _age(born, on) < YOUNG_APPLICANT_YEARS for born in births)
    return (LimitAudience.UNDER_36, LimitAudience.ALL) if young else (LimitAudience.ALL,)


def warnings(case: Case, on: datetime.date) -> list[Warning]:
    """What an adviser should look at: typed amounts that do not fit, and limits that were valid `on` that day."""
    now = figures(case)
    found = []
    computed = ltv_percent(case.loan_amount_czk, case.property_price_czk)
    if computed is not None and case.ltv_percent is not None and abs(computed - case.ltv_percent) > LTV_TOLERANCE:
        found.append(
            Warning(_("LTV is typed as %(typed)s %%, loan and price give %(computed)s %%.") % {
                "typed": _shown(case.ltv_percent), "computed": _shown(computed),
            })
        )  # fmt: skip
    if case.loan_amount_czk and case.own_funds_czk is not None and case.property_price_czk:
        total = case.loan_amount_czk + case.own_funds_czk
        if total < case.property_price_czk:
            found.append(Warning(_("Loan and own funds together do not reach the price.")))
    values = {
        LimitMetric.LTV: case.ltv_percent if case.ltv_percent is not None else now.ltv_percent,
        LimitMetric.DTI: now.dti if now.dti is not None else case.dti,
        LimitMetric.DSTI: now.dsti_percent if now.dsti_percent is not None else case.dsti_percent,
    }
    for limit in _limits(_audiences(case, on), on):
        value = values.get(limit.metric)
        if value is not None and value > limit.value:
            sentence = (
                _("%(metric)s %(value)s is over the limit of %(limit)s.")
                if limit.is_binding
                else _("%(metric)s %(value)s is over the recommended %(limit)s.")
            )
            text = sentence % {
                "metric": limit.get_metric_display(),
                "value": _shown(value),
                "limit": _shown(Decimal(f"{limit.value.normalize():f}")),
            }
            found.append(Warning(text, source=limit.legal_source, is_binding=limit.is_binding))
    return found


def _limits(audiences: tuple[str, ...], on: datetime.date) -> list[RegulatoryLimit]:
    """The newest valid limit of each metric and audience; the young applicant's replaces the one for all."""
    chosen: dict[tuple[str, str], RegulatoryLimit] = {}
    for limit in RegulatoryLimit.objects.valid_on(on).filter(audience__in=audiences).order_by("valid_from"):
        chosen[limit.metric, limit.audience] = limit
    return [
        limit
        for (metric, audience), limit in chosen.items()
        if audience != LimitAudience.ALL or (metric, LimitAudience.UNDER_36) not in chosen
    ]
