"""`manage.py backup`: what the nightly job makes, now."""

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.template.defaultfilters import filesizeformat
from django.utils import timezone

from crm import jobs
from crm.backups import keeping, room
from crm.choices import BackupKind, Source
from crm.exceptions import CrmError
from crm.models import operation


class Command(BaseCommand):
    help = "Makes a backup: one encrypted file in BACKUP_DIR. verify_backup proves it, restore puts it back."

    def handle(self, *args, **options):
        try:
            with operation(Source.COMMAND):
                run = keeping.make(kind=BackupKind.BY_HAND, now=timezone.now())
        except (CrmError, OSError, DatabaseError) as error:
            raise CommandError(str(room.lacking(error) or jobs.told(error))) from error
        size = filesizeformat(run.size_bytes).replace("\xa0", " ")
        self.stdout.write(f"{run.path}: {size}, {run.rows_total} rows, {run.files_total} files, {run.took_s} s")
