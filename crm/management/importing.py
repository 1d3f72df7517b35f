"""What both import commands are: check a file, write it, print each problem, count the rows in the last line, and say by
the exit code what became of it. A command names its service and its words."""

from pathlib import Path

from django.core.management.base import BaseCommand
from django.utils.translation import gettext as _

from crm.exports import given_back
from crm.imports import UnusableFile
from crm.imports.reading import too_large
from crm.management import unmigrated

UNUSABLE, SOME_REFUSED = 1, 2


def write_refused(plan, file: Path) -> None:
    """As a workbook, where the file is named so."""
    if file.suffix.lower() != ".xlsx":
        file.write_bytes(plan.errors_file())
        return
    with file.open("wb") as target:
        given_back.write(*plan.refused(), target)


class ImportCommand(BaseCommand):
    source = "file"
    errors_help = ""
    most_bytes: int | None = None

    def check_file(self, content: bytes, name: str, options: dict):
        raise NotImplementedError

    def write(self, plan, options: dict) -> None:
        raise NotImplementedError

    def notices(self, plan) -> list[str]:
        raise NotImplementedError

    def create_parser(self, *args, **kwargs):
        parser = super().create_parser(*args, **kwargs)
        leave = parser.exit
        # argparse leaves with 2, which here says that some rows were refused.
        parser.exit = lambda status=0, message=None: leave(status and UNUSABLE, message)
        return parser

    def add_arguments(self, parser):
        parser.add_argument(self.source, type=Path)
        parser.add_argument("--dry-run", action="store_true", help="check every row, write nothing")
        parser.add_argument("--errors", type=Path, metavar="FILE", help=self.errors_help)

    def handle(self, *, dry_run, errors, **options):
        file = options[self.source]
        try:
            plan = self.run(file, errors, options, dry_run=dry_run)
        except (UnusableFile, OSError) as error:
            self.leave(f"{file}: {error}", error)
        except unmigrated.ERRORS as error:
            self.leave(unmigrated.said_of(error), error)
        for said in [*self.notices(plan), *plan.problems]:
            self.stdout.write(str(said))
        self.stdout.write(plan.summary_line())
        if plan.errors:
            raise SystemExit(SOME_REFUSED)

    def run(self, file: Path, errors: Path | None, options: dict, *, dry_run: bool):
        if self.most_bytes and file.stat().st_size > self.most_bytes:
            raise too_large()
        content = file.read_bytes()
        if errors and errors.exists():
            raise UnusableFile(_("--errors names a file that is there already. Give it a name of its own."))
        plan = self.check_file(content, file.name, options)
        if errors:
            # Before the write: a place where nothing can be written must not be found out after it.
            errors.touch(mode=0o600, exist_ok=False)
            write_refused(plan, errors)
        if not dry_run:
            self.write(plan, options)
            if errors:
                write_refused(plan, errors)
        return plan

    def leave(self, message: str, error: Exception):
        self.stderr.write(message)
        raise SystemExit(UNUSABLE) from error
