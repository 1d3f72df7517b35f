"""`manage.py restore FILE|--latest [--to DATABASE_URL] [--yes]`: a backup in the place of a database, or nothing changed."""

from pathlib import Path

from django.conf import settings
from django.core.files.storage import default_storage
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.translation import gettext as _

from crm.backups import fetching, restoring, room
from crm.exceptions import CrmError

# What a shell says of who was ended by Ctrl-C.
INTERRUPTED = 130


class Command(BaseCommand):
    help = (
        "Restores a backup into DATABASE_URL's database or another one, ready for web and worker. Any failure leaves that "
        "as it was."
    )

    def add_arguments(self, parser):
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("file", type=Path, nargs="?", help="a file, or the name of a copy in the off-site store")
        which.add_argument("--latest", action="store_true", help="the newest copy in the off-site store")
        which.add_argument("--list", action="store_true", help="what the off-site store holds; nothing is restored")
        parser.add_argument("--to", metavar="DATABASE_URL", help="another database")
        parser.add_argument(
            "--yes",
            action="store_true",
            help="also where it runs or is not empty: it is replaced, after a safety backup",
        )

    def handle(self, *, file, latest, to, yes, **options):
        if to is not None and not to.strip():
            raise CommandError(_("--to names no database. Without it the backup goes into that of DATABASE_URL."))
        try:
            if options["list"]:
                return self.tell(fetching.copies())
            now = timezone.now()
            path = fetching.newest(self.say, now) if latest else fetching.named(file, self.say, now)
            self.report(restoring.restore(path, to=to, replace=yes, progress=self.say))
        except (CrmError, OSError) as error:
            # A file that is stored; all else tells its place itself.
            place = getattr(default_storage, "location", settings.DATA_DIR)
            raise CommandError(str(room.lacking(error, place) or error)) from error

        except KeyboardInterrupt as error:
            text = _(
                "Stopped: everything is as it was. Or it was at its last moment: then the next start of web or worker finishes it."
            )
            raise CommandError(text, returncode=INTERRUPTED) from error

    def tell(self, copies):
        for copy in copies:
            self.stdout.write(f"{copy.name}  {-(-copy.size // fetching.MEGABYTE)} MB")

    def report(self, done):
        manifest = done.manifest
        rows = sum(table["rows"] for table in manifest["tables"].values())
        self.stdout.write(
            f"restored: backup of {manifest['created_at']}, version {manifest['version']}: "
            f"{len(manifest['tables'])} tables, {rows} rows, {done.files} files, each compared"
        )
        if done.migrated:
            self.stdout.write(f"migrated forward: {', '.join(done.migrated)}")
        for table, (before, after) in done.changed.items():
            self.stdout.write(f"{table}: {before} rows in the backup, {after} now")
        self.stdout.write(f"erased again: {done.erased}; restricted again: {done.restricted}")
        self.stdout.write(f"added of what this version brings along: {done.added} rows of the catalogue")
        self.stdout.write(
            f"put to rest: {done.logged_out} logins, {done.ended} runs of jobs that had not ended, {done.withheld} messages "
            "that waited (they may have left since; Messages sends one again)"
        )
        if done.unknown_seals:
            self.stdout.write(
                f"The history is sealed with the key {', '.join(done.unknown_seals)}, which AUDIT_KEY does not hold. Set it "
                "before web and worker start: else the history goes on under another key, and verify_audit finds it not whole."
            )
        if done.ungranted:
            rights = sorted({f"{right} on {table} to {role}" for role, right, table in done.ungranted})
            self.stdout.write(f"rights that are gone, to grant again: {'; '.join(rights)}")
        if done.saved_in:
            self.stdout.write(f"what was there before is in {done.saved_in}")
        self.stdout.write("Start web and worker. Who may log in, and by which password, is as it was then.")

    def say(self, step: str) -> None:
        """At once, also into a file: what follows may take minutes."""
        self.stdout.write(step)
        self.stdout.flush()
