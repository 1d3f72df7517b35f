"""The page of a client's timeline: who may open it, its filters, its weight."""

import datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from crm import models, roles
from crm.models import operation
from crm.tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice(db):
    return factories.make_client("Alice Nováková")


@pytest.fixture
def jana(db):
    return factories.make_user(roles.MANAGER, first_name="Jana", last_name="Malá", language="en")


def page(client) -> str:
    return reverse("admin:crm_client_timeline", args=[client.pk])


def test_it_is_reached_from_the_client_and_shows_each_field_as_it_was_and_became(client, alice, jana):
    with operation("admin", user=jana, reason="by phone"):
        alice.phone = "602"
        alice.save()
    client.force_login(jana)
    assert page(alice) in client.get(reverse("admin:crm_client_change", args=[alice.pk])).content.decode()
    shown = client.get(page(alice)).content.decode()
    for text in (
        "Jana Malá",
        "by phone",
        "<ins>602</ins>",
        "Phone",
        reverse("admin:crm_operation", args=[alice.history.first().operation_id]),
    ):
        assert text in shown


def test_who_may_not_see_the_trail_gets_no_link_to_an_operation(client, alice, adviser):
    client.force_login(adviser)
    assert "/audit/" not in client.get(page(alice)).content.decode()


def test_another_advisers_client_is_not_found_and_a_client_login_gets_nowhere(client, settings, alice, adviser):
    settings.ADVISER_SCOPE = "own"
    factories.make_case(alice, adviser=factories.make_user())
    client.force_login(adviser)
    assert client.get(page(alice)).status_code == 404
    client.force_login(factories.make_user(roles.CLIENT))
    assert client.get(page(alice)).status_code == 302
    nobody = factories.make_user(roles.ASSISTANT)
    nobody.groups.clear()
    client.force_login(nobody)
    assert client.get(page(alice)).status_code == 403


def test_a_deleted_client_keeps_it_for_who_sees_everybodys(client, settings, alice, adviser):
    adviser.language = "en"
    adviser.save()
    address, history = page(alice), reverse("admin:crm_client_history", args=[alice.pk])
    with operation("admin", user=adviser):
        alice.delete()
    client.force_login(adviser)
    assert address in client.get(history).content.decode()
    shown = client.get(address).content.decode()
    assert "The client was deleted on" in shown and history in shown and "Alice Nováková (C-000001)" in shown
    settings.ADVISER_SCOPE = "own"
    assert client.get(address).status_code == 404
    assert client.get(reverse("admin:crm_client_timeline", args=["999999"])).status_code == 404
    assert client.get(reverse("admin:crm_client_timeline", args=["x"])).status_code == 404


def test_the_filters_narrow_it_and_say_when_nothing_fits(client, alice, jana):
    with operation("admin", user=jana):
        alice.phone = "602"
        alice.save()
    client.force_login(jana)

    def shown(**query):
        answer = client.get(page(alice), query)
        return [item["entry"].kind for day in answer.context["days"] for item in day["entries"]]

    today = timezone.localdate()
    assert shown() == ["~", "+"]
    assert shown(who=jana.pk) == ["~"]
    assert shown(kind="+") == ["+"]
    assert shown(field="client.phone") == ["~"]
    assert shown(since=today.isoformat(), until=today.isoformat()) == ["~", "+"]
    assert shown(until=(today - datetime.timedelta(days=1)).isoformat()) == []
    assert "Nothing fits" in client.get(page(alice), {"field": "note"}).content.decode()


@pytest.mark.parametrize("query", ["p=0", "p=x", "p=²", "p=99999999999"])
def test_a_page_that_is_none_is_not_found(client, alice, jana, query):
    client.force_login(jana)
    assert client.get(f"{page(alice)}?{query}").status_code == 404


@pytest.mark.parametrize("query", ["since=nonsense", "who=999", "field=x.y", "kind=zz"])
def test_an_unreadable_filter_is_told_on_its_field(client, alice, jana, query):
    client.force_login(jana)
    answer = client.get(f"{page(alice)}?{query}")
    assert answer.status_code == 200 and answer.context["form"].errors


def test_twenty_changes_cost_as_many_queries_as_ten(client, alice, jana):
    client.force_login(jana)
    counts = []
    for _ in range(2):
        for number in range(10):
            models.FinanceItem.objects.create(client=alice, kind="rent", monthly_czk=number)
        client.get(page(alice))
        with CaptureQueriesContext(connection) as queries:
            client.get(page(alice))
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_the_page_of_a_client_deleted_meanwhile_leads_to_his_history(client, settings, alice, adviser):
    changing, history = (reverse(f"admin:crm_client_{name}", args=[alice.pk]) for name in ("change", "history"))
    alice.delete()
    client.force_login(adviser)
    answer = client.post(changing, {"note": "typed"})
    assert answer.status_code == 404 and history in answer.content.decode()
    settings.ADVISER_SCOPE = "own"
    assert history not in client.post(changing, {"note": "typed"}).content.decode()
