"""The page that erases a client, the ledger's list, and that nobody writes into a restricted client."""

import pytest
from django.urls import reverse
from django.utils import timezone

from crm import bulk_edit, privacy, roles, workflow
from crm.exceptions import ClientRestricted
from crm.models import Case, Client, Erasure
from crm.tests import factories
from crm.tests.privacy.traces import MARK, make_client, traces

pytestmark = pytest.mark.django_db
LIST = "/admin/crm/erasure/"


@pytest.fixture(autouse=True)
def _english(administrator, manager, settings):
    settings.AUDIT_KEYS = []
    for user in (administrator, manager):
        user.language = "en"
        user.save()


@pytest.fixture
def page(client, administrator):
    client.force_login(administrator)
    return client


def erase(person) -> str:
    return reverse("admin:crm_client_erase", args=[person.pk])


def change(person) -> str:
    return reverse("admin:crm_client_change", args=[person.pk])


def restrict(person) -> None:
    Client.objects.filter(pk=person.pk).update(restricted_at=timezone.now())


def test_a_client_is_erased_by_one_post_with_a_reason(page):
    person = make_client()
    assert "Everything personal goes now" in page.get(erase(person)).content.decode()
    assert page.post(erase(person), {"reason": " "}).status_code == 200
    assert not Erasure.objects.exists()
    answer = page.post(erase(person), {"reason": "Asked by letter."}, follow=True)
    assert answer.redirect_chain == [(change(person), 302)]
    assert f"Client {person.reference} was erased." in answer.content.decode()
    assert traces() == []


def test_the_page_says_until_when_the_law_wants_the_record(page):
    person = make_client(ended=timezone.localdate())
    until = privacy.kept_until(person.pk).isoformat()
    assert f"Until {until} the law wants" in page.get(erase(person)).content.decode()
    answer = page.post(erase(person), {"reason": "Asked by letter."}, follow=True)
    assert f"is restricted, and is erased after {until}." in answer.content.decode()
    again = page.post(erase(person), {"reason": "Asked once more."})
    assert again.status_code == 200 and f"is erased after {until}" in again.content.decode()


def test_the_page_says_which_case_stands_in_the_way(page):
    person = make_client(status="open")
    reference = person.cases.get().reference
    assert reference in page.get(erase(person)).content.decode()
    assert reference in page.post(erase(person), {"reason": "Asked."}).content.decode()
    assert not Erasure.objects.exists()


@pytest.mark.parametrize("role", [each for each in roles.ROLES if each not in (roles.ADMINISTRATOR, roles.CLIENT)])
def test_nobody_but_administrators_erases_or_reads_the_ledger(client, role):
    person = make_client()
    client.force_login(factories.make_user(role))
    assert erase(person) not in client.get(change(person)).content.decode()
    assert client.get(erase(person)).status_code == 403
    assert client.post(erase(person), {"reason": "x"}).status_code == 403
    assert client.get(LIST).status_code == 403
    assert not Erasure.objects.exists()


def test_an_erased_client_has_no_such_button(page):
    person = make_client()
    assert erase(person) in page.get(change(person)).content.decode()
    privacy.erase(person, by=None, now=timezone.now(), reason="Asked.")
    content = page.get(change(person)).content.decode()
    assert erase(person) not in content and MARK not in content


def test_the_ledger_names_whom_it_knows_and_the_others_by_number(page):
    person = make_client()
    privacy.erase(person, by=None, now=timezone.now(), reason="Asked.")
    Erasure.objects.create(scope="client", object_id=99_999, made_at=timezone.now(), asked_at=timezone.now())
    Erasure.objects.create(
        scope="client", object_id=person.pk, made_at="2020-01-01T00:00:00Z", asked_at=timezone.now()
    )  # fmt: skip
    content = page.get(LIST).content.decode()
    assert content.count(f">{person.reference}</a>") == 1
    assert "#99999" in content and f"#{person.pk}" in content


def test_nobody_writes_into_a_restricted_client(page, manager):
    person = make_client()
    restrict(person)
    answer = page.get(change(person))
    assert answer.status_code == 200 and 'name="phone"' not in answer.content.decode()
    assert page.post(change(person), {"full_name": "x"}).status_code == 403
    assert page.post(reverse("admin:crm_client_delete", args=[person.pk]), {"post": "yes"}).status_code == 403
    assert bulk_edit.plan(Client.objects.filter(pk=person.pk), {"city": "Brno"}, manager).matched == 0
    with pytest.raises(ClientRestricted):
        workflow.start_case(Case(client=Client.objects.get(pk=person.pk), opened_on=factories.TODAY), by=manager)
    with pytest.raises(ClientRestricted):
        workflow.reopen_case(person.cases.get(), by=manager, reason="once more")
    Case.objects.update(status="completed")
    with pytest.raises(ClientRestricted):
        workflow.reopen_step(person.cases.get().steps.first(), by=manager)
    assert Client.objects.get(pk=person.pk).full_name == f"{MARK}full_name1"
