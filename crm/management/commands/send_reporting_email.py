import datetime

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from crm import outbox, reports, weekly


class Command(BaseCommand):
    help = "Writes the weekly report into the outbox, one each; the worker does it on Mondays at 09:00."

    def add_arguments(self, parser):
        parser.add_argument("--week", help="2026-W47 (the week before this one)")
        parser.add_argument("--to", action="append", metavar="ADDRESS", help="only to this reader; may be repeated")

    def handle(self, *args, week, to, **options):
        today = timezone.localdate()
        try:
            first = datetime.datetime.strptime(f"{week}-1", "%G-W%V-%u").date() if week else None
        except ValueError as error:
            raise CommandError("Write the week as 2026-W47.") from error
        count = outbox.put(weekly.messages(first or reports.monday_of(today) - reports.WEEK, on=today, to=to))
        self.stdout.write(f"{count} messages")
