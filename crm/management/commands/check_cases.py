"""Proves row by row that what is stored of each case is what its steps say."""

from django.core.management.base import BaseCommand

from crm import workflow
from crm.choices import Source
from crm.models import Case, operation


class Command(BaseCommand):
    help = "Compares current step, next deadline and status of every case with its steps. Exit code 1 when one differs."

    def add_arguments(self, parser):
        parser.add_argument("--fix", action="store_true", help="write the true values, with history")

    def handle(self, *args, fix, **options):
        wrong = set()
        for reference, field, stored, true in workflow.mismatches():
            wrong.add(reference)
            self.stdout.write(f"{reference} {field}: stored {stored}, should be {true}")
        if fix and wrong:
            with operation(Source.COMMAND, reason="check_cases --fix"):
                self.stdout.write(f"{workflow.resettle(Case.objects.filter(reference__in=wrong))} cases mended")
        self.stdout.write(f"{Case.objects.count()} cases checked, {len(wrong)} wrong")
        if wrong and not fix:
            raise SystemExit(1)
