"""Steps of a case: ticked by one POST from the case, from the list and from my day."""

import datetime

import pytest
import time_machine
from django.test import Client as Browser
from django.urls import reverse

from crm import models, roles, workflow
from crm.tests import factories
from crm.tests.admin.rows import as_now

pytestmark = pytest.mark.django_db
LIST = "/admin/crm/casestep/"
BUTTONS = ("complete", "reopen", "override", "not_applicable")


def url(step, action: str) -> str:
    return reverse(f"admin:crm_casestep_{action}", args=[step.pk])


@pytest.fixture
def case(db, adviser):
    return factories.make_case(factories.make_client("Alice Nováková"), adviser=adviser)


@pytest.fixture
def steps(case):
    return list(case.steps.order_by("step__number"))


def state(step) -> str:
    return models.CaseStep.objects.get(pk=step.pk).state


def test_one_post_completes_a_step_and_comes_back(case, steps, adviser, client):
    client.force_login(adviser)
    back = f"/admin/crm/case/{case.pk}/change/#steps"
    answer = client.post(url(steps[0], "complete"), {"next": back})
    assert (answer.status_code, answer.url) == (302, back)
    done = models.CaseStep.objects.get(pk=steps[0].pk)
    assert (done.state, done.completed_by) == ("done", adviser)
    case.refresh_from_db()
    assert case.current_step == steps[1].step


def test_a_get_completes_nothing(steps, adviser, client):
    client.force_login(adviser)
    assert client.get(url(steps[0], "complete")).status_code == 405
    assert client.get(url(steps[0], "reopen")).status_code == 405
    assert state(steps[0]) == "pending"


def test_a_post_without_our_token_is_refused(steps, adviser):
    browser = Browser(enforce_csrf_checks=True)
    browser.force_login(adviser)
    assert browser.post(url(steps[0], "complete")).status_code == 403
    assert state(steps[0]) == "pending"


def test_coming_back_never_leaves_this_site(steps, adviser, client):
    client.force_login(adviser)
    answer = client.post(url(steps[0], "complete"), {"next": "https://evil.example.com/"})
    assert answer.url.startswith("/admin/crm/case/")


def test_the_second_click_is_told_and_writes_no_second_row(steps, adviser, client):
    client.force_login(adviser)
    client.post(url(steps[0], "complete"))
    answer = client.post(url(steps[0], "complete"), follow=True)
    assert [message.level_tag for message in answer.context["messages"]][-1] == "error"
    assert steps[0].history.count() == 2


def test_a_later_step_waits_for_the_earlier_ones(steps, adviser, client):
    client.force_login(adviser)
    client.post(url(steps[2], "complete"))
    assert state(steps[2]) == "pending"


def test_a_manager_completes_early_with_a_reason(steps, manager, client):
    client.force_login(manager)
    assert set(client.post(url(steps[2], "override"), {"reason": ""}).context["form"].errors) == {"reason"}
    assert client.post(url(steps[2], "override"), {"reason": "The lender is given."}).status_code == 302
    assert state(steps[2]) == "done"
    assert steps[2].history.first().history_change_reason == "The lender is given."


def test_an_adviser_does_not_complete_early(steps, adviser, client):
    client.force_login(adviser)
    assert client.get(url(steps[2], "override")).status_code == 403
    assert client.post(url(steps[2], "override"), {"reason": "Please."}).status_code == 403
    assert state(steps[2]) == "pending"


def test_not_applicable_and_reopened(steps, adviser, client):
    client.force_login(adviser)
    assert client.get(url(steps[1], "not_applicable")).status_code == 200
    assert state(steps[1]) == "pending"
    client.post(url(steps[1], "not_applicable"), {"reason": ""})
    assert state(steps[1]) == "not_applicable"
    client.post(url(steps[1], "reopen"))
    assert state(steps[1]) == "pending"


@pytest.mark.parametrize("action", BUTTONS)
def test_an_auditor_presses_nothing(action, steps, auditor, client):
    client.force_login(auditor)
    assert client.post(url(steps[0], action), {"reason": "x"}).status_code == 403
    page = client.get(f"/admin/crm/case/{steps[0].case_id}/change/").content.decode()
    assert url(steps[0], action) not in page


@pytest.mark.parametrize("action", BUTTONS)
def test_a_foreign_step_is_not_found(action, settings, steps, client):
    settings.ADVISER_SCOPE = "own"
    bob = factories.make_user(roles.ADVISER)
    client.force_login(bob)
    expected = 403 if action == "override" else 404
    assert client.post(url(steps[0], action), {"reason": "x"}).status_code == expected
    assert state(steps[0]) == "pending"


def test_a_stand_in_ticks(settings, case, steps, client):
    settings.ADVISER_SCOPE = "own"
    bob = factories.make_user(roles.ADVISER)
    models.Case.objects.filter(pk=case.pk).update(stand_in=bob)
    client.force_login(bob)
    client.post(url(steps[0], "complete"))
    assert state(steps[0]) == "done"


def test_the_buttons_belong_to_a_form_of_their_own(case, steps, adviser, client):
    client.force_login(adviser)
    page = client.get(f"/admin/crm/case/{case.pk}/change/").content.decode()
    assert page.count('id="crm-post"') == 1
    assert page.index('id="crm-post"') < page.index('id="case_form"')
    assert f'form="crm-post" formaction="{url(steps[0], "complete")}"' in page
    assert url(steps[1], "complete") not in page


def test_steps_of_a_declined_case_have_no_buttons(case, steps, manager, client):
    workflow.reject(case, by=manager, on=factories.TODAY, reason="Low income.")
    client.force_login(manager)
    page = client.get(f"/admin/crm/case/{case.pk}/change/").content.decode()
    assert not any(url(step, action) in page for step in steps for action in BUTTONS)


# --- What is due ---


@pytest.fixture
def due(db, adviser):
    """A step due on each of these days of March; the rest of each case far away; and a declined case's."""
    made = {}
    for day in (1, 2, 3, 5, 6, 9, 10):
        case = factories.make_case(factories.make_client(f"Client {day}"), adviser=adviser if day == 5 else None)
        models.CaseStep.objects.filter(case=case).update(deadline=datetime.date(2027, 1, 1))
        step = case.steps.order_by("step__number").first()
        workflow.set_deadline(step, datetime.date(2026, 3, day), by=None)
        made[day] = step
    declined = factories.make_case(factories.make_client("Declined"))
    workflow.set_deadline(declined.steps.first(), datetime.date(2026, 3, 2), by=None)
    workflow.reject(declined, by=None, on=factories.TODAY, reason="Low income.")
    return made


@pytest.mark.parametrize(
    ("quick", "days"),
    [("overdue", {1}), ("today", {2}), ("soon", {3, 5}), ("week", {3, 5, 6, 9})],
)
def test_the_list_answers_what_is_due(quick, days, due, adviser, client):
    client.force_login(adviser)
    with time_machine.travel(datetime.datetime(2026, 3, 2, 9, tzinfo=datetime.UTC), tick=False):
        found = client.get(LIST, {"quick": quick}).context["cl"].queryset
        assert {day for day, step in due.items() if step in found} == days
        assert len(found) == len(days)


def test_the_list_begins_with_pending_steps_of_active_cases_soonest_first(due, adviser, client):
    workflow.complete_step(due[1], by=None, on=factories.TODAY)
    client.force_login(adviser)
    found = list(client.get(LIST).context["cl"].result_list)
    assert found[0] == due[2]
    assert due[1] not in found
    assert not any(step.case.client.full_name == "Declined" for step in found)


def test_mine_are_of_my_own_cases(due, adviser, client):
    client.force_login(adviser)
    found = client.get(LIST, {"quick": "mine"}).context["cl"].queryset
    assert {step.case_id for step in found} == {due[5].case_id}


def test_the_list_ticks_and_comes_back_with_its_filter(due, adviser, client):
    client.force_login(adviser)
    page = client.get(LIST, {"quick": "all", "q": "client 5"}).content.decode()
    assert f'formaction="{url(due[5], "complete")}"' in page
    assert 'value="/admin/crm/casestep/?quick=all&amp;q=client+5"' in page


def test_a_deadline_on_the_steps_own_page_moves_the_case(due, adviser, client):
    client.force_login(adviser)
    path = reverse("admin:crm_casestep_change", args=[due[9].pk])
    assert client.post(path, {"deadline": "20. 3. 2026", "note": "Waits.", **as_now(due[9])}).status_code == 302
    case = models.Case.objects.get(pk=due[9].case_id)
    assert case.next_deadline == datetime.date(2026, 3, 20)
    assert models.CaseStep.objects.get(pk=due[9].pk).note == "Waits."
    assert list(workflow.mismatches()) == []
