"""The ledger as text, and its replay on a database that was put back."""

import datetime
import json

import pytest
from django.utils import timezone

from crm import privacy
from crm.choices import AuditKind
from crm.exceptions import NotALedger
from crm.models import AuditEntry, AuditSeal, Client, Erasure
from crm.privacy import Line
from crm.privacy.ledger import HEAD
from crm.tests import factories
from crm.tests.audit.sealed import KEY, seal, verify
from crm.tests.privacy.traces import make_client, traces

pytestmark = pytest.mark.django_db
ASKED = datetime.datetime(2026, 3, 2, 9, 30, 15, 123456, tzinfo=datetime.UTC)
ERASED = datetime.datetime(2036, 3, 3, 3, 30, tzinfo=datetime.UTC)
LINE = Line(ASKED, "client", 12, ASKED, datetime.date(2036, 3, 2), ERASED)


@pytest.fixture(autouse=True)
def _key(settings):
    settings.AUDIT_KEYS = [KEY]
    settings.AUDIT_ANCHOR = ""


def line_of(client: Client, **changes) -> Line:
    told = {"asked_at": ASKED, "scope": "client", "object_id": client.pk, "made_at": client.created_at}
    return Line(**told | {"erased_at": ERASED} | changes)


def replay(*lines: Line) -> privacy.Replayed:
    return privacy.replay(lines, timezone.now())


def everything() -> list:
    """Of the tables that a second replay could change."""
    tables = (Client, Client.history.model, Erasure, AuditEntry, AuditSeal)
    return [list(table.objects.order_by("pk").values()) for table in tables]


# --- Replay ---


def test_whoever_was_erased_after_the_backup_is_erased_again():
    client = make_client()
    seal()
    done = replay(line_of(client))
    assert (done.erased, done.unknown, done.known) == ([client.pk], [], 0)
    assert traces() == []
    assert Client.objects.get(pk=client.pk).anonymised_at == ERASED
    assert privacy.ledger() == [line_of(client)]
    assert verify().problems == []
    assert AuditEntry.objects.filter(kind=AuditKind.ERASURE, object_id=str(client.pk)).count() == 1


def test_an_older_database_knows_his_case_as_open_and_he_is_erased_all_the_same():
    client = make_client(status="open", ended=factories.TODAY)
    assert replay(line_of(client)).erased == [client.pk]
    assert traces() == []


def test_whoever_was_restricted_after_the_backup_is_restricted_again():
    client = make_client()
    line = line_of(client, erased_at=None, kept_until=datetime.date(2040, 1, 1))
    assert replay(line).restricted == [client.pk]
    client.refresh_from_db()
    assert (client.restricted_at, client.retention_until, client.anonymised_at) == (ASKED, line.kept_until, None)
    assert privacy.erase_due(datetime.datetime(2040, 1, 3, tzinfo=datetime.UTC))["erased"] == 1


@pytest.mark.parametrize("changes", [{}, {"erased_at": None, "kept_until": datetime.date(2040, 1, 1)}])
def test_a_second_replay_changes_nothing(changes):
    line = line_of(make_client(), **changes)
    replay(line)
    before = everything()
    done = replay(line, line)
    assert (done.erased, done.restricted, done.known) == ([], [], 2)
    assert everything() == before


def test_lines_about_nobody_here_are_kept_and_told():
    done = replay(LINE)
    assert (done.erased, done.unknown) == ([], [LINE])
    assert privacy.ledger() == [LINE]


def test_somebody_else_who_has_the_number_by_now_is_left_alone():
    client = factories.make_client("Dana Nová")
    line = line_of(client, made_at=client.created_at - datetime.timedelta(days=1))
    assert replay(line).unknown == [line]
    assert Client.objects.get(pk=client.pk).full_name == "Dana Nová"


def test_whoever_was_deleted_since_is_erased_in_the_history():
    client = make_client()
    line = line_of(client)
    client.cases.all().delete()
    Client.objects.filter(pk=client.pk).delete()
    assert replay(line).erased == [client.pk]
    assert [each for each in traces() if "message" not in each] == []
    assert replay(line).known == 1


def test_two_ledgers_become_one_and_neither_loses_a_line():
    asked = factories.make_client("Dana Nová")
    mine = privacy.erase(asked, by=None, now=timezone.now(), reason="Asked.")
    other = line_of(factories.make_client("Eva Malá"), erased_at=None, kept_until=datetime.date(2040, 1, 1))
    replay(other, LINE)
    assert {line.object_id for line in privacy.ledger()} == {mine.object_id, other.object_id, LINE.object_id}


def test_what_either_ledger_knows_stays_known():
    later = ASKED + datetime.timedelta(days=1)
    replay(line_of_nobody(asked_at=later, kept_until=datetime.date(2036, 3, 2), erased_at=None))
    replay(line_of_nobody(asked_at=ASKED, kept_until=datetime.date(2035, 1, 1), erased_at=ERASED))
    replay(line_of_nobody(asked_at=later, kept_until=None, erased_at=None))
    assert privacy.ledger() == [LINE]


def line_of_nobody(**changes) -> Line:
    return Line(scope="client", object_id=12, made_at=ASKED, **changes)


def test_a_replay_is_all_or_nothing(monkeypatch):
    first, second = make_client(), make_client()
    whole = privacy.wipe

    def broken(client_id, *args, **kwargs):
        if client_id == second.pk:
            raise RuntimeError
        whole(client_id, *args, **kwargs)

    monkeypatch.setattr(privacy, "wipe", broken)
    with pytest.raises(RuntimeError):
        replay(line_of(first), line_of(second))
    assert Client.objects.filter(anonymised_at=None, full_name__isnull=False).count() >= 2
    assert not Erasure.objects.exists() and not AuditSeal.objects.exists()


# --- As text ---


def test_a_ledger_comes_back_from_its_text_as_it_was():
    lines = [LINE, line_of_nobody(asked_at=ERASED, kept_until=None, erased_at=None)]
    assert privacy.read(privacy.write(lines)) == lines
    assert privacy.read(privacy.write([])) == []


def test_the_text_is_the_same_whatever_the_zone():
    zone = datetime.timezone(datetime.timedelta(hours=2))
    moved = Line(ASKED.astimezone(zone), "client", 12, ASKED, LINE.kept_until, ERASED.astimezone(zone))
    assert privacy.write([moved]) == privacy.write([LINE])
    assert privacy.write([LINE]).decode().splitlines() == [
        '{"erasures":1}',
        '{"asked_at":"2026-03-02T09:30:15.123456+00:00","erased_at":"2036-03-03T03:30:00.000000+00:00",'
        '"kept_until":"2036-03-02","made_at":"2026-03-02T09:30:15.123456+00:00","object_id":12,"scope":"client"}',
    ]


def text(*told) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in told)


GOOD = json.loads(privacy.write([LINE]).splitlines()[1])


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\n", b"{}\n", b"PK\x03\x04", b"\xff\xfe\n", b"[1]\n", b"{" * 100_000 + b"\n",
        text({"erasures": 2}), text(GOOD), text(HEAD, GOOD)[:-1], text(HEAD) + b"\n", text(HEAD, []),
        text(HEAD, GOOD | {"full_name": "Alice"}), text(HEAD, {"scope": "client"}),
        text(HEAD, GOOD | {"scope": "case"}), text(HEAD, GOOD | {"scope": 1}), text(HEAD, GOOD | {"scope": []}),
        text(HEAD, GOOD | {"object_id": "12"}), text(HEAD, GOOD | {"object_id": 0}),
        text(HEAD, GOOD | {"object_id": True}), text(HEAD, GOOD | {"object_id": 1 << 63}),
        text(HEAD, GOOD | {"asked_at": None}), text(HEAD, GOOD | {"asked_at": "2026-03-02T09:30:15"}),
        text(HEAD, GOOD | {"made_at": 5}), text(HEAD, GOOD | {"erased_at": ""}), text(HEAD, GOOD | {"erased_at": False}),
        text(HEAD, GOOD | {"kept_until": "soon"}), text(HEAD, GOOD | {"kept_until": "2036-13-02"}),
    ],
)  # fmt: skip
def test_what_is_no_ledger_is_refused_with_its_line(content):
    with pytest.raises(NotALedger, match="Line "):
        privacy.read(content)
    assert not Erasure.objects.exists()
