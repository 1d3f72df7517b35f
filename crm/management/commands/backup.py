"""`manage.py backup`: what the nightly job makes, now."""

import time

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.template.defaultfilters import filesizeformat
from django.utils import timezone

from crm import jobs
from crm.backups import making
from crm.backups.archive import open_archive
from crm.choices import BackupKind
from crm.exceptions import CrmError


class Command(BaseCommand):
    help = "Makes a backup: one encrypted file in BACKUP_DIR. verify_backup proves it, restore puts it back."

    def handle(self, *args, **options):
        began = time.monotonic()
        try:
            path = making.create(kind=BackupKind.BY_HAND, now=timezone.now())
            with open_archive(path, settings.BACKUP_KEYS) as archive:
                manifest = archive.manifest
        except (CrmError, OSError, DatabaseError) as error:
            raise CommandError(jobs.told(error)) from error
        size = filesizeformat(path.stat().st_size).replace("\xa0", " ")
        rows = sum(table["rows"] for table in manifest["tables"].values())
        took = time.monotonic() - began
        self.stdout.write(f"{path}: {size}, {rows} rows, {len(manifest['files'])} files, {took:.0f} s")
