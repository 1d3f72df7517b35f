"""An office with a sealed past, and plain SQL through the drivers themselves for whoever tampers with it."""

import contextlib
import sqlite3

import psycopg
from django.db import connection
from django.utils import timezone

from crm.audit import sealing, verifying
from crm.models import Client
from crm.tests import factories

KEY = "seal-key-for-tests-0123456789-abcdefghijklmn"
OTHER_KEY = "another-seal-key-for-tests-0123456789-zyxwvu"
CLIENTS = "crm_historicalclient"


def seal(**given) -> sealing.Sealed:
    return sealing.seal(now=timezone.now(), **given)


def verify(**given) -> verifying.Verification:
    return verifying.verify(now=timezone.now(), **given)


def make_past() -> list[Client]:
    """Three clients with three versions each."""
    clients = [factories.make_client(name) for name in ("Alice Nováková", "Bob Malý", "Charlie Veselý")]
    for note in ("called", "met"):
        for client in clients:
            client.note = note
            client.save()
    return clients


@contextlib.contextmanager
def plain_sql():
    """A connection that knows nothing of Django; commits at its end."""
    known = connection.settings_dict
    if connection.vendor == "postgresql":
        given = {"host": known["HOST"], "port": known["PORT"], "user": known["USER"], "password": known["PASSWORD"]}
        opened = psycopg.connect(dbname=known["NAME"], **{name: value for name, value in given.items() if value})
    else:
        opened = sqlite3.connect(known["NAME"], timeout=20)
    with contextlib.closing(opened), opened:
        yield opened


def tamper(*statements: str) -> None:
    with plain_sql() as opened:
        for statement in statements:
            opened.execute(statement)


def history_ids(clients: list[Client]) -> list[int]:
    return list(
        Client.history.filter(id__in=[client.pk for client in clients])
        .order_by("history_id")
        .values_list("history_id", flat=True)
    )
