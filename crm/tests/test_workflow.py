import datetime
import threading
from decimal import Decimal

import pytest
from django.db import connection

from crm import roles, workflow
from crm.choices import CaseStatus, StepState
from crm.exceptions import (
    CannotTakeCase,
    CaseNotActive,
    EarlierStepsPending,
    ImpossibleValue,
    NotAllowed,
    ReasonMissing,
    StepAlreadyDone,
    StepNotDone,
    WrongStatus,
)
from crm.models import Case, CaseStep, Step
from crm.tests import factories
from crm.tests.factories import TODAY, make_case, make_client, make_lender, make_user

pytestmark = pytest.mark.django_db
NEXT_WEEK = TODAY + datetime.timedelta(days=7)


def step(case, number):
    return case.steps.get(step__number=number)


def complete_up_to(case, number, by=None):
    for each in case.steps.filter(step__number__lte=number).order_by("step__number"):
        workflow.complete_step(each, by=by, on=TODAY)


def fresh(case):
    return Case.objects.get(pk=case.pk)


def test_a_new_case_has_the_catalogues_fifteen_steps_in_order():
    case = make_case()
    assert [each.step.number for each in case.steps.order_by("step__number")] == list(range(1, 16))
    assert fresh(case).current_step.number == 1
    assert fresh(case).next_deadline == NEXT_WEEK
    assert fresh(case).status == CaseStatus.OPEN


def test_an_inactive_kind_of_step_stays_out_of_new_cases():
    factories.make_catalogue()
    Step.objects.filter(number=15).update(is_active=False)
    assert make_case().steps.count() == 14


def test_deadlines_fall_on_working_days():
    case = make_case(opened_on=datetime.date(2026, 3, 27))  # plus 7 days is Good Friday
    assert step(case, 1).deadline == datetime.date(2026, 4, 7)


def test_deadlines_stay_where_they_fall_when_the_office_wants_that(settings):
    settings.DEADLINES_ON_WORKING_DAYS = False
    assert step(make_case(opened_on=datetime.date(2026, 3, 27)), 1).deadline == datetime.date(2026, 4, 3)


def test_starting_a_case_writes_one_history_row_for_it_and_one_for_each_step():
    case = make_case()
    assert case.history.count() == 1
    assert case.history.get().current_step_id == case.current_step_id
    assert CaseStep.history.filter(case_id=case.pk).count() == 15
    assert {case.history.get().operation_id} == set(CaseStep.history.values_list("operation_id", flat=True))


def test_completing_a_step_moves_the_case_on(adviser):
    case = make_case(adviser=adviser)
    workflow.complete_step(step(case, 1), by=adviser, on=TODAY)
    done = step(case, 1)
    assert (done.state, done.completed_on, done.completed_by) == (StepState.DONE, TODAY, adviser)
    assert fresh(case).current_step.number == 2
    assert fresh(case).next_deadline == step(case, 2).deadline


def test_completing_a_step_writes_one_row_of_the_step_and_one_of_the_case_under_one_operation(adviser):
    case = make_case()
    workflow.complete_step(step(case, 1), by=adviser, on=TODAY)
    step_row = step(case, 1).history.first()
    case_row = case.history.first()
    assert step(case, 1).history.count() == 2
    assert case.history.count() == 2
    assert step_row.operation_id == case_row.operation_id
    assert (step_row.history_user_id, step_row.history_user_name) == (adviser.pk, adviser.get_display_name())


def test_a_done_step_is_not_completed_twice(adviser):
    case = make_case()
    workflow.complete_step(step(case, 1), by=adviser, on=TODAY)
    with pytest.raises(StepAlreadyDone):
        workflow.complete_step(step(case, 1), by=adviser, on=NEXT_WEEK)
    assert step(case, 1).completed_on == TODAY
    assert step(case, 1).history.count() == 2


def test_a_step_waits_for_every_earlier_one(adviser):
    case = make_case()
    with pytest.raises(EarlierStepsPending) as refused:
        workflow.complete_step(step(case, 3), by=adviser, on=TODAY)
    assert refused.value.details["blocking"] == 1
    assert step(case, 3).state == StepState.PENDING


def test_a_step_may_follow_one_that_is_not_applicable(adviser):
    case = make_case()
    workflow.mark_not_applicable(step(case, 1), by=adviser)
    workflow.complete_step(step(case, 2), by=adviser, on=TODAY)
    assert fresh(case).current_step.number == 3


def test_a_manager_overrides_the_order_with_a_reason_that_the_history_keeps(manager):
    case = make_case()
    workflow.complete_step(step(case, 3), by=manager, on=TODAY, override_reason="The lender was chosen first")
    assert step(case, 3).state == StepState.DONE
    assert step(case, 3).history.first().history_change_reason == "The lender was chosen first"
    assert fresh(case).current_step.number == 1


def test_an_adviser_may_not_override_the_order(adviser):
    case = make_case()
    with pytest.raises(NotAllowed):
        workflow.complete_step(step(case, 3), by=adviser, on=TODAY, override_reason="I want to")
    assert step(case, 3).state == StepState.PENDING


def test_an_auditor_completes_nothing(auditor):
    with pytest.raises(NotAllowed):
        workflow.complete_step(step(make_case(), 1), by=auditor, on=TODAY)


def test_an_adviser_who_sees_only_his_own_cases_cannot_touch_another_ones(adviser, settings):
    settings.ADVISER_SCOPE = "own"
    case = make_case(adviser=make_user(roles.ADVISER))
    with pytest.raises(NotAllowed):
        workflow.complete_step(step(case, 1), by=adviser, on=TODAY)


def test_a_case_whose_every_step_is_settled_is_completed():
    case = make_case()
    complete_up_to(case, 15)
    assert fresh(case).status == CaseStatus.COMPLETED
    assert fresh(case).current_step is None
    assert fresh(case).next_deadline is None


def test_reopening_a_step_of_a_completed_case_opens_it_again():
    case = make_case()
    complete_up_to(case, 15)
    workflow.reopen_step(step(case, 15), by=None)
    assert fresh(case).status == CaseStatus.OPEN
    assert fresh(case).current_step.number == 15
    assert step(case, 15).completed_on is None


def test_reopening_a_late_step_of_an_approved_and_completed_case_leaves_it_approved():
    case = make_case()
    complete_up_to(case, 8)
    workflow.approve(case, by=None, on=TODAY, lender=make_lender(), amount_czk=Decimal(1000000))
    for number in range(10, 16):
        workflow.complete_step(step(case, number), by=None, on=TODAY)
    workflow.reopen_step(step(case, 15), by=None)
    assert fresh(case).status == CaseStatus.APPROVED


def test_a_pending_step_cannot_be_reopened(adviser):
    with pytest.raises(StepNotDone):
        workflow.reopen_step(step(make_case(), 1), by=adviser)


def test_approving_records_lender_amount_and_day_and_completes_underwriting(adviser):
    case = make_case()
    complete_up_to(case, 8)
    lender = make_lender()
    workflow.approve(case, by=adviser, on=TODAY, lender=lender, amount_czk=Decimal("2500000.00"))
    case = fresh(case)
    assert (case.status, case.lender, case.approved_amount_czk) == (CaseStatus.APPROVED, lender, Decimal(2500000))
    assert case.decided_on == TODAY
    assert step(case, 9).state == StepState.DONE
    assert case.current_step.number == 10


def test_approving_waits_for_the_earlier_steps(adviser):
    case = make_case()
    with pytest.raises(EarlierStepsPending):
        workflow.approve(case, by=adviser, on=TODAY, lender=make_lender(), amount_czk=Decimal(1))
    assert fresh(case).status == CaseStatus.OPEN


@pytest.mark.parametrize("amount", [None, Decimal(0), Decimal(-1)])
def test_approving_needs_a_positive_amount(adviser, amount):
    case = make_case()
    complete_up_to(case, 8)
    with pytest.raises(ImpossibleValue):
        workflow.approve(case, by=adviser, on=TODAY, lender=make_lender(), amount_czk=amount)
    assert fresh(case).status == CaseStatus.OPEN


def test_reopening_underwriting_takes_the_approval_back_and_keeps_the_typed_amounts(adviser):
    case = make_case()
    complete_up_to(case, 8)
    workflow.approve(case, by=adviser, on=TODAY, lender=make_lender(), amount_czk=Decimal(7))
    workflow.reopen_step(step(case, 9), by=adviser)
    case = fresh(case)
    assert (case.status, case.decided_on, case.approved_amount_czk) == (CaseStatus.OPEN, None, Decimal(7))


def test_rejecting_keeps_the_reason_and_takes_the_deadline_off(adviser):
    case = make_case()
    workflow.reject(case, by=adviser, on=TODAY, reason="Income too low")
    case = fresh(case)
    assert (case.status, case.rejection_reason, case.decided_on) == (CaseStatus.DECLINED, "Income too low", TODAY)
    assert case.next_deadline is None
    assert case.current_step.number == 1


def test_rejecting_needs_a_reason(adviser):
    case = make_case()
    with pytest.raises(ReasonMissing):
        workflow.reject(case, by=adviser, on=TODAY, reason="  ")
    assert fresh(case).status == CaseStatus.OPEN


def test_an_assistant_may_not_reject(assistant):
    with pytest.raises(NotAllowed):
        workflow.reject(make_case(), by=assistant, on=TODAY, reason="No")


def test_a_declined_case_takes_no_steps(adviser):
    case = make_case()
    workflow.reject(case, by=adviser, on=TODAY, reason="No")
    with pytest.raises(CaseNotActive):
        workflow.complete_step(step(case, 1), by=adviser, on=TODAY)


def test_a_declined_case_cannot_be_withdrawn(adviser):
    case = make_case()
    workflow.reject(case, by=adviser, on=TODAY, reason="No")
    with pytest.raises(WrongStatus):
        workflow.withdraw(case, by=adviser, on=TODAY, reason="Gone")


def test_a_withdrawn_case_can_be_reopened_and_goes_on_where_it_was(adviser):
    case = make_case()
    workflow.complete_step(step(case, 1), by=adviser, on=TODAY)
    workflow.withdraw(case, by=adviser, on=TODAY, reason="Changed his mind")
    workflow.reopen_case(case, by=adviser, reason="Came back")
    case = fresh(case)
    assert (case.status, case.current_step.number, case.decided_on) == (CaseStatus.OPEN, 2, None)
    assert case.next_deadline == step(case, 2).deadline


def test_a_manager_hands_a_case_over(manager, adviser):
    case = make_case(adviser=make_user())
    workflow.hand_over(case, by=manager, to=adviser, reason="Holiday")
    assert fresh(case).adviser == adviser
    assert case.history.first().history_change_reason == "Holiday"


def test_an_adviser_hands_nothing_over(adviser):
    with pytest.raises(NotAllowed):
        workflow.hand_over(make_case(adviser=adviser), by=adviser, to=make_user())


def test_a_case_is_not_handed_to_who_has_left(manager):
    with pytest.raises(CannotTakeCase):
        workflow.hand_over(make_case(), by=manager, to=make_user(is_active=False))


def test_a_case_is_not_handed_to_who_may_only_look(manager, auditor):
    case = make_case()
    with pytest.raises(CannotTakeCase):
        workflow.hand_over(case, by=manager, to=auditor)
    assert fresh(case).adviser is None


def test_moving_a_deadline_moves_the_cases_next_one(adviser):
    case = make_case()
    workflow.set_deadline(step(case, 5), TODAY, by=adviser)
    assert fresh(case).next_deadline == TODAY


def test_setting_the_same_deadline_writes_nothing(adviser):
    case = make_case()
    workflow.set_deadline(step(case, 1), NEXT_WEEK, by=adviser)
    assert step(case, 1).history.count() == 1


def test_moving_a_kind_of_step_moves_the_others_and_the_cases_follow(manager):
    case = make_case()
    last = Step.objects.get(number=15)
    workflow.renumber_step(last, 1, by=manager)
    assert list(Step.objects.order_by("number").values_list("number", flat=True)) == list(range(1, 16))
    assert fresh(case).current_step == last


def test_a_sixteenth_step_goes_into_new_cases_and_on_request_into_open_ones(manager):
    case = make_case()
    extra = Step.objects.create(
        number=16, code="predani_klicu", name_cs="Předání klíčů", name_en="Keys", default_days=112
    )
    assert make_case(make_client("Bob")).steps.count() == 16
    assert workflow.add_to_open_cases(extra, by=manager) == 1
    assert case.steps.count() == 16


def test_stored_state_that_is_wrong_is_named_and_mended():
    case = make_case()
    assert list(workflow.mismatches()) == []
    Case.objects.filter(pk=case.pk).update(next_deadline=TODAY, status=CaseStatus.COMPLETED)
    assert {(reference, field) for reference, field, *_ in workflow.mismatches()} == {
        (case.reference, "next_deadline"),
        (case.reference, "status"),
    }
    assert workflow.resettle(Case.objects.all()) == 1
    assert list(workflow.mismatches()) == []


def test_reordering_reads_only_the_cases_whose_step_it_changes(manager, django_assert_max_num_queries):
    settled = make_case()
    complete_up_to(settled, 15)
    for _ in range(3):
        make_case()
    last = Step.objects.get(number=15)
    with django_assert_max_num_queries(80):
        workflow.renumber_step(last, 14, by=manager)
    assert settled.history.count() == 16
    assert list(workflow.mismatches()) == []


def race(*actions):
    """Runs the actions at once, each on a connection of its own; returns what they raised."""
    start, raised = threading.Barrier(len(actions)), []

    def run(action):
        start.wait()
        try:
            action()
        except Exception as error:
            raised.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


@pytest.mark.django_db(transaction=True)
def test_stored_state_stays_true_while_the_catalogue_is_reordered_under_people_at_work():
    roles.sync()
    factories.make_catalogue()
    manager, adviser = make_user(roles.MANAGER), make_user()
    cases = [make_case() for _ in range(6)]

    def reorder():
        for number in (15, 1, 8):
            workflow.renumber_step(Step.objects.get(code="odhad"), number, by=manager)

    def work():
        for case in cases:
            workflow.complete_step(
                fresh(case).steps.get(step=fresh(case).current_step), by=manager, on=TODAY, override_reason="x"
            )
            workflow.set_deadline(case.steps.get(step__code="cerpani"), TODAY, by=adviser)

    def begin():
        for _ in range(4):
            make_case()

    assert race(reorder, work, begin) == []
    assert list(workflow.mismatches()) == []


@pytest.mark.django_db(transaction=True)
def test_of_two_people_who_tick_one_step_one_wins_and_the_other_is_told():
    roles.sync()
    alice, bob = make_user(), make_user()
    case = make_case()
    target = step(case, 1)
    start = threading.Barrier(2)
    outcomes = []

    def tick(person):
        start.wait()
        try:
            workflow.complete_step(target, by=person, on=TODAY)
            outcomes.append("won")
        except StepAlreadyDone:
            outcomes.append("told")
        finally:
            connection.close()

    threads = [threading.Thread(target=tick, args=(person,)) for person in (alice, bob)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["told", "won"]
    assert target.history.count() == 2
