"""`manage.py backup`: what the nightly job makes and copies, now."""

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.template.defaultfilters import filesizeformat
from django.utils import timezone

from crm import jobs
from crm.backups import keeping, offsite, room, watch
from crm.choices import BackupKind, Source
from crm.exceptions import CrmError
from crm.management import unmigrated
from crm.models import BackupRun, BackupWatch, operation


class Command(BaseCommand):
    help = (
        "Makes a backup: one encrypted file in BACKUP_DIR, and its copy where a store is set. verify_backup proves it, restore "
        "puts it back."
    )

    def handle(self, *args, **options):
        with unmigrated.refused():  # before a file is made that no row could tell of
            BackupRun.objects.first()
            BackupWatch.objects.first()
        try:
            with operation(Source.COMMAND):
                run = keeping.make(kind=BackupKind.BY_HAND, now=timezone.now())
        except (CrmError, OSError, DatabaseError) as error:
            raise CommandError(str(room.lacking(error) or jobs.told(error))) from error
        size = filesizeformat(run.size_bytes).replace("\xa0", " ")
        self.stdout.write(f"{run.path}: {size}, {run.rows_total} rows, {run.files_total} files, {run.took_s} s")
        if trouble := watch.disk_trouble():
            self.stderr.write(self.style.WARNING(f"WARNING: {trouble}"))
        if offsite.is_set():
            self.copy(run)

    def copy(self, run):
        try:
            keeping.copy(run)
        except (CrmError, OSError, DatabaseError) as error:
            raise CommandError(f"{run.file_name} stands on this machine only. {jobs.told(error)}") from error
