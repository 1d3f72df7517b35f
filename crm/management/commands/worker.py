import sys

from django.core.management.base import BaseCommand

from crm import supervisor


class Command(BaseCommand):
    help = (
        "Runs jobs and keeps the clock until SIGTERM or SIGINT: then running jobs stop at their next chunk and go back "
        "into the queue. A second signal kills at once."
    )

    def handle(self, *args, **options):
        sys.exit(supervisor.supervise())
