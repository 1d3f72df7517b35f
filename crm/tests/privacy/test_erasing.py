"""Erasing a client: what is gone, what stays, and that nothing brings it back."""

import contextlib
import datetime
import uuid

import pytest
from django.test import override_settings
from django.utils import timezone

from crm import privacy, search
from crm.audit import plans, timeline, undo
from crm.choices import OPERATION_KINDS, AuditKind
from crm.exceptions import (
    AlreadyErased,
    AlreadyRestricted,
    AuditKeyMissing,
    NotAllowed,
    ReasonMissing,
    SealBroken,
    StillActive,
)
from crm.models import (
    AuditEntry,
    AuditSeal,
    Case,
    CaseStep,
    Client,
    Erasure,
    ExportedClient,
    ExportPiece,
    ExportRun,
    FinanceItem,
    ImportPiece,
    ImportRun,
    MessageLog,
    Note,
    SearchToken,
    UndoRun,
    User,
    operation,
)
from crm.models.history import CHANGED
from crm.privacy.fields import RECORDS
from crm.tests import factories
from crm.tests.audit.sealed import KEY, seal, tamper, verify
from crm.tests.gaps import gaps
from crm.tests.privacy.traces import MARK, keep_file, make_account, make_client, marked, traces

pytestmark = pytest.mark.django_db
REASON = "Asked by letter."


@pytest.fixture(autouse=True)
def _key(settings):
    settings.AUDIT_KEYS = [KEY]
    settings.AUDIT_ANCHOR = ""


def erase(client, by=None, reason=REASON, now=None) -> Erasure:
    return privacy.erase(client, by=by, now=now or timezone.now(), reason=reason)


def told_gaps() -> list[str]:
    """A version that changed nothing but what is erased by now still says who wrote when."""
    return [each for each in gaps() if not each.endswith("a row that changes nothing")]


# --- What goes ---


def test_nothing_of_an_erased_client_is_left_anywhere(administrator):
    client = make_client()
    make_account(client)
    assert {
        f"crm_{model._meta.model_name}.{name}"
        for model in RECORDS
        for name in marked(model, 1)
        if MARK in str(marked(model, 1)[name])
    } <= set(traces())
    erase(client, administrator)
    assert traces() == []


def test_the_seal_is_whole_after_an_erasure_and_says_what_was_changed(administrator):
    client = make_client()
    seal()
    assert verify().problems == []
    erase(client, administrator)
    assert AuditSeal.objects.filter(kind="amendment").exists()
    assert verify().problems == []
    seal()
    assert verify().problems == []


def test_the_history_says_what_the_tables_say():
    erase(make_client())
    assert told_gaps() == []


def test_no_version_of_a_value_differs_from_another_after_it():
    client = make_client()
    erase(client)
    assert not timeline.page_of(
        client.pk,
        factories.make_user("Administrator"),
        filters=timeline.Filters(model=Client, field="full_name", kind=CHANGED),
    ).entries


def test_numbers_that_tell_of_a_person_go_too():
    client = make_client()
    erase(client)
    item = client.finance_items.get()
    identification = client.identifications.get()
    assert (item.monthly_czk, item.balance_czk, item.kind) == (None, None, "employment")
    assert (identification.is_pep, identification.risk) == (False, "low")
    assert set(FinanceItem.history.values_list("monthly_czk", flat=True)) == {None}


def test_search_finds_nobody_any_more():
    client = make_client()
    assert Client.objects.search(f"{MARK}full_name1").exists()
    erase(client)
    assert not SearchToken.objects.filter(client=client).exists()
    assert not Client.objects.search(f"{MARK}full_name1").exists()
    assert Client.objects.search(client.reference).get() == client


def test_an_erased_client_is_called_by_his_reference():
    client = make_client()
    erase(client)
    client = Client.objects.get(pk=client.pk)
    assert client.full_name == client.display_name == client.reference
    assert client.anonymised_at and client.restricted_at


def test_what_waited_to_be_sent_to_him_is_withheld():
    client = make_client()
    erase(client)
    message = MessageLog.objects.get()
    assert (message.state, message.next_try_at, message.recipient, message.body) == ("withheld", None, "", "")
    assert message.subject == client.cases.get().reference


def test_a_colleague_who_was_told_of_his_case_stays_in_the_list_and_the_text_goes(adviser):
    client = make_client()
    case = client.cases.get()
    MessageLog.objects.create(
        claim_key="1", kind="notices", case=case, user=adviser, recipient=adviser.email, subject="x", body=f"{MARK}!"
    )
    erase(client)
    message = MessageLog.objects.get(kind="notices")
    assert (message.recipient, message.body) == (adviser.email, "")


def test_his_own_account_goes_and_a_colleagues_stays(adviser):
    client = make_client()
    user = make_account(client)
    erase(client)
    assert not User.objects.filter(pk=user.pk).exists()
    assert set(User.history.filter(id=user.pk).values_list("username", flat=True)) == {f"erased-{user.pk}"}
    other = make_client()
    other.portal_user = adviser
    other.save()
    erase(other)
    assert User.objects.get(pk=adviser.pk).email == adviser.email
    assert Client.objects.get(pk=other.pk).portal_user is None


def test_the_files_that_wait_with_him_in_them_go(adviser):
    client, other = make_client(), factories.make_client("Dana Nová")
    mine, both = (ExportRun.objects.create(model="client", format="csv", reason=f"{MARK}why") for _ in range(2))
    for run, clients in ((mine, [client]), (both, [client, other])):
        keep_file(run, ExportPiece, claim=uuid.uuid4())
        for each in clients:
            ExportedClient.objects.create(run=run, client_id=each.pk)
    made = ImportRun.objects.create(
        file_name=f"{MARK}.csv", problems=f"{MARK}cell", operation_id=client.history.last().operation_id
    )
    keep_file(made, ImportPiece, part="file")
    UndoRun.objects.create(undoes=made.operation_id, reason=f"{MARK}why")
    erase(client)
    assert not ExportPiece.objects.exists() and not ImportPiece.objects.exists()
    assert UndoRun.objects.get().reason == ""
    assert set(ExportRun.objects.values_list("pk", "reason")) == {(mine.pk, ""), (both.pk, f"{MARK}why")}


def test_the_reason_of_what_changed_others_too_stays_in_the_trail():
    with operation(reason="All of them moved.") as active:
        client, other = make_client(), factories.make_client("Dana Nová")
    erase(client)
    assert AuditEntry.objects.get(operation_id=active.id, kind__in=OPERATION_KINDS).reason == "All of them moved."
    assert {row.history_change_reason for row in client.history.filter(operation_id=active.id)} == {None}
    assert other.history.get().history_change_reason == "All of them moved."


def test_what_lies_in_the_recycle_bin_goes_too():
    client = make_client()
    case = client.cases.get()
    MessageLog.objects.all().delete()
    case.delete()
    Client.objects.get(pk=client.pk).delete()
    deleted = Client.history.filter(id=client.pk).first().instance
    erase(deleted)
    assert traces() == []
    assert Client.history.filter(id=client.pk).order_by("-history_id").first().anonymised_at
    with pytest.raises(AlreadyErased):
        erase(deleted)


# --- What stays ---


def test_the_offices_figures_stay():
    client = make_client()
    case = client.cases.get()
    Case.objects.filter(pk=case.pk).update(loan_amount_czk=2_000_000, approved_amount_czk=1_900_000, ltv_percent=80)
    before = Case.objects.values(*RECORDS[Case].keep - {"updated_at"}).get(pk=case.pk)
    steps = list(CaseStep.objects.values("state", "deadline", "completed_on"))
    erase(client)
    assert Case.objects.values(*RECORDS[Case].keep - {"updated_at"}).get(pk=case.pk) == before
    assert list(CaseStep.objects.values("state", "deadline", "completed_on")) == steps
    assert case.commissions.get().paid_czk == 90


def test_nobody_else_loses_a_letter():
    client, other = make_client(), factories.make_client("Dana Nová", note="hers", email="dana@example.com")
    case = factories.make_case(other, loan_purpose="hers")
    note = Note.objects.create(case=case, text="hers")
    before = (Client.objects.filter(pk=other.pk).values().get(), case.history.count(), note.history.get().text)
    erase(client)
    assert (Client.objects.filter(pk=other.pk).values().get(), case.history.count(), note.history.get().text) == before
    assert Client.objects.search("Dana Nova").exists()


def test_a_case_that_somebody_else_has_by_now_is_his():
    client, other = make_client(), factories.make_client("Dana Nová")
    given = factories.make_case(client, loan_purpose="hers by now", status="declined", decided_on=factories.TODAY)
    Case.objects.filter(pk=given.pk).update(client=other, status="declined")
    erase(client)
    assert Case.objects.get(pk=given.pk).loan_purpose == "hers by now"
    reader = factories.make_user("Administrator")
    told = [
        line.new for entry in timeline.page_of(client.pk, reader).entries if entry.change for line in entry.change.lines
    ]
    assert "hers by now" not in told and told_gaps() == []


# --- When ---


def test_inside_the_time_that_the_law_asks_for_he_is_restricted(administrator):
    ended = timezone.localdate() - datetime.timedelta(days=400)
    client = make_client(ended=ended)
    row = erase(client, administrator)
    client = Client.objects.get(pk=client.pk)
    assert (row.kept_until, row.erased_at) == (ended.replace(year=ended.year + 10), None)
    assert (client.restricted_at, client.retention_until, client.anonymised_at) == (row.asked_at, row.kept_until, None)
    assert client.full_name == f"{MARK}full_name1"
    assert not Client.objects.filter(pk=client.pk).may_be_written_to().exists()
    with pytest.raises(AlreadyRestricted):
        erase(client, administrator)


@pytest.mark.parametrize(("days", "is_erased"), [(0, False), (1, True)])
def test_the_last_day_of_keeping_is_kept(days, is_erased):
    client = make_client()
    Client.objects.filter(pk=client.pk).update(retention_until=datetime.date(2026, 3, 2))
    now = datetime.datetime(2026, 3, 2 + days, 12, tzinfo=datetime.UTC)
    assert bool(erase(client, now=now).erased_at) is is_erased


def test_who_never_had_a_case_is_erased_at_once():
    client = factories.make_client(f"{MARK}lead")
    assert erase(client).erased_at
    assert traces() == []


def test_a_party_of_anothers_case_is_kept_as_long_as_it():
    party = make_client()
    case = factories.make_case(opened_on=factories.TODAY)
    case.parties.create(client=party)
    with pytest.raises(StillActive):
        erase(party)
    Case.objects.filter(pk=case.pk).update(status="declined", decided_on=factories.TODAY)
    assert privacy.kept_until(party.pk) == factories.TODAY.replace(year=factories.TODAY.year + 10)


def test_a_deleted_case_counts_for_the_time_of_keeping_too():
    client = make_client(ended=factories.TODAY)
    client.cases.get().delete()
    client.identifications.all().delete()
    assert privacy.kept_until(client.pk) == factories.TODAY.replace(year=factories.TODAY.year + 10)


def test_the_29th_of_february_ends_on_a_day_that_there_is(settings):
    settings.RETENTION_YEARS = 10
    client = make_client(ended=datetime.date(2012, 2, 29))
    assert privacy.kept_until(client.pk) == datetime.date(2022, 3, 1)


def test_nobody_with_an_active_case_is_erased():
    client = make_client(status="open")
    with pytest.raises(StillActive, match=client.cases.get().reference):
        erase(client)
    assert not Erasure.objects.exists()


def test_whose_time_is_over_is_erased_by_the_calendar():
    ended = timezone.localdate() - datetime.timedelta(days=400)
    client, longer = make_client(ended=ended), make_client(ended=ended)
    asked = erase(client).asked_at
    erase(longer)
    later = timezone.now() + datetime.timedelta(days=3700)
    factories.make_case(factories.make_client("Dana Nová"), opened_on=later.date()).parties.create(client=longer)
    assert privacy.erase_due(timezone.now()) == {"erased": 0, "put_off": 0}
    assert privacy.erase_due(later) == {"erased": 1, "put_off": 1}
    row = Erasure.objects.get(object_id=client.pk)
    assert (row.asked_at, row.erased_at) == (asked, later)
    assert Client.objects.get(pk=client.pk).anonymised_at == later
    assert Client.objects.get(pk=longer.pk).anonymised_at is None
    assert Erasure.objects.get(object_id=longer.pk).kept_until > later.date()


# --- Who, and what is told of it ---


def test_only_who_may_erases_and_says_why(manager, administrator):
    client = make_client()
    with pytest.raises(NotAllowed):
        erase(client, manager)
    with pytest.raises(ReasonMissing):
        erase(client, administrator, reason="  ")
    erase(client, administrator)
    with pytest.raises(AlreadyErased):
        erase(client, administrator)


def test_the_trail_tells_who_erased_whom_and_why(administrator):
    client = make_client()
    erase(client, administrator)
    event = AuditEntry.objects.get(kind=AuditKind.ERASURE)
    assert (event.user_id, event.model, event.object_id, event.reason) == (
        administrator.pk, "client", str(client.pk), REASON,
    )  # fmt: skip
    changed = AuditEntry.objects.get(operation_id=event.operation_id, kind=AuditKind.CHANGE)
    assert (changed.reason, client.history.first().history_change_reason) == (REASON, REASON)


def test_the_ledger_holds_ids_scope_and_times_only():
    client = make_client()
    row = erase(client)
    assert Erasure.objects.values().get() == {
        "id": row.pk, "scope": "client", "object_id": client.pk, "made_at": client.created_at,
        "asked_at": row.asked_at, "kept_until": None, "erased_at": row.erased_at,
    }  # fmt: skip


# --- Nothing brings it back ---


def test_the_timeline_tells_of_no_old_value(administrator):
    client = make_client()
    erase(client)
    entries = timeline.page_of(client.pk, administrator).entries
    assert entries
    assert MARK not in repr(entries)


def test_no_operation_can_be_undone_for_him(administrator):
    client = make_client()
    operations = {row.operation_id for row in client.history.all()}
    erase(client, administrator)
    operations.add(client.history.first().operation_id)
    for operation_id in operations:
        made = plans.plan(operation_id, administrator)
        assert client.pk not in made.parts[Client].keys
        with contextlib.suppress(undo.NothingToUndo):
            undo.undo(operation_id, administrator)
    assert Client.objects.get(pk=client.pk).anonymised_at
    assert traces() == []


def test_a_restriction_is_not_lifted_by_undoing_it(administrator):
    client = make_client(ended=timezone.localdate())
    erase(client, administrator)
    with pytest.raises(undo.NothingToUndo):
        undo.revert(client.history.order_by("history_id").first(), administrator, fields=["restricted_at"])
    assert Client.objects.get(pk=client.pk).restricted_at


def test_a_client_whose_erasure_waits_comes_out_of_the_recycle_bin_restricted(administrator):
    client = make_client(ended=timezone.localdate())
    key, cases = client.pk, list(client.cases.all())
    with operation() as deletion:
        for case in cases:
            case.delete()
        client.delete()
    row = erase(Client.history.filter(id=key).first().instance)
    assert (row.erased_at, bool(row.kept_until)) == (None, True)
    undo.undo(deletion.id, administrator)
    back = Client.objects.get(pk=key)
    assert (back.restricted_at, back.retention_until, back.is_restricted) == (row.asked_at, row.kept_until, True)
    assert told_gaps() == []


def test_an_erased_client_comes_out_of_the_recycle_bin_erased(administrator):
    client = factories.make_client(f"{MARK}lead", note=f"{MARK}note")
    Client.objects.filter(pk=client.pk).delete()
    erase(client)
    undo.restore(Client, client.pk, administrator)
    client = Client.objects.get(pk=client.pk)
    assert client.anonymised_at and client.full_name == client.reference
    assert traces() == []


# --- With and without the seal's key ---


@override_settings(AUDIT_KEYS=[])
def test_an_office_without_seals_erases_too():
    erase(make_client())
    assert traces() == [] and not AuditSeal.objects.exists()


def test_sealed_rows_are_not_touched_without_the_key(settings):
    client = make_client()
    seal()
    settings.AUDIT_KEYS = []
    with pytest.raises(AuditKeyMissing):
        erase(client)
    assert Client.objects.get(pk=client.pk).full_name == f"{MARK}full_name1"
    assert not Erasure.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_row_that_somebody_tampered_with_stops_the_erasure_whole():
    client = make_client()
    seal()
    number = client.cases.get().history.first().history_id
    tamper(f"UPDATE crm_historicalcase SET source = 'api' WHERE history_id = {number}")
    with pytest.raises(SealBroken):
        erase(client)
    assert Client.objects.get(pk=client.pk).full_name == f"{MARK}full_name1"
    assert SearchToken.objects.filter(client=client, kind=search.Kind.EMAIL).exists()
