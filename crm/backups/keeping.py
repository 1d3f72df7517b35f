"""A backup from its making to its removal, with its BackupRun: made, verified, copied off-site, pruned. Each step may be done
again at any time: what a killed process had done of it is found, and what a command made or somebody brought is adopted."""

import contextlib
import datetime
import logging
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError
from django.db.models import Q
from django.utils import timezone

from crm import checks
from crm.backups import checking, making, offsite, placing, retention, shelf, watch
from crm.backups.archive import open_archive
from crm.choices import BackupKind, BackupProof, RunState
from crm.exceptions import BackupDamaged, BackupDiffers, BackupGone, CopyTaken, CrmError, OffsiteFailed
from crm.jobs import Cancelled, Progress, told
from crm.models import BackupRun
from crm.models.backups import IS_OURS

logger = logging.getLogger(__name__)

GOOD = (BackupProof.DIGESTS, BackupProof.RESTORED)
# What no key here has opened may be another office's too.
OPENED = IS_OURS & ~Q(version="", proof="")
# Of a job's progress: so many of a hundred.
MADE, VERIFIED, COPIED = 40, 80, 100
MEGABYTE = 1024 * 1024
# So long at most a killed attempt of a job is tried again by itself.
ATTEMPTS = datetime.timedelta(days=1)


# --- The jobs ---


def night(progress: Progress) -> dict:
    """The first one of a week that is good is the week's archive too."""
    return _all_of(progress, (BackupKind.NIGHTLY, BackupKind.WEEKLY), restore=True)


def hour(progress: Progress) -> dict:
    return _all_of(progress, (BackupKind.HOURLY,), restore=False)


def by_hand(progress: Progress) -> dict:
    return _all_of(progress, (BackupKind.BY_HAND,), restore=True)


def _all_of(progress: Progress, kinds: tuple[BackupKind, ...], *, restore: bool) -> dict:
    run = _made(progress, kinds)
    try:
        verify(run, restore=restore, progress=_part(progress, MADE, VERIFIED))
    except Cancelled:
        raise
    except CrmError:
        # What could not be tried, for want of room for instance, is safer in two places too.
        with contextlib.suppress(OffsiteFailed, BackupDamaged):
            copy_all(_part(progress, VERIFIED, COPIED))
        raise
    try:
        copied = copy_all(_part(progress, VERIFIED, COPIED))
    except (BackupDamaged, CopyTaken):
        # It is one file's, and may last.
        with contextlib.suppress(OffsiteFailed):
            prune(timezone.now())
        raise
    counts = {"megabytes": -(-run.size_bytes // MEGABYTE), "rows": run.rows_total, "copied": copied}
    try:
        return {**counts, "pruned": prune(timezone.now())}
    except OffsiteFailed as error:
        # As of a key that may not delete: the backup is made, proven and copied.
        progress.log(error)
        BackupRun.objects.filter(pk=run.pk).update(offsite_message=str(error))
        return counts


def _part(progress: Progress, start: int, end: int) -> Callable[[int, int], None]:
    return lambda done, total: progress(start + (end - start) * done // max(total, 1), COPIED)


def _made(progress: Progress, kinds: tuple[BackupKind, ...]) -> BackupRun:
    """What an earlier attempt of this job has made counts."""
    now = timezone.now()
    adopt(now)
    job = progress.run
    # A name, from which one without a row is known, tells full seconds.
    since = max(job.created_at.replace(microsecond=0), now - ATTEMPTS)
    of_job = Q(job=job) | Q(job=None, kind__in=kinds, created_at__range=(since, now))
    is_there = Q(is_local=True) | Q(proof=BackupProof.RESTORED)
    usable = BackupRun.objects.kept().filter(OPENED).exclude(proof=BackupProof.BAD)
    found = usable.filter(of_job, is_there).order_by("-created_at").first()
    if found is not None:
        BackupRun.objects.filter(pk=found.pk).update(job=job, user=job.user, user_name=job.user_name)
        return found
    kind = BackupKind.WEEKLY if BackupKind.WEEKLY in kinds and not _has_weekly(now) else kinds[0]
    return make(kind=kind, now=now, job=job, user=job.user, progress=_part(progress, 0, MADE))


def _has_weekly(now: datetime.datetime) -> bool:
    today = timezone.localtime(now)
    monday = (today - datetime.timedelta(days=today.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)
    of_week = BackupRun.objects.kept().filter(kind=BackupKind.WEEKLY, created_at__range=(monday, now))
    return of_week.filter(proof__in=GOOD).exists()


# --- The steps ---


def make(*, kind: str, now: datetime.datetime, job=None, user=None, progress: Callable | None = None) -> BackupRun:
    """Raises what making raises, and leaves the reason as a failed run."""
    began = time.monotonic()
    who = {"job": job, "user": user, "user_name": user.get_display_name() if user else ""}
    try:
        with placing.finished():
            path = making.create(kind=kind, now=now, progress=progress)
    except Cancelled:
        raise
    except Exception as error:
        failed = {"state": RunState.FAILED, "created_at": now, "finished_at": timezone.now(), "message": told(error)}
        # Where the database's own disk is full, why counts more than a row.
        with contextlib.suppress(DatabaseError):
            if job is None or not BackupRun.objects.filter(job=job, state=RunState.FAILED).update(**failed):
                BackupRun.objects.create(kind=kind, is_local=False, **failed, **who)
        raise
    if job is not None:
        BackupRun.objects.filter(job=job, state=RunState.FAILED).delete()
    run = _record(path, kind, now, took_s=round(time.monotonic() - began), **who)
    # What kept backups from being made may have been told until now.
    watch.look(now)
    return run


def adopt(now: datetime.datetime) -> None:
    """A row for each file that has none; and where a file is gone or has another size than it had, its row says so."""
    # Asked before the folder is: one that is made meanwhile is not gone.
    local = list(BackupRun.objects.kept().filter(is_local=True).values_list("pk", flat=True))
    files = {each.path.name: each for each in shelf.kept()}
    # One that was seen in the store first has a row, but nobody has read it.
    known = set(BackupRun.objects.filter(IS_OURS).values_list("file_name", flat=True))
    for name in files.keys() - known:
        try:
            _record(files[name].path, files[name].kind, files[name].at)
        except OSError as error:  # such as one that a restore of another user left
            logger.warning("%s is left alone: %s", name, error.strerror)
    here = BackupRun.objects.filter(file_name__in=files)
    here.filter(is_local=False).update(is_local=True, removed_at=None)
    BackupRun.objects.kept().filter(pk__in=local).exclude(file_name__in=files).update(is_local=False)
    BackupRun.objects.kept().filter(is_local=False, offsite_at=None).update(removed_at=now)
    _compare_sizes(now)


def _compare_sizes(now: datetime.datetime) -> None:
    """No byte of a file is read."""
    for run in BackupRun.objects.kept().filter(is_local=True).exclude(proof=BackupProof.BAD):
        with contextlib.suppress(OSError):  # it goes meanwhile
            if (size := run.path.stat().st_size) != run.size_bytes:
                why = BackupDamaged(file=run.file_name, at=min(size, run.size_bytes))
                bad = {"proof": BackupProof.BAD, "verified_at": now, "verify_message": str(why)}
                BackupRun.objects.filter(pk=run.pk).update(**bad)


def adopt_copies(now: datetime.datetime, progress: Callable[[int, int], object] = lambda done, total: None) -> None:
    """The same for what lies off-site, as after a restore into a new office, or where somebody has removed some there. One that
    was out of sight for a time, as behind a wrong S3_PREFIX, is known again. Raises OffsiteFailed."""
    if not offsite.is_set():
        return
    sent = list(BackupRun.objects.kept().exclude(offsite_at=None).values_list("pk", flat=True))
    copies = {copy.name: copy for copy in offsite.listed()}
    known = {run.file_name: run for run in BackupRun.objects.filter(file_name__in=copies)}
    others = []
    for name, copy in copies.items():
        if run := known.get(name):
            if (copy.size, copy.etag) != (run.size_bytes, run.offsite_etag):
                others.append((run, copy))
            elif run.removed_at or not run.offsite_at:
                BackupRun.objects.filter(pk=run.pk).update(offsite_at=copy.at, offsite_message="", removed_at=None)
        elif told := shelf.told_by(Path(name)):
            given = {
                "kind": _kind(told.kind), "created_at": told.at, "state": RunState.DONE, "size_bytes": copy.size,
                "is_local": False, "offsite_key": offsite.key_of(name), "offsite_etag": copy.etag, "offsite_at": copy.at,
            }  # fmt: skip
            BackupRun.objects.get_or_create(file_name=name, defaults=given)
    _compare(others, progress)
    lost = BackupRun.objects.kept().filter(pk__in=sent).exclude(file_name__in=copies)
    lost.update(offsite_at=None)
    BackupRun.objects.kept().filter(is_local=False, offsite_at=None).update(removed_at=now)


def _compare(others: list[tuple[BackupRun, offsite.Copy]], progress: Callable[[int, int], object]) -> None:
    """With the copies that are called otherwise than what was sent. Such as another bucket has got are the same; one of them is
    read at a time, the next look has the others."""
    is_read = False
    for run, copy in others:
        runs = BackupRun.objects.filter(pk=run.pk)
        if not run.sha256:
            runs.update(offsite_etag=copy.etag, size_bytes=copy.size)
        elif run.offsite_at and not run.removed_at:
            if copy.size == run.size_bytes:
                if is_read:
                    continue
                is_read = True
                try:
                    is_same = offsite.is_copy(copy, run.sha256, progress)
                except OffsiteFailed:
                    continue
                if is_same:
                    runs.update(offsite_etag=copy.etag)
                    continue
            why = OffsiteFailed(why=offsite.SPOILT % {"name": copy.name})
            runs.update(offsite_at=None, offsite_message=str(why))


def _kind(text: str) -> str:
    return text if text in BackupKind.values else BackupKind.BY_HAND


def _record(path: Path, kind: str, at: datetime.datetime, **values) -> BackupRun:
    """Of a file that is damaged or needs another key the row says only that."""
    try:
        with open_archive(path, settings.BACKUP_KEYS) as archive:
            values |= _of_manifest(archive.manifest)
    except BackupDamaged as error:
        values |= {"proof": BackupProof.BAD, "verified_at": timezone.now(), "verify_message": str(error)}
    except CrmError as error:
        values |= {"verify_message": str(error)}
    given = {
        "state": RunState.DONE,
        "kind": _kind(kind),
        "created_at": at,
        "finished_at": timezone.now(),
        "is_local": True,
    }
    run, _made = BackupRun.objects.update_or_create(
        file_name=path.name,
        defaults={**given, "size_bytes": path.stat().st_size, "sha256": shelf.digest(path), **values},
    )
    return run


def _of_manifest(manifest: dict) -> dict:
    return {
        "version": str(manifest.get("version", ""))[:40],
        "engine": f"{manifest.get('engine', '')} {manifest.get('server_version', '')}".strip()[:60],
        "rows_total": sum(table["rows"] for table in manifest.get("tables", {}).values()),
        "files_total": len(manifest.get("files", ())),
    }


def verify(run: BackupRun, *, restore: bool, progress: Callable[[int, int], object] = lambda done, total: None) -> None:
    """As `check`, but one that was proven as far before is left alone."""
    if run.proof == BackupProof.RESTORED or (run.proof == BackupProof.DIGESTS and not restore):
        return
    check(run, restore=restore, progress=progress)


def check(
    run: BackupRun, *, restore: bool, progress: Callable[[int, int], object] = lambda done, total: None
) -> checking.Checked:
    """Raises what is wrong with it, and writes it down. What was restored once stays proven while its digests are right."""
    began, found = time.monotonic(), None
    try:
        if not run.path.exists():
            raise BackupGone(file=run.file_name)
        found = checking.verify(run.path, restore=restore, progress=progress)
        if found.proof == BackupProof.RESTORED or run.proof != BackupProof.RESTORED:
            run.proof, run.verify_message = found.proof, "\n".join(found.warnings)
        return found
    except Cancelled:
        raise
    except (BackupDamaged, BackupDiffers) as error:
        run.proof, run.verify_message = BackupProof.BAD, str(error)
        raise
    except Exception as error:
        run.verify_message = told(error)
        raise
    finally:
        if found or run.proof == BackupProof.BAD:
            run.verified_at, run.verify_took_s = timezone.now(), round(time.monotonic() - began)
        if found or run.verify_message:
            run.save(update_fields=["proof", "verify_message", "verified_at", "verify_took_s"])


def reread(now: datetime.datetime) -> None:
    """The newest file here each hour, and each other one once in at most twice as many hours as there are: whether it has the
    bytes that it had. What has not is written down."""
    runs = BackupRun.objects.kept().filter(is_local=True).exclude(proof=BackupProof.BAD).order_by("-created_at")
    newest = runs.filter(created_at__lte=now).first()
    # A power of two, and by the name: each keeps its hour while the others come and go.
    hours = 1 << (runs.count() - 1).bit_length()
    hour = int(now.timestamp()) // 3600 % hours
    in_turn = [run for run in runs if zlib.crc32(run.file_name.encode()) % hours == hour]
    for run in {run.pk: run for run in filter(None, [newest, *in_turn])}.values():
        with contextlib.suppress(CrmError, OSError):  # the row tells, or it goes meanwhile
            if (digest := shelf.digest(run.path)) != run.sha256:
                run.proof, run.sha256 = "", digest  # what was proven were other bytes
                check(run, restore=False)
                run.save(update_fields=["sha256"])


def run_of(path: Path, now: datetime.datetime) -> BackupRun | None:
    """None of a file that lies elsewhere than this office's backups do, and where no office can be asked."""
    if not shelf.is_ours(path) or BackupRun._meta.db_table not in checks.tables():
        return None
    adopt(now)
    return BackupRun.objects.kept().filter(file_name=path.name, is_local=True).first()


def note_restored(path: Path, now: datetime.datetime) -> None:
    """The office was put back from it: what better proof is there. Of a file that lies elsewhere nothing is written down."""
    if shelf.is_ours(path) and (told := shelf.told_by(path)):
        _record(path, told.kind, told.at, proof=BackupProof.RESTORED, verified_at=now)


def copy_all(progress: Callable[[int, int], object] = lambda done, total: None) -> int:
    """Off-site, newest first, whatever is here and has no copy yet. Raises OffsiteFailed at the first that fails, and when the
    others are copied BackupDamaged or CopyTaken of the first such one."""
    if not offsite.is_set():
        return 0
    runs = list(_waiting().exclude(proof=BackupProof.BAD).order_by("-created_at"))
    copied, failures = 0, []
    for number, run in enumerate(runs):
        try:
            copied += copy(run, lambda done, total, number=number: progress(number * total + done, len(runs) * total))
        except (BackupDamaged, CopyTaken) as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return copied


def _waiting():
    """For a copy."""
    return BackupRun.objects.kept().filter(OPENED, is_local=True, offsite_at=None)


def copy(run: BackupRun, progress: Callable[[int, int], object] = lambda done, total: None) -> bool:
    """False where this user may not read it. Raises OffsiteFailed, and BackupDamaged once: it is bad from then on."""
    runs = BackupRun.objects.filter(pk=run.pk)
    try:
        found = offsite.put(run.path, run.sha256, progress)
    except PermissionError as error:  # the others have nothing to do with it
        runs.update(offsite_message=error.strerror)
        return False
    except OffsiteFailed as error:
        runs.update(offsite_message=str(error))
        raise
    except BackupDamaged as error:
        runs.update(proof=BackupProof.BAD, verify_message=str(error), offsite_message=str(error))
        raise
    _note_copy(runs, found)
    return True


def _note_copy(runs, copied: offsite.Copy) -> None:
    """Where it was made on another machine than the worker's, it may have been taken for gone meanwhile."""
    runs.update(
        offsite_key=offsite.key_of(copied.name), offsite_etag=copied.etag, offsite_at=copied.at, offsite_message="", removed_at=None,
    )  # fmt: skip


def copy_of(path: Path) -> offsite.Copy | None:
    """Off-site, where a store is set; nothing is written down."""
    if not offsite.is_set():
        return None
    return offsite.put(path, shelf.digest(path))


def note(path: Path, copied: offsite.Copy | None, now: datetime.datetime) -> None:
    """What was made, and copied, before there were tables to write it down in."""
    adopt(now)
    if copied:
        _note_copy(BackupRun.objects.filter(file_name=path.name), copied)


def prune(now: datetime.datetime) -> int:
    """Here and off-site; a file that waits for its copy stays, and a copy that this office has neither made nor read: another one
    may have sent it. Returns how many backups went. Raises OffsiteFailed, of the first that could not go when the others are gone."""
    adopt(now)
    # Asked before the store is: an old one whose copy went there, by a rule of the store or in a prune that was killed, needs none.
    waiting = set(_waiting().values_list("pk", flat=True))
    adopt_copies(now)
    runs = {run.file_name: run for run in BackupRun.objects.kept().filter(OPENED)}
    gone, failures = set(), []
    for name in retention.to_remove(map(_candidate, runs.values()), now, settings=settings):
        run = runs[name]
        if offsite.is_set() and run.pk in waiting and run.proof != BackupProof.BAD:
            continue
        try:
            _remove(run, now)
        except OffsiteFailed as error:
            BackupRun.objects.filter(pk=run.pk).update(offsite_message=str(error))
            failures.append(error)
        else:
            gone.add(name)
    if failures:
        raise failures[0]
    return len(gone)


def _candidate(run: BackupRun) -> retention.Candidate:
    # By the name: the row knows no other kinds than ours.
    told = shelf.told_by(run.path)
    kind = told.kind if told else run.kind
    if kind == BackupKind.WEEKLY and run.proof not in GOOD:  # no archive of its week: a later night makes that
        kind = BackupKind.NIGHTLY
    return retention.Candidate(
        run.file_name, kind, run.created_at, run.proof in GOOD, run.proof == BackupProof.RESTORED
    )


def _remove(run: BackupRun, now: datetime.datetime) -> None:
    """Here first: a key that may not delete off-site fills no disk. While that fails, it is kept there and is tried again."""
    runs = BackupRun.objects.filter(pk=run.pk)
    with contextlib.suppress(FileNotFoundError):
        run.path.unlink()
    runs.update(is_local=False)
    if run.offsite_at and offsite.is_set():
        offsite.delete(run.file_name)
    runs.update(removed_at=now)
