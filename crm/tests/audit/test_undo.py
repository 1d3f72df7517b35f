import contextlib
import io
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from crm import catalogue, imports, models, roles, workflow
from crm.audit import plans, undo
from crm.audit.undo import AlreadyUndone, NothingToUndo
from crm.choices import AuditKind, Source
from crm.exceptions import NotAllowed, ReasonMissing
from crm.models import AuditEntry, Case, CaseStep, Client, FinanceItem, SearchToken, operation
from crm.tests import factories
from crm.tests.gaps import gaps
from crm.tests.raw import stored

pytestmark = pytest.mark.django_db
SAMPLES = Path(__file__).parent.parent / "imports" / "samples"


@pytest.fixture
def alice(db):
    return factories.make_client("Alice Nováková", phone="601", citizenship="CZ")


def sound() -> bool:
    out = io.StringIO()
    call_command("check_cases", stdout=out)
    return gaps() == []


def seen(*rows) -> list[tuple[str, int, int]]:
    """To be forced, as they stand now."""
    return [(row._meta.model_name, row.pk, row.history.first().history_id) for row in rows]


def values(model) -> list:
    names = [field.attname for field in model._meta.concrete_fields if field.name != "updated_at"]
    return list(model.objects.order_by("pk").values_list(*names))


def test_a_changed_record_gets_back_exactly_what_the_operation_changed(alice, manager):
    with operation(Source.ADMIN, user=manager) as done:
        Client.objects.filter(pk=alice.pk).update(phone="602", citizenship="SK")
    token = stored(Client.history.order_by("history_id").first(), "phone")
    undo.undo(done.id, manager, reason="by mistake")
    alice.refresh_from_db()
    assert (alice.phone, alice.citizenship) == ("601", "CZ")
    assert stored(alice, "phone") == token
    row = Client.history.first()
    assert (row.history_user_id, row.history_change_reason) == (manager.pk, "by mistake")
    entry = AuditEntry.objects.get(operation_id=row.operation_id)
    assert (entry.kind, entry.undoes) == (AuditKind.UNDO, done.id)
    assert Client.objects.search("601").exists() and not Client.objects.search("602").exists()
    assert sound()


def test_an_undo_can_be_undone_and_the_first_operation_undone_once(alice, manager):
    with operation(user=manager) as done:
        Client.objects.filter(pk=alice.pk).update(phone="602")
    undo.undo(done.id, manager)
    with pytest.raises(AlreadyUndone):
        undo.undo(done.id, manager)
    again = AuditEntry.objects.get(undoes=done.id)
    undo.undo(again.operation_id, manager)
    alice.refresh_from_db()
    assert alice.phone == "602"
    assert sound()


def test_what_somebody_touched_since_is_left_and_listed_or_forced_with_a_reason(alice, manager):
    bob = factories.make_client("Bob Malý", phone="701")
    with operation(user=manager) as done:
        Client.objects.filter(pk__in=[alice.pk, bob.pk]).update(phone="602")
    with operation(user=manager):
        Client.objects.filter(pk=bob.pk).update(note="met")
    part = plans.plan(done.id, manager).parts[Client]
    assert (list(part.reverts), list(part.touched)) == ([alice.pk], [bob.pk])
    with pytest.raises(ReasonMissing):
        undo.undo(done.id, manager, forced=seen(bob))
    undo.undo(done.id, manager, forced=seen(bob), reason="asked by Bob")
    bob.refresh_from_db()
    assert (bob.phone, bob.note) == ("701", "met")
    assert sound()


def test_an_import_goes_as_it_came_and_comes_back_with_its_ids(manager):
    factories.make_catalogue()
    before = {model: values(model) for model in (Client, Case, CaseStep)}
    plan = imports.check((SAMPLES / "czech_excel.csv").read_bytes(), "czech_excel.csv", manager)
    run = imports.write(plan, manager)
    after = {model: values(model) for model in (Client, Case, CaseStep)}
    undo.undo(run.operation_id, manager)
    assert {model: values(model) for model in (Client, Case, CaseStep)} == before
    assert not SearchToken.objects.exists()
    assert sound()
    undo.undo(AuditEntry.objects.get(undoes=run.operation_id).operation_id, manager)
    assert {model: values(model) for model in (Client, Case, CaseStep)} == after
    assert Client.objects.search("krejci").exists()
    assert sound()


def test_a_client_of_an_import_to_whom_something_came_since_stays(manager):
    factories.make_catalogue()
    run = imports.write(imports.check((SAMPLES / "czech_excel.csv").read_bytes(), "czech_excel.csv", manager), manager)
    kept = Client.objects.order_by("pk").first()
    FinanceItem.objects.create(client=kept, kind="rent")
    workflow.complete_step(Case.objects.active().order_by("-pk").first().steps.first(), by=manager, on=factories.TODAY)
    plan = undo.undo(run.operation_id, manager)
    assert plan.parts[Client].blocked[kept.pk] == plans.STAYS
    case = Case.objects.get()
    assert set(Client.objects.values_list("pk", flat=True)) == {kept.pk, case.client_id}
    assert case.steps.count() == CaseStep.objects.count() == 15
    assert sound()


def test_what_was_made_with_a_record_that_stays_stays_with_it(manager):
    factories.make_catalogue()
    with operation(user=manager) as done:
        touched, noted = factories.make_case(), factories.make_case()
        FinanceItem.objects.create(client=touched.client, kind="rent")
    Case.objects.filter(pk=touched.pk).update(loan_amount_czk=5)
    models.Note.objects.create(case=noted, text="called")
    plan = plans.plan(done.id, manager)
    assert plan.count == 0 and list(plan.parts[Case].touched) == [touched.pk]
    assert set(plan.parts[CaseStep].blocked.values()) == {plans.OWNER_STAYS}
    undo.undo(done.id, manager, forced=seen(touched), reason="twice")
    assert (Case.objects.get(), CaseStep.objects.count(), FinanceItem.objects.count()) == (noted, 15, 0)
    assert list(workflow.mismatches()) == [] and sound()


def test_a_tick_and_a_hand_over_are_undone_and_the_case_is_settled(manager):
    case, bob = factories.make_case(adviser=factories.make_user()), factories.make_user()
    first = case.steps.first()
    with operation(user=manager) as tick:
        workflow.complete_step(first, by=manager, on=factories.TODAY)
    with operation(user=manager) as over:
        workflow.hand_over(case, by=manager, to=bob)
    undo.undo(over.id, manager)
    undo.undo(tick.id, manager, forced=seen(case), reason="wrong case")
    first.refresh_from_db()
    case.refresh_from_db()
    assert (first.state, first.completed_by_id, case.current_step_id) == ("pending", None, first.step_id)
    assert case.adviser_id != bob.pk
    assert list(workflow.mismatches()) == []
    assert sound()


@pytest.mark.parametrize("is_named", [True, False])
@pytest.mark.parametrize("delete", [lambda case: case.delete(), lambda case: Case.objects.filter(pk=case.pk).delete()])
def test_a_deleted_case_comes_back_from_the_bin_with_all_that_was_its_own(manager, is_named, delete):
    case = factories.make_case()
    models.Property.objects.create(case=case, kind="house", address="Dlouhá 1")
    models.Note.objects.create(case=case, text="called", author=manager)
    kinds = (Case, CaseStep, models.Property, models.Note)
    before, key = {model: values(model) for model in kinds}, case.pk
    with operation(user=manager) if is_named else contextlib.nullcontext():
        delete(case)
    undo.restore(Case, key, manager)
    assert {model: values(model) for model in kinds} == before
    assert sound()
    with pytest.raises(NothingToUndo):
        undo.restore(Case, key, manager)


def test_what_is_left_of_an_operation_can_be_forced_later(alice, manager):
    bob = factories.make_client("Bob Malý", phone="701")
    with operation(user=manager) as done:
        Client.objects.filter(pk__in=[alice.pk, bob.pk]).update(phone="602")
    Client.objects.filter(pk=bob.pk).update(note="met")
    undo.undo(done.id, manager)
    part = plans.plan(done.id, manager).parts[Client]
    assert (part.reverts, list(part.touched)) == ({}, [bob.pk])
    undo.undo(done.id, manager, forced=seen(bob), reason="asked by Bob")
    assert sorted(client.phone for client in Client.objects.all()) == ["601", "701"]
    with pytest.raises(AlreadyUndone):
        undo.undo(done.id, manager)


def test_an_operation_whose_undo_was_undone_is_undone_again(alice, manager):
    with operation(user=manager) as done:
        Client.objects.filter(pk=alice.pk).update(phone="602")
    undo.undo(done.id, manager)
    undo.undo(AuditEntry.objects.get(undoes=done.id).operation_id, manager)
    undo.undo(done.id, manager)
    alice.refresh_from_db()
    assert alice.phone == "601" and sound()


def test_forced_is_what_was_seen_and_only_where_it_differs(alice, manager):
    with operation(user=manager) as done:
        Client.objects.filter(pk=alice.pk).update(phone="602")
    Client.objects.filter(pk=alice.pk).update(phone="603")
    shown = seen(alice)
    Client.objects.filter(pk=alice.pk).update(phone="604")
    with pytest.raises(NothingToUndo):
        undo.undo(done.id, manager, forced=shown, reason="x")
    Client.objects.filter(pk=alice.pk).update(phone="601")
    rows = Client.history.count()
    with pytest.raises(NothingToUndo):
        undo.undo(done.id, manager, forced=seen(alice), reason="x")
    assert Client.history.count() == rows


def test_what_goes_makes_room_for_what_comes_back(manager):
    lender, case = factories.make_lender("Banka Pod Lipou"), factories.make_case()
    other = factories.make_client("Bob")
    party = models.CaseParty.objects.create(case=case, client=other)
    with operation(user=manager) as done:
        lender.name = "Stará banka"
        lender.save()
        factories.make_lender("Banka Pod Lipou")
        key = party.pk
        party.delete()
        models.CaseParty.objects.create(case=case, client=other, role="guarantor")
    undo.undo(done.id, manager)
    assert models.Lender.objects.get(name="Banka Pod Lipou") == lender
    assert models.CaseParty.objects.get().pk == key
    assert sound()


def test_names_that_were_exchanged_stay_and_that_is_said_before(manager):
    one, other = factories.make_lender("Banka A"), factories.make_lender("Banka B")
    with operation(user=manager) as done:
        for lender, name in ((one, "x"), (other, "Banka A"), (one, "Banka B")):
            models.Lender.objects.filter(pk=lender.pk).update(name=name)
    part = plans.plan(done.id, manager).parts[models.Lender]
    assert set(part.blocked.values()) == {plans.TAKEN}


def test_schedules_are_left_alone(manager):
    row = models.JobSchedule.objects.create(name="tidy_jobs")
    with operation(user=manager) as done:
        row.is_paused = True
        row.save()
    assert plans.plan(done.id, manager).count == 0


def test_nobody_changes_the_records_between_plan_and_writing(alice, manager, monkeypatch):
    with operation(user=manager) as done:
        Client.objects.filter(pk=alice.pk).update(phone="602")
    statements = []
    planned = plans.plan

    def plan(*args, **kwargs):
        statements.extend(query["sql"] for query in queries.captured_queries)
        return planned(*args, **kwargs)

    monkeypatch.setattr(undo, "plan", plan)
    with CaptureQueriesContext(connection) as queries:
        undo.undo(done.id, manager)
    held = [sql for sql in statements if "crm_client" in sql and "ORDER BY" in sql and "crm_historicalclient" in sql]
    assert held
    if connection.vendor == "postgresql":
        assert held[0].endswith("FOR NO KEY UPDATE")


def test_the_order_of_steps_goes_back_as_a_whole_and_cases_follow(manager):
    factories.make_catalogue()
    before = factories.make_case()
    steps = list(models.Step.objects.order_by("number"))
    with operation(user=manager) as done:
        workflow.renumber_step(steps[2], 1, by=manager)
    between = factories.make_case()
    one = plans.plan_revert(steps[0].history.last(), manager)
    assert one.count == 0 and one.parts[models.Step].blocked == {steps[0].pk: plans.ORDER}
    undo.undo(done.id, manager)
    assert list(models.Step.objects.order_by("number")) == steps
    for case in (before, between):
        case.refresh_from_db()
        assert case.current_step == steps[0]
    assert list(workflow.mismatches()) == [] and sound()


def test_an_order_of_which_a_step_was_moved_since_stays(manager):
    factories.make_catalogue()
    steps = list(models.Step.objects.order_by("number"))
    with operation(user=manager) as done:
        workflow.renumber_step(steps[2], 1, by=manager)
    workflow.renumber_step(steps[0], 1, by=manager)
    assert plans.plan(done.id, manager).count == 0


def test_a_status_is_put_back_by_its_operation_not_as_a_field(manager):
    case = factories.make_case()
    with operation(user=manager) as done:
        workflow.reject(case, by=manager, on=factories.TODAY, reason="no income")
    step = case.steps.first()
    CaseStep.objects.filter(pk=step.pk).update(state="done", completed_on=factories.TODAY)
    for row in (Case.history.filter(id=case.pk).last(), CaseStep.history.filter(id=step.pk).last()):
        plan = plans.plan_revert(row, manager, fields=["status", "state"])
        assert [list(part.blocked.values()) for part in plan.parts.values()] == [[plans.BY_ACTION]]
    undo.undo(done.id, manager)
    case.refresh_from_db()
    assert (case.status, case.decided_on, case.rejection_reason) == ("open", None, "")


def test_steps_stay_with_a_case_that_was_decided_with_them_and_changed_since(manager):
    case = factories.make_case()
    with operation(user=manager) as done:
        workflow.approve(
            case, by=manager, on=factories.TODAY, lender=factories.make_lender(), amount_czk=1, override_reason="x"
        )
    Case.objects.filter(pk=case.pk).update(loan_amount_czk=5)
    plan = plans.plan(done.id, manager)
    assert plan.count == 0
    assert set(plan.parts[CaseStep].blocked.values()) == {plans.DECIDED}


def test_a_hand_over_goes_back_only_to_who_works_and_by_who_may_hand_over(manager):
    was, to = factories.make_user(), factories.make_user()
    case = factories.make_case(adviser=was)
    with operation(user=manager) as done:
        workflow.hand_over(case, by=manager, to=to)
    models.User.objects.filter(pk=was.pk).update(is_active=False)
    assert plans.plan(done.id, manager).parts[Case].blocked == {case.pk: plans.INACTIVE}
    models.User.objects.filter(pk=was.pk).update(is_active=True)
    clerk = factories.make_user(roles.ADVISER)
    clerk.user_permissions.add(Permission.objects.get(codename="undo_operation"))
    assert plans.plan(done.id, models.User.objects.get(pk=clerk.pk)).parts[Case].blocked == {case.pk: plans.NOT_YOURS}
    assert undo.undo(done.id, manager).count == 1


def test_a_version_of_a_deleted_case_brings_its_parts_too(manager):
    case = factories.make_case(loan_amount_czk=1)
    models.Note.objects.create(case=case, text="called")
    first, key = case.history.first(), case.pk
    Case.objects.filter(pk=key).update(loan_amount_czk=2)
    case.delete()
    undo.revert(first, manager)
    case = Case.objects.get(pk=key)
    assert (case.loan_amount_czk, case.steps.count(), case.notes.count()) == (1, 15, 1)
    assert sound()


def test_a_deleted_case_comes_back_without_its_deleted_adviser_and_with_its_deleted_lender(manager):
    adviser, lender = factories.make_user(), factories.make_lender("Banka Pod Lipou")
    case = factories.make_case(adviser=adviser, lender=lender)
    key = case.pk
    case.delete()
    adviser.delete()
    lender.delete()
    undo.restore(Case, key, manager)
    case = Case.objects.get(pk=key)
    assert (case.adviser, case.lender.name, case.steps.count()) == (None, "Banka Pod Lipou", 15)
    assert sound()


def test_what_the_database_forbids_is_said(alice, manager, monkeypatch):
    step = factories.make_case(alice).steps.first()
    done = step.history.first()
    CaseStep.objects.filter(pk=step.pk).update(note="x")
    monkeypatch.setattr(plans, "OF_THE_WORKFLOW", {})
    CaseStep.objects.filter(pk=step.pk).update(state="done", completed_on=factories.TODAY)
    with pytest.raises(undo.DoesNotFit):
        undo.revert(done, manager, fields=["state"])
    step.refresh_from_db()
    assert step.state == "done"


def test_a_record_that_changed_after_it_was_shown_is_not_overwritten(alice, manager):
    first = alice.history.first()
    Client.objects.filter(pk=alice.pk).update(phone="602")
    shown = alice.history.first().history_id
    Client.objects.filter(pk=alice.pk).update(city="Ostrava")
    with pytest.raises(undo.ChangedMeanwhile):
        undo.revert(first, manager, seen=shown)
    alice.refresh_from_db()
    assert (alice.phone, alice.city) == ("602", "Ostrava")


def test_a_case_whose_client_is_gone_too_comes_back_with_him(manager):
    case = factories.make_case(factories.make_client("Alice Nováková"))
    FinanceItem.objects.create(client=case.client, kind="rent")
    client, key = case.client, case.pk
    with operation(user=manager):
        case.delete()
    with operation(user=manager):
        client.delete()
    undo.restore(Case, key, manager)
    assert (Client.objects.get().full_name, FinanceItem.objects.count()) == ("Alice Nováková", 1)
    assert Case.objects.get().pk == key and Client.objects.search("novakova").exists()
    assert sound()


def test_what_was_freed_and_taken_again_keeps_the_deleted_one_out(manager):
    lender = factories.make_lender("Banka Pod Lipou")
    key = lender.pk
    lender.delete()
    factories.make_lender("Banka Pod Lipou")
    plan = plans.plan_restore(models.Lender, key, manager)
    assert plan.parts[models.Lender].blocked == {key: plans.TAKEN}


def test_a_record_or_one_field_of_it_is_put_back_to_a_version(alice, manager):
    first = Client.history.first()
    Client.objects.filter(pk=alice.pk).update(phone="602", citizenship="SK", note="x")
    undo.revert(first, manager, fields=["phone"])
    alice.refresh_from_db()
    assert (alice.phone, alice.citizenship, alice.note) == ("601", "SK", "x")
    undo.revert(first, manager, reason="all of it")
    alice.refresh_from_db()
    assert (alice.citizenship, alice.note) == ("CZ", "")
    with pytest.raises(NothingToUndo):
        undo.revert(first, manager)
    assert sound()


def test_accounts_are_left_alone(manager, adviser):
    with operation(user=manager) as done:
        adviser.first_name = "Other"
        adviser.save()
    plan = plans.plan(done.id, manager)
    assert plan.count == 0 and set(plan.parts[models.User].blocked.values()) == {plans.ACCOUNT}


def test_who_may_not_undo_undoes_nothing(alice, adviser, auditor):
    with operation() as done:
        Client.objects.filter(pk=alice.pk).update(phone="602")
    for user in (adviser, auditor, factories.make_user(roles.CLIENT)):
        with pytest.raises(NotAllowed):
            undo.undo(done.id, user)


def test_rows_that_the_person_may_not_change_or_does_not_see_stay(settings, alice, adviser):
    settings.ADVISER_SCOPE = "own"
    adviser.user_permissions.add(Permission.objects.get(codename="undo_operation"))
    user = models.User.objects.get(pk=adviser.pk)
    foreign = factories.make_case(alice, adviser=factories.make_user())
    mine = factories.make_case(factories.make_client("Bob"), adviser=user)
    with operation() as done:
        Case.objects.update(loan_amount_czk=5)
        models.Lender.objects.create(name="Nová")
    plan = undo.undo(done.id, user)
    assert foreign.pk not in {*plan.parts[Case].blocked, *plan.parts[Case].touched, *plan.parts[Case].reverts}
    assert list(plan.parts[models.Lender].blocked.values()) == [plans.NOT_YOURS]
    mine.refresh_from_db()
    assert mine.loan_amount_czk is None


def test_many_are_undone_with_as_many_queries_as_few(manager, django_assert_max_num_queries):
    catalogue.load()
    clients = [factories.make_client(str(number)) for number in range(40)]
    with operation(user=manager) as done:
        Client.objects.filter(pk__in=[client.pk for client in clients]).update(note="x")
    manager.has_perm("crm.undo_operation")
    with django_assert_max_num_queries(60):
        undo.undo(done.id, manager)
    assert all(client.note == "" for client in Client.objects.all())
