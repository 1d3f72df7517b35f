from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from crm.backups import keeping
from crm.exceptions import CrmError
from crm.management import unmigrated


class Command(BaseCommand):
    help = (
        "Removes the backups that are old enough to go, here and off-site: never the last good ones, and none while the newest "
        "is not good."
    )

    def handle(self, *args, **options):
        try:
            with unmigrated.refused():
                count = keeping.prune(timezone.now())
        except (CrmError, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{count} backups removed")
