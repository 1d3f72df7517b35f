"""The whole night with nothing replaced: a backup of this database, restored to try, copied off-site, told."""

import pytest
from django.utils import timezone

from crm import jobs, schedules, tasks
from crm.backups import offsite, watch
from crm.choices import BackupProof, RunState
from crm.models import BackupRun, JobRun
from crm.tests import factories

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def test_a_night_leaves_a_backup_that_was_restored_and_copied(settings, tmp_path, store):
    settings.BACKUP_DIR = tmp_path
    schedules.sync()
    for _ in range(3):
        factories.make_case()
    job = jobs.enqueue("nightly_backup", queue="long")
    tasks.run_job(job.pk)
    job = JobRun.objects.get(pk=job.pk)
    assert job.state == RunState.DONE, (job.message, job.log)
    run = BackupRun.objects.get()
    assert run.proof == BackupProof.RESTORED, run.verify_message
    assert run.rows_total > 10
    [copy] = offsite.listed()
    assert (copy.name, copy.size) == (run.file_name, run.size_bytes)
    assert watch.finding(timezone.now()).code == watch.FINE
