from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from crm import health


class Command(BaseCommand):
    help = (
        "Exits with 0 when a worker has run something a moment ago and nothing due waits, else with 1 and the reason."
    )

    def handle(self, *args, **options):
        if trouble := health.worker_trouble(timezone.now()):
            raise CommandError(trouble)
        self.stdout.write("The worker runs tasks.")
