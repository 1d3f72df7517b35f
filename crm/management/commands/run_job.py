from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import import_string

from crm import jobs, schedules
from crm.choices import RunState


class Command(BaseCommand):
    help = "Runs one of the scheduled jobs here and now, whether or not a worker runs; the run is written down as any other."

    def add_arguments(self, parser):
        parser.add_argument("name", choices=[each.name for each in schedules.wanted()])

    def handle(self, *, name, **options):
        run = schedules.run_now(name, by=None, is_knocked=False)
        import_string(jobs.RUN)(run.pk)
        run.refresh_from_db()
        if run.log:
            self.stdout.write(run.log)
        if run.state != RunState.DONE:
            raise CommandError(f"{run.get_state_display()}: {run.message}")
        self.stdout.write(", ".join(f"{key}: {value}" for key, value in run.shown.items()) or "done")
