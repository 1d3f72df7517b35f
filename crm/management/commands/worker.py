import sys

from django.core.management.base import BaseCommand

from crm.supervisor import supervise


class Command(BaseCommand):
    help = "Runs the queue's worker processes until SIGTERM or SIGINT; a second signal kills running tasks too."

    def handle(self, *args, **options):
        sys.exit(supervise())
