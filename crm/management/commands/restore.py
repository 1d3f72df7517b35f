"""`manage.py restore FILE [--to DATABASE_URL] [--yes]`: a backup in the place of a database, or nothing changed."""

from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from crm.backups import restoring
from crm.exceptions import CrmError


class Command(BaseCommand):
    help = "Restores a backup into DATABASE_URL's database or another one. Any failure leaves that as it was."

    def add_arguments(self, parser):
        parser.add_argument("file", type=Path)
        parser.add_argument("--to", default="", metavar="DATABASE_URL", help="another database")
        parser.add_argument(
            "--yes",
            action="store_true",
            help="also where it runs or is not empty: it is replaced, after a safety backup",
        )

    def handle(self, *, file, to, yes, **options):
        try:
            done = restoring.restore(file, to=to, replace=yes, progress=self.say)
        except (CrmError, OSError) as error:
            raise CommandError(str(error)) from error
        manifest = done.manifest
        rows = sum(table["rows"] for table in manifest["tables"].values())
        self.stdout.write(
            f"restored: backup of {manifest['created_at']}, version {manifest['version']}: "
            f"{len(manifest['tables'])} tables, {rows} rows, {done.files} files, each compared"
        )
        if done.migrated:
            self.stdout.write(f"migrated forward: {', '.join(done.migrated)}")
        for table, (before, after) in done.changed.items():
            self.stdout.write(f"{table}: {before or 0} rows in the backup, {after or 0} now")
        self.stdout.write(f"erased again: {done.erased}; restricted again: {done.restricted}")
        if done.saved_in:
            self.stdout.write(f"what was there before is in {done.saved_in}")

    def say(self, step: str) -> None:
        """At once, also into a file: what follows may take minutes."""
        self.stdout.write(step)
        self.stdout.flush()
