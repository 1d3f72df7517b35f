"""The page that erases a client, the ledger's list, and that nobody writes into a restricted client."""

import pytest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from crm import bulk_edit, privacy, roles, workflow
from crm.audit import plans
from crm.audit.changes import tracked_models
from crm.exceptions import ClientRestricted
from crm.models import Case, Client, Document, DocumentType, Erasure, Note, operation
from crm.tests import factories
from crm.tests.admin.test_cases import posted
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


# --- One rule for all that is a client's ---

RECORDS = [model for model in tracked_models() if getattr(model, "client_path", None) is not None]


def of(person, model):
    """His record of this kind."""
    return (
        model.objects.get(pk=person.pk) if model is Client else model.objects.filter(**{model.client_path: person})[0]
    )


def url(verb: str, record) -> str:
    return reverse(f"admin:crm_{record._meta.model_name}_{verb}", args=[record.pk])


def test_every_record_that_hangs_on_a_client_knows_it():
    names = {"case", "client"}
    hanging = {model for model in tracked_models() if names & {field.name for field in model._meta.concrete_fields}}
    assert hanging | {Client} == set(RECORDS)
    assert {model._meta.model_name for model in RECORDS} == set(roles.BUSINESS)


@pytest.mark.parametrize("model", RECORDS)
def test_no_part_of_a_restricted_clients_record_is_changed_or_deleted(page, model):
    person = make_client()
    record = of(person, model)
    assert 'name="_save"' in page.get(url("change", record)).content.decode()
    restrict(person)
    before = model.objects.filter(pk=record.pk).values().get()
    answer = page.get(url("change", record))
    assert answer.status_code == 200 and 'name="_save"' not in answer.content.decode()
    assert page.post(url("change", record), {}).status_code == 403
    assert page.post(url("delete", record), {"post": "yes"}).status_code == 403
    assert model.objects.filter(pk=record.pk).values().get() == before


@pytest.mark.parametrize("model", [Client, Case, Document, Note])
def test_nor_by_an_action_of_its_list(page, manager, model):
    person = make_client()
    record, other = of(person, model), of(make_client(), model)
    restrict(person)
    picked = {"action": "delete_selected", "_selected_action": [record.pk, other.pk], "post": "yes"}
    answer = page.post(reverse(f"admin:crm_{model._meta.model_name}_changelist"), picked, follow=True)
    assert escape(str(ClientRestricted())) in answer.content.decode()
    assert model.objects.filter(pk__in=[record.pk, other.pk]).count() == 2
    rows = model.objects.filter(pk__in=[record.pk, other.pk])
    empty = {Client: {"city": "Brno"}, Case: {"term_months": 240}}.get(model, {"note": "x"})
    assert model is Note or bulk_edit.plan(rows, empty, manager).matched == 1


@pytest.mark.parametrize("model", [Note, Document])
def test_nothing_is_added_to_it(page, model):
    person = make_client()
    restrict(person)
    given = {
        "case": person.cases.get().pk,
        "text": "New.",
        "type": DocumentType.objects.first().pk,
        "status": "requested",
    }
    before = model.objects.count()
    answer = page.post(reverse(f"admin:crm_{model._meta.model_name}_add"), given)
    assert escape(str(ClientRestricted())) in answer.content.decode()
    assert model.objects.count() == before


def test_no_case_of_another_client_comes_to_it(page):
    person, other = make_client(), factories.make_case()
    restrict(person)
    given = posted(page, other) | {"client": person.pk}
    answer = page.post(reverse("admin:crm_case_change", args=[other.pk]), given)
    assert escape(str(ClientRestricted())) in answer.content.decode()
    other.refresh_from_db()
    assert other.client_id != person.pk


@pytest.mark.parametrize(
    "verb", ["complete_step", "mark_not_applicable", "reopen_step", "set_deadline", "approve", "hand_over"]
)
def test_no_step_of_his_cases_moves(administrator, adviser, verb):
    person = make_client(status="open")
    restrict(person)
    case, step = person.cases.get(), person.cases.get().steps.order_by("step__number").first()
    given = {
        "complete_step": (step, {"on": factories.TODAY}),
        "mark_not_applicable": (step, {}),
        "reopen_step": (step, {}),
        "set_deadline": (step, {"deadline": factories.TODAY}),
        "approve": (case, {"on": factories.TODAY, "lender": factories.make_lender(), "amount_czk": 1}),
        "hand_over": (case, {"to": adviser}),
    }
    what, how = given[verb]
    with pytest.raises(ClientRestricted):
        getattr(workflow, verb)(what, by=administrator, **how)


def test_a_case_that_came_back_active_can_end_so_that_he_can_be_erased(administrator):
    person = make_client(status="open")
    restrict(person)
    workflow.withdraw(person.cases.get(), by=administrator, on=factories.TODAY, reason="He is to be erased.")
    assert person.cases.get().status == "withdrawn"


def test_his_cases_page_offers_nothing_that_would_be_refused(page):
    person = make_client()
    offered = page.get(url("change", person.cases.get())).content.decode()
    assert "/reopen/" in offered and "/hand-over/" in offered
    restrict(person)
    offered = page.get(url("change", person.cases.get())).content.decode()
    assert "/reopen/" not in offered and "/hand-over/" not in offered and "/not-applicable/" not in offered
    assert "?client=" not in page.get(change(person)).content.decode()


def test_nothing_of_it_is_put_back(administrator):
    person = make_client()
    with operation(user=administrator) as changed:
        Note.objects.filter(case__client=person).update(visible_to_client=True)
    with operation(user=administrator) as deleted:
        Document.objects.filter(case__client=person).delete()
    assert not plans.plan(changed.id, administrator).is_empty
    assert not plans.plan(deleted.id, administrator).is_empty
    restrict(person)
    for done in (changed, deleted):
        assert [list(part.blocked.values()) for part in plans.plan(done.id, administrator).parts.values()] == [
            [plans.ERASED]
        ]


# --- Of the recycle bin ---


def deleted() -> Client:
    person = make_client()
    Case.objects.filter(client=person).delete()
    Client.objects.filter(pk=person.pk).delete()
    return person


def test_a_deleted_client_is_erased_from_the_recycle_bin(page):
    person = deleted()
    reference = person.reference
    bin_of_clients = f"{reverse('admin:crm_recycle_bin')}?kind=client"
    assert erase(person) in page.get(bin_of_clients).content.decode()
    assert "Everything personal goes now" in page.get(erase(person)).content.decode()
    answer = page.post(erase(person), {"reason": "Asked by letter."}, follow=True)
    assert answer.redirect_chain == [(bin_of_clients, 302)]
    assert f"Client {reference} was erased." in answer.content.decode()
    assert traces() == []
    assert erase(person) not in page.get(bin_of_clients).content.decode()
    again = page.post(erase(person), {"reason": "Once more."})
    assert again.status_code == 200 and "was erased already" in again.content.decode()


def test_nobody_but_administrators_erases_from_the_recycle_bin(client, manager):
    person = deleted()
    client.force_login(manager)
    bin_of_clients = client.get(f"{reverse('admin:crm_recycle_bin')}?kind=client")
    assert bin_of_clients.status_code == 200 and "/erase/" not in bin_of_clients.content.decode()
    assert client.post(erase(person), {"reason": "x"}).status_code == 403


@pytest.mark.parametrize("key", ["999999", "nobody"])
def test_who_never_was_here_is_a_404(page, key):
    assert page.get(reverse("admin:crm_client_erase", args=[key])).status_code == 404
