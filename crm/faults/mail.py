"""Mail and what stops it: a server that is away for two hours, and `kill -9` between the server's 250 and the commit of it."""

import datetime
import os
import signal
import time
import uuid

import time_machine
from django.conf import settings
from django.db import connections, transaction
from django.test import override_settings
from django.utils import timezone

from crm import outbox, roles
from crm.choices import MessageKind, MessageState
from crm.faults.desk import Desk, Found
from crm.models import MessageLog, User
from crm.tests import factories
from crm.tests.smtp import Post, post_office

MINUTE = datetime.timedelta(minutes=1)
AWAY_MINUTES = 120
MAILS, FEW = 500, 60
# In the rounds of the kill: the one that is hit, and two that wait behind it.
BEHIND = 3
READER = "reader"


def outage(desk: Desk, rounds: int) -> Found:
    """The worker's sweep of every minute (a suite's: fewer), with an injected clock."""
    mails = MAILS if desk.is_whole else FEW
    lost = doubled = minutes = 0
    for _ in range(rounds):
        start = timezone.now()
        subjects = _write(mails)
        with override_settings():
            with post_office(settings):
                pass  # settings name it, and it is gone
            for minute in range(0, AWAY_MINUTES, 1 if desk.is_whole else 10):
                _sweep(start + minute * MINUTE)
            early = _sent(subjects)
            with post_office(settings) as post:
                minute = 0
                while _sent(subjects) < mails and minute < AWAY_MINUTES:
                    _sweep(start + (AWAY_MINUTES + minute) * MINUTE)
                    minute += 1
                _sweep(start + 2 * AWAY_MINUTES * MINUTE)
        minutes = max(minutes, minute)
        taken = _taken(post)
        lost += early + sum(subject not in taken for subject in subjects)
        doubled += sum(len(ids) > 1 for ids in taken.values())
    return Found(rounds, lost, doubled, said=f"{mails} mails a round, all sent {minutes} minutes after its return")


def commit(desk: Desk, rounds: int) -> Found:
    """Odd rounds kill before our own write, even ones after it and before its commit."""
    lost = doubled = again = 0
    with override_settings(), post_office(settings) as post:
        for number in range(rounds):
            subjects = _write(BEHIND)
            _send_and_die(before_commit=number % 2 == 1)
            lost += _sent(subjects)  # marked as sent by who died
            _sweep(timezone.now())
            _sweep(timezone.now() + outbox.LEASE + MINUTE)
            lost += BEHIND - _sent(subjects)
            taken = _taken(post)
            post.taken.clear()
            lost += sum(subject not in taken for subject in subjects)
            doubled += sum(len(set(ids)) > 1 for ids in taken.values())
            again += sum(len(ids) == 2 for ids in taken.values())
            doubled += sum(len(ids) > 2 for ids in taken.values())
    wrong = () if again == rounds else (f"{again} duplicates in {rounds} rounds: the kill missed its moment",)
    return Found(rounds, lost, doubled, said=f"{again} sent again, each under its own Message-ID", wrong=wrong)


def _write(count: int) -> list[str]:
    """To one who works here. Each has a subject of its own, by which it is known."""
    subjects = [f"H-{uuid.uuid4().hex}" for _ in range(count)]
    reader = User.objects.filter(username=READER).first() or factories.make_user(roles.MANAGER, username=READER)
    outbox.put(
        outbox.message(
            MessageKind.DEADLINES, to=reader.email, user=reader, subject=subject, body="Dobrý den.", about=[subject],
            language="cs",
        )
        for subject in subjects
    )  # fmt: skip
    return subjects


def _sweep(now: datetime.datetime) -> None:
    with time_machine.travel(now, tick=True):
        outbox.send_due(timezone.now())


def _sent(subjects: list[str]) -> int:
    return MessageLog.objects.filter(subject__in=subjects, state=MessageState.SENT).count()


def _taken(post: Post) -> dict[str, list[str]]:
    """The Message-IDs under which each came."""
    found: dict[str, list[str]] = {}
    for mail in post.taken:
        found.setdefault(mail["Subject"], []).append(mail["Message-ID"])
    return found


def _send_and_die(*, before_commit: bool) -> None:
    """A process of its own, killed at a moment that it tells: the server has said yes, nothing is committed."""
    heard, said = os.pipe()
    connections.close_all()  # of two processes with one connection both would write
    child = os.fork()
    if not child:
        try:
            _wait_before_commit(said) if before_commit else _wait_before_write(said)
            outbox.send_due(timezone.now())
        finally:
            os._exit(1)
    os.close(said)
    os.read(heard, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(heard)


def _wait_before_write(said: int) -> None:
    def became(message, state, **values):
        os.write(said, b".")
        time.sleep(60)

    outbox._became = became


def _wait_before_commit(said: int) -> None:
    write = outbox._became

    def became(message, state, **values):
        with transaction.atomic():
            write(message, state, **values)
            os.write(said, b".")
            time.sleep(60)

    outbox._became = became
