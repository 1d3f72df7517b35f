"""The page of the backups: what is told of each, one made now, one taken away."""

import datetime
import hashlib

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from crm import roles
from crm.audit import trail
from crm.backups import offsite
from crm.choices import AuditKind, BackupProof, RunState
from crm.models import AuditEntry, BackupRun, Heartbeat, JobRun
from crm.tests import factories
from crm.tests.backups.conftest import s3_server, store  # noqa: F401

pytestmark = pytest.mark.django_db
PAGE, NOW = reverse("admin:crm_backuprun_changelist"), reverse("admin:crm_backuprun_now")
PASSWORD = "a long enough password"
CONTENT = bytes(range(256)) * 9_000
NAME = "hypodesk-20260302T010000Z-nightly.hdbk"


@pytest.fixture
def boss(administrator):
    administrator.set_password(PASSWORD)
    administrator.save()
    return administrator


@pytest.fixture(autouse=True)
def folder(tmp_path, settings):
    settings.BACKUP_DIR = tmp_path
    return tmp_path


def make(name=NAME, **values) -> BackupRun:
    given = {
        "state": RunState.DONE, "kind": "nightly", "proof": BackupProof.RESTORED, "verified_at": timezone.now(),
        "created_at": timezone.now() - datetime.timedelta(hours=3), "size_bytes": len(CONTENT), "rows_total": 1234,
        "sha256": hashlib.sha256(CONTENT).hexdigest(), "took_s": 75, "version": "0.1.0",
    }  # fmt: skip
    return BackupRun.objects.create(file_name=name, **given | values)


@pytest.fixture
def run(folder):
    (folder / NAME).write_bytes(CONTENT)
    return make()


def download(run) -> str:
    return reverse("admin:crm_backuprun_download", args=[run.pk])


def received(answer) -> bytes:
    async def read():
        return b"".join([part async for part in answer.streaming_content])

    return async_to_sync(read)()


# --- The list ---


def test_the_list_tells_age_size_duration_proof_and_place(browse, boss, run):
    BackupRun.objects.update(offsite_at=timezone.now(), offsite_key=NAME)
    shown = browse(boss).get(PAGE).content.decode()
    for told in (
        "3\xa0hours ago",
        "2.2\xa0MB",
        "1:15",
        "Restored and compared",
        "on the worker&#x27;s disk</div>",
        "off-site since",
    ):
        assert told in shown
    assert "In order" in shown


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"proof": ""}, "Not verified yet"),
        ({"proof": BackupProof.DIGESTS}, "Whole, but not restored"),
        ({"proof": BackupProof.BAD}, "Damaged"),
        ({"state": RunState.FAILED, "message": "The disk is full."}, "The disk is full."),
        ({"removed_at": timezone.now(), "is_local": False}, "removed"),
    ],
)
def test_what_is_not_in_order_is_told_of_each(browse, boss, values, told):
    make(**values)
    assert told in browse(boss).get(PAGE).content.decode()


def test_an_office_without_a_backup_is_told_what_to_do(browse, boss, settings):
    shown = browse(boss).get(PAGE).content.decode()
    assert "Nothing is backed up yet" in shown
    assert "Back up now" in shown
    settings.BACKUP_KEYS = []
    assert "BACKUP_KEY is not set" in browse(boss).get(PAGE).content.decode()


def test_a_backups_page_tells_all_of_it(browse, boss, run):
    BackupRun.objects.update(verify_message="The seal was not verified.", engine="postgresql 15.20")
    shown = browse(boss).get(reverse("admin:crm_backuprun_change", args=[run.pk])).content.decode()
    for told in (run.sha256, "The seal was not verified.", "postgresql 15.20", "1:15"):
        assert told in shown


@pytest.mark.parametrize("page", ["/admin/", PAGE])
def test_a_page_that_tells_of_backups_looks_once_whether_all_is_well(browse, boss, run, page):
    browser = browse(boss)
    Heartbeat.objects.beat("worker", timezone.now())  # of whose silence the banner would tell first
    with CaptureQueriesContext(connection) as queries:
        assert "restored to try" in browser.get(page).content.decode()
    assert sum("crm_backupwatch" in query["sql"] for query in queries) == 1


def test_more_backups_ask_no_more_queries(browse, boss):
    def asked():
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert browser.get(PAGE).status_code == 200
        return len(queries)

    browser = browse(boss)
    for number in range(10):
        make(f"a{number}.hdbk")
    asked()
    before = asked()
    for number in range(10):
        make(f"b{number}.hdbk", user=boss)
    assert asked() == before


@pytest.mark.parametrize("role", [roles.MANAGER, roles.ADVISER, roles.ASSISTANT, roles.AUDITOR])
def test_backups_are_the_administrators(browse, role, run):
    browser = browse(factories.make_user(role))
    for address in (PAGE, reverse("admin:crm_backuprun_progress"), download(run)):
        assert browser.get(address).status_code == 403
    assert browser.post(NOW).status_code == browser.post(download(run), {"password": "x"}).status_code == 403
    assert not JobRun.objects.exists()


# --- One made now ---


def test_a_backup_is_asked_for_once_by_post(browse, boss):
    browser = browse(boss)
    assert browser.get(NOW).status_code == 405
    for _ in range(2):
        assert browser.post(NOW).status_code == 302
    job = JobRun.objects.get()
    assert (job.name, job.queue, job.user) == ("make_backup", "long", boss)


def test_without_a_key_none_is_asked_for(browse, boss, settings):
    settings.BACKUP_KEYS = []
    assert "BACKUP_KEY is not set" in browse(boss).post(NOW, follow=True).content.decode()
    assert not JobRun.objects.exists()


def test_the_page_tells_how_far_it_is_until_it_has_ended(browse, boss):
    browser = browse(boss)
    browser.post(NOW)
    progress = reverse("admin:crm_backuprun_progress")
    assert "waits for a worker" in browser.get(progress).content.decode()
    JobRun.objects.update(state=RunState.RUNNING, done_count=42, total_count=100)
    answer = browser.get(progress)
    assert 'value="42"' in answer.content.decode() and "HX-Refresh" not in answer
    JobRun.objects.update(state=RunState.DONE)
    answer = browser.get(progress)
    assert answer["HX-Refresh"] == "true" and "hx-get" not in answer.content.decode()


# --- One taken away ---


def test_a_download_asks_for_the_password_and_stands_in_the_trail(browse, boss, run):
    browser = browse(boss)
    assert "password" in browser.get(download(run)).content.decode()
    answer = browser.post(download(run), {"password": PASSWORD})
    assert received(answer) == CONTENT
    assert answer["Content-Disposition"] == f'attachment; filename="{NAME}"'
    assert answer["Content-Length"] == str(len(CONTENT))
    assert "no-store" in answer["Cache-Control"]
    entry = AuditEntry.objects.get(kind=AuditKind.DOWNLOAD)
    assert (entry.user_id, entry.model, entry.object_id) == (boss.pk, "backuprun", str(run.pk))
    assert NAME in trail.summary(entry, {})


def test_a_wrong_password_gives_nothing_and_counts_as_a_failed_login(browse, boss, run):
    answer = browse(boss).post(download(run), {"password": "another long password"})
    assert answer.status_code == 200
    assert "This is not your password" in answer.content.decode()
    assert not AuditEntry.objects.filter(kind=AuditKind.DOWNLOAD).exists()
    assert AuditEntry.objects.filter(kind=AuditKind.LOGIN_FAILED).exists()


def test_who_guesses_is_locked_out_as_at_the_login(browse, boss, run, settings):
    settings.AXES_FAILURE_LIMIT = 2
    browser = browse(boss)
    for _ in range(2):
        answer = browser.post(download(run), {"password": "another long password"})
    assert answer.status_code == 429
    answer = browser.post(download(run), {"password": PASSWORD})
    assert answer.status_code == 429
    assert not AuditEntry.objects.filter(kind=AuditKind.DOWNLOAD).exists()


def test_one_that_is_not_here_comes_from_the_store(browse, boss, run, store):  # noqa: F811
    offsite.put(run.path, run.sha256)
    BackupRun.objects.update(offsite_at=timezone.now(), is_local=False)
    run.path.unlink()
    assert received(browse(boss).post(download(run), {"password": PASSWORD})) == CONTENT


def test_a_store_that_refuses_is_told_on_the_form(browse, boss, run, store):  # noqa: F811
    BackupRun.objects.update(offsite_at=timezone.now(), is_local=False)
    run.path.unlink()
    store.fault = lambda method, path: "403"
    assert "403 AccessDenied" in browse(boss).post(download(run), {"password": PASSWORD}).content.decode()
    assert not AuditEntry.objects.filter(kind=AuditKind.DOWNLOAD).exists()


def test_one_of_another_size_comes_from_the_store_or_not_at_all(browse, boss, run, store, settings):  # noqa: F811
    offsite.put(run.path, run.sha256)
    BackupRun.objects.update(offsite_at=timezone.now())
    run.path.write_bytes(CONTENT[:-1])
    assert received(browse(boss).post(download(run), {"password": PASSWORD})) == CONTENT
    BackupRun.objects.update(size_bytes=run.size_bytes + 1)
    assert "holds something else" in browse(boss).post(download(run), {"password": PASSWORD}).content.decode()
    settings.S3_BUCKET = ""
    assert "is damaged" in browse(boss).post(download(run), {"password": PASSWORD}).content.decode()


def test_a_damaged_one_comes_from_the_store(browse, boss, run, store):  # noqa: F811
    offsite.put(run.path, run.sha256)
    BackupRun.objects.update(offsite_at=timezone.now(), proof=BackupProof.BAD)
    run.path.write_bytes(b"X" * len(CONTENT))
    assert received(browse(boss).post(download(run), {"password": PASSWORD})) == CONTENT


def test_one_that_the_office_may_not_read_is_told(browse, boss, run, monkeypatch):
    def refuse(path, *given, **options):
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.open", refuse)  # root, as whom tests may run, is refused nothing
    shown = browse(boss).post(download(run), {"password": PASSWORD}).content.decode()
    assert "is not on this machine" in shown


def test_one_that_is_on_another_machine_only_is_told(browse, boss):
    run = make("hypodesk-20260101T010000Z-nightly.hdbk")
    shown = browse(boss).post(download(run), {"password": PASSWORD}).content.decode()
    assert "is not on this machine" in shown


def test_a_removed_one_has_no_way_to_it(browse, boss):
    run = make(removed_at=timezone.now(), is_local=False)
    assert download(run) not in browse(boss).get(PAGE).content.decode()


def test_the_page_speaks_czech(client, boss, run):
    boss.language = "cs"
    boss.save()
    client.force_login(boss)
    shown = client.get(PAGE).content.decode()
    assert "Zálohovat nyní" in shown and "Obnovena a porovnána" in shown
