import argparse
import datetime

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from crm.audit import sealing, verifying
from crm.exceptions import CrmError


def head(text: str) -> sealing.Head:
    try:
        return sealing.read_head(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


class Command(BaseCommand):
    help = "Compares history and audit rows with their seals. Names what was tampered with and exits with 1."

    def add_arguments(self, parser):
        parser.add_argument(
            "--since", type=datetime.date.fromisoformat, metavar="DATE", help="rows of seals made since that day only"
        )

        parser.add_argument(
            "--head", type=head, help="a head kept elsewhere, as the weekly report writes it, in quotes"
        )

    def handle(self, *args, since, head, **options):
        try:
            found = verifying.verify(now=timezone.now(), since=since, mailed=head)
        except CrmError as error:
            raise CommandError(str(error)) from error
        for problem in found.problems:
            self.stdout.write(problem)
        for note in found.notes:
            self.stdout.write(note)
        whole = "whole" if found.is_whole else "NOT WHOLE"
        anchored = "compared with the anchor" if found.is_anchored else "not compared with an anchor"
        self.stdout.write(
            f"{whole}: {found.seals} seals, {found.rows} rows compared, {found.unsealed} rows not sealed yet, {anchored}"
        )
        if not found.is_whole:
            raise SystemExit(1)
