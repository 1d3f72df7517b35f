"""Invented cases as plans in memory: a case with its steps and everything that hangs on it, and who did what when.
Nothing here touches the database; `crm.demo.writing` does."""

import datetime
import random
import uuid
from dataclasses import dataclass, field
from decimal import Decimal

from crm import affordability, workflow
from crm.choices import (
    CaseStatus,
    ConsentPurpose,
    DocumentStatus,
    FinanceKind,
    IdentificationMethod,
    PartyRole,
    PropertyKind,
    PurposeKind,
    RiskLevel,
    StepState,
)
from crm.models import (
    Case,
    CaseParty,
    CaseStep,
    Client,
    Commission,
    Consent,
    Document,
    FinanceItem,
    Identification,
    Note,
    Property,
)
from crm.models.steps import UNDERWRITING

OPEN, APPROVED, COMPLETED = CaseStatus.OPEN, CaseStatus.APPROVED, CaseStatus.COMPLETED
DECLINED, WITHDRAWN = CaseStatus.DECLINED, CaseStatus.WITHDRAWN
# Twenty cases in this order, again and again: ten open, four approved, three completed, two declined, one withdrawn.
STATUSES = (OPEN, APPROVED, OPEN, COMPLETED, OPEN, OPEN, DECLINED, OPEN, APPROVED, OPEN, COMPLETED, OPEN, WITHDRAWN, OPEN,
            APPROVED, OPEN, COMPLETED, DECLINED, APPROVED, OPEN)  # fmt: skip
# Days from today to the next deadline of the first active cases: a full "my day", whatever today is.
DUE = (0, -3, 1, 0, 2, -1, 5, 3, 0, 12, -8, 4, 1, 20, 6, -14, 2, 9, 3, 16)
PURPOSES = (*[PurposeKind.PURCHASE] * 9, *[PurposeKind.REFINANCING] * 4, *[PurposeKind.CONSTRUCTION] * 3,
            *[PurposeKind.RECONSTRUCTION] * 2, PurposeKind.INVESTMENT, PurposeKind.SETTLEMENT,
            PurposeKind.NON_PURPOSE)  # fmt: skip
ALWAYS = ("obcansky_prukaz", "druhy_doklad", "vypisy_z_uctu", "souhlas_registry", "esip")
BY_PURPOSE = {
    PurposeKind.PURCHASE: ("rezervacni_smlouva", "kupni_smlouva", "vypis_z_katastru", "odhad"),
    PurposeKind.REFINANCING: ("uverove_smlouvy", "vycisleni_zustatku", "vypis_z_katastru"),
    PurposeKind.CONSTRUCTION: ("stavebni_povoleni", "rozpocet_stavby", "vypis_z_katastru", "odhad"),
    PurposeKind.RECONSTRUCTION: ("rozpocet_stavby", "vypis_z_katastru", "odhad"),
    PurposeKind.SETTLEMENT: ("rozvod_sjm", "vypis_z_katastru", "odhad"),
}
DAY = datetime.timedelta(days=1)


@dataclass
class Staff:
    advisers: list
    absent: object
    assistant: object


@dataclass
class Plan:
    """Unsaved rows; `by` opened the case, `closed_on` is the last day anything happened to it."""

    case: Case
    by: object
    closed_on: datetime.date
    steps: list[CaseStep]
    others: list = field(default_factory=list)
    operation: uuid.UUID = field(default_factory=uuid.uuid4)


class Cases:
    """Draws cases. `texts` is fixtures/demo/office.json, `steps`, `lenders`, `document_types` are what the office has."""

    def __init__(self, dice: random.Random, texts: dict, staff: Staff, *, steps, lenders, document_types, today):
        self.dice = dice
        self.texts = texts
        self.staff = staff
        self.steps = list(steps)
        self.lenders = list(lenders)
        self.document_types = {each.code: each for each in document_types}
        self.today = today
        self.underwriting = next((i for i, step in enumerate(steps) if step.code == UNDERWRITING), len(steps) // 2)
        self.drawn = self.active = 0

    def case_of(self, people: list[Client], incomes: dict[int, Decimal], status: str | None = None) -> Plan:
        """One case of a household; the first of the people is the client."""
        dice = self.dice
        status = status or STATUSES[self.drawn % len(STATUSES)]
        self.drawn += 1
        position, due, opened_on = self._when(status)
        adviser = dice.choices(self.staff.advisers, weights=(9, 7, 4))[0]
        case = Case(client=people[0], adviser=adviser, opened_on=opened_on, status=status)
        if adviser is self.staff.absent and status in (OPEN, APPROVED):
            case.stand_in = self.staff.advisers[1]
        by = self.staff.assistant if dice.random() < 0.2 else adviser
        steps = self._worked(case, position, due)
        closed_on = max((each.completed_on for each in steps if each.completed_on), default=opened_on)
        if status in (DECLINED, WITHDRAWN):
            closed_on = min(self.today, closed_on + dice.randint(1, 9) * DAY)
        self._amounts(case, position, sum(incomes[id(person)] for person in people))
        self._decision(case, steps, closed_on)
        workflow.settle(case, steps)
        plan = Plan(case, by, closed_on, steps)
        plan.others += [
            CaseParty(case=case, client=person, role=dice.choice((PartyRole.CO_APPLICANT, PartyRole.SPOUSE)))
            for person in people[1:]
        ]
        plan.others += [*self._property(case, position), *self._documents(case, people[0], position)]
        plan.others += [*self._notes(case, closed_on), *self._commission(case, position, closed_on)]
        plan.others += self._identifications(people, case, position)
        return plan

    def _when(self, status: str) -> tuple[int, datetime.date | None, datetime.date]:
        """(how many steps are behind the case, the current one's deadline, opened on)."""
        dice, last = self.dice, len(self.steps) - 1
        if status == COMPLETED:
            return last + 1, None, self.today - dice.randint(130, 520) * DAY
        if status in (DECLINED, WITHDRAWN):
            position = self.underwriting if status == DECLINED else dice.randint(1, max(1, self.underwriting))
            return position, None, self.today - dice.randint(self.steps[position].default_days + 5, 400) * DAY
        first, latest = (0, self.underwriting) if status == OPEN else (min(self.underwriting + 1, last), last)
        position = dice.randint(first, latest)
        in_days = DUE[self.active] if self.active < len(DUE) else dice.randint(-12, 60)
        self.active += 1
        in_days = min(in_days, self.steps[position].default_days)  # else it would be opened in the future
        due = self.today + in_days * DAY
        return position, due, due - self.steps[position].default_days * DAY

    def _worked(self, case: Case, position: int, due: datetime.date | None) -> list[CaseStep]:
        """The catalogue's steps, settled up to `position` by those who did them."""
        dice = self.dice
        steps = workflow.plan_steps(case, self.steps)
        done_on = case.opened_on
        for index, each in enumerate(steps[:position]):
            done_on = min(self.today, max(done_on, each.deadline + dice.randint(-6, 2) * DAY))
            if index not in (0, self.underwriting) and dice.random() < 0.04:
                each.state = StepState.NOT_APPLICABLE
                continue
            each.state, each.completed_on = StepState.DONE, done_on
            each.completed_by = self.staff.assistant if dice.random() < 0.2 else case.adviser
            if dice.random() < 0.12:
                each.note = dice.choice(self.texts["step_notes"])
        if due:
            steps[position].deadline = due
        return steps

    def _amounts(self, case: Case, position: int, income_czk: Decimal) -> None:
        dice = self.dice
        case.purpose_kind = dice.choice(PURPOSES)
        case.loan_purpose = dice.choice(self.texts["purposes"][case.purpose_kind])
        loan = round(income_czk * 12 * dice.randint(25, 80) / 10, -4)
        case.loan_amount_czk = loan
        case.property_price_czk = round(loan * 100 / dice.choice((50, 60, 65, 70, 75, 79, 80, 80, 85, 90)), -4)
        case.own_funds_czk = case.property_price_czk - loan
        case.ltv_percent = affordability.ltv_percent(loan, case.property_price_czk)
        if position >= 1:
            case.proposed_terms = dice.choice(self.texts["terms"])
            case.interest_rate_percent = Decimal(dice.randint(419, 589)) / 100
            case.term_months = dice.choice((180, 240, 300, 360, 360))
            case.fixation_years = dice.choice((1, 3, 3, 5, 5, 5, 7, 10))
            case.monthly_payment_czk = affordability.annuity_czk(loan, case.interest_rate_percent, case.term_months)
        if position >= 2:
            case.lender = dice.choice(self.lenders)

    def _decision(self, case: Case, steps: list[CaseStep], closed_on: datetime.date) -> None:
        if case.status in (APPROVED, COMPLETED):
            case.decided_on = steps[self.underwriting].completed_on
            case.approved_amount_czk = case.loan_amount_czk
            case.approved_own_funds_czk, case.approved_ltv_percent = case.own_funds_czk, case.ltv_percent
            case.approved_terms = case.proposed_terms
            ends = case.decided_on.year + case.fixation_years
            case.fixation_until = case.decided_on.replace(year=ends, day=min(case.decided_on.day, 28))
            case.contract_number = f"{self.dice.randint(10**8, 10**9 - 1)}/{case.decided_on.year}"
        elif case.status in (DECLINED, WITHDRAWN):
            case.decided_on = closed_on
            if case.status == DECLINED:
                case.rejection_reason = self.dice.choice(self.texts["rejections"])

    def _property(self, case: Case, position: int) -> list[Property]:
        if case.purpose_kind == PurposeKind.NON_PURPOSE and self.dice.random() < 0.5:
            return []
        client = case.client
        found = Property(
            case=case,
            kind=self.dice.choice((PropertyKind.FLAT, PropertyKind.FLAT, PropertyKind.HOUSE, PropertyKind.LAND)),
            address=f"{client.street}, {client.postal_code} {client.city}",
            cadastral_reference=f"k. ú. {client.city}, LV {self.dice.randint(1, 9999)}",
        )
        if position > self.underwriting - 1:
            found.valuation_czk = round(case.property_price_czk * self.dice.randint(92, 106) / 100, -4)
            found.valued_on = min(self.today, case.opened_on + 50 * DAY)
            found.valid_until = found.valued_on + 180 * DAY
        return [found]

    def _documents(self, case: Case, client: Client, position: int) -> list[Document]:
        income = ("danove_priznani",) if client.business_id else ("potvrzeni_o_prijmu", "vyplatni_pasky")
        found = []
        for code in (*ALWAYS, *income, *BY_PURPOSE.get(case.purpose_kind, ())):
            if position < 3 or code not in self.document_types:
                continue
            document = Document(case=case, type=self.document_types[code], status=self._document_status(position))
            if document.status != DocumentStatus.REQUESTED:
                document.received_on = min(self.today, case.opened_on + self.dice.randint(10, 42) * DAY)
                if document.type.valid_days:
                    document.expires_on = document.received_on + document.type.valid_days * DAY
            found.append(document)
        return found

    def _document_status(self, position: int) -> str:
        if position > 6:
            return DocumentStatus.CHECKED
        waiting = [DocumentStatus.REQUESTED] * (7 - position)
        return self.dice.choice([*waiting, DocumentStatus.RECEIVED, DocumentStatus.RECEIVED, DocumentStatus.CHECKED,
                                 DocumentStatus.REFUSED])  # fmt: skip

    def _notes(self, case: Case, closed_on: datetime.date) -> list[Note]:
        days = max(0, (closed_on - case.opened_on).days)
        return [
            Note(
                case=case,
                text=text,
                author=self.staff.assistant if self.dice.random() < 0.25 else case.adviser,
                created_at=case.opened_on + self.dice.randint(0, days) * DAY,  # the writer adds the hour
                visible_to_client=self.dice.random() < 0.1,
            )
            for text in self.dice.sample(self.texts["notes"], self.dice.randint(0, 3))
        ]

    def _commission(self, case: Case, position: int, closed_on: datetime.date) -> list[Commission]:
        if case.status not in (APPROVED, COMPLETED) or position < len(self.steps) - 2:
            return []
        found = Commission(case=case, expected_czk=round(case.approved_amount_czk * Decimal("0.009"), 0))
        if case.status == COMPLETED:
            found.invoiced_on = closed_on
            found.clawback_until = case.decided_on + 3 * 365 * DAY
            if closed_on < self.today - 40 * DAY:
                found.paid_on, found.paid_czk = closed_on + 30 * DAY, found.expected_czk
        return [found]

    def _identifications(self, people: list[Client], case: Case, position: int) -> list[Identification]:
        if position < 5:
            return []
        on = min(self.today, case.opened_on + 32 * DAY)
        return [
            Identification(
                client=person,
                method=self.dice.choice(IdentificationMethod.values),
                done_on=on,
                done_by=case.adviser,
                is_pep=self.dice.random() < 0.01,
                risk=self.dice.choices(RiskLevel.values, weights=(18, 2, 1))[0],
                sanctions_checked_on=on,
            )
            for person in people
        ]

    def money_of(self, person: Client) -> tuple[Decimal, list[FinanceItem]]:
        """(net monthly income, the rows that say so)."""
        dice = self.dice
        income = Decimal(dice.randint(260, 880) * 100)
        kind = FinanceKind.BUSINESS if person.business_id else FinanceKind.EMPLOYMENT
        items = [FinanceItem(client=person, kind=kind, monthly_czk=income, proof="Výpisy z účtu za 6 měsíců")]
        if dice.random() < 0.25:
            monthly = Decimal(dice.randint(15, 60) * 100)
            loan = FinanceItem(client=person, kind=FinanceKind.CONSUMER_LOAN, monthly_czk=monthly)
            loan.balance_czk = monthly * dice.randint(6, 60)
            items.append(loan)
        if dice.random() < 0.1:
            items.append(FinanceItem(client=person, kind=FinanceKind.RENT, monthly_czk=Decimal(12_500)))
        return income, items

    def consents_of(self, person: Client, on: datetime.date) -> list[Consent]:
        purposes = [ConsentPurpose.PROCESSING, ConsentPurpose.CREDIT_REGISTER]
        if self.dice.random() < 0.3:
            purposes.append(ConsentPurpose.MARKETING)
        return [Consent(client=person, purpose=each, text_version="2026-01", given_on=on) for each in purposes]
