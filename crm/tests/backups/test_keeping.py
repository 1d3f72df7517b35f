"""A backup from its making to its removal, whatever is killed or fails between. What a backup holds and how it is verified
are told elsewhere: here it is an archive of nothing, and its verification says what it is told to."""

import datetime
import errno
import hashlib
import io
import os
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.utils import timezone

from crm import jobs, tasks
from crm.backups import archive, keeping, offsite, shelf, watch
from crm.backups.checking import Checked
from crm.choices import BackupKind, BackupProof, RunState
from crm.exceptions import BackupDamaged, DumpFailed, LoadFailed, NoRoom, OffsiteFailed
from crm.models import BackupRun, JobRun

pytestmark = pytest.mark.django_db
NOW = datetime.datetime(2026, 3, 4, 1, tzinfo=datetime.UTC)  # a Wednesday
DAY = datetime.timedelta(days=1)
MANIFEST = {
    "version": "0.1.0", "engine": "postgresql", "server_version": "15.20", "tables": {"crm_client": {"rows": 7}, "crm_case": {"rows": 5}},
    "files": [{"name": "a.pdf"}],
}  # fmt: skip


def create(*, kind, now, progress=None, **_given):
    """An archive with no data."""
    with shelf.new_file(at=now, kind=kind) as new:
        archive.Writer(new, keeping.settings.BACKUP_KEYS[0]).finish(MANIFEST)
    return new.path


@pytest.fixture(autouse=True)
def folder(tmp_path, settings, monkeypatch):
    settings.BACKUP_DIR = tmp_path
    monkeypatch.setattr(keeping.making, "create", create)
    return tmp_path


@pytest.fixture(autouse=True)
def verification(monkeypatch):
    """`says` is a proof, or the error that is raised; `asked` what was verified, and whether by restoring it."""

    class Verification:
        says, asked, warnings = BackupProof.RESTORED, [], []

        def verify(self, path, *, restore, progress=None):
            self.asked.append((path.name, restore))
            if isinstance(self.says, Exception):
                raise self.says
            return Checked(MANIFEST, proof=self.says, warnings=self.warnings)

    told = Verification()
    told.asked = []
    monkeypatch.setattr(keeping.checking, "verify", told.verify)
    return told


@pytest.fixture
def now(time_machine):
    time_machine.move_to(NOW, tick=False)
    return NOW


def job(name="nightly_backup", **values) -> JobRun:
    return jobs.enqueue(name, queue="long", **values)


def work(run: JobRun) -> JobRun:
    """An attempt at it, now."""
    JobRun.objects.filter(pk=run.pk).update(due_at=timezone.now(), state=RunState.QUEUED)
    tasks.run_job(run.pk)
    return JobRun.objects.get(pk=run.pk)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- A night ---


def test_a_night_makes_verifies_and_tells_one_backup(now, folder, verification):
    done = work(job())
    run = BackupRun.objects.get()
    assert done.state == RunState.DONE, done.message
    assert (run.file_name, run.size_bytes) == (names(folder)[0], run.path.stat().st_size)
    assert (run.proof, run.verified_at, run.created_at) == (BackupProof.RESTORED, now, now)
    assert (run.version, run.engine, run.rows_total, run.files_total) == ("0.1.0", "postgresql 15.20", 12, 1)
    assert run.sha256 == hashlib.sha256(run.path.read_bytes()).hexdigest()
    assert verification.asked == [(run.file_name, True)]
    assert (run.job, run.is_local, run.offsite_at) == (done, True, None)


def test_the_first_good_night_of_a_week_is_its_archive(now, time_machine):
    for day in range(12):
        time_machine.move_to(NOW + day * DAY, tick=False)
        work(job())
    kinds = list(BackupRun.objects.order_by("created_at").values_list("kind", flat=True))
    weekly, nightly = BackupKind.WEEKLY, BackupKind.NIGHTLY
    assert kinds == [weekly, *[nightly] * 4, weekly, *[nightly] * 6]


def test_a_week_of_the_time_to_come_is_no_archive_of_this_one(now):
    keeping.make(kind="weekly", now=NOW + 365 * DAY)
    work(job())
    assert BackupRun.objects.filter(kind=BackupKind.WEEKLY, created_at=NOW).exists()


@pytest.mark.parametrize("says", [BackupDamaged(file="a", at=1), LoadFailed(why="no room")])
def test_an_archive_of_a_week_that_is_not_good_is_made_up_for(now, time_machine, verification, says):
    verification.says = says
    assert work(job()).state == RunState.FAILED
    verification.says = BackupProof.RESTORED
    time_machine.move_to(NOW + DAY, tick=False)
    work(job())
    proof = "bad" if isinstance(says, BackupDamaged) else ""
    kinds = list(BackupRun.objects.order_by("created_at").values_list("kind", "proof"))
    assert kinds == [("weekly", proof), ("weekly", "restored")]


def test_of_the_day_and_by_hand_are_of_their_kind(now, verification, administrator):
    work(job("hourly_backup"))
    work(job("make_backup", user=administrator))
    hourly, by_hand = BackupRun.objects.order_by("pk")
    assert (hourly.kind, by_hand.kind, by_hand.user) == ("hourly", "by-hand", administrator)
    assert [restore for _name, restore in verification.asked] == [False, True]


# --- What fails, and what is begun again ---


def test_a_backup_that_cannot_be_made_is_told_once_and_tried_again(now, folder, monkeypatch):
    def fail(**given):
        raise DumpFailed(why="pg_dump: no")

    run = job()
    monkeypatch.setattr(keeping.making, "create", fail)
    for _ in range(2):
        work(run)
    failed = BackupRun.objects.get()
    assert (failed.state, "pg_dump: no" in failed.message, names(folder)) == (RunState.FAILED, True, [])
    monkeypatch.setattr(keeping.making, "create", create)
    assert work(run).state == RunState.DONE
    assert BackupRun.objects.get().state == RunState.DONE


def test_what_kept_backups_from_being_made_is_told_no_longer_when_one_was_made(now, monkeypatch):
    monkeypatch.setattr(watch, "tools_trouble", lambda: "pg_dump is missing.")
    watch.look(now)
    monkeypatch.setattr(watch, "tools_trouble", lambda: "")
    work(job())
    assert watch.finding(now).code == watch.FINE


def test_why_there_is_no_backup_is_told_where_the_database_has_no_room_for_the_row_either(now, monkeypatch):
    def fail(**given):
        raise NoRoom(place="there")

    def has_no_room(execute, statement, *given):
        if statement.startswith("INSERT"):
            raise OperationalError("database or disk is full")
        return execute(statement, *given)

    monkeypatch.setattr(keeping.making, "create", fail)
    with connection.execute_wrapper(has_no_room), pytest.raises(NoRoom):
        keeping.make(kind=BackupKind.BY_HAND, now=timezone.now())


def test_a_job_that_was_killed_after_its_file_was_made_makes_no_second_one(now, folder, monkeypatch):
    run = job()
    monkeypatch.setattr(keeping, "_record", lambda *given, **values: (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):
        work(run)
    assert (len(names(folder)), BackupRun.objects.count()) == (1, 0)
    monkeypatch.undo()
    keeping.settings.BACKUP_DIR = folder
    monkeypatch.setattr(keeping.checking, "verify", lambda *given, **values: Checked(MANIFEST, BackupProof.RESTORED))
    assert work(run).state == RunState.DONE
    found = BackupRun.objects.get()
    assert (len(names(folder)), found.job_id, found.proof) == (1, run.pk, BackupProof.RESTORED)


def test_a_job_that_was_killed_in_the_second_in_which_it_was_asked_for_makes_no_second_one(now, folder, time_machine):
    time_machine.move_to(NOW + datetime.timedelta(milliseconds=400), tick=False)
    run = job()
    create(kind=BackupKind.NIGHTLY, now=NOW + datetime.timedelta(milliseconds=600))
    assert work(run).state == RunState.DONE
    assert BackupRun.objects.get().job == run
    assert len(names(folder)) == 1


def test_a_job_that_was_killed_while_it_verified_verifies_the_same_file(now, folder, verification):
    run = job()
    verification.says = LoadFailed(why="no room")
    work(run)
    assert (BackupRun.objects.get().proof, "no room" in BackupRun.objects.get().verify_message) == ("", True)
    verification.says = BackupProof.RESTORED
    work(run)
    assert (len(names(folder)), BackupRun.objects.get().proof) == (1, BackupProof.RESTORED)


def test_a_night_that_is_tried_again_takes_no_damaged_one_and_none_that_is_gone(now, store, time_machine, verification):
    run = job()
    for minute, says in enumerate((BackupDamaged(file="a", at=1), LoadFailed(why="no room"), BackupProof.RESTORED)):
        time_machine.move_to(NOW + minute * datetime.timedelta(minutes=1), tick=False)
        verification.says = says
        work(run)
        if minute == 1:  # a disk that is thrown away
            BackupRun.objects.latest("pk").path.unlink()
    assert list(BackupRun.objects.order_by("pk").values_list("proof", flat=True)) == ["bad", "", "restored"]


def test_one_by_hand_that_is_tried_again_days_later_takes_none_of_a_command(
    now, time_machine, monkeypatch, administrator
):
    run = job("make_backup", user=administrator)
    for days in (2, 9):
        time_machine.move_to(NOW + days * DAY, tick=False)
        if days == 2:
            keeping.make(kind=BackupKind.BY_HAND, now=timezone.now())
    work(run)
    assert BackupRun.objects.latest("created_at").created_at == NOW + 9 * DAY
    assert BackupRun.objects.earliest("created_at").user is None


def test_what_was_verified_is_not_verified_again(now, store, verification):
    run = job()
    store.fault = lambda method, path: "500"
    work(run)
    store.fault = lambda method, path: ""
    assert work(run).state == RunState.DONE
    assert len(verification.asked) == 1


def test_one_that_could_not_be_restored_to_try_says_why(now, verification):
    verification.says, verification.warnings = BackupProof.DIGESTS, ["Digests only: set VERIFY_DATABASE_URL."]
    assert work(job()).state == RunState.DONE
    run = BackupRun.objects.get()
    assert (run.proof, run.verify_message) == (BackupProof.DIGESTS, "Digests only: set VERIFY_DATABASE_URL.")


# --- Files and rows ---


def verified(path, *options) -> str:
    out = io.StringIO()
    call_command("verify_backup", str(path), *options, stdout=out, stderr=io.StringIO())
    return out.getvalue()


@pytest.mark.parametrize("is_known", [True, False])
def test_what_the_command_proves_of_the_offices_own_backup_the_office_knows(now, folder, is_known):
    path = create(kind=BackupKind.NIGHTLY, now=NOW)
    if is_known:
        keeping.adopt(NOW)
    verified(path, "--restore")
    run = BackupRun.objects.get()
    assert (run.file_name, run.proof, run.verified_at) == (path.name, BackupProof.RESTORED, NOW)


def test_a_trial_that_could_not_be_made_leaves_when_it_was_proven(now, time_machine, verification):
    path = create(kind=BackupKind.NIGHTLY, now=NOW)
    verified(path, "--restore")
    time_machine.move_to(NOW + DAY, tick=False)
    verification.says = LoadFailed(why="no room")
    with pytest.raises(CommandError, match="no room"):
        verified(path, "--restore")
    run = BackupRun.objects.get()
    assert (run.proof, run.verified_at, "no room" in run.verify_message) == (BackupProof.RESTORED, NOW, True)


def test_digests_alone_take_no_proof_away_and_damage_does(now, folder, verification):
    path = create(kind=BackupKind.NIGHTLY, now=NOW)
    verified(path, "--restore")
    verification.says = BackupProof.DIGESTS
    assert verified(path).startswith("digests only")
    assert BackupRun.objects.get().proof == BackupProof.RESTORED
    verification.says = BackupDamaged(file=path.name, at=1)
    with pytest.raises(CommandError, match="damaged"):
        verified(path)
    assert BackupRun.objects.get().proof == BackupProof.BAD


def test_a_backup_that_lies_elsewhere_is_no_business_of_the_offices(now, folder, tmp_path_factory):
    path = create(kind=BackupKind.NIGHTLY, now=NOW)
    elsewhere = path.rename(tmp_path_factory.mktemp("elsewhere") / path.name)
    assert verified(elsewhere, "--restore").startswith("verified")
    assert not BackupRun.objects.exists()


def test_where_there_is_no_office_to_ask_a_backup_is_verified_all_the_same(now, folder, monkeypatch):
    path = create(kind=BackupKind.NIGHTLY, now=NOW)

    def unreachable():
        raise OperationalError

    monkeypatch.setattr(keeping.checks, "tables", unreachable)
    assert verified(path, "--restore").startswith("verified")


def test_a_file_without_a_row_is_adopted(now, folder):
    create(kind="by-hand", now=NOW - DAY)
    (folder / "notes.txt").write_text("x")
    for _ in range(2):
        keeping.adopt(now)
    run = BackupRun.objects.get()
    assert (run.kind, run.created_at, run.rows_total, run.state) == ("by-hand", NOW - DAY, 12, RunState.DONE)


def test_a_damaged_file_and_one_of_another_key_are_adopted_as_such(now, folder, settings):
    damaged = create(kind="nightly", now=NOW - 2 * DAY)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    create(kind="nightly", now=NOW - DAY)
    settings.BACKUP_KEYS = [settings.BACKUP_KEYS[0][::-1]]
    keeping.adopt(now)
    locked, bad = BackupRun.objects.order_by("-created_at")
    assert "BACKUP_KEY" in locked.verify_message and locked.proof == ""
    settings.BACKUP_KEYS = [settings.BACKUP_KEYS[0][::-1]]
    BackupRun.objects.all().delete()
    keeping.adopt(now)
    assert BackupRun.objects.get(file_name=bad.file_name).proof == BackupProof.BAD


def test_a_file_that_is_gone_is_told_and_one_that_comes_back_too(now):
    path = create(kind="nightly", now=NOW)
    keeping.adopt(now)
    content = path.read_bytes()
    path.unlink()
    keeping.adopt(now)
    run = BackupRun.objects.get()
    assert (run.is_local, run.removed_at) == (False, now)
    path.write_bytes(content)
    keeping.adopt(now)
    run = BackupRun.objects.get()
    assert (run.is_local, run.removed_at) == (True, None)


def test_one_that_is_made_while_somebody_looks_is_not_gone(now, monkeypatch):
    create(kind="by-hand", now=NOW - DAY)
    real, made = keeping._record, []

    def slow(path, kind, at, **values):
        if not made:
            made.append(path)
            keeping.make(kind="nightly", now=NOW)
        return real(path, kind, at, **values)

    monkeypatch.setattr(keeping, "_record", slow)
    keeping.adopt(NOW)
    run = BackupRun.objects.get(kind="nightly")
    assert (run.is_local, run.removed_at) == (True, None)


@pytest.mark.parametrize("size", [0, 1, 1_000])
@pytest.mark.parametrize("vanishes", [False, True])
def test_a_proven_file_that_has_another_size_is_bad(now, size, vanishes):
    work(job())
    path = BackupRun.objects.get().path
    if vanishes:
        path.unlink()
        keeping.adopt(now)
    path.write_bytes(b"H" * size)
    assert watch.finding(now).code == (2 if vanishes else 0)
    work(job("watch_backups"))
    run = BackupRun.objects.get()
    assert (run.proof, run.is_local, run.verified_at) == (BackupProof.BAD, True, now)
    assert path.name in run.verify_message
    assert (watch.finding(now).code, "damaged" in watch.finding(now).text) == (2, True)


def test_a_file_that_has_the_size_it_had_stays_proven(now, time_machine):
    work(job())
    time_machine.move_to(NOW + DAY / 2, tick=False)
    for _ in range(2):
        work(job("watch_backups"))
    run = BackupRun.objects.get()
    assert (run.proof, run.verified_at) == (BackupProof.RESTORED, now)


HOUR = datetime.timedelta(hours=1)
HOURS = [NOW + number * HOUR for number in range(4)]


def three_proven_ones() -> list[Path]:
    """Newest first."""
    paths = [create(kind=BackupKind.NIGHTLY, now=NOW - number * DAY) for number in range(3)]
    keeping.adopt(NOW)
    BackupRun.objects.update(proof=BackupProof.RESTORED)
    return paths


def proofs(paths: list[Path]) -> list[str]:
    known = dict(BackupRun.objects.values_list("file_name", "proof"))
    return [known[path.name] for path in paths]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_one_whose_bytes_have_changed_is_found_within_twice_as_many_hours_as_there_are_files(
    now, time_machine, verification, which
):
    paths = three_proven_ones()
    content = bytearray(paths[which].read_bytes())
    content[-20] ^= 1
    paths[which].write_bytes(content)
    verification.says = BackupDamaged(file=paths[which].name, at=1)
    for number, hour in enumerate(HOURS):
        time_machine.move_to(hour, tick=False)
        work(job("watch_backups"))
        if which == 0 and number == 0:
            assert proofs(paths)[0] == BackupProof.BAD
    assert proofs(paths) == [BackupProof.BAD if number == which else BackupProof.RESTORED for number in range(3)]
    assert verification.asked == [(paths[which].name, False)]


def test_each_is_read_again_while_others_come_and_go(now, monkeypatch):
    for number in range(10):
        create(kind=BackupKind.HOURLY, now=NOW - number * HOUR)
    keeping.adopt(NOW)
    read, digest = [], shelf.digest
    for number in range(1, 33):
        hour = NOW + number * HOUR
        create(kind=BackupKind.HOURLY, now=hour)
        BackupRun.objects.kept().earliest("created_at").path.unlink()
        keeping.adopt(hour)
        with monkeypatch.context() as told:
            told.setattr(keeping.shelf, "digest", lambda path, at=hour: read.append((at, path.name)) or digest(path))
            keeping.reread(hour)
    in_turn = [name for at, name in read if shelf.told_by(Path(name)).at < at]
    assert len(in_turn) == len(set(in_turn)) > 10


def test_one_of_the_time_to_come_is_not_the_newest_that_is_read_each_hour(now, verification):
    paths = three_proven_ones()
    create(kind=BackupKind.NIGHTLY, now=NOW + 365 * DAY)
    paths[0].write_bytes(paths[0].read_bytes()[:-1] + b"X")
    verification.says = BackupDamaged(file=paths[0].name, at=1)
    keeping.reread(NOW)
    assert proofs(paths)[0] == BackupProof.BAD


def test_another_whole_backup_under_the_name_of_a_proven_one_is_not_proven(now, verification):
    paths = three_proven_ones()
    paths[0].write_bytes(paths[1].read_bytes())
    verification.says = BackupProof.DIGESTS
    for _twice in range(2):
        keeping.reread(NOW)
    assert proofs(paths) == [BackupProof.DIGESTS, BackupProof.RESTORED, BackupProof.RESTORED]
    assert len(verification.asked) == 1


def test_files_that_are_gone_or_unreadable_stop_no_look(now, verification):
    paths = three_proven_ones()
    paths[0].unlink()
    for hour in HOURS:
        keeping.reread(hour)
    assert verification.asked == []


def test_none_goes_while_the_newest_is_cut_off(now, folder):
    fill(40)
    os.truncate(BackupRun.objects.order_by("-created_at").first().path, 10)
    assert keeping.prune(NOW) == 0
    assert len(names(folder)) == 40


def test_what_this_user_may_not_read_stops_no_night(now, folder, store, monkeypatch):
    """A safety backup that root's restore has left."""
    foreign = [create(kind="safety", now=NOW - DAY), create(kind="by-hand", now=NOW - 2 * DAY)]
    known = keeping.make(kind="before-migrate", now=NOW - 3 * DAY)
    refuse(monkeypatch, *foreign, known.path)

    done = work(job())

    assert done.state == RunState.DONE, done.message
    assert set(BackupRun.objects.values_list("kind", flat=True)) == {"weekly", "before-migrate"}
    known.refresh_from_db()
    assert (known.offsite_at, "Permission denied" in known.offsite_message) == (None, True)
    assert done.counts["copied"] == 1


def refuse(monkeypatch, *paths) -> None:
    """Root, as whom tests may run, is refused nothing."""
    real = Path.open

    def opened(path, *args, **kwargs):
        if path in paths:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", opened)
    monkeypatch.setattr("crm.backups.archive.open", lambda path, mode: opened(Path(path), mode), raising=False)


# --- Off-site ---


def test_each_backup_goes_off_site_and_what_waited_for_it_too(now, time_machine, store):
    store.fault = lambda method, path: "500"
    first = job()
    assert "500" in work(first).message
    run = BackupRun.objects.get()
    assert (run.offsite_at, "500" in run.offsite_message, run.is_local) == (None, True, True)
    store.fault = lambda method, path: ""
    time_machine.move_to(NOW + DAY, tick=False)
    assert work(job()).counts["copied"] == 2
    for run in BackupRun.objects.all():
        assert run.offsite_key == f"prague/{run.file_name}"
        assert (run.offsite_message, bool(run.offsite_etag)) == ("", True)
    assert len(offsite.listed()) == 2


def test_one_that_could_not_be_tried_is_copied_and_the_night_is_not_well(now, store, verification):
    verification.says = LoadFailed(why="no room")
    run = work(job())
    assert (run.state, "no room" in run.message) == (RunState.FAILED, True)
    assert [copy.name for copy in offsite.listed()] == [BackupRun.objects.get().file_name]


def test_one_that_could_neither_be_tried_nor_copied_says_both(now, store, verification):
    verification.says = LoadFailed(why="no room")
    store.fault = lambda method, path: "500"
    assert "no room" in work(job()).message
    assert "500" in BackupRun.objects.get().offsite_message


def test_a_damaged_backup_is_not_copied(now, store, verification):
    verification.says = BackupDamaged(file="a", at=1)
    work(job())
    assert offsite.listed() == []


def test_one_that_was_bent_before_its_copy_stops_one_night_only(now, folder, store):
    bent = keeping.make(kind="by-hand", now=NOW - DAY)
    with bent.path.open("r+b") as file:
        file.write(b"X")
    assert "damaged" in work(job()).message
    bent.refresh_from_db()
    assert (bent.proof, bent.offsite_at) == (BackupProof.BAD, None)
    assert work(job()).state == RunState.DONE


def test_copies_without_a_row_are_known_and_lost_ones_too(now, store, folder):
    path = create(kind="weekly", now=NOW - DAY)
    offsite.put(path, hashlib.sha256(path.read_bytes()).hexdigest())
    path.unlink()
    keeping.adopt_copies(now)
    run = BackupRun.objects.get()
    assert (run.kind, run.is_local, run.offsite_key) == ("weekly", False, f"prague/{path.name}")
    offsite.delete(path.name)
    keeping.adopt_copies(now)
    run.refresh_from_db()
    assert (run.offsite_at, run.removed_at) == (None, now)


def copied_only(now) -> BackupRun:
    """As on a disk that was thrown away."""
    work(job())
    run = BackupRun.objects.get()
    run.path.unlink()
    keeping.adopt(now)
    return run


def put(run: BackupRun, content: bytes, **values) -> None:
    with offsite._store() as client:
        client.put_object(Bucket=keeping.settings.S3_BUCKET, Key=offsite.key_of(run.file_name), Body=content, **values)


def test_a_copy_that_was_written_over_proves_nothing(now, store):
    run = copied_only(now)
    content = b"".join(offsite.blocks(run.file_name, run.size_bytes))
    put(run, b"")
    whole = offsite.listed()[0]
    work(job("watch_backups"))
    run.refresh_from_db()
    assert (run.offsite_at, "something else" in run.offsite_message) == (None, True)
    assert (watch.finding(now).code, whole.size) == (2, 0)
    put(run, content)
    work(job("watch_backups"))
    run.refresh_from_db()
    assert (run.removed_at, run.offsite_message, watch.finding(now).code) == (None, "", 0)


def test_a_copy_that_was_written_over_is_sent_again_from_here(now, store):
    work(job())
    run = BackupRun.objects.get()
    put(run, b"0" * run.size_bytes)
    work(job("watch_backups"))
    run.refresh_from_db()
    assert (run.offsite_at, "something else" in run.offsite_message) == (None, True)
    assert keeping.copy_all() == 1
    assert b"".join(offsite.blocks(run.file_name, run.size_bytes)) == run.path.read_bytes()


def test_a_copy_that_another_store_calls_otherwise_stays_one(now, store):
    run = copied_only(now)
    BackupRun.objects.update(offsite_etag="of another store")
    for _twice in range(2):
        work(job("watch_backups"))
    run.refresh_from_db()
    assert (run.proof, run.offsite_etag) == (BackupProof.RESTORED, offsite.listed()[0].etag)


def test_one_copy_that_cannot_be_read_keeps_none_from_going(now, store, folder):
    fill(34)
    keeping.copy_all()
    oldest, newest = BackupRun.objects.earliest("created_at"), BackupRun.objects.latest("created_at")
    BackupRun.objects.filter(pk__in=[newest.pk, newest.pk - 1]).update(offsite_etag="of another store")
    store.fault = lambda method, path: "403" if method == "GET" and ".hdbk" in path else ""
    assert keeping.prune(NOW) == 3
    assert BackupRun.objects.filter(offsite_etag="of another store").exclude(offsite_at=None).count() == 2
    assert not oldest.path.exists()


def test_a_name_that_is_taken_keeps_no_other_from_its_copy_and_no_old_one_from_going(now, store, folder):
    fill(35)
    BackupRun.objects.filter(created_at=NOW).delete()
    taken = BackupRun.objects.order_by("-created_at")[3]
    put(taken, b"another office's", Metadata={"sha256": "0" * 64})
    done = work(job())
    assert (done.state, "S3_PREFIX" in done.message) == (RunState.FAILED, True)
    assert len(offsite.listed()) == 31
    assert "S3_PREFIX" in BackupRun.objects.get(pk=taken.pk).offsite_message
    assert len(names(folder)) == 31


def test_one_that_was_seen_in_the_store_first_is_known_when_it_is_here(now, store):
    path = create(kind="before-migrate", now=NOW)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    copied = offsite.put(path, digest)
    keeping.adopt_copies(now)
    keeping.note(path, copied, now)
    run = BackupRun.objects.get()
    assert (run.sha256, run.version, run.is_local, bool(run.offsite_at)) == (digest, "0.1.0", True, True)


def test_a_key_that_comes_later_makes_a_backup_count(now, settings, verification):
    known = settings.BACKUP_KEYS
    path = create(kind="nightly", now=NOW)
    settings.BACKUP_KEYS = [known[0][::-1]]
    keeping.adopt(now)
    assert "BACKUP_KEY" in watch.look(now)
    settings.BACKUP_KEYS = known
    watch.look(now)
    verified(path, "--restore")
    assert watch.finding(now).code == 0


def test_a_copy_that_is_gone_counts_no_more_from_the_next_hour(now, store):
    run = copied_only(now)
    offsite.delete(run.file_name)
    work(job("watch_backups"))
    assert watch.finding(now).code == 2


@pytest.mark.parametrize("how", ["another prefix", "an empty answer"])
def test_copies_that_were_out_of_sight_are_known_again(now, store, settings, how):
    run = copied_only(now)
    if how == "another prefix":
        settings.S3_PREFIX = "pragve"
        keeping.prune(now)
        assert watch.finding(now).code == 2
        settings.S3_PREFIX = "prague"
    else:
        store.fault = lambda method, path: "empty" if "list-type" in path else ""
        with pytest.raises(OffsiteFailed, match="S3_ENDPOINT_URL"):
            keeping.adopt_copies(now)
        store.fault = lambda method, path: ""
    keeping.adopt_copies(now)
    run.refresh_from_db()
    assert (run.removed_at, bool(run.offsite_at), watch.finding(now).code) == (None, True, 0)


def test_a_store_that_is_away_stops_no_look(now, store):
    run = copied_only(now)
    store.fault = lambda method, path: "500"
    done = work(job("watch_backups"))
    assert (done.state, "500" in done.log) == (RunState.DONE, True)
    run.refresh_from_db()
    assert run.offsite_at


def test_one_that_another_machine_makes_and_copies_is_not_removed(now, store, folder, settings, tmp_path_factory):
    settings.BACKUP_DIR = tmp_path_factory.mktemp("one-off")
    run = keeping.make(kind="by-hand", now=NOW)

    def meanwhile(done, total):
        settings.BACKUP_DIR, own = folder, settings.BACKUP_DIR
        keeping.adopt(now)
        settings.BACKUP_DIR = own

    keeping.copy(run, meanwhile)
    run.refresh_from_db()
    assert (run.removed_at, bool(run.offsite_at)) == (None, True)


def test_a_damaged_one_keeps_no_other_from_its_copy(now, store):
    bent = [keeping.make(kind="by-hand", now=NOW - day * DAY) for day in (0, 2)]
    whole = [keeping.make(kind="by-hand", now=NOW - day * DAY) for day in (1, 3)]
    for run in bent:
        run.path.write_bytes(b"X" * run.size_bytes)
    with pytest.raises(BackupDamaged):
        keeping.copy_all()
    assert {copy.name for copy in offsite.listed()} == {run.file_name for run in whole}


# --- Pruning ---


def fill(days: int, **values) -> None:
    for day in range(days):
        create(kind="nightly", now=NOW - day * DAY)
    keeping.adopt(NOW)
    BackupRun.objects.update(proof=BackupProof.RESTORED, **values)


def test_old_ones_go_here_and_off_site(now, store, folder):
    fill(32)
    keeping.copy_all()
    assert keeping.prune(NOW) == 1
    assert keeping.prune(NOW) == 0
    assert len(names(folder)) == len(offsite.listed()) == 31
    gone = BackupRun.objects.get(removed_at=NOW)
    assert gone.created_at == NOW - 31 * DAY


def test_copies_of_another_office_in_the_same_bucket_neither_go_nor_keep_any(now, store, folder, settings):
    others = [create(kind="nightly", now=NOW - age) for age in (200 * DAY, datetime.timedelta(0))]
    for path in others:
        offsite.put(path, hashlib.sha256(path.read_bytes()).hexdigest())
        path.unlink()
    create(kind="nightly", now=NOW - DAY)
    create(kind="nightly", now=NOW - 33 * DAY)
    keeping.adopt(NOW)
    BackupRun.objects.update(proof=BackupProof.RESTORED)
    settings.BACKUP_KEEP_LEAST = 1
    keeping.copy_all()
    assert keeping.prune(NOW) == 1
    assert {copy.name for copy in offsite.listed()} == {*names(folder), *(path.name for path in others)}


def test_none_goes_while_the_newest_is_not_good(now, folder):
    fill(40)
    newest = BackupRun.objects.order_by("-created_at").first()
    for proof in (BackupProof.BAD, ""):
        BackupRun.objects.filter(pk=newest.pk).update(proof=proof)
        assert keeping.prune(NOW) == 0
    assert len(names(folder)) == 40


@pytest.mark.parametrize("proof", [BackupProof.RESTORED, ""])
def test_one_that_waits_for_its_copy_stays(now, store, folder, proof):
    fill(32)
    BackupRun.objects.filter(created_at__lt=NOW).update(proof=proof)
    assert keeping.prune(NOW) == 0
    assert len(names(folder)) == 32


def test_a_store_that_refuses_to_delete_fills_no_disk_here(now, store, folder):
    fill(32)
    keeping.copy_all()
    store.fault = lambda method, path: "403" if method == "DELETE" else ""
    for _again in range(2):
        with pytest.raises(OffsiteFailed):
            keeping.prune(NOW)
        assert (len(names(folder)), len(offsite.listed())) == (31, 32)
        assert not BackupRun.objects.exclude(removed_at=None).exists()
    store.fault = lambda method, path: ""
    assert keeping.prune(NOW) == 1
    assert [copy.name for copy in offsite.listed()] == names(folder)


def test_one_copy_that_cannot_be_deleted_keeps_no_other(now, store, folder):
    fill(34)
    keeping.copy_all()
    oldest = BackupRun.objects.earliest("created_at")
    store.fault = lambda method, path: "403" if method == "DELETE" and oldest.file_name in path else ""
    with pytest.raises(OffsiteFailed, match="403"):
        keeping.prune(NOW)
    assert (len(names(folder)), len(offsite.listed())) == (31, 32)
    assert offsite.listed()[0].name == oldest.file_name
    oldest.refresh_from_db()
    assert (oldest.removed_at, "403" in oldest.offsite_message) == (None, True)


@pytest.mark.parametrize("refused", ["DELETE", "GET"], ids=["delete", "list"])
def test_a_night_whose_old_ones_cannot_go_is_well_and_says_why(now, store, folder, refused):
    fill(35)
    keeping.copy_all()
    BackupRun.objects.filter(created_at=NOW).delete()
    store.fault = lambda method, path: (
        "403" if method == refused and (method == "DELETE" or "list-type" in path) else ""
    )
    done = work(job())
    newest = BackupRun.objects.get(job=done)
    assert (done.state, "403" in done.log, "pruned" in done.counts) == (RunState.DONE, True, False)
    assert ("403" in newest.offsite_message, bool(newest.offsite_at)) == (True, True)


def test_one_whose_file_went_before_a_kill_goes_with_the_next_attempt(now, store, folder, monkeypatch):
    fill(32)
    keeping.copy_all()
    with monkeypatch.context() as killed, pytest.raises(SystemExit):
        killed.setattr(offsite, "delete", lambda name: (_ for _ in ()).throw(SystemExit))
        keeping.prune(NOW)
    assert len(names(folder)) == len(offsite.listed()) - 1
    assert keeping.prune(NOW) == 1
    assert names(folder) == [copy.name for copy in offsite.listed()]


def test_an_old_one_whose_copy_the_store_has_removed_waits_for_no_other(now, store, folder):
    fill(32)
    keeping.copy_all()
    offsite.delete(BackupRun.objects.earliest("created_at").file_name)
    assert keeping.prune(NOW) == 1
    assert names(folder) == [copy.name for copy in offsite.listed()]


def test_the_files_of_another_office_in_this_folder_neither_go_nor_count(now, folder, settings):
    key = settings.BACKUP_KEYS
    settings.BACKUP_KEYS = [key[0][::-1]]
    others = [create(kind="weekly", now=NOW - days * DAY) for days in (0, 100, 400)]
    settings.BACKUP_KEYS = key
    fill(32)
    BackupRun.objects.filter(version="").update(proof="")
    assert keeping.prune(NOW) == 1
    assert all(path.exists() for path in others)
    (newest,) = BackupRun.objects.filter(created_at=NOW).exclude(version="")
    newest.path.unlink()
    newest.delete()
    assert work(job()).state == RunState.DONE
    assert BackupRun.objects.exclude(version="").latest("created_at").kind == BackupKind.WEEKLY


def test_a_file_of_a_kind_that_nobody_knows_never_goes(now, folder):
    kept = create(kind="keep-for-audit", now=NOW - 400 * DAY)
    fill(32)
    assert keeping.prune(NOW) == 1
    assert kept.exists()


def test_a_night_removes_what_is_old_enough(now):
    fill(35)
    BackupRun.objects.filter(created_at=NOW).delete()
    done = work(job())
    assert done.counts["pruned"] == 4, done.message
