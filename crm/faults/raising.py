"""A task that always raises, with a client's data in what it says: three tries, seen on the Jobs page, nothing kept of it."""

from django.conf import settings
from django.db import connection
from django.test import Client as Browser
from django.urls import reverse
from django_q.models import Task

from crm import roles
from crm.choices import RunState
from crm.faults.desk import Desk, Found
from crm.faults.worker import SECRET
from crm.models import JobRun
from crm.tests import factories
from crm.tests.processes import wait_until

TRIES = 3
# Between the tries are one and five minutes.
WITHIN_S = 600


def raising(desk: Desk, rounds: int) -> Found:
    with desk.worker() as worker:
        runs = [desk.enqueue(f"raising {number}", raises=True) for number in range(rounds)]
        ended = JobRun.objects.filter(pk__in=runs).exclude(finished_at=None)
        wait_until(lambda: ended.count() == rounds, within_s=WITHIN_S)
        told = worker.output
    wrong = []
    tries = sorted({len(desk.noted("begin", run)) for run in runs})
    if tries != [TRIES]:
        wrong.append(f"{tries} tries")
    if (lost := rounds - ended.filter(state=RunState.FAILED, message__startswith="ValueError").count()) or not _seen():
        wrong.append("not seen on the Jobs page")
    stored = everything()
    wrong += [f"{word} is kept" for word in SECRET.split() if word in stored or word in told]
    return Found(
        rounds, lost, said=f"{tries[-1]} tries, failed, nothing personal in any table or in the log", wrong=tuple(wrong)
    )


def _seen() -> bool:
    browser = Browser()
    browser.force_login(factories.make_user(roles.MANAGER, language="en"), backend=settings.AUTHENTICATION_BACKENDS[-1])
    page = browser.get(reverse("admin:crm_jobrun_changelist"), {"state__exact": RunState.FAILED}, secure=True)
    return "ValueError" in page.content.decode()


def everything() -> str:
    """Each row of each table, as the database writes it; what the queue pickled is opened."""
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        found = []
        for table in tables:
            cursor.execute(f'SELECT * FROM "{table}"')
            found += map(repr, cursor.fetchall())
    return "\n".join([*found, *map(str, Task.objects.values_list("args", "kwargs", "result"))])
