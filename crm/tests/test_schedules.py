import pytest
from django.conf import settings as project
from django_q.models import Schedule

from crm import schedules, tasks
from crm.models import AuditCheck, AuditSeal
from crm.tests.audit.sealed import KEY, make_past

pytestmark = pytest.mark.django_db


def names() -> list[str]:
    return sorted(Schedule.objects.values_list("name", flat=True))


def test_with_a_key_the_worker_seals_every_hour_and_verifies_every_day(settings):
    settings.AUDIT_KEYS = [KEY]
    schedules.sync()
    schedules.sync()
    assert names() == ["seal_audit", "verify_audit"]
    assert Schedule.objects.get(name="seal_audit").schedule_type == Schedule.HOURLY


def test_what_the_office_has_changed_stays(settings):
    settings.AUDIT_KEYS = [KEY]
    schedules.sync()
    Schedule.objects.filter(name="verify_audit").update(schedule_type=Schedule.WEEKLY)
    schedules.sync()
    assert Schedule.objects.get(name="verify_audit").schedule_type == Schedule.WEEKLY


def test_without_a_key_there_is_nothing_to_run(settings):
    settings.AUDIT_KEYS = [KEY]
    schedules.sync()
    settings.AUDIT_KEYS = []
    schedules.sync()
    assert names() == []
    assert project.AUDIT_ANCHOR == ""


def test_the_tasks_do_it(settings):
    settings.AUDIT_KEYS = [KEY]
    make_past()
    assert "1 seals, waiting: none" in tasks.seal_audit()
    assert tasks.verify_audit() is True
    assert (AuditSeal.objects.count(), AuditCheck.objects.get().is_whole) == (1, True)
