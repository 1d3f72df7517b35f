"""`manage.py export_clients FILE.xlsx|.csv`: what the admin's export does, for any number of rows."""

import contextlib
from pathlib import Path

from django.core.exceptions import FieldError, ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from crm import exports, jobs
from crm.choices import Source
from crm.exceptions import CrmError
from crm.exports import selection
from crm.models import ExportRun, User, operation

NUMBER = "{number}"


class Command(BaseCommand):
    help = (
        "Exports clients with their cases, a row a case, into an XLSX or CSV file that only its owner can read. Its rows' "
        "versions carry the number of the export's record (E7-1234 is of export 7). An import takes the file again."
    )

    def add_arguments(self, parser):
        parser.add_argument("file", type=Path, help=f"ends in .xlsx or .csv; {NUMBER} becomes the record's number")
        parser.add_argument("--filter", action="append", default=[], metavar="NAME=VALUE", help="such as status=open")
        parser.add_argument("--columns", metavar="NAME,NAME", help="field names; every column by default")
        parser.add_argument("--machine", action="store_true", help="CSV with commas, ISO dates and values as stored")
        parser.add_argument("--reason", default="command", metavar="TEXT", help="goes into the record of the export")
        parser.add_argument("--user", metavar="USERNAME", help="as this person: his permission, his rows, his record")

    def handle(self, *, file, filter, columns, machine, reason, user, **options):
        file_format = exports.PLAIN_CSV if machine else file.suffix.lower().lstrip(".")
        if file_format not in exports.FORMATS or file.suffix.lower() != f".{exports.ENDINGS[file_format]}":
            raise CommandError(f"The file's name has to end in {'.csv' if machine else '.xlsx or .csv'}.")
        if "\0" in str(file):
            raise CommandError("No file can have this name: there is a NUL in it.")
        try:
            person = User.objects.get(username=user) if user else None
            names = selection.names(columns.split(",") if columns else (), person)
            rows, filtered_by = selection.rows(filter, person, names)
            run = exports.planned(rows.model, file_format, person, names, filtered_by, reason)
            with operation(Source.COMMAND, user=person):
                run.save()
                file = file.with_name(file.name.replace(NUMBER, str(run.pk)))
                _write(run, rows, file)
        except FileExistsError as error:
            raise CommandError(f"{error.filename} is there already.") from error
        except (FieldError, ValidationError, ValueError, OverflowError) as error:
            raise CommandError(f"This filter cannot be used: {error}") from error
        except (CrmError, User.DoesNotExist, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{run.rows} rows: {file} (export {run.pk})")


def _write(run: ExportRun, rows, file: Path) -> None:
    """The record of what cannot even begin has failed too."""
    try:
        with _new(file) as target:
            exports.fill(run, rows, target)
    except OSError as error:
        exports.give_up(run, message=error.strerror or jobs.told(error), at=timezone.now())
        raise


@contextlib.contextmanager
def _new(file: Path):
    """Its owner's alone, and gone again where it did not become whole. Raises FileExistsError: an older one stays."""
    file.touch(mode=0o600, exist_ok=False)
    try:
        with file.open("w+b") as target:
            yield target
    except BaseException:
        file.unlink(missing_ok=True)
        raise
