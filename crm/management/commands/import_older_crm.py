"""`manage.py import_older_crm DUMP.json`: the older CRM's whole dump; running it again changes nothing."""

from pathlib import Path

from django.core.management.base import BaseCommand

from crm.imports import UnusableFile, older_crm

UNUSABLE, SOME_REFUSED = 1, 2


class Command(BaseCommand):
    help = (
        "Imports the older CRM's dump (its `manage.py dumpdata`, made with its key). Exit code 0: all good, 2: some "
        "rows refused, 1: the file cannot be used. The last line on standard output counts the rows."
    )

    def add_arguments(self, parser):
        parser.add_argument("dump", type=Path)
        parser.add_argument("--dry-run", action="store_true", help="check everything, write nothing")
        parser.add_argument("--errors", type=Path, metavar="FILE", help="write every problem here (CSV)")

    def handle(self, *, dump, dry_run, errors, **options):
        try:
            plan = older_crm.check(dump.read_bytes(), dump.name)
            if errors:
                errors.touch(mode=0o600)
                errors.write_bytes(plan.errors_file())
        except (UnusableFile, OSError) as error:
            self.stderr.write(f"{dump}: {error}")
            raise SystemExit(UNUSABLE) from error
        if not dry_run:
            older_crm.write(plan)
        for said in [*plan.notices, *plan.problems]:
            self.stdout.write(str(said))
        self.stdout.write(plan.summary_line())
        if plan.errors:
            raise SystemExit(SOME_REFUSED)
