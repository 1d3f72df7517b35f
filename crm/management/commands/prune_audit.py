from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from crm.audit import retention
from crm.choices import Source
from crm.exceptions import CrmError
from crm.models import operation


class Command(BaseCommand):
    help = (
        "Removes sealed history older than AUDIT_KEEP_YEARS, but the first and last row of each living record and the row "
        "before its first newer one. 0: nothing."
    )

    def handle(self, *args, **options):
        years, now = settings.AUDIT_KEEP_YEARS, timezone.now()
        if not years:
            self.stdout.write("AUDIT_KEEP_YEARS is not set: nothing is pruned")
            return
        try:
            with operation(Source.COMMAND):
                before = retention.years_before(now, years)
                rows = retention.prune(before=before, now=now, reason=f"prune_audit, {years} years")
        except (CrmError, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{rows} rows older than {before:%Y-%m-%d} pruned")
