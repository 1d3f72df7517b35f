"""What is sealed, when, and that several at once, a kill and an open transaction do it no harm."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from django.conf import settings as project
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction

from crm.audit import sealing
from crm.audit.digests import canonical_json, sealed_tables
from crm.models import AuditCheck, AuditEntry, AuditSeal, CaseStep, Client, SealBlock
from crm.models.history import is_tracked
from crm.tests import factories
from crm.tests.audit.sealed import CLIENTS, KEY, OTHER_KEY, make_past, plain_sql, seal, verify

IS_POSTGRES = connection.vendor == "postgresql"


@pytest.fixture(autouse=True)
def _key(settings, tmp_path):
    settings.AUDIT_KEYS = [KEY]
    settings.AUDIT_ANCHOR = str(tmp_path / "anchor")


def said(command: str, *arguments) -> str:
    out = io.StringIO()
    call_command(command, *arguments, stdout=out)
    return out.getvalue()


# --- What ---


@pytest.mark.django_db
def test_every_history_table_and_the_audit_trail_are_sealed():
    from django.apps import apps

    histories = {
        model.history.model._meta.db_table for model in apps.get_app_config("crm").get_models() if is_tracked(model)
    }
    assert histories
    assert set(sealed_tables()) == histories | {"crm_auditentry", "crm_auditcheck", "crm_historicaluser_groups"} | {
        name for name in sealed_tables() if name.startswith("crm_historicaluser_")
    }
    assert "counts" not in sealed_tables()["crm_auditentry"].columns


@pytest.mark.django_db
def test_what_was_written_is_sealed_once():
    make_past()
    first = seal()
    assert first.seals == 1 and first.rows >= 9
    assert seal() == sealing.Sealed()
    found = verify()
    assert found.is_whole and found.unsealed == 0
    assert AuditSeal.objects.count() == 1
    assert seal().rows == 1  # the verification itself


@pytest.mark.django_db
def test_a_new_row_is_said_to_be_open_until_it_is_sealed():
    make_past()
    seal()
    factories.make_client("Dana Nová")
    found = verify()
    assert found.is_whole and found.unsealed == 2  # the client's history, the operation's entry
    seal()
    assert verify().unsealed == 0


@pytest.mark.django_db
def test_a_case_with_every_kind_of_column_is_whole(manager):
    case = factories.make_case(by=manager, loan_amount_czk="3500000.50")
    case.loan_amount_czk = 3_600_000
    case.save()
    seal()
    found = verify()
    assert found.problems == []
    assert found.rows > CaseStep.objects.count()


@pytest.mark.django_db
def test_counts_that_are_kept_later_change_no_seal():
    clients = make_past()
    seal()
    created = Client.history.filter(id=clients[0].pk).order_by("history_id").first()
    AuditEntry.objects.filter(operation_id=created.operation_id).update(counts={"client": {"+": 1}})
    assert verify().is_whole


@pytest.mark.django_db
def test_many_rows_make_several_blocks_and_seals(monkeypatch):
    monkeypatch.setattr(sealing, "BLOCK_ROWS", 4)
    monkeypatch.setattr(sealing, "SEAL_ROWS", 6)
    make_past()
    seal()
    assert AuditSeal.objects.count() > 2
    assert SealBlock.objects.filter(table=CLIENTS).count() >= 3
    assert verify().is_whole


@pytest.mark.django_db
def test_the_digests_hold_no_value_in_the_clear():
    make_past()
    seal()
    stored = b"".join(bytes(block.digests) + block.columns.encode() for block in SealBlock.objects.all())
    stored += "".join(AuditSeal.objects.values_list("content", flat=True)).encode()
    assert b"Alice" not in stored and b"called" not in stored


def test_canonical_text_does_not_depend_on_pythons_idea_of_printable():
    assert canonical_json(["ř\u2028\ud800", 1, None, True]) == '["\\u0159\\u2028\\ud800",1,null,true]'


# --- Keys ---


@pytest.mark.django_db
@pytest.mark.parametrize("command", ["seal_audit", "verify_audit"])
def test_without_a_key_the_commands_say_what_is_missing_and_how_to_make_one(settings, command):
    settings.AUDIT_KEYS = []
    settings.AUDIT_KEEP_YEARS = 10
    with pytest.raises(CommandError, match=r"AUDIT_KEY is not set.*token_hex"):
        call_command(command)


@pytest.mark.django_db
def test_a_new_key_seals_and_the_old_one_still_verifies(settings):
    make_past()
    seal()
    settings.AUDIT_KEYS = [OTHER_KEY, KEY]
    factories.make_client("Dana Nová")
    seal()
    assert verify().is_whole
    settings.AUDIT_KEYS = [OTHER_KEY]
    assert "which AUDIT_KEY has not" in verify().problems[0]


@pytest.mark.django_db
def test_who_does_not_know_the_key_cannot_make_a_seal_that_passes(settings):
    make_past()
    settings.AUDIT_KEYS = [OTHER_KEY]
    seal()
    settings.AUDIT_KEYS = [KEY]
    AuditSeal.objects.update(key_fingerprint=sealing.sealing_key().fingerprint)
    assert verify().problems[0] == "Seal 1 was rewritten."


# --- The commands ---


@pytest.mark.django_db
def test_the_commands_say_what_they_did():
    make_past()
    assert "rows sealed with 1 seals" in said("seal_audit")
    assert said("verify_audit").startswith("whole: 1 seals")
    check = AuditCheck.objects.get()
    assert (check.is_whole, check.is_anchored, check.seals, check.message) == (True, True, 1, "")


@pytest.mark.django_db
def test_without_an_anchor_it_works_and_says_so(settings):
    settings.AUDIT_ANCHOR = ""
    make_past()
    said("seal_audit")
    found = said("verify_audit")
    assert "No anchor is configured" in found and "not compared with an anchor" in found
    assert not AuditCheck.objects.get().is_anchored


@pytest.mark.django_db
def test_since_a_day_compares_only_rows_sealed_from_then_on():
    make_past()
    seal()
    AuditCheck.objects.all().delete()
    assert said("verify_audit", "--since", "2100-01-01").count(" 0 rows compared") == 1
    assert " 0 rows compared" not in said("verify_audit", "--since", "2000-01-01")


# --- Several at once, a kill, an open transaction ---


@pytest.mark.django_db(transaction=True)
def test_two_sealers_at_once_seal_every_row_once(monkeypatch):
    monkeypatch.setattr(sealing, "SEAL_ROWS", 3)
    make_past()
    failed = []

    def work():
        try:
            seal()
        except Exception as error:
            failed.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert seal().rows == 0
    found = verify()
    assert found.problems == [] and found.unsealed == 0


@pytest.mark.django_db(transaction=True)
def test_a_kill_while_sealing_leaves_whole_seals(settings, tmp_path):
    make_past()
    for number in range(40):
        factories.make_client(f"Client {number}")
    script = (
        "import os, time, django; django.setup();"
        "from django.conf import settings; from django.db import connection, connections;"
        f"settings.AUDIT_KEYS = [{KEY!r}]; settings.AUDIT_ANCHOR = {settings.AUDIT_ANCHOR!r};"
        f"connections.settings['default']['NAME'] = {connection.settings_dict['NAME']!r};"
        f"connection.settings_dict['NAME'] = {connection.settings_dict['NAME']!r};"
        "from crm.audit import sealing; from django.utils import timezone;"
        "sealing.SEAL_ROWS = 2; old = sealing.append; said = [];"
        # Somewhere from here on it is killed, and never comes to its end before that.
        "sealing.append = lambda *a, **k: (print('x', flush=True), said.append(1), len(said) == 12 and time.sleep(600), old(*a, **k))[-1];"
        "sealing.seal(now=timezone.now())"
    )
    sealer = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=project.BASE_DIR,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "crm.tests.settings"},
        stdout=subprocess.PIPE,
        text=True,
    )
    for _ in range(6):
        assert sealer.stdout.readline() == "x\n"
    sealer.send_signal(signal.SIGKILL)
    assert sealer.wait() == -signal.SIGKILL
    found = verify()
    assert found.problems == [] and found.seals >= 5 and found.unsealed > 0
    seal()
    found = verify()
    assert found.problems == [] and found.unsealed == 0 and found.is_anchored


@pytest.mark.skipif(not IS_POSTGRES, reason="SQLite has one writer at a time")
@pytest.mark.django_db(transaction=True)
def test_rows_of_an_open_transaction_are_never_passed_over():
    alice, bob, _charlie = make_past()
    begun, go_on = threading.Event(), threading.Event()

    def slow():
        with transaction.atomic():
            alice.note = "slowly"
            alice.save()
            begun.set()
            go_on.wait(120)
        connections.close_all()

    writer = threading.Thread(target=slow)
    writer.start()
    assert begun.wait(60)
    bob.note = "quickly"
    bob.save()  # a higher id, committed first
    done = seal(wait_s=0.3)
    assert CLIENTS in done.waiting
    found = verify()
    assert found.problems == [] and found.unsealed > 0
    threading.Timer(0.5, go_on.set).start()
    start = time.monotonic()
    done = seal(wait_s=90)
    assert done.waiting == [] and time.monotonic() - start < 60
    writer.join()
    seal()
    found = verify()
    assert found.problems == [] and found.unsealed == 0


@pytest.mark.skipif(IS_POSTGRES, reason="PostgreSQL's transactions are read beside each other")
@pytest.mark.django_db(transaction=True)
def test_sealing_waits_for_sqlites_writer():
    make_past()
    with plain_sql() as opened:
        opened.execute("BEGIN IMMEDIATE")
        sealer = threading.Thread(target=lambda: (seal(), connections.close_all()))
        sealer.start()
        time.sleep(0.5)
        assert sealer.is_alive()
    sealer.join()
    assert verify().unsealed == 0


# --- The anchor ---


@pytest.fixture
def anchor(settings):
    return Path(settings.AUDIT_ANCHOR)


@pytest.fixture
def anchored(anchor):
    """Two seals that the anchor has seen."""
    make_past()
    seal()
    factories.make_client("Dana Nová")
    seal()
    assert verify().is_anchored
    return anchor


@pytest.mark.django_db
@pytest.mark.parametrize("lose", [Path.unlink, lambda file: file.write_text("")])
def test_an_anchor_that_is_gone_or_empty_is_found(anchored, lose):
    AuditCheck.objects.all().delete()
    lose(anchored)
    assert verify().problems == ["The anchor is gone or empty, although seal 2 was made for it."]


@pytest.mark.django_db
def test_nothing_is_sealed_after_the_anchor_was_lost_until_somebody_begins_a_new_one(anchored):
    anchored.unlink()
    factories.make_client("Eva Malá")
    with pytest.raises(CommandError, match="The anchor is gone or empty, although seal 2 was made for it"):
        said("seal_audit")
    assert not anchored.exists() and AuditSeal.objects.count() == 2
    said("seal_audit", "--new-anchor")
    assert [line.split()[0] for line in anchored.read_text().splitlines()] == ["2", "3"]
    assert verify().problems == []


@pytest.mark.django_db
def test_no_new_anchor_is_begun_where_one_stands(anchored):
    before = anchored.read_text()
    AuditSeal.objects.filter(number=2).update(mac="0" * 64)
    with pytest.raises(CommandError, match="The anchor knows seal 2"):
        said("seal_audit", "--new-anchor")
    assert anchored.read_text() == before


@pytest.mark.django_db
def test_an_anchor_that_is_configured_later_begins_with_the_last_seal(anchor, settings):
    settings.AUDIT_ANCHOR = ""
    make_past()
    seal()
    settings.AUDIT_ANCHOR = str(anchor)
    found = verify()
    assert found.is_whole and "The anchor is empty as yet." in found.notes
    seal()
    assert [line.split()[0] for line in anchor.read_text().splitlines()] == ["1", "2"]
    assert verify().problems == []


@pytest.mark.django_db
def test_a_kill_before_the_first_line_is_no_lost_anchor(anchor, monkeypatch):
    """The file has begun before the first seal counts on it."""
    make_past()
    real, calls = sealing.anchor_head, []
    monkeypatch.setattr(sealing, "anchor_head", lambda: calls.append(1) or (real() if len(calls) == 1 else None))
    seal()
    monkeypatch.undo()
    assert anchor.read_text() == "0 - -\n" and verify().problems == []
    factories.make_client("Dana Nová")
    seal()
    assert verify().problems == [] and verify().is_anchored


@pytest.mark.django_db
@pytest.mark.parametrize("rest", ["3", "3 ab", f"3 {'a' * 64} 2026"])
def test_an_unfinished_last_line_is_left_out_and_said(anchored, rest):
    with anchored.open("a") as stream:
        stream.write(rest)
    found = verify()
    assert found.problems == [] and found.is_anchored
    assert "A line of the anchor was cut off while it was written; it was left out." in found.notes
    factories.make_client("Eva Malá")
    seal()
    found = verify()
    assert found.problems == [] and found.seals == 3
    assert anchored.read_text().splitlines()[-1].startswith("3 ")


@pytest.mark.django_db
def test_a_chain_that_was_cut_is_refused_with_an_unfinished_line_too(anchored):
    with anchored.open("a") as stream:
        stream.write("3 ab")
    SealBlock.objects.filter(seal_id=2).delete()
    AuditSeal.objects.filter(number=2).delete()
    with pytest.raises(CommandError, match="The anchor knows seal 2"):
        said("seal_audit")


@pytest.mark.django_db
@pytest.mark.parametrize("line", [b"nonsense", b"\xff\xfe 1", b"2 abc 2026-01-01T00:00:00Z", b"-1 - -"])
def test_a_broken_line_in_the_middle_is_found(anchored, line):
    anchored.write_bytes(line + b"\n" + anchored.read_bytes())
    assert verify().problems == ["Line 1 of the anchor cannot be read."]


@pytest.mark.django_db
def test_a_head_that_somebody_has_rewritten_goes_into_no_anchor(anchored):
    before = anchored.read_text()
    AuditSeal.objects.filter(number=2).update(mac="x\n9 y")
    sealing.anchor_head()
    assert anchored.read_text() == before


@pytest.mark.django_db
def test_without_a_configured_anchor_a_former_one_is_only_said(anchored, settings):
    settings.AUDIT_ANCHOR = ""
    assert verify().problems == []
    assert "No anchor is configured" in verify().notes[0]
