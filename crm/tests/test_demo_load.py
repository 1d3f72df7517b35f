import datetime
import threading

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from crm import catalogue, demo, workflow
from crm.exceptions import DatabaseNotEmpty, NotInProduction
from crm.models import CaseStep, Client, Step, User
from crm.tests import factories

FRIDAY, SATURDAY = datetime.date(2026, 3, 6), datetime.date(2026, 3, 7)


@pytest.fixture(autouse=True)
def _desk(settings):
    settings.DEBUG = True


def at(day: datetime.date) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time(11), timezone.get_current_timezone())


def days(count: int) -> datetime.timedelta:
    return datetime.timedelta(days=count)


@pytest.mark.parametrize("count", [1, 7, 60])
def test_it_writes_as_many_clients_as_were_asked_for(db, count):
    assert demo.load(count, now=at(FRIDAY)) == count
    assert Client.objects.count() == count


def names_of_a_new_office() -> list[str]:
    with transaction.atomic():
        demo.load(5, now=at(FRIDAY))
        found = [client.full_name for client in Client.objects.all()]
        transaction.set_rollback(True)
    return found


def test_the_same_people_come_every_time(db):
    assert names_of_a_new_office() == names_of_a_new_office()


@pytest.mark.parametrize("today", [FRIDAY, SATURDAY, datetime.date(2026, 12, 25), datetime.date(2028, 2, 29)])
def test_my_day_is_alive_whatever_day_it_is(db, today):
    demo.load(60, now=at(today))
    steps = CaseStep.objects
    assert steps.overdue(today).exists()
    assert steps.due_on(today).exists()
    assert steps.due_between(today + days(1), today + days(3)).exists()
    assert steps.due_between(today + days(8), today + days(90)).exists()


# --- When it refuses ---


def test_it_refuses_production(db, settings):
    settings.DEBUG = False
    with pytest.raises(NotInProduction):
        demo.load(5)
    assert not Client.objects.exists()


def test_it_refuses_a_database_with_a_client(db):
    factories.make_client()
    with pytest.raises(DatabaseNotEmpty):
        demo.load(5)
    assert Client.objects.count() == 1
    assert not User.objects.filter(is_demo=True).exists()


def test_it_refuses_a_database_where_somebody_has_a_demo_s_user_name(db):
    User.objects.create_user("adviser", "somebody@example.com", "a long enough password")
    with pytest.raises(DatabaseNotEmpty):
        demo.load(5)


def test_the_first_administrator_is_no_obstacle(db):
    User.objects.create_superuser("boss@example.com", "boss@example.com", "a long enough password")
    assert demo.load(5) == 5
    assert User.objects.filter(username="boss@example.com", is_demo=False).exists()


def test_it_writes_all_or_nothing(db, monkeypatch):
    monkeypatch.setattr(demo, "_give_portal_login", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        demo.load(5)
    assert not Client.objects.exists()
    assert not User.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_at_once_load_one_office():
    results = []

    def load() -> None:
        try:
            results.append(demo.load(20))
        finally:
            connection.close()

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0, 20]
    assert Client.objects.count() == 20


# --- The command ---


def test_command_loads_sixty_and_says_so(db, capsys):
    with time_machine.travel(at(FRIDAY), tick=False):
        call_command("load_demo")
    assert "60" in capsys.readouterr().out
    assert CaseStep.objects.due_on(FRIDAY).exists()


def test_command_refuses_in_one_line(db):
    factories.make_client()
    with pytest.raises(CommandError, match="holds other data"):
        call_command("load_demo")


def test_command_refuses_production(db, settings):
    settings.DEBUG = False
    with pytest.raises(CommandError, match="DEBUG=1"):
        call_command("load_demo")


def test_command_refuses_no_clients(db):
    with pytest.raises(CommandError, match="at least 1"):
        call_command("load_demo", "--clients", "0")


def test_an_office_that_changed_its_steps_gets_cases_with_those(db):
    catalogue.load()
    Step.objects.filter(code="odhad").update(is_active=False)
    Step.objects.create(number=16, code="oslava", name_cs="Oslava", name_en="Party", default_days=112)
    demo.load(20, now=at(FRIDAY))
    assert not CaseStep.objects.filter(step__code="odhad").exists()
    assert CaseStep.objects.filter(step__code="oslava").exists()
    assert list(workflow.mismatches()) == []
