"""`manage.py verify_backup FILE [--restore]`: reads every byte of a backup; restores it, to try, where asked to."""

from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.utils import timezone

from crm.backups import checking, keeping
from crm.choices import BackupProof
from crm.exceptions import CrmError


class Command(BaseCommand):
    help = (
        "Compares a backup with its manifest; with --restore it is restored into a scratch database and compared there."
    )

    def add_arguments(self, parser):
        parser.add_argument("file", type=Path)
        parser.add_argument(
            "--restore", action="store_true", help="takes as long as a restore, and the room of a database"
        )

    def handle(self, *, file, restore, **options):
        try:
            run = self.run_of(file)
            found = keeping.check(run, restore=restore) if run else checking.verify(file, restore=restore)
        except (CrmError, OSError) as error:
            raise CommandError(str(error)) from error
        for warning in found.warnings:
            self.stderr.write(self.style.WARNING(warning))
        told = f"{len(found.manifest['tables'])} tables, {found.rows} rows, {len(found.manifest['files'])} files"
        if found.proof == BackupProof.RESTORED:
            self.stdout.write(
                f"verified: restored and compared, {told}, {found.values} encrypted values read, {found.seals} seals"
            )
        else:
            self.stdout.write(f"digests only: {told}")

    def run_of(self, file):
        """So that the office knows it, where there is one: a backup is also verified on machines that have none."""
        try:
            return keeping.run_of(file, timezone.now())
        except (DatabaseError, ImproperlyConfigured):
            return None
