import datetime

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from crm import models, roles, workflow
from crm.audit import timeline, undo
from crm.audit.timeline import Filters, page_of
from crm.choices import AuditKind, Source
from crm.models import operation
from crm.tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def case(db):
    return factories.make_case(factories.make_client("Alice Nováková"))


def told(page) -> list[tuple]:
    return [(entry.kind, entry.label) for entry in page.entries]


def test_everything_around_a_client_stands_in_one_list_newest_first(case, adviser):
    client = case.client
    bob = factories.make_client("Bob Malý")
    with operation(Source.ADMIN, user=adviser, reason="by phone"):
        models.FinanceItem.objects.create(client=client, kind="rent")
        models.Consent.objects.create(client=client, purpose="processing", text_version="1", given_on=factories.TODAY)
        models.Identification.objects.create(client=client, method="in_person", done_on=factories.TODAY)
        models.CaseParty.objects.create(case=case, client=bob)
        models.Property.objects.create(case=case)
        models.Document.objects.create(case=case, type=models.DocumentType.objects.first())
        models.Note.objects.create(case=case, text="Called.")
        models.Commission.objects.create(case=case)
        models.MessageLog.objects.create(
            claim_key="1", case=case, recipient="alice@example.com", subject=case.reference
        )
        run = models.ExportRun.objects.create(model="client", format="xlsx", user=adviser, user_name=str(adviser))
        models.ExportedClient.objects.create(run=run, client_id=client.pk)
        workflow.complete_step(case.steps.first(), by=adviser, on=factories.TODAY)
    page = page_of(client.pk, adviser)
    names = {entry.change.model.__name__ for entry in page.entries if entry.change}
    assert names == {model.__name__ for model in timeline.TRACKED}
    assert {entry.kind for entry in page.entries} == {"+", "~", "message", "export"}
    assert [entry.operation_id for entry in page.entries if entry.kind == "export"] == [run.operation_id]
    moments = [entry.at for entry in page.entries]
    assert moments == sorted(moments, reverse=True)
    newest = page.entries[0]
    assert (newest.by, newest.reason, newest.source) == (str(adviser), "by phone", "Admin")
    others = page_of(bob.pk, adviser)
    assert [label for _kind, label in told(others)] == [f"{case.reference} · Party: Co-applicant", bob.reference]


def test_what_was_deleted_stays_in_it(case, adviser):
    client, reference = case.client, case.reference
    case.delete()
    page = page_of(client.pk, adviser)
    assert ("-", reference) in told(page)
    assert len([entry for entry in page.entries if entry.kind == "-"]) == 16


def test_a_message_about_a_deleted_case_stays_in_it_and_its_page_still_opens(client, case, manager):
    message = models.MessageLog.objects.create(
        claim_key="1", case=case, recipient="alice@example.com", subject=case.reference
    )
    owner = case.client_id
    case.delete()
    assert ("message", "Message") in told(page_of(owner, manager))
    client.force_login(manager)
    assert client.get(reverse("admin:crm_messagelog_change", args=[message.pk])).status_code == 200
    assert case.reference in client.get(reverse("admin:crm_messagelog_changelist")).content.decode()


def test_the_older_crms_entries_stand_on_their_own_day(case, adviser):
    day = datetime.datetime(2019, 5, 6, 7, 8, tzinfo=datetime.UTC)
    models.Note.objects.create(case=case, kind="change", text="loan 1 -> 2", author_name="Karel", created_at=day)
    last = page_of(case.client_id, adviser).entries[-1]
    assert (last.kind, last.at, last.by, last.text) == ("older", day, "Karel", "loan 1 -> 2")


def test_what_was_changed_or_deleted_of_them_here_is_told_too(case, adviser):
    note = models.Note.objects.create(case=case, kind="change", text="loan 1 -> 2")
    note.text = "loan 1 -> 3"
    note.save()
    note.delete()
    entries = page_of(case.client_id, adviser, filters=Filters(model=models.Note)).entries
    assert [entry.kind for entry in entries] == ["-", "~"]


def test_a_message_is_told_when_it_was_written_and_when_it_went(case, adviser):
    sent_at = timezone.now() + datetime.timedelta(hours=1)
    names = {"case": case, "recipient": "alice@example.com", "subject": case.reference}
    models.MessageLog.objects.create(claim_key="1", state="sent", sent_at=sent_at, **names)
    models.MessageLog.objects.create(claim_key="2", state="failed", **names)
    entries = page_of(case.client_id, adviser, filters=Filters(kind="message")).entries
    assert [entry.text for entry in entries] == [
        f"{case.reference} · Sent",
        f"{case.reference} · Failed",
        case.reference,
    ]
    assert entries[0].at == sent_at
    assert len(page_of(case.client_id, adviser, filters=Filters(since=sent_at)).entries) == 1


def test_of_somebody_elses_case_a_party_is_told_his_own_part_only(case, adviser):
    bob, cyril = factories.make_client("Bob Malý"), factories.make_client("Cyril Velký")
    for person in (bob, cyril):
        models.CaseParty.objects.create(case=case, client=person)
    entries = page_of(bob.pk, adviser, filters=Filters(model=models.CaseParty)).entries
    assert [entry.change.row.client_id for entry in entries] == [bob.pk]
    assert len(page_of(case.client_id, adviser, filters=Filters(model=models.CaseParty)).entries) == 2


def test_what_a_person_may_not_view_is_left_out(case):
    models.Commission.objects.create(case=case)
    models.Note.objects.create(case=case, kind="change", text="loan 1 -> 2")
    reader = factories.make_user(roles.CLIENT)
    reader.user_permissions.set(Permission.objects.filter(codename__in=["view_client", "view_case"]))
    entries = page_of(case.client_id, reader).entries
    assert {entry.change.model for entry in entries} == {models.Client, models.Case}


def test_who_may_not_view_cases_is_told_of_no_message_and_no_list_of_cases_that_went_out(case, manager):
    models.MessageLog.objects.create(claim_key="1", case=case, recipient="alice@example.com", subject=case.reference)
    for name in ("client", "case"):
        run = models.ExportRun.objects.create(model=name, format="xlsx", user=manager, user_name=name)
        models.ExportedClient.objects.create(run=run, client_id=case.client_id)
    reader = factories.make_user(roles.CLIENT)
    reader.user_permissions.set(Permission.objects.filter(codename="view_client"))
    assert [(entry.kind, entry.by) for entry in page_of(case.client_id, reader).entries] == [
        ("export", "client"),
        ("+", ""),
    ]
    assert len(timeline.people(case.client_id, reader)) == 1


def test_a_case_that_was_given_to_another_client_is_told_until_then(case, adviser):
    alice, bob = case.client, factories.make_client("Bob Malý")
    case.client = bob
    case.save()
    before = len(page_of(alice.pk, adviser).entries)
    case.loan_purpose = "of Bob"
    case.save()
    for kind in ("note", "change"):
        models.Note.objects.create(case=case, kind=kind, text="of Bob")
    message = {"recipient": "bob@example.com", "subject": "of Bob", "state": "sent", "sent_at": timezone.now()}
    models.MessageLog.objects.create(claim_key="1", case=case, **message)
    told_of_alice = page_of(alice.pk, adviser).entries
    assert [line.name for line in told_of_alice[0].change.lines] == ["client"]
    assert len(told_of_alice) == before == 1 + 1 + 15 + 1
    assert len(page_of(bob.pk, adviser).entries) == before + 5


def test_a_case_that_came_back_or_was_deleted_is_told_whole(case, adviser):
    alice, bob = case.client, factories.make_client("Bob Malý")
    for owner in (bob, alice):
        case.client = owner
        case.save()
    models.Note.objects.create(case=case, text="called")
    case.delete()
    assert {"+", "-"} == {
        entry.kind for entry in page_of(alice.pk, adviser, filters=Filters(model=models.Note)).entries
    }
    assert not page_of(bob.pk, adviser, filters=Filters(model=models.Note)).entries


def test_a_field_is_found_where_it_was_given_at_the_beginning_or_by_a_restore(case, manager):
    client = factories.make_client("Bob Malý", phone="777")
    item = models.FinanceItem.objects.create(client=client, kind="rent", monthly_czk=5)
    identified = models.Identification.objects.create(
        client=client, method="in_person", done_on=factories.TODAY, is_pep=True
    )

    def found(model, field):
        asked = Filters(model=model, field=field)
        return [entry.kind for entry in page_of(client.pk, manager, filters=asked).entries]

    assert (found(models.Client, "phone"), found(models.Client, "email")) == (["+"], [])
    assert (found(models.FinanceItem, "monthly_czk"), found(models.FinanceItem, "balance_czk")) == (["+"], [])
    assert found(models.Client, "birth_date") == []
    assert found(models.Identification, "is_pep") == ["+"]
    identified.is_pep = False
    identified.save()
    assert found(models.Identification, "is_pep") == ["~", "+"]
    key = item.pk
    item.delete()
    undo.restore(models.FinanceItem, key, manager)
    assert found(models.FinanceItem, "monthly_czk") == ["+", "+"]


def test_who_took_the_data_out_can_be_chosen(case, adviser, manager):
    run = models.ExportRun.objects.create(model="client", format="xlsx", user=manager, user_name=str(manager))
    models.ExportedClient.objects.create(run=run, client_id=case.client_id)
    assert timeline.people(case.client_id, adviser) == [(manager.pk, str(manager))]
    entries = page_of(case.client_id, adviser, filters=Filters(user_id=manager.pk)).entries
    assert [entry.kind for entry in entries] == ["export"]


def test_it_is_filtered_by_person_kind_record_field_and_time(case, adviser, manager):
    client = case.client
    with operation(user=adviser):
        client.note, client.phone = "new", "777"
        client.save()
    with operation(user=manager):
        client.phone = "778"
        client.save()
        case.loan_amount_czk = 100
        case.save()
    me = page_of(client.pk, adviser, filters=Filters(user_id=adviser.pk))
    assert told(me) == [("~", client.reference)]
    assert timeline.people(client.pk, adviser) == sorted(
        [(adviser.pk, str(adviser)), (manager.pk, str(manager))], key=lambda pair: pair[1]
    )
    of_client = page_of(client.pk, adviser, filters=Filters(kind="~", model=models.Client))
    assert len(of_client.entries) == 2
    notes = page_of(client.pk, adviser, filters=Filters(model=models.Client, field="note"))
    assert [{line.name for line in entry.change.lines} for entry in notes.entries] == [{"note", "phone"}]
    phones = page_of(client.pk, adviser, filters=Filters(model=models.Client, field="phone"))
    assert len(phones.entries) == 2
    now = timezone.now()
    assert page_of(client.pk, adviser, filters=Filters(since=now)).entries == []
    assert page_of(client.pk, adviser, filters=Filters(until=now)).entries != []
    assert page_of(client.pk, adviser, filters=Filters(model=models.Client, field="nonsense")).entries == []


def test_another_advisers_case_of_the_same_client_is_not_told_to_who_sees_his_own_only(settings, adviser):
    settings.ADVISER_SCOPE = "own"
    other = factories.make_user()
    client = factories.make_client("Alice Nováková")
    mine, foreign = factories.make_case(client, adviser=adviser), factories.make_case(client, adviser=other)
    page = page_of(client.pk, adviser)
    shown = " ".join(entry.label for entry in page.entries)
    assert mine.reference in shown and foreign.reference not in shown
    foreign.delete()
    assert foreign.reference not in " ".join(entry.label for entry in page_of(client.pk, adviser).entries)


def test_a_thousand_changes_cost_as_many_queries_as_fifty_and_come_in_pages(case, adviser):
    counts = []
    adviser.has_perm("crm.view_case")
    for number in (50, 950):
        for changed in range(number // 10):
            case.steps.filter(step__number__lte=10).update(
                deadline=factories.TODAY + datetime.timedelta(number + changed)
            )
        with CaptureQueriesContext(connection) as queries:
            page = page_of(case.client_id, adviser)
        counts.append(len(queries))
        assert (len(page.entries), page.has_next) == (50, True)
    assert counts[0] == counts[1]
    seen = []
    number, has_next = 1, True
    while has_next:
        page = page_of(case.client_id, adviser, number=number)
        seen += [(entry.change.model, entry.change.row.history_id) for entry in page.entries]
        number, has_next = number + 1, page.has_next
    assert len(seen) == len(set(seen)) == 1 + 1 + 15 + 1000


def test_an_undo_is_told_like_any_change(case, adviser):
    with operation(user=adviser, kind=AuditKind.UNDO):
        case.loan_amount_czk = 5
        case.save()
    assert page_of(case.client_id, adviser).entries[0].by == str(adviser)
