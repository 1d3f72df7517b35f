"""The audit trail with ten entries to a client: its list, plain and filtered, and the page of a large operation."""

import itertools
import uuid
from collections.abc import Iterator
from datetime import timedelta

from django.db import connection
from django.urls import reverse
from django.utils import timezone

from crm.bench.measuring import Measured
from crm.bench.pages import browser, page
from crm.choices import AuditKind
from crm.models import AuditEntry, CaseStep, User, operation
from crm.models.bulk import insert_rows, stored

ENTRIES = 10
GOAL = "2x"


def run(size: int) -> Iterator[Measured]:
    _fill(size * ENTRIES)
    person = User.objects.get(username="adviser").pk
    with operation() as large:
        steps = CaseStep.objects.filter(pk__in=CaseStep.objects.order_by("pk").values("pk")[: size // 2])
        steps.update(note="measured")
    opened = browser()
    listed = reverse("admin:crm_auditentry_changelist")
    yield page("audit trail", listed, opened, GOAL)
    yield page("audit trail, page 100", f"{listed}?p=100", opened)
    yield page("audit trail, of a person", f"{listed}?person={person}", opened, GOAL)
    yield page("audit trail, failed logins of a day", f"{listed}?kind__exact=login_failed&at_from=2020-01-02", opened)
    yield page("audit trail, changes of steps", f"{listed}?changed=casestep", opened)
    yield page("audit trail, changes of what is rarely changed", f"{listed}?changed=regulatorylimit", opened)
    operation_page = reverse("admin:crm_operation", args=[large.id])
    yield page("operation", operation_page, opened)
    yield page("operation, its last page", f"{operation_page}?p=1000000", opened)


def _fill(wanted: int) -> None:
    """Entries of events and of changes, as a year leaves them; the changes changed nothing that is still there."""
    missing = wanted - AuditEntry.objects.count()
    names = ["operation_id", "kind", "at", "user_id", "user_name", "source", "reason", "model", "object_id", "detail", "counts"]  # fmt: skip
    convert = stored(AuditEntry, names)
    people = itertools.cycle(User.objects.values_list("pk", flat=True))
    kinds = itertools.cycle([AuditKind.CHANGE] * 7 + [AuditKind.LOGIN, AuditKind.LOGIN_FAILED, AuditKind.EXPORT])
    now = timezone.now()
    counts, detail = convert("counts", {}), convert("detail", '{"address": "10.0.0.1"}')

    def rows():
        for number in range(missing):
            at = now - timedelta(seconds=30 * number)
            yield (uuid.uuid4(), next(kinds).value, at, next(people), "Adviser", "admin", "", "", "", detail, counts)

    insert_rows(AuditEntry, names, rows())
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
