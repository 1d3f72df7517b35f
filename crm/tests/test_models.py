"""The models themselves: references, constraints, what a person sees, and what a record calls itself."""

import datetime
import threading

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, models, transaction
from django.utils import translation

import crm.models
from crm import roles
from crm.choices import CaseStatus, StepState
from crm.models import (
    Case,
    CaseParty,
    CaseStep,
    Client,
    Counter,
    Lender,
    Note,
    RegulatoryLimit,
    Step,
    User,
)
from crm.models.reference import lender_key
from crm.tests import factories

TODAY = datetime.date(2026, 3, 2)


def make_case(**fields) -> Case:
    client = fields.pop("client", None) or Client.objects.create(full_name="Alice")
    return Case.objects.create(client=client, opened_on=TODAY, **fields)


# --- References ---


def test_references_count_from_one_for_each_kind(db):
    assert [Client.objects.create(full_name="x").reference for _ in range(2)] == ["C-000001", "C-000002"]
    assert make_case().reference == "H-000001"


def test_bulk_create_gives_references_in_order(db):
    clients = Client.objects.bulk_create([Client(full_name=str(number)) for number in range(3)])
    assert [client.reference for client in clients] == ["C-000001", "C-000002", "C-000003"]
    cases = Case.objects.bulk_create([Case(client=client, opened_on=TODAY) for client in clients])
    assert [case.reference for case in cases] == ["H-000001", "H-000002", "H-000003"]


def test_a_reference_that_is_given_is_kept(db):
    assert Client.objects.create(full_name="x", reference="KL-7").reference == "KL-7"
    assert Client.objects.create(full_name="x").reference == "C-000001"


def test_a_reference_of_ours_that_is_given_is_never_given_out_again(db):
    Client.objects.create(full_name="x", reference="C-000003")
    Client.objects.bulk_create([Client(full_name="x", reference="C-000007"), Client(full_name="y")])
    assert Client.objects.create(full_name="z").reference == "C-000009"
    Client.objects.create(full_name="x", reference="C-000002")
    assert Client.objects.create(full_name="z").reference == "C-000010"


def test_a_second_save_changes_neither_reference_nor_counter(db, django_assert_max_num_queries):
    client = Client.objects.create(full_name="x")
    client.save()
    assert client.reference == "C-000001"
    assert Counter.objects.get(kind="C").last == 1


def test_a_rollback_leaves_no_gap(db):
    with pytest.raises(RuntimeError), transaction.atomic():
        Client.objects.create(full_name="x")
        raise RuntimeError
    assert Client.objects.create(full_name="y").reference == "C-000001"


def test_a_save_that_fails_leaves_no_gap_and_its_object_without_a_reference(db):
    Client.objects.create(full_name="x", legacy_id="1")
    failing = Client(full_name="y", legacy_id="1")
    with pytest.raises(IntegrityError), transaction.atomic():
        failing.save()
    assert failing.reference == ""
    assert Client.objects.create(full_name="z").reference == "C-000002"
    failing.legacy_id = "2"
    failing.save()
    assert failing.reference == "C-000003"


def test_more_than_a_million_references_stay_unique(db):
    Counter.objects.create(kind="C", last=999_999)
    assert [Client.objects.create(full_name="x").reference for _ in range(2)] == ["C-1000000", "C-1000001"]


@pytest.mark.django_db(transaction=True)
def test_eight_writers_at_once_get_references_without_gap_or_double():
    failed = []
    start = threading.Barrier(8)

    def write(number):
        try:
            start.wait()
            for turn in range(5):
                if number % 2:
                    Client.objects.create(full_name=f"{number} {turn}")
                else:
                    Client.objects.bulk_create([Client(full_name=f"{number} {turn} {one}") for one in range(3)])
        except Exception as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    given = sorted(Client.objects.values_list("reference", flat=True))
    assert given == [f"C-{number:06d}" for number in range(1, 4 * 5 + 4 * 5 * 3 + 1)]


# --- What a record calls itself: it lands in logs, in the admin's log and in addresses ---


def test_no_record_calls_itself_by_an_encrypted_value(db):
    secret = "Zzyzxová"
    client = Client.objects.create(full_name=secret, note=secret)
    case = make_case(client=client, loan_purpose=secret, contract_number=secret)
    step = Step.objects.create(number=1, code="x", name_cs="x", name_en="x", default_days=7)
    records = [
        client,
        case,
        CaseStep.objects.create(case=case, step=step, note=secret),
        CaseParty.objects.create(case=case, client=client),
        Note.objects.create(case=case, text=secret),
        crm.models.Property.objects.create(case=case, address=secret),
        crm.models.FinanceItem.objects.create(client=client, kind="rent", note=secret),
        crm.models.MessageLog.objects.create(
            claim_key="x", kind="x", recipient="zz@example.com", subject="C-1", body=secret
        ),
    ]
    for record in records:
        record.refresh_from_db()
        assert secret not in f"{record} {record!r}"
    assert client.display_name == f"{secret} ({client.reference})"


def test_every_model_is_importable_from_one_place():
    own = {
        model
        for model in models.base.apps.get_app_config("crm").get_models()
        if "history_id" not in {f.name for f in model._meta.fields}
    }
    through = {model for model in own if model._meta.auto_created or "historical" in model.__name__.lower()}
    assert {model.__name__ for model in own - through} <= set(dir(crm.models))


# --- Typed values ---


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("birth_number", "905506/0003", "905506/0004"),
        ("birth_number", "9055060003", "850101/1234"),
        ("birth_number", "", "x"),
        ("business_id", "27074358", "27074359"),
        ("business_id", "", "123"),
        ("bank_account", "19-2000145399/0800", "19-2000145398/0800"),
        ("bank_account", "CZ6508000000192000145399", "CZ6508000000192000145398"),
        ("bank_account", "DE89370400440532013000", "x"),
        ("email", "a@example.com", "a@"),
    ],
)
def test_a_typed_number_is_checked(db, field, good, bad):
    Client(full_name="x", **{field: good}).full_clean()
    with pytest.raises(ValidationError) as refused:
        Client(full_name="x", **{field: bad}).full_clean()
    assert set(refused.value.message_dict) == {field}


def test_a_birth_number_is_kept_without_blanks_round_its_slash(db):
    client = Client(full_name="x", birth_number="750815 / 5006")
    client.full_clean()
    assert client.birth_number == "750815/5006"


def test_amounts_are_not_negative_and_are_never_rewritten(db):
    case = make_case(loan_amount_czk=2_000_000, property_price_czk=2_500_000, ltv_percent="80.01")
    case.save()
    case.refresh_from_db()
    assert (case.loan_amount_czk, str(case.ltv_percent)) == (2_000_000, "80.01")
    case.loan_amount_czk = -1
    with pytest.raises(ValidationError) as refused:
        case.full_clean()
    assert set(refused.value.message_dict) == {"loan_amount_czk"}


# --- Constraints, in the database ---


@pytest.fixture
def step(db):
    return Step.objects.create(number=1, code="x", name_cs="Krok", name_en="Step", default_days=7)


def refused(write) -> bool:
    try:
        with transaction.atomic():
            write()
    except IntegrityError:
        return True
    return False


def test_a_step_is_done_exactly_when_it_has_a_date(step):
    case = make_case()
    done, pending = StepState.DONE, StepState.PENDING
    assert refused(lambda: CaseStep.objects.create(case=case, step=step, state=done))
    assert refused(lambda: CaseStep.objects.create(case=case, step=step, state=pending, completed_on=TODAY))
    assert not refused(lambda: CaseStep.objects.create(case=case, step=step, state=done, completed_on=TODAY))


def test_a_case_has_each_step_and_each_party_once(step):
    case = make_case()
    CaseStep.objects.create(case=case, step=step)
    assert refused(lambda: CaseStep.objects.create(case=case, step=step))
    CaseParty.objects.create(case=case, client=case.client)
    assert refused(lambda: CaseParty.objects.create(case=case, client=case.client))


def test_an_absence_does_not_end_before_it_begins(db):
    day = datetime.timedelta(days=1)
    assert refused(lambda: User.objects.create(username="a", absent_from=TODAY, absent_until=TODAY - day))
    assert not refused(lambda: User.objects.create(username="b", absent_from=TODAY, absent_until=TODAY))
    assert not refused(lambda: User.objects.create(username="c", absent_until=TODAY))


@pytest.mark.parametrize(
    ("first", "last", "absent"),
    [(0, 0, True), (-1, 1, True), (0, None, True), (1, None, False), (None, 1, False), (-2, -1, False), (1, 2, False)],
)
def test_somebody_is_absent_from_the_first_to_the_last_day(first, last, absent):
    def day(shift):
        return None if shift is None else TODAY + datetime.timedelta(days=shift)

    assert User(absent_from=day(first), absent_until=day(last)).is_absent(TODAY) is absent


def test_a_legacy_id_stands_once_and_none_any_number_of_times(db):
    Client.objects.create(full_name="x")
    Client.objects.create(full_name="x", legacy_id="1")
    Client.objects.create(full_name="x")
    assert refused(lambda: Client.objects.create(full_name="x", legacy_id="1"))


def test_what_others_need_cannot_be_deleted(step):
    case = make_case()
    CaseStep.objects.create(case=case, step=step)
    for record in (case.client, step):
        with pytest.raises(models.ProtectedError):
            record.delete()


# --- Who sees what ---


@pytest.fixture
def two_advisers(db):
    return factories.make_user(roles.ADVISER), factories.make_user(roles.ADVISER)


def test_with_scope_all_everybody_sees_everything(two_advisers):
    alice, bob = two_advisers
    make_case(adviser=alice)
    assert Case.objects.visible_to(bob).count() == Client.objects.visible_to(bob).count() == 1


def test_with_scope_own_an_adviser_sees_his_own_and_what_he_stands_in_for(two_advisers, settings):
    settings.ADVISER_SCOPE = "own"
    alice, bob = two_advisers
    own, foreign = make_case(adviser=alice), make_case(adviser=bob)
    shared = make_case(adviser=bob, stand_in=alice)
    ownerless = make_case()
    lonely = Client.objects.create(full_name="without a case")
    assert set(Case.objects.visible_to(alice)) == {own, shared}
    assert set(Client.objects.visible_to(alice)) == {own.client, shared.client, lonely}
    assert foreign not in Case.objects.visible_to(alice)
    assert ownerless not in Case.objects.visible_to(alice)
    manager = factories.make_user(roles.MANAGER)
    assert Case.objects.visible_to(manager).count() == 4


def test_with_scope_own_a_client_whose_case_was_deleted_stays_with_those_whose_it_was(two_advisers, settings):
    settings.ADVISER_SCOPE = "own"
    alice, bob = two_advisers
    own, shared, handed_over = make_case(adviser=alice), make_case(stand_in=alice), make_case(adviser=bob)
    handed_over.adviser = alice
    handed_over.save()
    clients = {each.client for each in (own, shared, handed_over)}
    for case in (own, shared, handed_over):
        case.delete()
    assert set(Client.objects.visible_to(alice)) == clients
    assert not Client.objects.visible_to(bob).exists()
    assert set(Client.objects.visible_to(factories.make_user(roles.MANAGER))) == clients


def test_with_scope_own_a_client_whose_case_was_given_to_another_is_nobodys_who_sees_his_own_only(
    two_advisers, settings
):
    settings.ADVISER_SCOPE = "own"
    alice, bob = two_advisers
    case, other = make_case(adviser=alice), make_case(adviser=alice)
    left = case.client
    case.client = other.client
    case.save()
    assert left not in Client.objects.visible_to(bob)
    assert left not in Client.objects.visible_to(alice)


def test_with_scope_own_the_rows_of_a_case_and_a_client_follow_them(two_advisers, settings, step):
    settings.ADVISER_SCOPE = "own"
    alice, bob = two_advisers
    for adviser in (alice, bob):
        case = make_case(adviser=adviser)
        CaseStep.objects.create(case=case, step=step)
        CaseParty.objects.create(case=case, client=case.client)
        Note.objects.create(case=case, text="x")
        crm.models.Property.objects.create(case=case)
        crm.models.Commission.objects.create(case=case)
        crm.models.FinanceItem.objects.create(client=case.client, kind="rent")
        crm.models.Consent.objects.create(client=case.client, purpose="processing", text_version="1", given_on=TODAY)
        crm.models.Identification.objects.create(client=case.client, method="in_person", done_on=TODAY)
    for model in (CaseStep, CaseParty, Note, crm.models.Property, crm.models.Commission):
        assert [row.case.adviser for row in model.objects.visible_to(alice)] == [alice], model
    for model in (crm.models.FinanceItem, crm.models.Consent, crm.models.Identification):
        assert [row.client.cases.get().adviser for row in model.objects.visible_to(alice)] == [alice], model


# --- Small rules of single models ---


def test_a_case_is_active_when_open_or_approved():
    active = {status for status in CaseStatus.values if Case(status=status).is_active}
    assert active == {"open", "approved"}


def test_a_case_is_found_by_its_reference_and_by_its_client(db):
    case = make_case(client=Client.objects.create(full_name="Nováková"))
    make_case()
    assert list(Case.objects.search("h-000001")) == [case]
    assert list(Case.objects.search("novak")) == [case]
    assert Case.objects.search(" \0 ").count() == 2


def test_a_step_speaks_the_readers_language(step):
    with translation.override("cs"):
        assert str(step) == "1. Krok"
    with translation.override("en"):
        assert str(step) == "1. Step"


@pytest.mark.parametrize("text", ["KB", "kb", "K.B.", " k b ", "K-B"])
def test_a_lender_is_known_by_every_spelling_of_its_alias(db, text):
    lender = Lender.objects.create(name="Komerční banka", aliases=["KB"])
    assert Lender.objects.by_key()[lender_key(text)] == lender
    assert Lender.objects.by_key()[lender_key("KOMERCNI BANKA")] == lender


def test_a_limit_is_valid_from_its_first_to_its_last_day(db):
    day = datetime.timedelta(days=1)
    last = TODAY + 10 * day
    for until in (last, None):
        RegulatoryLimit.objects.all().delete()
        RegulatoryLimit.objects.create(metric="ltv", value=80, valid_from=TODAY, valid_until=until)
        assert not RegulatoryLimit.objects.valid_on(TODAY - day)
        assert RegulatoryLimit.objects.valid_on(TODAY)
        assert RegulatoryLimit.objects.valid_on(last)
        assert bool(RegulatoryLimit.objects.valid_on(last + day)) is (until is None)


def test_a_note_of_the_older_crm_is_read_only():
    assert not Note(kind="note").is_read_only
    assert Note(kind="change").is_read_only
    assert Note(kind="step_log").is_read_only
