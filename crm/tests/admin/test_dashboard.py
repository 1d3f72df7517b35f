import datetime
import json
import re

import pytest
import time_machine
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from crm import roles, workflow
from crm.encryption import encrypted_names
from crm.models import Case, CaseStep, Client, User
from crm.tests import factories
from crm.tests.factories import TODAY

pytestmark = pytest.mark.django_db
INDEX = "/admin/"


@pytest.fixture(autouse=True)
def monday_noon():
    with time_machine.travel(datetime.datetime(2026, 3, 2, 12, 0, tzinfo=datetime.UTC), tick=False):
        yield


def case_due(days: int, name: str = "Alice Nováková", **fields) -> Case:
    """A case whose first step is due so many days from today; its other steps are two weeks away and more."""
    case = factories.make_case(factories.make_client(name), opened_on=TODAY, **fields)
    step = CaseStep.objects.get(case=case, step__number=1)
    workflow.set_deadline(step, TODAY + datetime.timedelta(days=days), by=None)
    return case


def open_day(client, user, query: str = ""):
    User.objects.filter(pk=user.pk).update(language="en")
    client.force_login(user)
    response = client.get(INDEX + query)
    assert response.status_code == 200
    return response


def shown(response) -> dict[str, list[str]]:
    """Card to the references of the cases in it."""
    return {bucket.key: [row["case"].reference for row in bucket.rows] for bucket in response.context["buckets"]}


@pytest.mark.parametrize(
    ("days", "card"), [(-1, "overdue"), (0, "today"), (1, "soon"), (3, "soon"), (4, None)], ids=lambda value: str(value)
)
def test_a_step_stands_in_the_card_of_its_deadline(client, adviser, days, card):
    case = case_due(days, adviser=adviser)
    found = shown(open_day(client, adviser))
    assert [key for key, references in found.items() if case.reference in references] == ([card] if card else [])


def test_a_declined_case_is_nobodys_work_any_more(client, adviser):
    case = case_due(-1, adviser=adviser)
    workflow.reject(case, by=adviser, on=TODAY, reason="Income too low.")
    assert not any(shown(open_day(client, adviser, "?whose=all")).values())


def test_an_adviser_sees_his_own_cases_first_and_all_on_demand(client, adviser):
    own, other = case_due(0, adviser=adviser), case_due(0, "Bob Dvořák")
    assert shown(open_day(client, adviser))["today"] == [own.reference]
    assert set(shown(open_day(client, adviser, "?whose=all"))["today"]) == {own.reference, other.reference}


def test_a_stand_in_sees_the_cases_that_he_stands_in_for(client, adviser):
    case = case_due(0, adviser=factories.make_user(), stand_in=adviser)
    assert shown(open_day(client, adviser))["today"] == [case.reference]


def test_a_manager_without_cases_sees_everybodys_and_no_switch(client, manager):
    case = case_due(0)
    response = open_day(client, manager, "?whose=mine")
    assert shown(response)["today"] == [case.reference]
    assert "hd-switch" not in response.content.decode()


def test_with_the_narrow_scope_all_means_all_of_ones_own(client, adviser, settings):
    settings.ADVISER_SCOPE = "own"
    own, foreign = case_due(0, adviser=adviser), case_due(0, "Bob Dvořák")
    response = open_day(client, adviser, "?whose=all")
    assert shown(response)["today"] == [own.reference]
    assert foreign.reference not in response.content.decode()
    assert sum(line["count"] for line in response.context["by_step"]) == 1


def test_a_person_without_a_role_sees_no_case_and_no_name(client):
    case_due(0)
    user = factories.make_user()
    user.groups.clear()
    page = open_day(client, user).content.decode()
    assert "no role that sees cases" in page
    assert "Nováková" not in page


def test_who_may_not_see_clients_reads_references_instead_of_names(client):
    case = case_due(0)
    user = factories.make_user()
    user.groups.clear()
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_case", "view_casestep"]))
    page = open_day(client, user).content.decode()
    assert case.client.reference in page
    assert "Nováková" not in page


def test_the_tick_completes_the_step_and_comes_back_to_my_day(client, adviser):
    case = case_due(0, adviser=adviser)
    step = CaseStep.objects.get(case=case, step__number=1)
    url = reverse("admin:crm_casestep_complete", args=[step.pk])
    assert f'action="{url}"' in open_day(client, adviser).content.decode()
    response = client.post(url, {"next": "/admin/?whose=mine"})
    assert response["Location"] == "/admin/?whose=mine"
    assert Case.objects.get(pk=case.pk).current_step.number == 2


def test_a_step_whose_turn_has_not_come_has_no_tick(client, adviser):
    case = case_due(20, adviser=adviser)
    second = CaseStep.objects.get(case=case, step__number=2)
    workflow.set_deadline(second, TODAY, by=None)
    page = open_day(client, adviser).content.decode()
    assert "waits for step 1" in page
    assert reverse("admin:crm_casestep_complete", args=[second.pk]) not in page


def test_an_auditor_gets_no_tick(client, auditor):
    case_due(0)
    response = open_day(client, auditor)
    assert shown(response)["today"]
    assert "/complete/" not in response.content.decode()


def test_ten_rows_are_shown_and_the_rest_is_one_link_away(client, manager):
    for _ in range(12):
        case_due(-1)
    page = open_day(client, manager).content.decode()
    link = re.search(r'href="([^"]+)">and 2 more<', page)
    listed = client.get(link[1].replace("&amp;", "&"))
    assert listed.context["cl"].result_count == 12


def test_exactly_ten_rows_need_no_link(client, manager):
    for _ in range(10):
        case_due(-1)
    assert "more</a>" not in open_day(client, manager).content.decode()


def test_the_counted_numbers_lead_to_lists_of_as_many_cases(client, adviser):
    case_due(5, adviser=adviser)
    workflow.reject(case_due(5, adviser=adviser), by=adviser, on=TODAY, reason="Income too low.")
    case_due(5, "Bob Dvořák")
    for query in ("?whose=mine", "?whose=all"):
        response = open_day(client, adviser, query)
        for line in response.context["by_status"]:
            listed = client.get(line["url"])
            assert (listed.status_code, listed.context["cl"].result_count) == (200, line["count"]), line["url"]


def test_the_steps_links_lead_to_their_cases(client, adviser):
    case_due(5, adviser=adviser)
    line = open_day(client, adviser).context["by_step"][0]
    assert line["count"] == 1
    assert client.get(line["url"]).context["cl"].result_count == 1


def test_the_chart_shows_what_the_table_says(client, adviser):
    workflow.complete_step(case_due(0, adviser=adviser).steps.get(step__number=1), by=adviser, on=TODAY)
    case_due(5, adviser=adviser)
    context = open_day(client, adviser).context
    chart = json.loads(context["chart"])
    assert chart["datasets"][0]["data"] == [line["count"] for line in context["by_step"]]
    assert chart["datasets"][0]["data"][:3] == [1, 1, 0]


def test_an_empty_office_says_so(client, manager):
    factories.make_catalogue()
    page = open_day(client, manager).content.decode()
    assert "Nothing is overdue." in page
    assert "Nothing is due today." in page


def test_twelve_cases_cost_as_many_queries_as_one(client, adviser):
    def queries():
        with CaptureQueriesContext(connection) as caught:
            client.get(INDEX)
        return len(caught)

    case_due(-1, adviser=adviser)
    open_day(client, adviser)
    one = queries()
    for days in (-1, 0, 1) * 4:
        case_due(days, adviser=adviser)
    assert queries() == one
    assert one <= 15


def test_no_encrypted_column_but_the_name_is_fetched(client, adviser):
    case_due(-1, adviser=adviser)
    with CaptureQueriesContext(connection) as caught:
        open_day(client, adviser)
    sql = " ".join(query["sql"] for query in caught)
    fetched = {
        name
        for model in (Client, Case, CaseStep)
        for name in encrypted_names(model)
        if f'"{model._meta.db_table}"."{name}"' in sql
    }
    assert fetched == {"full_name"}


def test_roles_without_the_admin_do_not_get_in(client):
    client.force_login(factories.make_user(roles.CLIENT))
    assert client.get(INDEX).status_code == 302
