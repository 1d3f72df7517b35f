import datetime
from decimal import Decimal

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import translation

from crm import models, roles, workflow
from crm.audit.changes import describe
from crm.tests import factories
from crm.tests.admin.rows import MAKERS
from crm.tests.gaps import TRACKED

pytestmark = pytest.mark.django_db


@pytest.fixture
def case(db):
    return factories.make_case(factories.make_client("Alice Nováková"), lender=factories.make_lender("Banka Pod Lipou"))


def newest(row, user) -> tuple:
    [change] = describe([type(row).history.first()], user)
    return change.label, change.kind, [(line.name, line.old, line.new) for line in change.lines]


def test_a_change_tells_each_field_as_it_was_and_became_in_the_readers_language(case, adviser):
    case.loan_amount_czk, case.purpose_kind = Decimal("1234567.50"), "purchase"
    case.fixation_until, case.lender = datetime.date(2031, 12, 31), None
    case.save()
    with translation.override("cs"):
        _label, _kind, lines = newest(case, adviser)
    assert {name: (old, new) for name, old, new in lines} == {
        "loan_amount_czk": ("", "1\u00a0234\u00a0567,50"),
        "purpose_kind": ("", "Koupě"),
        "fixation_until": ("", "31.\u00a012.\u00a02031"),
        "lender": ("Banka Pod Lipou", ""),
    }
    assert newest(case, adviser)[:2] == (case.reference, "~")


def test_a_record_is_named_so_that_a_person_knows_it(case, adviser):
    step = case.steps.first()
    workflow.complete_step(step, by=adviser, on=factories.TODAY)
    label, _kind, lines = newest(step, adviser)
    assert label.startswith(f"{case.reference} · 1. ")
    assert ("completed_by", "", str(adviser)) in lines
    home = models.Property.objects.create(case=case, kind="house")
    assert newest(home, adviser)[0] == f"{case.reference} · Property: House"


def test_an_encrypted_value_is_told_to_who_may_read_it_and_else_that_it_changed(case, adviser):
    case.client.email = "alice@example.com"
    case.client.save()
    row = models.Client.history.first()
    [told] = describe([row], adviser)
    assert [(line.old, line.new, line.is_secret) for line in told.lines] == [("", "alice@example.com", False)]
    [hidden] = describe([row], factories.make_user(roles.CLIENT))
    assert [(line.name, line.old, line.new, line.is_secret) for line in hidden.lines] == [("email", "", "", True)]
    assert (told.url != "", hidden.url) == (True, "")


def test_a_creation_tells_what_was_filled_and_a_deletion_nothing_but_the_record(case, adviser):
    item = models.FinanceItem.objects.create(client=case.client, kind="rent", monthly_czk=100)
    assert newest(item, adviser)[1:] == (
        "+",
        [("client", "", case.client.reference), ("kind", "", "Rental income"), ("monthly_czk", "", "100")],
    )
    item.delete()
    label, kind, lines = newest(item, adviser)
    assert (label, kind, lines) == (f"{case.client.reference} · Income or liability: Rental income", "-", [])


def test_what_is_gone_is_told_by_its_number(case, adviser):
    bob = factories.make_user()
    case.adviser = bob
    case.save()
    row, number = models.Case.history.first(), bob.pk
    case.adviser = None
    case.save()
    bob.delete()
    [change] = describe([row], adviser)
    assert [(line.name, line.new) for line in change.lines] == [("adviser", f"#{number}")]


def test_a_change_of_groups_is_told_by_their_names(adviser, manager):
    adviser.groups.add(Group.objects.get(name=roles.AUDITOR))
    assert newest(adviser, manager)[2] == [("groups", "Adviser", "Adviser, Auditor")]


def test_every_model_can_be_told(manager):
    factories.make_catalogue()
    for model in TRACKED:
        row = MAKERS[model]()
        [change] = describe([model.history.filter(id=row.pk).order_by("history_id").first()], manager)
        assert change.label and change.lines, model


def test_twenty_changes_cost_as_many_queries_as_ten(case, adviser):
    for number in range(20):
        case.loan_amount_czk = number
        case.save()
        case.steps.filter(step__number=1 + number % 15).update(deadline=datetime.date(2026, 3, 1 + number))
    counts = []
    adviser.has_perm("crm.view_case")
    for some in (5, 10):
        rows = [*models.Case.history.all()[:some], *models.CaseStep.history.filter(history_type="~")[:some]]
        with CaptureQueriesContext(connection) as queries:
            assert len(describe(rows, adviser)) == 2 * some
        counts.append(len(queries))
    assert counts[0] == counts[1]
