"""Pages as they were: what they show, to whom, and what a bad moment answers."""

import datetime
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from crm import models, roles, workflow
from crm.tests import factories

pytestmark = pytest.mark.django_db
PRAGUE = ZoneInfo("Europe/Prague")
THEN = "2026-03-02T12:00"


def day(number: int) -> datetime.datetime:
    return datetime.datetime(2026, 3, number, 10, tzinfo=PRAGUE)


@pytest.fixture
def case(db):
    with time_machine.travel(day(1), tick=False):
        case = factories.make_case(factories.make_client("Alice Nováková", phone="601"), loan_amount_czk=1000)
        models.FinanceItem.objects.create(client=case.client, kind="rent", monthly_czk=7000)
    with time_machine.travel(day(3), tick=False):
        case.loan_amount_czk = 2000
        case.save()
        case.client.phone = "602"
        case.client.save()
        workflow.complete_step(case.steps.first(), by=None, on=day(3).date())
        models.Property.objects.create(case=case, kind="house")
        case.client.finance_items.all().delete()
    return case


@pytest.fixture
def jana(db):
    return factories.make_user(roles.MANAGER, language="en")


def page(row, at: str = THEN) -> str:
    return reverse(f"admin:crm_{row._meta.model_name}_change", args=[row.pk]) + f"?as_of={at}"


def test_a_case_is_shown_with_its_children_as_it_was_and_what_changed_since(client, case, jana):
    client.force_login(jana)
    answer = client.get(page(case))
    record = answer.context["record"]
    assert ("loan_amount_czk", "1\u00a0000") in [(line.name, line.new) for line in record.lines]
    assert ("loan_amount_czk", "1\u00a0000", "2\u00a0000") in [(line.name, line.old, line.new) for line in record.since]
    sections = {section["title"]: section["entries"] for section in answer.context["sections"]}
    steps = sections["Steps of cases"]
    assert len(steps) == 15 and [line.name for line in steps[0]["version"].since] == ["completed_on", "state"]
    assert [entry["is_new"] for entry in sections["Properties"]] == [True]
    shown = answer.content.decode()
    assert "Nothing can be changed here" in shown and '<form method="post"' not in shown.split("<main")[-1]


def test_a_client_is_shown_with_what_is_not_here_any_more(client, case, jana):
    client.force_login(jana)
    answer = client.get(page(case.client))
    assert ("phone", "601", "602") in [(line.name, line.old, line.new) for line in answer.context["record"].since]
    sections = {section["title"]: section["entries"] for section in answer.context["sections"]}
    assert [entry["is_gone"] for entry in sections["Incomes and liabilities"]] == [True]


def test_the_list_of_cases_shows_the_columns_of_then(client, case, jana):
    client.force_login(jana)
    answer = client.get(reverse("admin:crm_case_changelist") + f"?as_of={THEN}")
    shown = answer.content.decode()
    assert "Alice Nováková" in shown and "1\u00a0000" in shown and "2\u00a0000" not in shown


def test_the_list_of_cases_is_reached_from_its_page_and_narrowed(client, case, jana):
    client.force_login(jana)
    listed = reverse("admin:crm_case_changelist")
    assert reverse("admin:crm_case_as_they_were") in client.get(listed).content.decode()
    assert f"{listed}?as_of=" in client.get(reverse("admin:crm_case_as_they_were")).url
    for asked, rows in (({"status": "open"}, 1), ({"status": "approved"}, 0), ({"status": "nonsense"}, 1)):
        answer = client.get(listed, {"as_of": THEN, **asked})
        assert (answer.status_code, len(answer.context["cases"])) == (200, rows)
    assert "Nothing fits the filter." in client.get(listed, {"as_of": THEN, "status": "approved"}).content.decode()


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("abc", "This is no date"),
        ("", "This is no date"),
        ("2026-02-31", "This is no date"),
        ("2999-01-01", "has not come yet"),
        ("2020-01-01", "was not here yet"),
    ],
)
def test_a_moment_that_cannot_be_shown_is_told_with_its_cure(client, case, jana, at, said):
    client.force_login(jana)
    assert said in client.get(page(case, at)).content.decode()
    listed = client.get(reverse("admin:crm_case_changelist"), {"as_of": at})
    assert listed.status_code == 200


def test_a_deleted_case_is_shown_to_who_sees_everybodys_and_is_not_found_by_others(
    client, settings, case, jana, adviser
):
    address = page(case)
    case.delete()
    client.force_login(jana)
    assert "was deleted since" in client.get(address).content.decode()
    settings.ADVISER_SCOPE = "own"
    client.force_login(adviser)
    assert client.get(address).status_code == 404


def test_a_foreign_case_has_no_past_and_a_client_login_no_page(client, settings, case, adviser):
    settings.ADVISER_SCOPE = "own"
    client.force_login(adviser)
    assert client.get(page(case)).status_code == 404
    assert client.get(page(case.client)).status_code == 404
    client.force_login(factories.make_user(roles.CLIENT))
    assert client.get(page(case)).status_code == 302


def test_another_advisers_case_of_my_client_is_not_told(client, settings, case, adviser):
    with time_machine.travel(day(1), tick=False):
        factories.make_case(case.client, adviser=adviser)
    settings.ADVISER_SCOPE = "own"
    client.force_login(adviser)
    answer = client.get(page(case.client))
    assert answer.status_code == 200 and case.reference not in answer.content.decode()


def test_children_that_the_reader_may_not_view_are_not_there(client, case):
    models.Commission.objects.create(case=case, expected_czk=98765)
    reader = factories.make_user(roles.CLIENT, language="en")
    reader.is_staff = True
    reader.save()
    client.force_login(reader)
    for row, code, sections in (
        (case.client, "view_client", []),
        (case, "view_case", []),
        (case, "view_property", ["Properties"]),
    ):
        reader.user_permissions.add(Permission.objects.get(codename=code))
        answer = client.get(page(row, timezone.localtime().isoformat(timespec="microseconds")[:26]))
        assert [section["title"] for section in answer.context["sections"]] == sections


def test_a_deleted_case_is_in_the_list_and_has_its_page_for_an_adviser_who_sees_everybodys(client, case, adviser):
    reference, address = case.reference, page(case)
    case.delete()
    client.force_login(adviser)
    listed = client.get(reverse("admin:crm_case_changelist"), {"as_of": THEN}).content.decode()
    assert reference in listed
    assert client.get(address).status_code == 200


def test_nothing_is_saved_in_the_past(client, case, jana):
    client.force_login(jana)
    assert client.post(page(case), {"loan_amount_czk": "5"}).status_code == 405
    assert client.post(reverse("admin:crm_case_changelist") + f"?as_of={THEN}", {}).status_code == 405


def test_twenty_children_cost_as_many_queries_as_ten(client, case, jana):
    client.force_login(jana)
    counts = []
    for _ in range(2):
        with time_machine.travel(day(1), tick=False):
            for number in range(10):
                models.Note.objects.create(case=case, text=str(number))
        client.get(page(case))
        with CaptureQueriesContext(connection) as queries:
            client.get(page(case))
        counts.append(len(queries))
    assert counts[0] == counts[1]
