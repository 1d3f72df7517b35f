import datetime

from django.core.management.base import BaseCommand
from django.utils import timezone

from crm import notifications, outbox


class Command(BaseCommand):
    help = "Writes the reminders of a day into the outbox, each once; the worker does it every morning."

    def add_arguments(self, parser):
        parser.add_argument("--on", type=datetime.date.fromisoformat, metavar="DATE", help="the day (today)")
        parser.add_argument("--dry-run", action="store_true", help="only say how many there would be")

    def handle(self, *args, on, dry_run, **options):
        told = notifications.plan(on or timezone.localdate())
        count = len(told.messages) if dry_run else outbox.put(told.messages)
        self.stdout.write(f"{count} messages for {told.day:%Y-%m-%d}, of what is told after {told.since:%Y-%m-%d}")
