"""What the queue runs. Arguments are ids and ISO dates; the work is done by services."""

import datetime

from django.utils import timezone

from crm import jobs, notifications, outbox, privacy, radar, schedules, weekly
from crm.audit import sealing, undo_runs, verifying
from crm.backups import keeping, watch
from crm.exceptions import AuditNotWhole, OffsiteFailed
from crm.exports import regular, waiting
from crm.imports import runs
from crm.models import Heartbeat
from crm.notices import mails


def run_job(run_id: int) -> None:
    schedules.miss_late(timezone.now(), pk=run_id)
    jobs.carry_out(run_id, JOBS)


def beat() -> None:
    """What the supervisor asks of each queue every few seconds: that it ran is the sign of life. It also keeps the clock."""
    now = timezone.now()
    Heartbeat.objects.beat(jobs.worker_name, now)
    schedules.tick(now)
    jobs.sweep(now)


# --- The jobs, by the names of their schedules ---


def send_mail(progress: jobs.Progress) -> dict:
    return outbox.send_due(timezone.now(), progress)


def send_notices(progress: jobs.Progress) -> dict:
    return mails.send(timezone.now(), progress)


def send_deadlines(progress: jobs.Progress) -> dict:
    return notifications.send(_day(progress), progress)


def send_radar(progress: jobs.Progress) -> dict:
    return notifications.written(radar.plan(_day(progress)), progress)


def send_weekly_report(progress: jobs.Progress) -> dict:
    return weekly.send(timezone.now(), progress, asked_on=_day(progress))


def _day(progress: jobs.Progress) -> datetime.date:
    """Of the slot; of a run by hand today."""
    return schedules.day_of(progress.run.slot) or timezone.localdate()


def seal_audit(progress: jobs.Progress) -> dict:
    done = sealing.seal(now=timezone.now(), wait_s=60, progress=progress)
    if done.waiting:
        progress.log(f"not sealed yet: {', '.join(done.waiting)}")
    return {"rows": done.rows, "seals": done.seals}


def verify_audit(progress: jobs.Progress) -> dict:
    found = verifying.verify(now=timezone.now(), progress=progress)
    if not found.is_whole:
        raise AuditNotWhole()
    return {"rows": found.rows}


def erase_due(progress: jobs.Progress) -> dict:
    return privacy.erase_due(timezone.now(), progress)


def make_export(progress: jobs.Progress) -> dict:
    return waiting.make(progress)


def check_import(progress: jobs.Progress) -> dict:
    return runs.check_by_job(progress)


def write_import(progress: jobs.Progress) -> dict:
    return runs.write_by_job(progress)


def undo_operation(progress: jobs.Progress) -> dict:
    return undo_runs.undo_by_job(progress)


def send_exports(progress: jobs.Progress) -> dict:
    return regular.send(timezone.now(), progress)


def nightly_backup(progress: jobs.Progress) -> dict:
    return keeping.night(progress)


def hourly_backup(progress: jobs.Progress) -> dict:
    return keeping.hour(progress)


def make_backup(progress: jobs.Progress) -> dict:
    return keeping.by_hand(progress)


def watch_backups(progress: jobs.Progress) -> None:
    now = timezone.now()
    watch.look(now)
    keeping.adopt(now)
    keeping.reread(now)
    try:
        keeping.adopt_copies(now, progress)
    except OffsiteFailed as error:
        progress.log(error)


def tidy_jobs(progress: jobs.Progress) -> dict:
    now, counts = timezone.now(), {}
    parts = {"export_pieces": waiting, "import_pieces": runs, "notices": mails, "runs": schedules}
    for number, (name, service) in enumerate(parts.items()):
        progress(number, len(parts))
        counts[name] = service.tidy(now)
    return counts


JOBS = {
    work.__name__: work
    for work in (
        send_mail,
        send_notices,
        send_deadlines,
        send_radar,
        send_weekly_report,
        seal_audit,
        verify_audit,
        erase_due,
        make_export,
        send_exports,
        check_import,
        write_import,
        undo_operation,
        tidy_jobs,
        nightly_backup,
        hourly_backup,
        make_backup,
        watch_backups,
    )
}
