import datetime

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from crm import outbox, reports, weekly


class Command(BaseCommand):
    help = "Writes the weekly report into the outbox, one each; the worker does it on Mondays at 09:00."

    def add_arguments(self, parser):
        parser.add_argument(
            "--week",
            help="2026-W47 (the week before this one); of the current one a report until today, beside Monday's",
        )
        parser.add_argument("--to", action="append", metavar="ADDRESS", help="only to this reader; may be repeated")

    def handle(self, *args, week, to, **options):
        today = timezone.localdate()
        first = _monday(week) if week else reports.monday_of(today) - reports.WEEK
        if first > today:
            raise CommandError(f"{week} has not begun. Without --week the report is of the week before this one.")
        known = {user.email.casefold() for user in weekly.readers()}
        if strangers := [each for each in to or [] if each.casefold() not in known]:
            raise CommandError(f"Not among the readers of the report, so nobody was written to: {', '.join(strangers)}")
        count = outbox.put(weekly.messages(first, on=today, to=to))
        self.stdout.write(f"{count} messages")


def _monday(week: str) -> datetime.date:
    try:
        return datetime.datetime.strptime(f"{week}-1", "%G-W%V-%u").date()
    except ValueError as error:
        raise CommandError("Write the week as 2026-W47.") from error
