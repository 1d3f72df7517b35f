"""History pages: paged, light, with names and reasons; they outlive the record."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from crm import models, workflow
from crm.admin import history
from crm.encryption import encrypted_names
from crm.models import operation
from crm.tests import factories
from crm.tests.admin.rows import as_now

pytestmark = pytest.mark.django_db


def pages(row) -> str:
    return reverse(f"admin:crm_{row._meta.model_name}_history", args=[row.pk])


def version(row, record) -> str:
    return reverse(f"admin:crm_{row._meta.model_name}_simple_history", args=[row.pk, record.history_id])


@pytest.fixture
def alice(db):
    return factories.make_client("Alice Nováková", email="alice@example.com", citizenship="CZ")


def test_the_list_says_who_when_why_and_what(alice, adviser, client):
    with operation("admin", user=adviser, reason="She moved."):
        alice.citizenship = "SK"
        alice.save()
    client.force_login(adviser)
    answer = client.get(pages(alice))
    entry = answer.context["entries"][0]
    assert len(entry["changes"]) == 1
    page = answer.content.decode()
    for shown in (str(adviser), "She moved.", str(alice.history.first().operation_id)):
        assert shown in page


def test_an_operation_is_opened_from_its_changes_by_who_may_see_the_trail(alice, adviser, manager, client):
    record = alice.history.first()
    link = reverse("admin:crm_operation", args=[record.operation_id])
    for person, may in ((adviser, False), (manager, True)):
        client.force_login(person)
        for path in (pages(alice), version(alice, record)):
            assert (f'href="{link}"' in client.get(path).content.decode()) == may


def test_the_list_loads_no_encrypted_column_but_the_reason(alice, adviser, client):
    client.force_login(adviser)
    with CaptureQueriesContext(connection) as captured:
        client.get(pages(alice))
    sql = " ".join(query["sql"] for query in captured if "historicalclient" in query["sql"])
    names = encrypted_names(models.Client.history.model) - {"history_change_reason"}
    assert [name for name in names if f'"crm_historicalclient"."{name}"' in sql] == []


def test_the_list_is_paged_and_costs_the_same(alice, adviser, client, monkeypatch):
    monkeypatch.setattr(history, "PER_PAGE", 5)
    client.force_login(adviser)
    for number in range(5):
        alice.citizenship = f"{number}"
        alice.save()
    client.get(pages(alice))
    with CaptureQueriesContext(connection) as six:
        first = client.get(pages(alice))
    assert (len(first.context["entries"]), first.context["page"].has_next()) == (5, True)
    assert len(client.get(pages(alice), {"p": 2}).context["entries"]) == 1
    for number in range(6):
        alice.citizenship = f"x{number}"
        alice.save()
    with CaptureQueriesContext(connection) as twelve:
        client.get(pages(alice))
    assert len(twelve) == len(six)


def test_a_version_shows_what_was_before_also_of_encrypted_values(alice, adviser, client):
    alice.email = "alice.novakova@example.com"
    alice.save()
    client.force_login(adviser)
    answer = client.get(version(alice, alice.history.first()))
    changed = [(line.old, line.new) for line in answer.context["changed"]]
    assert changed == [("alice@example.com", "alice.novakova@example.com")]


def test_a_version_tells_values_in_the_readers_language_and_the_rest_of_the_record(adviser, client):
    case = factories.make_case(adviser=adviser)
    case.loan_amount_czk = 1234567
    case.save()
    adviser.language = "cs"
    adviser.save()
    client.force_login(adviser)
    answer = client.get(version(case, case.history.first()))
    assert [(line.old, line.new) for line in answer.context["changed"]] == [("", "1\u00a0234\u00a0567")]
    same = {line.name: line.new for line in answer.context["same"]}
    assert (same["adviser"], same["reference"]) == (str(adviser), case.reference)
    assert "loan_amount_czk" not in same


def test_the_version_of_a_deletion_shows_the_record_as_it_went(alice, manager, client):
    path = pages(alice)
    alice.delete()
    client.force_login(manager)
    record = models.Client.history.first()
    answer = client.get(path.replace("history/", f"history/{record.history_id}/"))
    assert answer.context["changed"] == []
    assert ("email", "alice@example.com") in [(line.name, line.new) for line in answer.context["same"]]


def test_a_version_of_another_record_is_not_found(alice, adviser, client):
    bob = factories.make_client("Bob Svoboda")
    client.force_login(adviser)
    assert client.get(version(alice, bob.history.first())).status_code == 404
    path = version(alice, alice.history.first())
    assert client.get(path.replace(str(alice.history.first().history_id), "x")).status_code == 404


def test_an_unreadable_value_does_not_break_the_history(alice, adviser, client):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE crm_historicalclient SET email = %s WHERE id = %s", ["gAAAAABnonsense", alice.pk])
    client.force_login(adviser)
    assert client.get(pages(alice)).status_code == 200
    assert "⚠ unreadable" in client.get(version(alice, alice.history.first())).content.decode()


def test_a_deleted_records_history_is_for_who_sees_everything(alice, adviser, manager, client, settings):
    settings.ADVISER_SCOPE = "own"
    path, old = pages(alice), version(alice, alice.history.first())
    alice.delete()
    client.force_login(manager)
    assert client.get(path).status_code == 200
    assert client.get(old).status_code == 200
    client.force_login(adviser)
    assert client.get(path).status_code == 404
    assert client.get(old).status_code == 404


@pytest.mark.parametrize("object_id", ["999999", "nonsense", "1_2F2"])
def test_a_record_that_never_was_is_not_found(object_id, manager, client):
    client.force_login(manager)
    assert client.get(f"/admin/crm/client/{object_id}/history/").status_code == 404


def test_a_person_is_named_also_when_his_login_is_gone(alice, client, manager):
    bob = factories.make_user(first_name="Bob", last_name="Svoboda")
    with operation("admin", user=bob):
        alice.citizenship = "SK"
        alice.save()
    bob.delete()
    client.force_login(manager)
    assert "Bob Svoboda" in client.get(pages(alice)).content.decode()


def test_a_role_given_is_in_the_users_history(administrator, adviser, client):
    client.force_login(administrator)
    data = {"username": adviser.username, "language": "cs", "role": "Manager", "is_active": "on", **as_now(adviser)}
    client.post(reverse("admin:crm_user_change", args=[adviser.pk]), data)
    page = client.get(version(adviser, adviser.history.first())).content.decode()
    assert "Manager" in page


def test_one_request_is_one_operation(adviser, client):
    case = factories.make_case(adviser=adviser)
    client.force_login(adviser)
    step = case.steps.order_by("step__number").first()
    client.post(reverse("admin:crm_casestep_complete", args=[step.pk]))
    assert step.history.first().operation_id == case.history.first().operation_id
    assert list(workflow.mismatches()) == []
