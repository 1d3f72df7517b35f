"""Presets that are exported by the calendar: when, for whom, with which rights, and how he hears of it."""

import datetime
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.conf import settings
from django.contrib.auth.models import Permission
from django.db import connection
from django.db.models import QuerySet
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from crm import jobs, roles, tasks
from crm.choices import RunState
from crm.exports import regular, waiting
from crm.models import ExportPreset, ExportRun, ExportSchedule, JobRun, MessageLog, Notice, User
from crm.notices import mails
from crm.tests import factories

LIST, ADD = reverse("admin:crm_exportschedule_changelist"), reverse("admin:crm_exportschedule_add")
MONDAY = datetime.date(2026, 3, 2)


def at(day, hour=6, minute=0):
    return datetime.datetime(2026, 3, day, hour, minute, tzinfo=ZoneInfo(settings.TIME_ZONE))


def make(user, *, columns=("full_name",), query="", is_shared=False, owner=None, **values):
    preset = ExportPreset.objects.create(
        user=owner or user, name="Weekly list", model="client", format="csv", columns=list(columns), query=query,
        is_shared=is_shared,
    )  # fmt: skip
    return ExportSchedule.objects.create(user=user, preset=preset, since=MONDAY, **values)


def work(run):
    jobs.carry_out(run.job_id, tasks.JOBS)
    run.refresh_from_db()


def days_of_runs():
    return [run.slot for run in ExportRun.objects.order_by("pk")]


# --- When ---


def test_a_week_has_it_once_from_its_day_and_hour_on(manager):
    make(manager, day=3)
    for day, hour in ((3, 12), (4, 5)):
        assert regular.send(at(day, hour))["ordered"] == 0
    assert regular.send(at(4, 6))["ordered"] == 1
    for day, hour in ((4, 7), (5, 8), (8, 23), (9, 8)):
        assert regular.send(at(day, hour))["ordered"] == 0
    assert regular.send(at(12))["ordered"] == 1  # the worker was away on Wednesday
    assert days_of_runs() == ["2026-03-04", "2026-03-11"]


def test_a_month_has_it_once(manager):
    make(manager, rhythm="monthly", day=15)
    assert [regular.send(at(day))["ordered"] for day in (14, 15, 16, 31)] == [0, 1, 0, 0]


def test_the_days_before_it_was_made_or_unpaused_are_none_of_its_own(manager):
    schedule = make(manager, day=1, is_paused=True)
    assert regular.send(at(2))["ordered"] == 0
    ExportSchedule.objects.update(since=datetime.date(2026, 3, 4), is_paused=False)
    assert [regular.send(at(day))["ordered"] for day in (4, 9)] == [0, 1]
    schedule.refresh_from_db()
    schedule.is_paused = True
    schedule.save()
    schedule.is_paused = False
    schedule.save()
    assert schedule.since == timezone.localdate()


@pytest.mark.parametrize("values", [{"day": 3}, {"rhythm": "weekly", "day": 1}])
def test_a_day_that_is_over_is_not_made_up_for_when_the_rhythm_is_changed(manager, values):
    schedule = make(manager, rhythm="monthly", day=28)
    with time_machine.travel(at(20), tick=False):
        for name, value in values.items():
            setattr(schedule, name, value)
        schedule.save()
        assert schedule.since == datetime.date(2026, 3, 20)
        assert regular.send(at(20))["ordered"] == 0
    schedule.channel = "mail"
    schedule.save()
    assert schedule.since == datetime.date(2026, 3, 20)


def test_one_that_is_moved_to_today_comes_today(manager):
    schedule = make(manager, rhythm="monthly", day=28)
    with time_machine.travel(at(20), tick=False):
        schedule.day = 20
        schedule.save(update_fields=["day"])
        schedule.refresh_from_db()
        assert (schedule.since.day, regular.send(at(20))["ordered"]) == (20, 1)


def test_of_two_workers_at_once_one_orders_it(manager, monkeypatch):
    make(manager)
    regular.send(at(2))
    # As the second sees it before the first has committed.
    monkeypatch.setattr(QuerySet, "exists", lambda rows: rows.model is not ExportRun and rows.count() > 0)
    assert regular.send(at(2))["ordered"] == 0
    assert ExportRun.objects.count() == JobRun.objects.count() == 1


# --- What, for whom ---


@override_settings(ADVISER_SCOPE="own")
def test_the_file_has_his_rows_of_that_day_under_his_filter(adviser):
    factories.make_case(factories.make_client("Own", citizenship="CZ"), adviser=adviser)
    factories.make_case(factories.make_client("Own Slovak", citizenship="SK"), adviser=adviser)
    factories.make_case(factories.make_client("Foreign", citizenship="CZ"), adviser=factories.make_user())
    make(adviser, query="citizenship=CZ")
    regular.send(at(2))
    factories.make_case(factories.make_client("Newer", citizenship="CZ"), adviser=adviser)
    run = ExportRun.objects.get()
    work(run)
    content = b"".join(waiting.piece(run, number) for number in waiting.numbers(run)).decode()
    assert (run.rows, run.filter) == (2, {"citizenship": "CZ"})
    assert "Own;" in content and "Newer" in content and "Foreign" not in content and "Slovak" not in content
    assert run.kept_until - timezone.now() < datetime.timedelta(days=7)


def test_he_is_told_with_a_link_that_needs_a_login(browse, manager, client):
    make(manager)
    regular.send(at(2))
    assert not Notice.objects.exists()
    run = ExportRun.objects.get()
    work(run)
    assert regular.send(at(2, 7)) == {"ordered": 0, "told": 1}
    assert regular.send(at(2, 8)) == {"ordered": 0, "told": 0}
    page = reverse("admin:crm_exportrun_change", args=[run.pk])
    assert client.get(page).status_code == 302
    browser = browse(manager)
    assert "Regular export is ready: Weekly list" in browser.get(reverse("admin:crm_inbox")).content.decode()
    opened = browser.post(reverse("admin:crm_inbox_open", args=[Notice.objects.get().pk]))
    assert opened["Location"] == page
    assert "Download" in browser.get(page).content.decode()


@pytest.mark.parametrize(
    ("channel", "in_inbox", "mails_sent"), [("inbox", True, 0), ("mail", False, 1), ("both", True, 1)]
)
def test_he_is_told_as_he_chose(manager, channel, in_inbox, mails_sent):
    make(manager, channel=channel)
    regular.send(at(2))
    run = ExportRun.objects.get()
    work(run)
    regular.send(at(2, 7))
    notice = Notice.objects.get()
    mails.send(timezone.now() + datetime.timedelta(minutes=20))
    assert (notice.in_inbox, MessageLog.objects.count()) == (in_inbox, mails_sent)
    if mails_sent:
        assert reverse("admin:crm_exportrun_change", args=[run.pk]) in MessageLog.objects.get().body


# --- What fails is told ---


def left(user):
    roles.assign(user, roles.AUDITOR)


def unshared(user):
    ExportPreset.objects.update(user=factories.make_user(), is_shared=False)


def lost_a_column(user):
    ExportPreset.objects.update(columns=["full_name", "birth_number"])


@pytest.mark.parametrize("change", [left, unshared, lost_a_column])
def test_what_his_rights_do_not_allow_any_more_is_told_as_failed(adviser, change):
    User.objects.filter(pk=adviser.pk).update(language="en")
    make(adviser, reason="The bank asks")
    change(adviser)
    regular.send(at(2))
    run = ExportRun.objects.get()
    assert (run.state, run.message, run.job) == (RunState.FAILED, "Your role does not allow this.", None)
    assert Notice.objects.get().kind == "export_failed"
    regular.send(at(2, 7))
    assert ExportRun.objects.count() == Notice.objects.count() == 1


def test_a_file_that_was_sent_is_not_given_to_who_lost_a_right_since(browse, manager):
    make(manager, columns=["birth_number"], reason="The bank asks")
    regular.send(at(2))
    run = ExportRun.objects.get()
    work(run)
    url = reverse("admin:crm_exportrun_file", args=[run.pk])
    assert browse(manager).get(url).status_code == 200
    manager.groups.get().permissions.remove(Permission.objects.get(codename="export_sensitive"))
    assert browse(manager).get(url).status_code == 403


def test_a_job_that_was_given_up_is_told_as_failed(manager):
    make(manager, channel="mail")
    regular.send(at(2))
    JobRun.objects.update(state=RunState.FAILED)  # as the sweep leaves what was killed three times
    assert regular.send(at(2, 7))["told"] == 1
    assert (Notice.objects.get().kind, Notice.objects.get().in_inbox) == ("export_failed", True)


def test_who_does_not_work_here_any_more_gets_nothing(manager):
    make(manager)
    User.objects.filter(pk=manager.pk).update(is_active=False)
    assert regular.send(at(2)) == {"ordered": 0, "told": 0}


# --- Pages ---


def given(preset, **values):
    return {"preset": preset.pk, "rhythm": "weekly", "day": "1", "channel": "both", **values}


def test_one_is_made_from_a_preset_and_is_ones_own(browse, adviser):
    preset = make(adviser).preset
    ExportSchedule.objects.all().delete()
    browser = browse(adviser)
    assert f'value="{preset.pk}" selected' in browser.get(f"{ADD}?preset={preset.pk}").content.decode()
    browser.post(ADD, given(preset, day="5"))
    schedule = ExportSchedule.objects.get()
    assert (schedule.user, schedule.day) == (adviser, 5)
    assert "Weekly: Friday" in browser.get(LIST).content.decode()


@pytest.mark.parametrize(
    ("values", "field"), [({"day": "8"}, "day"), ({"rhythm": "monthly", "day": "29"}, "day"), ({"day": "0"}, "day")]
)
def test_no_day_is_taken_that_does_not_come(browse, manager, values, field):
    preset = make(manager).preset
    answer = browse(manager).post(ADD, given(preset, **values))
    assert answer.context["adminform"].form.errors[field]


def test_sensitive_columns_need_a_reason_here_too(browse, manager):
    preset = make(manager, columns=["birth_number"]).preset
    browser = browse(manager)
    answer = browser.post(ADD, given(preset))
    assert answer.context["adminform"].form.errors["reason"]
    browser.post(ADD, given(preset, reason="The bank asks"))
    assert (
        ExportSchedule.objects.get(reason__isnull=False, pk__gt=preset.schedules.first().pk).reason == "The bank asks"
    )


def test_of_anothers_private_preset_nothing_is_sent(browse, manager, adviser):
    preset = make(manager).preset
    answer = browse(adviser).post(ADD, given(preset))
    assert answer.context["adminform"].form.errors["preset"]


def test_anothers_is_not_found_and_whoever_sees_all_may_pause_it_alone(browse, adviser, manager):
    schedule = make(adviser)
    page = reverse("admin:crm_exportschedule_change", args=[schedule.pk])
    assert browse(factories.make_user()).get(page).status_code == 404
    browser = browse(manager)
    shown = browser.get(page)
    versions = shown.context["versions"]
    browser.post(page, {"is_paused": "on", "day": "7", "_versions": versions})
    schedule.refresh_from_db()
    assert (schedule.is_paused, schedule.day, schedule.user) == (True, 1, adviser)


def test_who_may_no_longer_export_its_columns_may_pause_it_and_not_let_it_go_on(browse, manager):
    schedule = make(manager, columns=("birth_number",), reason="Insurance")
    manager.groups.get().permissions.remove(Permission.objects.get(codename="export_sensitive"))
    page, browser = reverse("admin:crm_exportschedule_change", args=[schedule.pk]), browse(manager)
    for paused in ({"is_paused": "on"}, {}):
        typed = given(schedule.preset, reason="Insurance", _versions=browser.get(page).context["versions"], **paused)
        browser.post(page, typed)
        schedule.refresh_from_db()
        assert schedule.is_paused


@pytest.mark.parametrize("role", [roles.ASSISTANT, roles.AUDITOR])
def test_it_is_for_who_exports(browse, db, role):
    assert browse(factories.make_user(role)).get(LIST).status_code == 403


def test_ten_rows_and_twenty_cost_the_same_number_of_queries(browse, manager):
    schedule = make(manager)
    ExportRun.objects.create(schedule=schedule, model="client", format="csv", user=manager)
    browser = browse(manager)

    def queries():
        with CaptureQueriesContext(connection) as found:
            browser.get(LIST)
        return len(found)

    queries()
    few = queries()
    for _number in range(3):
        ExportSchedule.objects.create(user=manager, preset=schedule.preset)
    assert queries() == few <= 12
