"""The demo office: invented people, cases in every state, deadlines around today, and a login for every role.

`load` fills an empty database, all or nothing. `grow` adds more of the same to an office that stands; benchmarks use it.
"""

import datetime
import json
import random
from collections.abc import Callable
from typing import NamedTuple

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import reset_queries, transaction
from django.utils import timezone

from crm import catalogue, reports, roles
from crm.choices import CaseStatus, NoticeKind, Source, StepState
from crm.demo.cases import Cases, Staff
from crm.demo.people import People
from crm.demo.writing import Writer
from crm.exceptions import DatabaseNotEmpty, NotInProduction
from crm.models import Case, CaseStep, Client, DocumentType, Lender, Notice, Step, User, operation
from crm.models.base import BATCH, Counter
from crm.models.clients import REFERENCE_PREFIX

TEXTS = settings.BASE_DIR / "fixtures" / "demo" / "office.json"
PASSWORD = "hypodesk-demo"
COUPLES, SECOND_CASES = 0.25, 0.12
TOLD = 60


class Login(NamedTuple):
    username: str
    password: str
    role: str

    def __str__(self) -> str:
        return f"{self.username} / {self.password} ({self.role})"


LOGINS = [
    Login("administrator", PASSWORD, roles.ADMINISTRATOR),
    Login("manager", PASSWORD, roles.MANAGER),
    Login("adviser", PASSWORD, roles.ADVISER),
    Login("adviser2", PASSWORD, roles.ADVISER),
    Login("adviser3", PASSWORD, roles.ADVISER),
    Login("assistant", PASSWORD, roles.ASSISTANT),
    Login("auditor", PASSWORD, roles.AUDITOR),
    Login("client", PASSWORD, roles.CLIENT),
]


def load(clients: int = 60, now: datetime.datetime | None = None, progress: Callable[[int], None] | None = None) -> int:
    """Fills an empty database; returns how many clients it wrote, 0 where the demo office stands already.

    `now` is what deadlines count from; `progress` is told the number of clients written so far. Raises NotInProduction
    and DatabaseNotEmpty. Users other than demo ones may be there (the first administrator is), their data may not.
    """
    if not settings.DEBUG:
        raise NotInProduction()
    now = now or timezone.now()
    with transaction.atomic(), operation(Source.COMMAND):
        _one_at_a_time()
        if User.objects.filter(is_demo=True).exists():
            return 0
        names = [login.username for login in LOGINS]
        if Client.objects.exists() or Case.objects.exists() or User.objects.filter(username__in=names).exists():
            raise DatabaseNotEmpty()
        catalogue.load()
        roles.sync()
        _write_office(timezone.localdate(now))
        written = grow(clients, now=now, progress=progress)
        _give_portal_login()
        _fill_inboxes(now)
        return written


def grow(clients: int, *, now: datetime.datetime, progress: Callable[[int], None] | None = None) -> int:
    """Adds that many clients with their cases to a loaded demo office, a batch at a time; returns how many."""
    texts = _texts()
    first = Client.objects.count() + 1
    dice = random.Random(first)  # noqa: S311 - the same people every time is the point
    today = timezone.localdate(now)
    people = People(dice, texts, today)
    advisers = list(User.objects.filter(is_demo=True, groups__name=roles.ADVISER).order_by("username"))
    assistant = User.objects.get(is_demo=True, groups__name=roles.ASSISTANT)
    cases = Cases(
        dice,
        texts,
        Staff(advisers, next(user for user in advisers if user.is_absent(today)), assistant),
        steps=Step.objects.filter(is_active=True),
        lenders=Lender.objects.filter(name__in=[each["name"] for each in texts["lenders"]]),
        document_types=DocumentType.objects.all(),
        today=today,
    )
    writer = Writer(now)
    written = 0
    while written < clients:
        count = min(BATCH, clients - written)
        with transaction.atomic():
            writer.write(*_batch(people, cases, first + written, count))
        written += count
        reset_queries()  # with DEBUG=1 Django keeps the text of every query, which here is a megabyte each
        if progress:
            progress(written)
    return written


def _batch(people: People, cases: Cases, first: int, count: int) -> tuple[list, list, list]:
    """(clients, plans of cases, rows about clients), all unsaved."""
    clients, plans, others = [], [], []
    while len(clients) < count:
        couple = len(clients) + 2 <= count and people.dice.random() < COUPLES
        household = people.household(first + len(clients), couple=couple)
        incomes = {}
        for person in household:
            incomes[id(person)], items = cases.money_of(person)
            others += items
        household_plans = [cases.case_of(household, incomes)]
        if people.dice.random() < SECOND_CASES:
            household_plans.append(cases.case_of(household[:1], incomes, status="completed"))
        came_on = min(plan.case.opened_on for plan in household_plans)
        others += [consent for person in household for consent in cases.consents_of(person, came_on)]
        clients += household
        plans += household_plans
    return clients, plans, others


def _one_at_a_time() -> None:
    """Locks the clients' counter to the end of the transaction: of two that load at once the second one waits here,
    and so does whoever writes a first client meanwhile."""
    Counter.objects.get_or_create(kind=REFERENCE_PREFIX)
    Counter.objects.select_for_update().get(kind=REFERENCE_PREFIX)


def _texts() -> dict:
    return json.loads(TEXTS.read_text(encoding="utf-8"))


def _write_office(today: datetime.date) -> None:
    texts = _texts()
    known = set(Lender.objects.values_list("name", flat=True))
    Lender.objects.bulk_create([Lender(**each) for each in texts["lenders"] if each["name"] not in known])
    hashed = make_password(PASSWORD)  # once: it is slow on purpose
    people = {each["username"]: each for each in texts["users"]}
    for login in LOGINS:
        user = User(**people[login.username], email=f"{login.username}@example.com", password=hashed, is_demo=True)
        user.is_staff = login.role != roles.CLIENT
        user.save()
        roles.assign(user, login.role)
    away = User.objects.filter(groups__name=roles.ADVISER).order_by("username").last()
    away.absent_from, away.absent_until = today - datetime.timedelta(days=3), today + datetime.timedelta(days=11)
    away.save()


def _give_portal_login() -> None:
    client = Client.objects.order_by("pk").first()
    if client:
        client.portal_user = User.objects.get(is_demo=True, groups__name=roles.CLIENT)
        client.save(update_fields=["portal_user", "updated_at"])


def _fill_inboxes(now: datetime.datetime) -> None:
    """What advisers were told of the newest steps, the manager of the newest decisions, and the week's report. Nothing of it
    was mailed."""
    names = {user.pk: user.get_display_name() for user in User.objects.filter(is_demo=True)}
    assistant = User.objects.get(is_demo=True, groups__name=roles.ASSISTANT).pk
    manager = User.objects.get(is_demo=True, groups__name=roles.MANAGER).pk
    administrator = User.objects.get(is_demo=True, groups__name=roles.ADMINISTRATOR).pk

    def told(user_id: int, kind: str, on: datetime.date, **about) -> Notice:
        at = min(now, timezone.make_aware(datetime.datetime.combine(on, datetime.time(9))))
        read_at = at if now - at > datetime.timedelta(days=1) else None
        return Notice(user_id=user_id, kind=kind, created_at=at, read_at=read_at, **about)

    monday = reports.monday_of(timezone.localdate(now))
    week = {"week": f"{monday - reports.WEEK:%G-W%V}"}
    notices = [told(each, NoticeKind.WEEKLY_REPORT, monday, detail=week) for each in (manager, administrator)]
    kinds = {CaseStatus.APPROVED: NoticeKind.APPROVED, CaseStatus.DECLINED: NoticeKind.DECLINED}
    decided = Case.objects.filter(status__in=kinds, adviser__in=names).order_by("-decided_on", "-pk")
    notices += [
        told(manager, kinds[status], on, case_id=case, by_name=names[adviser])
        for adviser, case, status, on in decided.values_list("adviser", "pk", "status", "decided_on")[:TOLD]
    ]
    done = CaseStep.objects.filter(state=StepState.DONE, case__adviser__in=names).order_by("-completed_on", "-pk")
    notices += [
        told(adviser, NoticeKind.STEP_COMPLETED, on, case_id=case, step_id=step, by_name=names[assistant])
        for adviser, case, on, step in done.values_list("case__adviser", "case", "completed_on", "step")[:TOLD]
    ]
    Notice.objects.bulk_create(notices)
