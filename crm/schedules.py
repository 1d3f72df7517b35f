"""What the worker runs by the clock. Named here, so that a release can make what is missing; the office may change when."""

from django.conf import settings
from django_q.models import Schedule

# Nothing to seal with, nothing to run.
SEALING = {"seal_audit": Schedule.HOURLY, "verify_audit": Schedule.DAILY}


def sync() -> None:
    """Adds missing schedules and takes away what this configuration cannot run. Twice changes nothing."""
    for name, often in SEALING.items():
        if settings.AUDIT_KEYS:
            Schedule.objects.get_or_create(name=name, defaults={"func": f"crm.tasks.{name}", "schedule_type": often})
        else:
            Schedule.objects.filter(name=name).delete()
