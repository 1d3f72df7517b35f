import sys

from django.core.management.base import BaseCommand
from django.utils import timezone

from crm.backups import watch
from crm.management import unmigrated


class Command(BaseCommand):
    help = (
        "One line for monitors. Exits with 0 where the newest verified backup is fresh, with 1 where it is stale or none was "
        "verified, with 2 where there is none or the newest is damaged."
    )

    def handle(self, *args, **options):
        with unmigrated.refused():
            found = watch.finding_here(timezone.now())
        self.stdout.write(found.text)
        if found.code:
            sys.exit(found.code)
