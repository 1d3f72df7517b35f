"""What every deploy does before the new version serves."""

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand

from crm import catalogue, checks, roles, schedules, texts
from crm.choices import Source
from crm.models import operation


class Command(BaseCommand):
    help = (
        "Migrates, loads what is missing of the catalogue, syncs roles, schedules and texts of messages and makes the "
        "first administrator."
    )

    def handle(self, *args, **options):
        checks.refuse_unsafe_start()
        with operation(Source.COMMAND):
            call_command("migrate", interactive=False, verbosity=options["verbosity"])
            catalogue.load()
            roles.sync()
            schedules.sync()
            texts.sync()
            self.first_administrator()

    def first_administrator(self) -> None:
        if not settings.ADMIN_EMAIL:
            return
        if user := roles.first_administrator(settings.ADMIN_EMAIL):
            self.stdout.write(f"First administrator {user.username}, set the password here (works once):")
            self.stdout.write(roles.set_password_link(user))
