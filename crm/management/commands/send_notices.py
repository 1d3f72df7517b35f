from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from crm.exceptions import CrmError
from crm.notices import mails


class Command(BaseCommand):
    help = "Writes what waited a quarter of an hour into the outbox, one message a person; the worker does it every minute."

    def handle(self, *args, **options):
        try:
            done = mails.send(timezone.now())
        except CrmError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{done['messages']} messages")
