"""`manage.py import_clients FILE`: what the admin's import does, for any number of rows."""

from crm import imports
from crm.imports.conflicts import EVERY
from crm.imports.reading import MAX_BYTES
from crm.management.importing import ImportCommand

OFFICE, FILE = "office", "file"


class Command(ImportCommand):
    help = (
        "Imports clients and cases from a CSV or XLSX file. Exit code 0: all good, 2: some rows refused, 1: the file "
        "cannot be used. The last line on standard output counts the rows."
    )
    most_bytes = MAX_BYTES
    errors_help = "write the refused rows and reasons here, into a new file (CSV; a workbook where the name ends .xlsx)"

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("--all-or-nothing", action="store_true", help="write nothing when one row is refused")
        parser.add_argument(
            "--conflicts",
            choices=[OFFICE, FILE],
            default=OFFICE,
            help="whose value stays where the office changed a cell too since the file was exported (default: %(default)s)",
        )

    def check_file(self, content, name, options):
        return imports.check(content, name, taken=EVERY if options["conflicts"] == FILE else ())

    def write(self, plan, options):
        imports.write(plan, all_or_nothing=options["all_or_nothing"])

    def notices(self, plan):
        return [plan.sheet.source, *plan.sheet.notices]
