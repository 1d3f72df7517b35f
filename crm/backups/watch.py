"""Whether the office could be put back from its backups: said in one sentence that names what is wrong, or in none. Pages ask
the database only: what a worker finds out about its own machine, `look` writes down for them. `finding_here` looks itself."""

import dataclasses
import datetime
from collections.abc import Collection

from django.conf import settings
from django.db import connection
from django.db.models import Max, Q, Subquery, TextField, Value
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from crm import values
from crm.backups import offsite, postgresql
from crm.backups.archive import open_archive
from crm.choices import BackupProof, RunState
from crm.exceptions import BackupKeyMissing, CrmError
from crm.models import BackupRun, BackupWatch, JobSchedule
from crm.models.backups import IS_OURS

# A night, and two hours for it to be made in.
FRESH = datetime.timedelta(hours=26)
# Of BACKUP_EVERY: so long for one to be made in.
HOUR = datetime.timedelta(hours=1)
NIGHTLY, HOURLY = "nightly_backup", "hourly_backup"
FINE, STALE, NONE = 0, 1, 2
_TROUBLE = BackupWatch.objects.values_list("trouble", flat=True)


@dataclasses.dataclass(frozen=True)
class Finding:
    """`code` is the exit code of check_backups; `is_new` of an office that has had no night yet, `is_empty` of one that has
    neither a backup nor a failed one."""

    code: int
    text: str
    is_new: bool = False
    is_empty: bool = False

    @property
    def trouble(self) -> str:
        """For every page: empty where all is well, or nothing could be done yet."""
        return "" if self.code == FINE or self.is_new else self.text


def finding(now: datetime.datetime, *, without: Collection[int] = ()) -> Finding:
    """Fresh and verified, or the first thing that is not. One query where all is well: every page asks. What is of the time to
    come (a clock was wrong) says nothing, nor does another office's copy, nor a run of `without`."""
    past = Q(created_at__lte=now)
    kept = past & IS_OURS & Q(state=RunState.DONE) & ~Q(pk__in=without)
    runs = BackupRun.objects.filter(removed_at=None).order_by()
    told = runs.aggregate(
        newest=Max("created_at", filter=kept & ~Q(proof=BackupProof.BAD)),
        proven=Max("created_at", filter=kept & Q(proof=BackupProof.RESTORED)),
        bad=Max("created_at", filter=kept & Q(proof=BackupProof.BAD)),
        copied=Max("created_at", filter=kept & Q(offsite_at__isnull=False)),
        failed=Max("created_at", filter=past & Q(state=RunState.FAILED)),
        trouble=Max(Coalesce(Subquery(_TROUBLE[:1]), Value("", TextField()))),
    )
    trouble = told.pop("trouble")
    if trouble is None:  # where there is no backup, the database looks at nothing else
        trouble = _TROUBLE.first()
    return dataclasses.replace(_told(told, trouble, now), is_empty=not any(told.values()))


def finding_here(now: datetime.datetime) -> Finding:
    """As `finding`, and by what this machine has: its BACKUP_KEY opens the newest file, and a backup that has no copy stands in
    its BACKUP_DIR as it was made."""
    found = finding(now)
    if found.code != FINE:
        return found
    if why := key_trouble(now):
        return Finding(STALE, why)
    local = BackupRun.objects.kept().filter(IS_OURS, is_local=True)
    lost = [run.pk for run in local if not (run.offsite_at and offsite.is_set()) and not _stands_here(run)]
    rest = finding(now, without=lost)
    if rest.code == FINE:
        return found
    text = ngettext(
        "%(count)s backup is not in %(folder)s as it was made, and has no copy elsewhere. Put it back, make a new one, or ask "
        "on the machine of the worker.",
        "%(count)s backups are not in %(folder)s as they were made, and have no copy elsewhere. Put them back, make a new one, "
        "or ask on the machine of the worker.",
        len(lost),
    )
    return Finding(rest.code, text % {"count": len(lost), "folder": settings.BACKUP_DIR})


def _stands_here(run: BackupRun) -> bool:
    try:
        return run.path.stat().st_size == run.size_bytes
    except OSError:
        return False


def _told(told: dict, trouble: str | None, now: datetime.datetime) -> Finding:
    newest, proven = told["newest"], told["proven"]
    if why := cannot_make():
        return Finding(NONE, why)
    if trouble:
        return Finding(NONE if newest is None else STALE, trouble)
    if told["bad"] and told["bad"] >= (newest or told["bad"]):
        return Finding(NONE, _("The backup of %(when)s is damaged.") % {"when": values.moment(told["bad"])})
    if newest is None:
        return Finding(NONE, _("There is no backup yet. Make one: manage.py backup"), is_new=_is_new(now))
    if why := disk_trouble():
        return Finding(STALE, why)
    if proven is None or now - proven > FRESH:
        return _stale(newest, proven, told["failed"], now)
    if settings.BACKUP_EVERY and _is_late(newest, now):
        words = {"when": values.moment(newest), "every": f"{settings.BACKUP_EVERY}h"}
        text = _("No backup was made since %(when)s, though BACKUP_EVERY is %(every)s.") % words
        return Finding(STALE, f"{text} {_why_failed(newest, told['failed'])}".strip())
    if offsite.is_set() and (told["copied"] is None or now - told["copied"] > FRESH):
        said = told["copied"]
        words = {"when": values.moment(said)} if said else {}
        text = _("No backup is off-site since %(when)s.") if said else _("No backup is off-site yet.")
        return Finding(STALE, text % words)
    return Finding(FINE, _("Backed up at %(when)s and restored to try.") % {"when": values.moment(proven)})


def cannot_make() -> str:
    """No query."""
    return "" if settings.BACKUP_KEYS else _("No backup is made: BACKUP_KEY is not set. See Backups in README.md.")


def _is_late(newest, now: datetime.datetime) -> bool:
    """Longer than BACKUP_EVERY, for as long as the calendar knows of it."""
    until = now - datetime.timedelta(hours=settings.BACKUP_EVERY) - HOUR
    return newest < until and JobSchedule.objects.filter(name=HOURLY, since__lt=until).exists()


def _stale(newest, proven, failed, now: datetime.datetime) -> Finding:
    why = _why_failed(newest, failed)
    if not why and now - newest <= FRESH:
        run = BackupRun.objects.kept().filter(IS_OURS, created_at=newest).first()
        why = _("The newest one, of %(when)s, was not verified by restoring it.") % {"when": values.moment(newest)}
        why = " ".join([why, *(run.verify_message.split() if run else ())])
    said = (
        _("The last verified backup is of %(when)s.") % {"when": values.moment(proven)}
        if proven
        else _("No backup has been verified by restoring it.")
    )
    return Finding(STALE, f"{said} {why}".strip(), is_new=proven is None and _is_new(now))


def _why_failed(newest, failed) -> str:
    """What kept the one after the newest from being made, if any did."""
    if not failed or failed <= newest:
        return ""
    run = BackupRun.objects.filter(state=RunState.FAILED, created_at=failed).first()
    return " ".join(run.message.split()) if run else ""


def _is_new(now: datetime.datetime) -> bool:
    """No night has passed since the calendar knows of backups."""
    since = JobSchedule.objects.filter(name=NIGHTLY).values_list("since", flat=True).first()
    return since is None or now - since <= FRESH


def disk_trouble() -> str:
    """No query."""
    if offsite.is_set() or not settings.BACKUPS_ON_THROWAWAY_DISK:
        return ""
    return _(
        "Backups stand on a disk that this host throws away at every start. Set S3_BUCKET, S3_ACCESS_KEY_ID and "
        "S3_SECRET_ACCESS_KEY, so that they are copied elsewhere; or BACKUPS_ON_THROWAWAY_DISK=0 where the disk is kept."
    )


def tools_trouble() -> str:
    """Of this machine; starts a process."""
    return postgresql.check_tools() if connection.vendor == "postgresql" else ""


def key_trouble(now: datetime.datetime) -> str:
    """Of the newest backup that lies on this machine."""
    here = BackupRun.objects.kept().filter(IS_OURS, is_local=True, created_at__lte=now)
    run = here.order_by("-created_at").first()
    if run is None:
        return ""
    try:
        open_archive(run.path, settings.BACKUP_KEYS).close()
    except BackupKeyMissing as error:
        return str(error)
    except (CrmError, OSError):  # that it is damaged or gone others tell
        pass
    return ""


def look(now: datetime.datetime) -> str:
    """Writes down what pages cannot ask; returns it."""
    found = tools_trouble() or key_trouble(now)
    BackupWatch.objects.update_or_create(pk=1, defaults={"trouble": found, "looked_at": now})
    return found
