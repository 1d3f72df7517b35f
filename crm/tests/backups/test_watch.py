"""What pages and monitors are told of the backups: fresh and verified, or the first thing that is not."""

import datetime

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from crm import roles
from crm.backups import postgresql, watch
from crm.choices import BackupProof, RunState
from crm.encryption import fingerprint
from crm.models import BackupRun, BackupWatch, JobSchedule
from crm.tests import factories
from crm.tests.backups import archives
from crm.tests.raw import KEYS, Database, environment, run

pytestmark = pytest.mark.django_db
NOW = datetime.datetime(2026, 3, 2, 9, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)
MINUTE = datetime.timedelta(minutes=1)


@pytest.fixture
def office():
    """One that the calendar has known for a year."""
    JobSchedule.objects.create(name="nightly_backup", since=NOW - 365 * 24 * HOUR)


def backup(hours_ago: float, proof=BackupProof.RESTORED, **values) -> BackupRun:
    at = NOW - hours_ago * HOUR
    given = {"state": RunState.DONE, "proof": proof, "created_at": at, "file_name": f"{at:%Y%m%dT%H%M%S}.hdbk"}
    given |= {"sha256": "0" * 64, "version": "0.1.0"}
    return BackupRun.objects.create(**given | values)


def told() -> tuple[int, str]:
    found = watch.finding(NOW)
    return found.code, found.text


def test_one_that_was_restored_to_try_is_fresh_for_26_hours(office):
    run = backup(26)
    assert told()[0] == 0
    BackupRun.objects.filter(pk=run.pk).update(created_at=run.created_at - MINUTE)
    assert told()[0] == 1


def test_a_whole_one_that_was_not_restored_is_not_verified(office):
    backup(1, BackupProof.DIGESTS, verify_message="Digests only: set that.\nSet this.")
    code, text = told()
    assert code == 1
    assert "not verified by restoring" in text
    assert text.endswith("Digests only: set that. Set this.")
    backup(30)
    code, text = told()
    assert (code, "not verified by restoring" in text) == (1, True)
    backup(20)
    assert told()[0] == 0


@pytest.mark.parametrize(
    "values", [{"state": RunState.FAILED, "file_name": ""}, {"removed_at": NOW}], ids=["failed", "removed"]
)
def test_what_failed_or_was_removed_is_none(office, values):
    assert told()[0] == 2
    backup(1, **values)
    assert told()[0] == 2


def test_the_reason_of_the_last_failure_is_told(office):
    backup(30)
    backup(2, state=RunState.FAILED, proof="", file_name="", message="The disk is full.")
    code, text = told()
    assert code == 1
    assert text.endswith("The disk is full.")


def test_the_reason_is_told_in_one_line_and_not_one_of_the_time_to_come(office):
    backup(30)
    failed = {"state": RunState.FAILED, "proof": "", "file_name": ""}
    backup(2, **failed, message="contract\n2.pdf cannot be read.")
    backup(-2, **failed, message="The disk is full.")
    assert told()[1].endswith("contract 2.pdf cannot be read.")


def test_where_more_than_a_night_is_asked_for_its_silence_is_told(office, settings, django_assert_num_queries):
    settings.BACKUP_EVERY = 2
    hours = JobSchedule.objects.create(name="hourly_backup", since=NOW - 2 * HOUR)
    backup(10)
    assert told()[0] == 0  # it begins
    JobSchedule.objects.filter(pk=hours.pk).update(since=NOW - 4 * HOUR)
    code, text = told()
    assert (code, "BACKUP_EVERY" in text) == (1, True)
    backup(1, state=RunState.FAILED, proof="", file_name="", message="The disk is full.")
    assert told()[1].endswith("The disk is full.")
    backup(3 + 1 / 60, BackupProof.DIGESTS)
    assert told()[0] == 1
    backup(3, BackupProof.DIGESTS)
    with django_assert_num_queries(1):
        assert told()[0] == 0
    settings.BACKUP_EVERY = 0
    BackupRun.objects.filter(proof=BackupProof.DIGESTS).delete()
    assert told()[0] == 0


def test_a_damaged_newest_one_is_bad_and_an_older_damaged_one_is_not(office):
    backup(10, BackupProof.BAD)
    assert told()[0] == 2
    backup(5)
    assert told()[0] == 0
    backup(1, BackupProof.BAD)
    assert (told()[0], "damaged" in told()[1]) == (2, True)


def test_without_a_key_there_is_none_whatever_lies_there(office, settings):
    backup(1)
    settings.BACKUP_KEYS = []
    code, text = told()
    assert (code, "BACKUP_KEY" in text) == (2, True)


def test_what_the_worker_found_is_told_until_it_finds_nothing(office, monkeypatch):
    backup(1)
    monkeypatch.setattr(watch, "tools_trouble", lambda: "pg_dump is missing.")
    watch.look(NOW)
    assert told() == (1, "pg_dump is missing.")
    monkeypatch.setattr(watch, "tools_trouble", lambda: "")
    watch.look(NOW)
    assert told()[0] == 0
    assert BackupWatch.objects.count() == 1


def test_the_worker_asks_the_tools_of_its_database(monkeypatch):
    monkeypatch.setattr(postgresql, "check_tools", lambda: "older")
    expected = "older" if watch.connection.vendor == "postgresql" else ""
    assert watch.tools_trouble() == expected


def test_the_worker_asks_for_the_key_of_the_newest_backup(office, settings, tmp_path):
    settings.BACKUP_DIR = tmp_path
    path = archives.write(tmp_path / "hypodesk-20260302T020000Z-nightly.hdbk")
    backup(1, file_name=path.name, is_local=True)
    needed, settings.BACKUP_KEYS = settings.BACKUP_KEYS[0], ["ab" * 32]
    watch.look(NOW)
    assert (told()[0], fingerprint(needed) in told()[1], "BACKUP_KEY" in told()[1]) == (1, True, True)
    settings.BACKUP_KEYS = ["ab" * 32, needed]
    watch.look(NOW)
    assert told()[0] == 0
    path.write_bytes(b"")
    assert watch.look(NOW) == ""


def test_a_backup_of_the_time_to_come_does_not_hide_that_the_newest_needs_a_key(office, settings, tmp_path):
    settings.BACKUP_DIR = tmp_path
    old, ahead = (archives.write(tmp_path / f"hypodesk-{year}0302T020000Z-nightly.hdbk") for year in (2026, 2027))
    backup(1, file_name=old.name)
    settings.BACKUP_KEYS = ["ab" * 32]
    assert watch.look(NOW)
    ahead.write_bytes(b"")
    backup(-365 * 24, file_name=ahead.name)
    assert watch.look(NOW)


def test_where_a_store_is_set_a_copy_is_fresh_too(office, settings):
    settings.S3_BUCKET = "office"
    backup(1)
    assert (told()[0], "off-site yet" in told()[1]) == (1, True)
    backup(27, offsite_at=NOW - 27 * HOUR)
    assert (told()[0], "off-site since" in told()[1]) == (1, True)
    backup(2, offsite_at=NOW - 2 * HOUR)
    assert told()[0] == 0


def test_the_copies_of_another_office_in_the_same_bucket_tell_nothing_of_ours(office, settings):
    settings.S3_BUCKET = "office"
    backup(0.5, proof="", sha256="", is_local=False, offsite_at=NOW - HOUR)
    assert told()[0] == 2
    backup(2)
    assert (told()[0], "off-site yet" in told()[1]) == (1, True)
    backup(1, BackupProof.BAD)
    assert (told()[0], "damaged" in told()[1]) == (2, True)


def test_one_of_the_time_to_come_proves_nothing(office, settings):
    """A clock was wrong: it would be fresh until then, whatever fails."""
    settings.S3_BUCKET = "office"
    backup(-24 * 365, offsite_at=NOW + 24 * 365 * HOUR)
    assert told()[0] == 2
    backup(30, offsite_at=NOW - 30 * HOUR)
    assert told()[0] == 1
    backup(1, BackupProof.BAD)
    assert (told()[0], "damaged" in told()[1]) == (2, True)
    backup(0.5)
    assert (told()[0], "off-site since" in told()[1]) == (1, True)


def test_a_proven_one_on_a_disk_that_is_thrown_away_is_stale(office, settings):
    settings.BACKUPS_ON_THROWAWAY_DISK = True
    assert told()[0] == 2
    backup(1)
    assert (told()[0], "throws away" in told()[1]) == (1, True)
    backup(0.5, BackupProof.BAD)
    assert (told()[0], "damaged" in told()[1]) == (2, True)
    settings.S3_BUCKET = "office"
    backup(0.2, offsite_at=NOW)
    assert told()[0] == 0


def test_it_asks_one_query(office, django_assert_num_queries):
    for hours in range(30):
        backup(hours + 1)
    with django_assert_num_queries(1):
        watch.finding(NOW)


def test_what_was_removed_it_does_not_look_at(office):
    """Of a backup each hour there are thousands, and every page asks."""
    backup(1)
    with CaptureQueriesContext(connection) as queries:
        watch.finding(NOW)
    (asked,) = (query["sql"] for query in queries)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")  # a table of one row it would just read
        cursor.execute(("EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN ") + asked)
        assert "backup_run_kept" in str(cursor.fetchall())


# --- Pages ---


def page(client, role) -> str:
    user = factories.make_user(role, language="en")
    client.force_login(user)
    return client.get(reverse("admin:index")).content.decode()


@pytest.fixture(autouse=True)
def worker(monkeypatch):
    """A living one: its silence would be told first."""
    monkeypatch.setattr("crm.health.last_sign", timezone.now)


def test_an_old_backup_is_told_on_every_page_the_cure_to_administrators_only(client):
    JobSchedule.objects.create(name="nightly_backup", since=timezone.now() - 48 * HOUR)
    assert "There is no backup yet" in page(client, roles.ADMINISTRATOR)
    shown = page(client, roles.ADVISER)
    assert "tell an administrator" in shown
    assert "There is no backup yet" not in shown
    backup(0, created_at=timezone.now() - HOUR)
    for role in (roles.ADMINISTRATOR, roles.ADVISER):
        assert "hd-alarm" not in page(client, role)


def test_that_all_is_well_stands_on_the_start_page_of_who_looks_after_it(client):
    for role in (roles.ADMINISTRATOR, roles.ADVISER):
        assert "restored to try" not in page(client, role)
    backup(0, created_at=timezone.now() - HOUR)
    assert "restored to try" in page(client, roles.ADMINISTRATOR)
    assert "restored to try" not in page(client, roles.ADVISER)


def test_an_office_that_has_had_no_night_yet_is_left_in_peace(client):
    assert "hd-alarm" not in page(client, roles.ADMINISTRATOR)
    JobSchedule.objects.create(name="nightly_backup", since=timezone.now() - HOUR)
    assert "hd-alarm" not in page(client, roles.ADMINISTRATOR)


def test_a_throw_away_disk_is_told_until_there_is_a_store(client, settings):
    settings.BACKUPS_ON_THROWAWAY_DISK = True
    assert "throws away" in page(client, roles.ADMINISTRATOR)
    settings.S3_BUCKET = "office"
    assert "throws away" not in page(client, roles.ADMINISTRATOR)


def test_a_throw_away_disk_is_told_once_on_the_page_of_the_backups(client, settings):
    settings.BACKUPS_ON_THROWAWAY_DISK = True
    backup(0, created_at=timezone.now() - HOUR)
    client.force_login(factories.make_user(roles.ADMINISTRATOR, language="en"))
    shown = client.get(reverse("admin:crm_backuprun_changelist")).content.decode()
    card = shown[shown.index('id="crm-backups"') :]
    assert card.count("throws away") == 1
    assert "on one machine only" not in card


def test_what_the_store_said_of_a_backup_stands_in_the_list(client):
    backup(0, created_at=timezone.now() - HOUR, offsite_message="The store refused (403).")
    client.force_login(factories.make_user(roles.ADMINISTRATOR, language="en"))
    assert "refused (403)" in client.get(reverse("admin:crm_backuprun_changelist")).content.decode()


# --- The command ---


def check(capsys) -> tuple[int, str]:
    try:
        call_command("check_backups")
    except SystemExit as ended:
        return ended.code, capsys.readouterr().out
    return 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("proof", "age", "code"),
    [(BackupProof.RESTORED, 1, 0), (BackupProof.RESTORED, 27, 1), (BackupProof.DIGESTS, 1, 1), (BackupProof.BAD, 1, 2)],
)
def test_the_command_says_one_line_and_its_exit_code(capsys, proof, age, code):
    backup(0, proof, created_at=timezone.now() - age * HOUR, is_local=False, offsite_at=timezone.now())
    ended, said = check(capsys)
    assert ended == code
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("command", ["check_backups", "backup"])
def test_where_the_database_is_gone_a_line_says_so(command):
    done = run("manage.py", command, env=environment(DATABASE_URL="postgres://office@127.0.0.1:1/office"))
    assert done.returncode == 1
    assert "port 1 failed" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["backup", "check_backups", "prune_backups"])
def test_where_nothing_was_migrated_a_line_says_so(command, tmp_path):
    own = Database(tmp_path)
    try:
        done = run("manage.py", command, env=environment(DATABASE_URL=own.url, DATA_DIR=str(tmp_path)))
    finally:
        own.drop()
    assert (done.returncode, done.stdout) == (2, "")
    assert "manage.py migrate" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_where_backups_have_no_tables_yet_none_is_made(tmp_path):
    own = Database(tmp_path)
    folder = tmp_path / "backups"
    known = environment(DATABASE_URL=own.url, DATA_DIR=str(tmp_path), BACKUP_DIR=str(folder))
    known["BACKUP_KEY"] = KEYS["FIELD_ENCRYPTION_KEY"][::-1]
    try:
        run("manage.py", "migrate", "crm", "0020", env=known, timeout=300)
        done = run("manage.py", "backup", env=known)
    finally:
        own.drop()
    assert (done.returncode, done.stdout, folder.exists()) == (2, "", False)
    assert "crm_backuprun" in done.stderr and "manage.py migrate" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_command_asks_whether_the_file_stands_where_it_is_asked(capsys, settings, tmp_path):
    settings.BACKUP_DIR = tmp_path
    path = archives.write(tmp_path / "hypodesk-20260302T020000Z-nightly.hdbk")
    content = path.read_bytes()
    known = {"file_name": path.name, "is_local": True, "size_bytes": len(content)}
    run = backup(0, created_at=timezone.now() - HOUR, **known)
    assert check(capsys)[0] == 0
    for cut in (content[:-1], content + b"0"):
        path.write_bytes(cut)
        assert check(capsys)[0] == 2
    path.unlink()
    code, said = check(capsys)
    assert (code, str(tmp_path) in said, "machine of the worker" in said) == (2, True, True)
    settings.S3_BUCKET = "office"
    BackupRun.objects.filter(pk=run.pk).update(offsite_at=timezone.now())
    assert check(capsys)[0] == 0
    settings.S3_BUCKET = ""
    assert check(capsys)[0] == 2
    path.write_bytes(content)
    assert check(capsys)[0] == 0


def test_the_command_counts_what_is_proven_beside_what_is_gone(capsys, settings, tmp_path):
    settings.BACKUP_DIR, now = tmp_path, timezone.now()
    path = archives.write(tmp_path / "hypodesk-20260302T020000Z-nightly.hdbk")
    whole = {"is_local": True, "size_bytes": path.stat().st_size}
    backup(0, created_at=now - HOUR, file_name=path.name, **whole)
    gone = {"file_name": "hypodesk-20260302T030000Z-hourly.hdbk", "is_local": True, "size_bytes": 1}
    backup(0, BackupProof.DIGESTS, created_at=now - MINUTE, **gone)
    assert check(capsys)[0] == 0
    BackupRun.objects.filter(file_name=path.name).update(proof=BackupProof.DIGESTS)
    BackupRun.objects.exclude(file_name=path.name).update(proof=BackupProof.RESTORED)
    code, said = check(capsys)
    assert (code, said.startswith("1 backup is not in")) == (1, True)


def test_the_command_tries_the_key_of_where_it_is_asked(capsys, settings, tmp_path):
    settings.BACKUP_DIR = tmp_path
    path = archives.write(tmp_path / "hypodesk-20260302T020000Z-nightly.hdbk")
    backup(0, created_at=timezone.now() - HOUR, file_name=path.name, is_local=True, size_bytes=path.stat().st_size)
    settings.BACKUP_KEYS = ["ab" * 32]
    code, said = check(capsys)
    assert (code, "BACKUP_KEY" in said) == (1, True)


def test_the_command_of_an_office_without_a_backup_ends_with_2(capsys):
    assert check(capsys)[0] == 2
