import datetime

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from crm import due, jobs, notifications
from crm.choices import RunState


class Command(BaseCommand):
    help = "Writes the reminders of a day into the outbox, each once; the worker does it every morning."

    def add_arguments(self, parser):
        parser.add_argument("--on", type=datetime.date.fromisoformat, metavar="DATE", help="the day (today)")
        parser.add_argument("--dry-run", action="store_true", help="only say how many there would be")

    def handle(self, *args, on, dry_run, **options):
        day = on or timezone.localdate()
        if dry_run:
            told = notifications.plan(day)
            self.stdout.write(f"{len(told.messages)} messages for {day}, of what is told after {told.since}")
            return
        if day > timezone.localdate():
            raise CommandError(
                f"{day} is still to come: what changes until then would be told to nobody. Look ahead with --dry-run."
            )
        # As a run of its job, so that the next one knows what was told.
        run = jobs.enqueue(due.JOB)
        jobs.carry_out(run.pk, {due.JOB: lambda progress: notifications.send(day)})
        run.refresh_from_db()
        if run.state != RunState.DONE:
            raise CommandError(run.message)
        self.stdout.write(f"{run.counts['messages']} messages for {day}")
