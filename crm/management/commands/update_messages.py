"""Gathers what is to be translated and writes the Czech catalogue. For developers: needs Babel and polib."""

from django.core.management.base import BaseCommand, CommandError

from crm import translations
from crm.exceptions import CrmError


class Command(BaseCommand):
    help = "Updates crm/locale/cs/LC_MESSAGES/django.po and .mo from the sources. Exit code 1 when work is left to do."
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("--check", action="store_true", help="write nothing, only say what is behind")

    def handle(self, *args, check, **options):
        try:
            translations.refuse_without_tools()
        except CrmError as error:
            raise CommandError(str(error)) from error
        found = translations.problems() if check else translations.write()
        for line in found:
            self.stdout.write(line)
        self.stdout.write(f"{len(found)} left to do")
        if found:
            raise SystemExit(1)
