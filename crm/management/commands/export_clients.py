"""`manage.py export_clients FILE.xlsx|.csv`: what the admin's export does, for any number of rows."""

from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from crm import exports
from crm.choices import Source
from crm.exceptions import CrmError
from crm.models import Case, Client, User, operation

LISTS = {"clients": Client, "cases": Case}


class Command(BaseCommand):
    help = "Exports all clients (or cases) into an XLSX or CSV file, which only its owner can read."

    def add_arguments(self, parser):
        parser.add_argument("file", type=Path, help="its ending says the format: .xlsx or .csv")
        parser.add_argument("--list", choices=LISTS, default="clients")
        parser.add_argument("--columns", nargs="*", metavar="NAME", help="field names; all columns by default")
        parser.add_argument("--user", metavar="USERNAME", help="as this person: his permission, his rows, his record")

    def handle(self, *, file, list, columns, user, **options):
        model, file_format = LISTS[list], file.suffix.lower().lstrip(".")
        if file_format not in exports.FORMATS:
            raise CommandError("The file's name has to end in .xlsx or .csv.")
        if unknown := set(columns or ()) - {column.name for column in exports.columns_of(model)}:
            raise CommandError(f"There are no columns {', '.join(sorted(unknown))}.")
        try:
            person = User.objects.get(username=user) if user else None
            with operation(Source.COMMAND, user=person):
                file.touch(mode=0o600, exist_ok=False)
                with file.open("w+b") as target:
                    run = exports.write(
                        model.objects.order_by("pk"), target, file_format=file_format, user=person, columns=columns
                    )
        except FileExistsError as error:
            raise CommandError(f"{file} is there already.") from error
        except CrmError as error:
            file.unlink()
            raise CommandError(str(error)) from error
        except (User.DoesNotExist, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{run.rows} rows: {file}")
