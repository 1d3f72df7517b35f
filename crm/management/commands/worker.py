import sys

from django.core.management.base import BaseCommand, CommandError

from crm import supervisor

PROBE_WITHIN_S = 45


class Command(BaseCommand):
    help = "Runs the queue's worker processes until SIGTERM or SIGINT; a second signal kills running tasks too."

    def add_arguments(self, parser):
        parser.add_argument(
            "--probe", action="store_true", help="Put a task into the queue and fail unless a worker elsewhere runs it."
        )

    def handle(self, *args, **options):
        if not options["probe"]:
            sys.exit(supervisor.supervise())
        if not supervisor.probe(within_s=PROBE_WITHIN_S):
            raise CommandError(f"No worker ran a task within {PROBE_WITHIN_S} s.")
        self.stdout.write("The worker runs tasks.")
