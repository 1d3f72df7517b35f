from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from crm.audit import sealing
from crm.exceptions import CrmError


class Command(BaseCommand):
    help = "Seals the history and audit rows written since the last seal. Several at once do no harm."

    def add_arguments(self, parser):
        parser.add_argument(
            "--new-anchor", action="store_true", help="begin the file AUDIT_ANCHOR anew where it was lost or put aside"
        )
        parser.add_argument("--wait", type=float, default=10, help="seconds to wait for transactions that are open now")

    def handle(self, *args, wait, new_anchor, **options):
        try:
            if new_anchor:
                sealing.begin_anchor()
            done = sealing.seal(now=timezone.now(), wait_s=wait)
        except (CrmError, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{done.rows} rows sealed with {done.seals} seals")
        for table in done.waiting:
            self.stdout.write(f"{table}: new rows wait for a transaction that is still open")
