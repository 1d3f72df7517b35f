import datetime
from decimal import Decimal

import pytest

from crm import affordability
from crm.choices import FinanceKind, LimitAudience, LimitMetric, PurposeKind
from crm.models import Case, CaseParty, FinanceItem, Property, RegulatoryLimit
from crm.tests.factories import TODAY, make_case, make_client

D = Decimal


def test_ltv_is_the_loan_in_percent_of_the_collateral():
    assert affordability.ltv_percent(D(2000100), D(3000000)) == D("66.67")


@pytest.mark.parametrize(("loan", "value"), [(None, D(1)), (D(1), None), (D(1), D(0)), (D(0), D(1))])
def test_ltv_of_what_is_unknown_is_unknown(loan, value):
    assert affordability.ltv_percent(loan, value) is None


def test_dti_counts_years_of_net_income():
    assert affordability.dti(D(4800000), D(50000)) == D("8.00")


def test_dsti_is_a_share_of_the_month():
    assert affordability.dsti_percent(D(22500), D(50000)) == D("45.00")


def test_ratios_without_income_are_unknown():
    assert affordability.dti(D(1), D(0)) is None
    assert affordability.dsti_percent(D(1), D(0)) is None


def test_the_annuity_is_the_level_instalment():
    assert affordability.annuity_czk(D(3000000), D("4.99"), 360) == D("16086.32")


def test_without_interest_the_loan_is_paid_in_equal_parts():
    assert affordability.annuity_czk(D(1200000), D(0), 120) == D("10000.00")


def test_an_annuity_needs_a_term():
    with pytest.raises(ValueError, match="term_months"):
        affordability.annuity_czk(D(1), D(5), 0)


@pytest.mark.django_db
class TestWarnings:
    def limit(self, metric, value, audience=LimitAudience.ALL, **fields):
        fields.setdefault("valid_from", datetime.date(2026, 1, 1))
        return RegulatoryLimit.objects.create(
            metric=metric, value=value, audience=audience, legal_source="CNB", **fields
        )

    def case(self, **fields):
        case = make_case(make_client(birth_date=datetime.date(1980, 5, 5)), **fields)
        RegulatoryLimit.objects.all().delete()
        return case

    def texts(self, case, on=TODAY):
        return [str(warning) for warning in affordability.warnings(case, on)]

    def test_typed_ltv_that_does_not_fit_is_a_warning_and_stays_as_typed(self):
        case = self.case(loan_amount_czk=D(2000000), property_price_czk=D(2500000), ltv_percent=D(90))
        assert len(self.texts(case)) == 1
        assert "80.00" in self.texts(case)[0]
        assert Case.objects.get(pk=case.pk).ltv_percent == D(90)

    def test_ltv_within_rounding_is_fine(self):
        assert self.texts(self.case(loan_amount_czk=D(2000100), property_price_czk=D(3000000), ltv_percent=D(67))) == []

    @pytest.mark.parametrize(("ltv", "warned"), [(D("80.00"), False), (D("80.01"), True)])
    def test_a_limit_is_warned_about_only_above_it_and_names_its_source(self, ltv, warned):
        case = self.case(ltv_percent=ltv)
        self.limit(LimitMetric.LTV, D(80))
        assert bool(self.texts(case)) == warned
        assert all("CNB" in text for text in self.texts(case))

    def test_applicants_under_36_have_their_own_limit(self):
        case = make_case(make_client(birth_date=datetime.date(1990, 3, 3)), ltv_percent=D(85))
        RegulatoryLimit.objects.all().delete()
        self.limit(LimitMetric.LTV, D(80))
        self.limit(LimitMetric.LTV, D(90), LimitAudience.UNDER_36)
        assert self.texts(case) == []

    def test_an_investment_home_is_under_its_own_recommendation_and_under_the_limit_for_all(self):
        case = self.case(ltv_percent=D(85), purpose_kind=PurposeKind.INVESTMENT)
        self.limit(LimitMetric.LTV, D(80))
        self.limit(LimitMetric.LTV, D(70), LimitAudience.INVESTMENT, is_binding=False)
        assert sorted(warning.is_binding for warning in affordability.warnings(case, TODAY)) == [False, True]

    def test_turning_36_ends_that(self):
        case = make_case(make_client(birth_date=datetime.date(1990, 3, 2)), ltv_percent=D(85))
        RegulatoryLimit.objects.all().delete()
        self.limit(LimitMetric.LTV, D(80))
        self.limit(LimitMetric.LTV, D(90), LimitAudience.UNDER_36)
        assert len(self.texts(case)) == 1

    def test_an_applicant_without_a_birth_date_is_not_young(self):
        case = make_case(make_client(), ltv_percent=D(85))
        RegulatoryLimit.objects.all().delete()
        self.limit(LimitMetric.LTV, D(80))
        self.limit(LimitMetric.LTV, D(90), LimitAudience.UNDER_36)
        assert len(self.texts(case)) == 1

    def test_a_limit_counts_from_its_day_to_its_day(self):
        case = self.case(ltv_percent=D(85), purpose_kind=PurposeKind.INVESTMENT)
        first, last = datetime.date(2026, 4, 1), datetime.date(2026, 6, 30)
        self.limit(LimitMetric.LTV, D(70), LimitAudience.INVESTMENT, valid_from=first, valid_until=last)
        day = datetime.timedelta(days=1)
        assert [len(self.texts(case, on)) for on in (first - day, first, last, last + day)] == [0, 1, 1, 0]

    def test_dti_and_dsti_count_all_parties_and_the_new_loan(self):
        case = self.case(loan_amount_czk=D(3000000), interest_rate_percent=D("4.99"), term_months=360)
        partner = make_client("Bob Novák")
        CaseParty.objects.create(case=case, client=partner)
        FinanceItem.objects.create(client=case.client, kind=FinanceKind.EMPLOYMENT, monthly_czk=D(30000))
        FinanceItem.objects.create(client=partner, kind=FinanceKind.EMPLOYMENT, monthly_czk=D(20000))
        FinanceItem.objects.create(
            client=partner, kind=FinanceKind.CONSUMER_LOAN, monthly_czk=D(3000), balance_czk=D(100000)
        )
        found = affordability.figures(case)
        assert (found.income_czk, found.debt_czk) == (D(50000), D(3100000))
        assert found.dti == D("5.17")
        assert found.dsti_percent == D("38.17")

    def test_ltv_counts_the_valuation_before_the_price(self):
        case = self.case(loan_amount_czk=D(2000000), property_price_czk=D(2000000))
        Property.objects.create(case=case, valuation_czk=D(2500000))
        assert affordability.figures(case).ltv_percent == D("80.00")
