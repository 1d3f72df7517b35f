"""The Jobs page: whether anybody works, what was expected and done, and what can be done about a run."""

import datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import override
from django_q.models import OrmQ

from crm import jobs, roles, schedules, tasks
from crm.admin.jobs import when_text
from crm.models import JobRun, JobSchedule
from crm.tests import factories

pytestmark = pytest.mark.django_db
PAGE = reverse("admin:crm_jobrun_changelist")
DEAD = "Start it with: manage.py worker"


@pytest.fixture
def boss(db):
    return factories.make_user(roles.ADMINISTRATOR, language="en")


@pytest.fixture
def jana(db):
    return factories.make_user(roles.MANAGER, language="en")


@pytest.fixture(autouse=True)
def table(db):
    schedules.sync()


def test_the_page_tells_what_is_scheduled_and_what_became_of_it(client, boss):
    tasks.beat()
    run = schedules.run_now("tidy_jobs", by=boss)
    tasks.run_job(run.pk)
    JobRun.objects.create(
        name="tidy_jobs", slot="2026-03-02T04:30", state="missed", due_at=timezone.now() - datetime.timedelta(minutes=2)
    )
    client.force_login(boss)
    answer = client.get(PAGE)
    shown = answer.content.decode()
    assert "Tidy up after jobs" in shown and "daily 04:30" in shown and DEAD not in shown
    [line] = [line for line in answer.context["jobs"]["schedules"] if line["told"].schedule.name == "tidy_jobs"]
    assert (line["told"].missed, line["told"].last.pk) == (1, run.pk)
    assert [queue["count"] for queue in answer.context["jobs"]["queues"]] == [0, 0]


def test_what_waits_too_long_is_told(client, boss):
    jobs.enqueue("tidy_jobs", due_at=timezone.now() - datetime.timedelta(minutes=6))
    client.force_login(boss)
    quick, long = client.get(PAGE).context["jobs"]["queues"]
    assert (quick["count"], bool(quick["since"]), long["count"]) == (1, True, 0)


def test_everybody_who_works_here_is_told_that_no_worker_is_alive(client, boss):
    adviser = factories.make_user(roles.ADVISER, language="en")
    client.force_login(adviser)
    assert DEAD in client.get(reverse("admin:index")).content.decode()
    tasks.beat()
    assert DEAD not in client.get(reverse("admin:index")).content.decode()
    client.logout()
    assert DEAD not in client.get(reverse("admin:login")).content.decode()


def test_a_job_is_run_now_cancelled_and_tried_again_by_post_and_with_permission(client, boss, jana):
    run_now = reverse("admin:crm_jobrun_run_now", args=["tidy_jobs"])
    client.force_login(jana)
    assert "Run now" not in client.get(PAGE).content.decode()
    assert client.post(run_now).status_code == 403
    client.force_login(boss)
    assert client.get(run_now).status_code == 405
    assert client.post(reverse("admin:crm_jobrun_run_now", args=["os.system"])).status_code == 404
    assert client.post(run_now).status_code == 302
    run = JobRun.objects.get()
    assert (run.state, run.user, OrmQ.objects.count()) == ("queued", boss, 1)
    cancel, retry = (reverse(f"admin:crm_jobrun_{verb}", args=[run.pk]) for verb in ("cancel", "retry"))
    client.force_login(jana)
    assert client.post(cancel).status_code == client.post(retry).status_code == 403
    client.force_login(boss)
    assert "Cancel" in client.get(PAGE).content.decode()
    client.post(cancel)
    assert JobRun.objects.get().state == "failed"
    assert "has ended or is running already" in client.post(cancel, follow=True).content.decode()
    client.post(retry)
    assert JobRun.objects.get().state == "queued"


def test_a_schedules_time_and_pause_are_the_administrators(client, boss, jana):
    row = JobSchedule.objects.get(name="tidy_jobs")
    page = reverse("admin:crm_jobschedule_change", args=[row.pk])
    client.force_login(jana)
    assert client.post(page, {"at": "05:00"}).status_code == 403
    client.force_login(boss)
    versions = client.get(page).context["versions"]
    values = {"_versions": versions, "at": "05:15", "is_paused": "on", "ping_url": "https://ping.example/x"}
    assert client.post(page, values).status_code == 302
    row.refresh_from_db()
    assert (row.at, row.is_paused, row.ping_url) == (datetime.time(5, 15), True, "https://ping.example/x")
    schedules.sync()
    row.refresh_from_db()
    assert row.at == datetime.time(5, 15)
    assert "paused" in client.get(PAGE).content.decode()
    assert client.post(page, values | {"ping_url": "file:///etc/passwd"}).status_code == 200
    assert client.post(reverse("admin:crm_jobschedule_delete", args=[row.pk])).status_code == 403


def test_a_runs_page_shows_its_log(client, jana):
    run = jobs.enqueue("tidy_jobs")
    jobs.carry_out(run.pk, {"tidy_jobs": lambda progress: progress.log("looked at 5")})
    client.force_login(jana)
    assert "looked at 5" in client.get(reverse("admin:crm_jobrun_change", args=[run.pk])).content.decode()


def test_what_came_of_a_run_is_said_in_the_readers_language(client, jana):
    jana.language = "cs"
    jana.save()
    counts = {"runs": 1200, "export_pieces": 2, "told_until": "2026-03-02", "anything": "else"}
    run = JobRun.objects.create(name="tidy_jobs", slot="1", state="done", due_at=timezone.now(), counts=counts)
    client.force_login(jana)
    shown = client.get(reverse("admin:crm_jobrun_change", args=[run.pk])).content.decode()
    # In the order that the database keeps them in.
    for told in (
        "smazané běhy: 1\xa0200",
        "smazané části exportů: 2",
        "oznámeno do: 2.\xa03.\xa02026",
        "anything: else",
    ):
        assert told in shown


@pytest.mark.parametrize(
    ("language", "minute", "five"), [("en", "every minute", "every 5 min"), ("cs", "každou minutu", "každých 5 min")]
)
def test_a_rhythm_is_said_as_people_say_it(language, minute, five):
    with override(language):
        assert (when_text(schedules.Every(1)), when_text(schedules.Every(5))) == (minute, five)


def test_twenty_runs_cost_as_many_queries_as_ten(client, boss):
    client.force_login(boss)
    counts = []
    for _ in range(2):
        for _ in range(10):
            jobs.enqueue("tidy_jobs")
        client.get(PAGE)
        with CaptureQueriesContext(connection) as queries:
            client.get(PAGE)
        counts.append(len(queries))
    assert counts[0] == counts[1]
