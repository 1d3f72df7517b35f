import datetime
import random

import pytest
from django.contrib.auth import authenticate
from django.core.management import call_command
from django.db import transaction
from django.test import RequestFactory, override_settings
from django.utils import timezone
from stdnum.cz import bankaccount, dic, rc

from crm import catalogue, demo, roles, workflow
from crm.choices import ACTIVE_STATUSES, CaseStatus, StepState
from crm.demo.people import bank_account, birth_number, business_id
from crm.models import (
    Case,
    CaseParty,
    CaseStep,
    Client,
    Commission,
    Consent,
    Document,
    FinanceItem,
    Identification,
    Lender,
    Note,
    Notice,
    Property,
    SearchToken,
    User,
)  # fmt: skip
from crm.tests import factories

FRIDAY = datetime.date(2026, 3, 6)
EVERYTHING = (
    Client,
    Case,
    CaseStep,
    CaseParty,
    Property,
    Document,
    Note,
    FinanceItem,
    Consent,
    Identification,
    Commission,
)


@pytest.fixture(scope="module")
def office(django_db_setup, django_db_blocker):
    """One office for the whole file: each test's own changes are rolled back to it."""
    with django_db_blocker.unblock(), override_settings(DEBUG=True), transaction.atomic():
        demo.load(60, now=at(FRIDAY))
        yield
        transaction.set_rollback(True)


@pytest.fixture(autouse=True)
def _in_the_office(office, db):
    pass


def at(day: datetime.date) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time(11), timezone.get_current_timezone())


def counts() -> list[int]:
    return [model.objects.count() for model in (*EVERYTHING, User, SearchToken, Lender)]


# --- Who is there ---


@pytest.mark.parametrize("login", demo.LOGINS, ids=lambda login: login.username)
def test_every_login_works_with_its_role(login):
    request = RequestFactory().post("/")
    user = authenticate(request, username=login.username, password=login.password)
    assert user.is_demo
    assert roles.role_of(user) == login.role
    assert user.is_staff == (login.role != roles.CLIENT)


def test_there_is_a_login_for_every_role():
    assert {login.role for login in demo.LOGINS} == set(roles.ROLES)


def test_a_login_prints_as_a_line_for_people():
    assert str(demo.LOGINS[0]) == f"administrator / {demo.PASSWORD} (Administrator)"


def test_the_client_s_login_belongs_to_a_client():
    assert Client.objects.filter(portal_user__username="client").exists()


def test_one_adviser_is_away_and_his_active_cases_have_a_stand_in():
    away = [user for user in User.objects.all() if user.is_absent(FRIDAY)]
    assert len(away) == 1
    cases = Case.objects.filter(adviser=away[0], status__in=ACTIVE_STATUSES)
    assert cases.exists()
    assert not cases.filter(stand_in=None).exists()


# --- What is there ---


def test_cases_are_in_every_status():
    assert set(Case.objects.values_list("status", flat=True)) == set(CaseStatus.values)


def test_what_is_stored_of_every_case_is_true():
    assert list(workflow.mismatches()) == []


def test_everything_would_pass_the_forms():
    for model in (*EVERYTHING, User):
        for row in model.objects.all():
            row.full_clean()


def test_nothing_was_done_or_opened_in_the_future():
    assert not CaseStep.objects.filter(completed_on__gt=FRIDAY).exists()
    assert not Case.objects.filter(opened_on__gt=FRIDAY).exists()
    assert not CaseStep.history.filter(history_date__gt=at(FRIDAY)).exists()


def test_steps_are_done_by_more_than_one_person():
    done = CaseStep.objects.filter(state=StepState.DONE)
    assert done.values("completed_by").distinct().count() >= 3


@pytest.mark.parametrize("model", EVERYTHING, ids=lambda model: model.__name__)
def test_there_are_some_of_everything_and_each_has_its_history(model):
    assert model.objects.exists()
    assert set(model.objects.values_list("pk", flat=True)) == set(
        model.history.filter(history_type="+").values_list("id", flat=True)
    )


def test_every_settled_step_has_a_change_by_a_person_in_its_history():
    settled = CaseStep.objects.exclude(state=StepState.PENDING)
    changes = CaseStep.history.filter(history_type="~")
    assert changes.count() == settled.count()
    assert not changes.filter(history_user_name="").exists()
    assert changes.values("history_user_id").distinct().count() >= 3


def test_a_step_s_history_begins_pending():
    assert set(CaseStep.history.filter(history_type="+").values_list("state", flat=True)) == {StepState.PENDING}


def test_the_last_history_row_of_a_case_is_the_case():
    for case in Case.objects.all():
        last = case.history.first()
        assert (last.status, last.current_step_id, last.next_deadline, last.contract_number) == (
            case.status, case.current_step_id, case.next_deadline, case.contract_number,
        )  # fmt: skip


def test_mail_goes_to_example_com_only():
    mails = [client.email for client in Client.objects.all()] + [user.email for user in User.objects.all()]
    assert all(mail.endswith("@example.com") for mail in mails)
    assert len(set(mails)) == len(mails)


def test_cases_are_with_invented_lenders_only():
    shipped = {row.name for row in catalogue._shipped()["Lender"]}
    used = set(Case.objects.exclude(lender=None).values_list("lender__name", flat=True))
    assert used
    assert not used & shipped


def test_people_of_both_sexes_and_ages_have_birth_numbers_of_their_birth_date():
    numbers = [(client.birth_number, client.birth_date) for client in Client.objects.all() if client.birth_number]
    for number, born in numbers:
        assert number[:2] == f"{born:%y}"
        assert int(number[2:4]) % 50 == born.month
        assert int(number[4:6]) == born.day
        assert len(number) == (10 if born.year < 1954 else 11)
    assert {int(number[2]) >= 5 for number, born in numbers} == {True, False}
    assert any(born.year < 1954 for number, born in numbers)


def test_drawn_numbers_check_out():
    dice = random.Random(1)
    for _ in range(2000):
        born = datetime.date(1930, 1, 1) + datetime.timedelta(days=dice.randint(0, 28_000))
        rc.validate(birth_number(dice, born, female=dice.random() < 0.5))
        bankaccount.validate(bank_account(dice))
        dic.validate(business_id(dice))


def test_a_client_is_found_by_his_name():
    client = Client.objects.first()
    assert client in Client.objects.search(client.full_name.split()[-1])


def test_new_clients_get_references_and_keys_after_the_demo_s():
    last = Client.objects.first()
    client = factories.make_client("Nový Člověk")
    assert client.reference > last.reference
    step = CaseStep.objects.order_by("-pk").first()
    assert factories.make_case(client, opened_on=FRIDAY).steps.order_by("pk").first().pk > step.pk


def test_grow_adds_other_people():
    demo.grow(30, now=at(FRIDAY))
    assert Client.objects.count() == 90
    mails = [client.email for client in Client.objects.all()]
    assert len(set(mails)) == 90
    assert list(workflow.mismatches()) == []


def test_a_second_time_changes_nothing():
    before = counts()
    assert demo.load(60) == 0
    assert counts() == before


def test_command_says_that_the_office_is_here_already(capsys):
    call_command("load_demo")
    assert "already" in capsys.readouterr().out


def test_inboxes_hold_what_happened_to_ones_own_cases_and_something_new():
    told = Notice.objects.of(User.objects.get(username="adviser"))
    assert told.unread().exists() and told.exclude(read_at=None).exists()
    assert not told.exclude(case__adviser__username="adviser").exists()
    assert Notice.objects.of(User.objects.get(username="manager")).filter(kind="approved").exists()
    assert not Notice.objects.to_mail().exists() and not Notice.objects.filter(created_at__gt=at(FRIDAY)).exists()
