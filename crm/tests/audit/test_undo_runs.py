"""The undo of a large operation by a job: begun once, all or nothing, with a list of what it has left."""

import datetime
import threading
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.utils import timezone

from crm import catalogue, imports, jobs, roles, tasks
from crm.audit import plans, undo, undo_runs
from crm.choices import RunState, Source
from crm.exceptions import NotAllowed
from crm.models import AuditEntry, Case, CaseStep, Client, JobRun, UndoRun, User, operation
from crm.tests import factories
from crm.tests.gaps import gaps

SAMPLE = Path(__file__).parent.parent / "imports" / "samples" / "czech_excel.csv"

pytestmark = pytest.mark.django_db


@pytest.fixture
def imported(manager):
    """The entry of an import of clients with cases and steps."""
    catalogue.load()
    run = imports.write(imports.check(SAMPLE.read_bytes(), SAMPLE.name, manager), manager)
    return AuditEntry.objects.get(operation_id=run.operation_id)


def work(run: UndoRun) -> UndoRun:
    jobs.carry_out(run.job_id, tasks.JOBS)
    return UndoRun.objects.select_related("job", "user").get(pk=run.pk)


def counts() -> tuple[int, ...]:
    return Client.objects.count(), Case.objects.count(), CaseStep.objects.count()


def seen(row) -> tuple[str, int, int]:
    return row._meta.model_name, row.pk, row.history.first().history_id


def test_an_operation_is_large_by_the_rows_that_it_wrote(imported, monkeypatch):
    rows = sum(each.history.filter(operation_id=imported.operation_id).count() for each in (Client, Case, CaseStep))
    monkeypatch.setattr(undo_runs, "ROWS_AT_ONCE", rows)
    assert not undo_runs.is_large(imported)
    monkeypatch.setattr(undo_runs, "ROWS_AT_ONCE", rows - 1)
    assert undo_runs.is_large(imported)


def test_the_job_puts_everything_back_as_the_person_who_asked(imported, manager):
    run = undo_runs.order(imported.operation_id, manager, reason="the wrong file")
    assert (undo_runs.state_of(run), run.job.queue, run.job.user) == ("queued", "long", manager)
    before = counts()
    run = work(run)
    assert (run.state, run.job.state, counts()) == ("done", "done", (0, 0, 0))
    assert (run.put_back_count, run.touched_count, run.blocked_count) == (sum(before), 0, 0)
    entry = AuditEntry.objects.get(operation_id=run.operation_id)
    assert (entry.kind, entry.undoes, entry.user_id, entry.reason, entry.source) == (
        "undo", imported.operation_id, manager.pk, "the wrong file", Source.JOB,
    )  # fmt: skip
    assert (run.reason, run.job.done_count, run.job.total_count) == ("", 2 * sum(before), 2 * sum(before))
    assert gaps() == []


def test_the_undo_of_an_undo_brings_everything_back(imported, manager):
    before = counts()
    run = work(undo_runs.order(imported.operation_id, manager))
    again = work(undo_runs.order(run.operation_id, manager))
    assert (again.state, counts()) == ("done", before)
    assert work(undo_runs.order(imported.operation_id, manager)).put_back_count == sum(before)
    assert gaps() == []


def test_a_job_begun_again_after_its_end_does_nothing(imported, manager):
    run = work(undo_runs.order(imported.operation_id, manager))
    JobRun.objects.filter(pk=run.job_id).update(state=RunState.QUEUED)
    again = work(run)
    assert (again.job.state, again.operation_id) == ("done", run.operation_id)
    assert AuditEntry.objects.filter(undoes=imported.operation_id).count() == 1


def test_who_asks_twice_is_shown_the_run_that_waits_or_works(imported, manager, administrator):
    run = undo_runs.order(imported.operation_id, manager)
    assert undo_runs.order(imported.operation_id, administrator) == run
    JobRun.objects.update(state=RunState.RUNNING)
    assert undo_runs.order(imported.operation_id, administrator) == run
    assert JobRun.objects.filter(name=undo_runs.JOB).count() == 1


def test_after_the_job_the_operation_was_undone_already(imported, manager):
    work(undo_runs.order(imported.operation_id, manager))
    with pytest.raises(undo.AlreadyUndone):
        undo.undo(imported.operation_id, manager)
    run = work(undo_runs.order(imported.operation_id, manager))
    assert (run.state, run.put_back_count, run.left) == ("done", 0, [])


def test_an_operation_of_which_everything_was_touched_is_listed(imported, manager):
    Client.objects.update(note="met")
    Case.objects.update(loan_amount_czk=7)
    CaseStep.objects.update(deadline=None)
    before = counts()
    run = work(undo_runs.order(imported.operation_id, manager))
    assert (run.state, run.put_back_count, run.touched_count, counts()) == ("done", 0, sum(before), before)
    assert len(run.left) == 1 and run.left[0]["client"] == list(
        Client.objects.order_by("pk").values_list("pk", flat=True)
    )


def test_a_cancelled_undo_puts_nothing_back_and_can_be_asked_for_again(imported, manager, monkeypatch):
    before = counts()
    run = undo_runs.order(imported.operation_id, manager)
    undo_runs.cancel(run, by=manager)
    run = work(run)
    assert (undo_runs.state_of(run), undo_runs.said(run)) == ("failed", str(jobs.Cancelled()))
    with pytest.raises(jobs.NotRunnable):
        undo_runs.cancel(run, by=manager)
    again = undo_runs.order(imported.operation_id, manager)
    real = undo.carry_out

    def cancelled(*args, progress, **kwargs):
        run = UndoRun.objects.get(pk=again.pk)
        jobs.cancel(run.job, by=manager)
        return real(*args, progress=lambda done: _raise_cancelled(progress, done), **kwargs)

    def _raise_cancelled(progress, done):
        assert CaseStep.objects.count() < before[2]
        raise jobs.Cancelled()

    monkeypatch.setattr(undo, "carry_out", cancelled)
    again = work(again)
    assert (undo_runs.state_of(again), counts()) == ("failed", before)
    assert undo.undone_by(imported.operation_id) is None


def test_of_two_workers_at_one_undo_one_puts_back(imported, manager, monkeypatch):
    run = undo_runs.order(imported.operation_id, manager)
    real, woke = undo_runs._entry, []

    def stall(*args, **kwargs):
        if not woke:  # while the first sleeps its run is given back, and another does all of it
            woke.append(1)
            JobRun.objects.update(beat_at=timezone.now() - datetime.timedelta(hours=1))
            jobs.sweep(timezone.now())
            jobs.carry_out(run.job_id, tasks.JOBS)
        return real(*args, **kwargs)

    monkeypatch.setattr(undo_runs, "_entry", stall)
    work(run)
    assert counts() == (0, 0, 0)
    assert AuditEntry.objects.filter(undoes=imported.operation_id).count() == 1


def test_whoever_lost_his_job_while_he_worked_leaves_nothing(imported, manager, monkeypatch):
    before = counts()
    run = undo_runs.order(imported.operation_id, manager)
    monkeypatch.setattr(jobs.Progress, "is_mine", lambda progress: False)
    run = work(run)
    assert (run.state, counts(), undo.undone_by(imported.operation_id)) == ("queued", before, None)


@pytest.mark.parametrize("change", [{"is_active": False}, {"is_staff": False}, None])
def test_what_the_person_may_is_asked_again_in_the_job(imported, manager, change):
    before = counts()
    run = undo_runs.order(imported.operation_id, manager)
    if change:
        User.objects.filter(pk=manager.pk).update(**change)
    else:
        manager.groups.clear()
    run = work(run)
    assert (undo_runs.state_of(run), undo_runs.said(run)) == ("failed", str(NotAllowed()))
    assert counts() == before


def test_who_may_not_undo_or_does_not_see_the_operation_asks_for_none(imported, adviser, settings):
    with pytest.raises(NotAllowed):
        undo_runs.order(imported.operation_id, adviser)
    adviser.user_permissions.add(Permission.objects.get(codename="undo_operation"))
    adviser = User.objects.get(pk=adviser.pk)
    settings.ADVISER_SCOPE = "own"
    with pytest.raises(undo.NothingToUndo):
        undo_runs.order(imported.operation_id, adviser)


def test_an_adviser_who_sees_his_own_cases_puts_back_his_own(settings, adviser):
    settings.ADVISER_SCOPE = "own"
    adviser.user_permissions.add(Permission.objects.get(codename="undo_operation"))
    user = User.objects.get(pk=adviser.pk)
    factories.make_catalogue()
    mine = factories.make_case(factories.make_client("Bob"), adviser=user)
    foreign = factories.make_case(factories.make_client("Eve"), adviser=factories.make_user(roles.ADVISER))
    with operation(user=user) as done:
        Case.objects.update(loan_amount_czk=5)
    Case.objects.filter(pk=foreign.pk).update(loan_amount_czk=6)
    run = work(undo_runs.order(done.id, user))
    assert (run.state, run.put_back_count, run.touched_count, run.left) == ("done", 1, 0, [])
    mine.refresh_from_db()
    assert mine.loan_amount_czk is None
    other = User.objects.get(pk=factories.make_user(roles.ADVISER).pk)
    assert undo_runs.newest(done.id, other) is None


# --- What it has left ---


def test_what_was_touched_is_listed_with_its_family_and_forced_alone(imported, manager):
    case = Case.objects.order_by("pk").first()
    client, other = case.client, Client.objects.exclude(pk=case.client_id).order_by("pk").first()
    with operation(user=manager):
        Case.objects.filter(pk=case.pk).update(loan_amount_czk=7)
        Client.objects.filter(pk=other.pk).update(note="met")
    run = work(undo_runs.order(imported.operation_id, manager))
    assert (run.touched_count, run.blocked_count) == (2, 16)
    assert run.left == [
        {
            "client": [other.pk, client.pk],
            "case": [case.pk],
            "casestep": list(case.steps.order_by("pk").values_list("pk", flat=True)),
        }
    ]
    plan = plans.plan(imported.operation_id, manager, only=run.left[0])
    assert [list(plan.parts[model].touched) for model in (Client, Case)] == [[other.pk], [case.pk]]
    done = undo.undo(
        imported.operation_id, manager, forced=[seen(case)], only=run.left[0], reason="asked by the client"
    )
    assert done.count == 17
    assert list(Client.objects.all()) == [other]
    assert gaps() == []


def test_records_that_have_nothing_to_do_with_each_other_are_different_families(imported, manager):
    cases = list(Case.objects.order_by("pk")[:3])
    Case.objects.filter(pk__in=[case.pk for case in cases]).update(loan_amount_czk=7)
    plan = plans.plan(imported.operation_id, manager)
    families = plans.families(plan, 500)
    assert [family["case"] for family in families] == [[case.pk] for case in cases]
    assert all(len(family["casestep"]) == 15 and len(family["client"]) == 1 for family in families)
    assert len(plans.families(plan, 1)) == 1


def test_a_page_lists_so_many_families(imported, manager, monkeypatch):
    monkeypatch.setattr(undo_runs, "LISTED_AT_ONCE", 2)
    keys = list(Case.objects.order_by("pk").values_list("pk", flat=True)[:3])
    Case.objects.filter(pk__in=keys).update(loan_amount_czk=7)
    run = work(undo_runs.order(imported.operation_id, manager))
    assert [portion["case"] for portion in run.left] == [keys[:2], keys[2:]]


def test_some_records_of_an_operation_are_planned_as_if_there_were_no_others(imported, manager):
    client = Case.objects.order_by("pk").first().client
    plan = plans.plan(imported.operation_id, manager, only={"client": [client.pk]})
    assert plan.parts[Client].blocked == {client.pk: plans.STAYS}
    assert plan.count == 0 and list(plan.parts) == [Client]


@pytest.mark.django_db(transaction=True)
def test_of_two_who_ask_at_once_one_begins(manager, monkeypatch):
    catalogue.load()
    done = imports.write(imports.check(SAMPLE.read_bytes(), SAMPLE.name, manager), manager)
    found, gate, real = [], threading.Barrier(2, timeout=10), undo_runs.in_work

    def look(operation_id):
        run = real(operation_id)
        if not connection.in_atomic_block:  # neither has begun one then
            gate.wait()
        return run

    monkeypatch.setattr(undo_runs, "in_work", look)

    def ask():
        try:
            found.append(undo_runs.order(done.operation_id, manager).pk)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and len(set(found)) == 1
    assert JobRun.objects.filter(name=undo_runs.JOB).count() == 1
