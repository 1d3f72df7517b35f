"""`manage.py export_clients FILE.xlsx|.csv`: what the admin's export does, for any number of rows."""

from pathlib import Path

from django.core.exceptions import FieldError, ValidationError
from django.core.management.base import BaseCommand, CommandError

from crm import exports
from crm.choices import Source
from crm.exceptions import CrmError
from crm.exports import selection
from crm.models import User, operation


class Command(BaseCommand):
    help = (
        "Exports clients with their cases, a row a case, into an XLSX or CSV file that only its owner can read. An import "
        "takes the file again."
    )

    def add_arguments(self, parser):
        parser.add_argument("file", type=Path, help="its ending says the format: .xlsx or .csv")
        parser.add_argument("--filter", action="append", default=[], metavar="NAME=VALUE", help="such as status=open")
        parser.add_argument("--columns", metavar="NAME,NAME", help="field names; every column by default")
        parser.add_argument("--machine", action="store_true", help="CSV with commas, ISO dates and values as stored")
        parser.add_argument("--reason", default="command", metavar="TEXT", help="goes into the record of the export")
        parser.add_argument("--user", metavar="USERNAME", help="as this person: his permission, his rows, his record")

    def handle(self, *, file, filter, columns, machine, reason, user, **options):
        file_format = exports.PLAIN_CSV if machine else file.suffix.lower().lstrip(".")
        if file_format not in exports.FORMATS or file.suffix.lower() != f".{exports.ENDINGS[file_format]}":
            raise CommandError(f"The file's name has to end in {'.csv' if machine else '.xlsx or .csv'}.")
        try:
            person = User.objects.get(username=user) if user else None
            names = selection.names(columns.split(",") if columns else (), person)
            rows, filtered_by = selection.rows(filter, person, names)
            with operation(Source.COMMAND, user=person):
                file.touch(mode=0o600, exist_ok=False)
                with file.open("w+b") as target:
                    run = exports.write(
                        rows, target, file_format=file_format, user=person, columns=names, filtered_by=filtered_by,
                        reason=reason,
                    )  # fmt: skip
        except FileExistsError as error:
            raise CommandError(f"{file} is there already.") from error
        except (FieldError, ValidationError, ValueError) as error:
            raise CommandError(f"This filter cannot be used: {error}") from error
        except CrmError as error:
            file.unlink(missing_ok=True)
            raise CommandError(str(error)) from error
        except (User.DoesNotExist, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{run.rows} rows: {file}")
