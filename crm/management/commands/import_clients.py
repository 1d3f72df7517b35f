"""`manage.py import_clients FILE`: what the admin's import does, for any number of rows."""

from pathlib import Path

from django.core.management.base import BaseCommand

from crm import imports

UNUSABLE, SOME_REFUSED = 1, 2


class Command(BaseCommand):
    help = (
        "Imports clients and cases from a CSV or XLSX file. Exit code 0: all good, 2: some rows refused, 1: the file "
        "cannot be used. The last line on standard output counts the rows."
    )

    def add_arguments(self, parser):
        parser.add_argument("file", type=Path)
        parser.add_argument("--dry-run", action="store_true", help="check every row, write nothing")
        parser.add_argument("--errors", type=Path, metavar="FILE", help="write the refused rows and reasons here (CSV)")
        parser.add_argument("--all-or-nothing", action="store_true", help="write nothing when one row is refused")

    def handle(self, *, file, dry_run, errors, all_or_nothing, **options):
        try:
            plan = imports.check(file.read_bytes(), file.name)
            if errors:
                errors.touch(mode=0o600)
                errors.write_bytes(plan.errors_file())
        except (imports.UnusableFile, OSError) as error:
            self.stderr.write(f"{file}: {error}")
            raise SystemExit(UNUSABLE) from error
        if not dry_run:
            imports.write(plan, all_or_nothing=all_or_nothing)
        for said in [*plan.sheet.notices, *plan.problems]:
            self.stdout.write(str(said))
        self.stdout.write(plan.summary_line())
        if plan.errors:
            raise SystemExit(SOME_REFUSED)
