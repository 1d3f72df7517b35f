"""Whoever has the database and not the key: each of the seven ways is found and named. Plain SQL, no ORM."""

import contextlib
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection, connections

from crm.audit import trail
from crm.audit.verifying import Standing, newest_checks
from crm.choices import Source
from crm.models import AuditCheck, AuditEntry, AuditSeal, Client, operation
from crm.models.operations import MANY
from crm.tests import factories
from crm.tests.audit.sealed import CLIENTS, KEY, history_ids, make_past, plain_sql, seal, tamper, verify

pytestmark = pytest.mark.django_db(transaction=True)
IS_POSTGRES = connection.vendor == "postgresql"


@pytest.fixture(autouse=True)
def _key(settings, tmp_path):
    settings.AUDIT_KEYS = [KEY]
    settings.AUDIT_ANCHOR = str(tmp_path / "anchor")


@pytest.fixture
def ids():
    """History ids of three clients, sealed."""
    clients = make_past()
    seal()
    assert verify().is_whole
    return history_ids(clients)


@pytest.fixture
def two_seals(ids):
    factories.make_client("Dana Nová")
    seal()
    assert verify().seals == 2


def refused(capsys) -> str:
    """What verify_audit prints first, with exit code 1."""
    with pytest.raises(SystemExit) as end:
        call_command("verify_audit")
    assert end.value.code == 1
    said = capsys.readouterr().out.splitlines()
    check = AuditCheck.objects.order_by("-pk").first()
    assert not check.is_whole and check.message == said[0]
    return said[0]


# --- The seven ---


def test_1_a_changed_row_is_named_with_its_field(ids, capsys):
    tamper(f"UPDATE {CLIENTS} SET history_user_name = 'Nobody' WHERE history_id = {ids[4]}")
    assert refused(capsys) == f"Row {ids[4]} of {CLIENTS} was changed: history_user_name."


def test_2_a_removed_row_is_named(ids, capsys):
    tamper(f"DELETE FROM {CLIENTS} WHERE history_id = {ids[4]}")
    assert refused(capsys) == f"Row {ids[4]} of {CLIENTS} was removed."


def test_3_a_row_put_in_among_sealed_ones_is_named(ids, capsys):
    with plain_sql() as opened:
        found = opened.execute(f"SELECT * FROM {CLIENTS} WHERE history_id = {ids[0]}")
        columns = [each[0] for each in found.description]
    names = ", ".join(f'"{name}"' for name in columns)
    values = ", ".join("0" if name == "history_id" else f'"{name}"' for name in columns)
    tamper(f"INSERT INTO {CLIENTS} ({names}) SELECT {values} FROM {CLIENTS} WHERE history_id = {ids[0]}")
    assert refused(capsys) == f"Row 0 of {CLIENTS} was inserted among sealed rows."


def test_4_two_rows_that_changed_places_are_named(ids, capsys):
    one, other = ids[1], ids[7]
    tamper(
        f"UPDATE {CLIENTS} SET history_id = -1 WHERE history_id = {one}",
        f"UPDATE {CLIENTS} SET history_id = {one} WHERE history_id = {other}",
        f"UPDATE {CLIENTS} SET history_id = {other} WHERE history_id = -1",
    )
    assert refused(capsys) == f"Rows {one} and {other} of {CLIENTS} were swapped."


@pytest.mark.parametrize(
    "change",
    ["rows = rows + 1", "kind = 'pruning'", "content = replace(content, '1', '2')", "at = '2020-01-01 00:00:00'"],
)
def test_5_a_rewritten_seal_is_named(two_seals, capsys, change):
    tamper(f"UPDATE crm_auditseal SET {change} WHERE number = 1")
    assert refused(capsys) == "Seal 1 was rewritten."


def test_5_a_seal_rewritten_with_its_mac_breaks_the_chain(two_seals, capsys):
    tamper("UPDATE crm_auditseal SET mac = 'x' || substr(mac, 2) WHERE number = 1")
    assert refused(capsys) == "Seal 1 was rewritten."


def test_5_rewritten_digests_are_named(two_seals, capsys):
    tamper(f"UPDATE crm_sealblock SET rows = rows - 1 WHERE seal_id = 1 AND \"table\" = '{CLIENTS}'")
    assert refused(capsys) == f"The digests of seal 1 for {CLIENTS} from row 1 were rewritten."


def test_6_a_cut_off_tail_is_found_by_the_anchor(two_seals, capsys):
    AuditCheck.objects.all().delete()
    tamper("DELETE FROM crm_sealblock WHERE seal_id = 2", "DELETE FROM crm_auditseal WHERE number = 2")
    assert refused(capsys).startswith("Seal 2 is missing. The anchor has seen seal 2 on ")


def test_6_a_cut_off_tail_is_found_by_the_last_verification_too(two_seals, capsys, settings):
    settings.AUDIT_ANCHOR = ""
    tamper("DELETE FROM crm_sealblock WHERE seal_id = 2", "DELETE FROM crm_auditseal WHERE number = 2")
    assert "has seen seal 2; now the last one is 1" in refused(capsys)


def test_6_the_last_rows_cut_off_are_named(ids, capsys):
    tamper(f"DELETE FROM {CLIENTS} WHERE history_id > {ids[6]}")
    assert refused(capsys) == f"Row {ids[7]} of {CLIENTS} was removed."


def test_7_yesterdays_database_put_back_is_found_by_the_anchor(ids, tmp_path, capsys):
    copy = Backup(tmp_path)
    factories.make_client("Dana Nová")
    seal()
    copy.put_back()
    assert AuditSeal.objects.count() == 1
    assert refused(capsys).startswith("Seal 2 is missing. The anchor has seen seal 2 on ")


def test_7_nothing_is_sealed_onto_a_database_that_was_put_back(ids, tmp_path):
    copy = Backup(tmp_path)
    factories.make_client("Dana Nová")
    seal()
    copy.put_back()
    with pytest.raises(Exception, match="The anchor knows seal 2"):
        call_command("seal_audit")


class Backup:
    """The whole database as an administrator of it would keep it: pg_dump, or the file."""

    def __init__(self, folder: Path):
        known = connection.settings_dict
        self.copy = folder / "copy"
        connections.close_all()
        if IS_POSTGRES:
            server = [
                "-h",
                known["HOST"] or "/var/run/postgresql",
                "-p",
                str(known["PORT"] or 5432),
                "-U",
                known["USER"],
            ]
            self.server = [*server, "-d", known["NAME"]]
            self._run("pg_dump", "--clean", "-f", self.copy)
        else:
            with plain_sql() as opened, contextlib.closing(sqlite3.connect(self.copy)) as copy:
                opened.backup(copy)

    def _run(self, program: str, *arguments) -> None:
        env = os.environ | {"PGPASSWORD": connection.settings_dict["PASSWORD"] or ""}
        subprocess.run([program, *self.server, *arguments], env=env, check=True, capture_output=True)

    def put_back(self) -> None:
        connections.close_all()
        if IS_POSTGRES:
            self._run("psql", "-q", "-f", self.copy)
            return
        # Not a copy of files: another thread of this process may still have the database open.
        with plain_sql() as opened, contextlib.closing(sqlite3.connect(self.copy)) as copy:
            copy.backup(opened)


# --- Beside the seven ---


def test_an_encrypted_value_exchanged_for_another_token_is_named(ids, capsys):
    tamper(
        f"UPDATE {CLIENTS} SET full_name = (SELECT full_name FROM {CLIENTS} WHERE history_id = {ids[1]}) "
        f"WHERE history_id = {ids[0]}"
    )
    assert refused(capsys) == f"Row {ids[0]} of {CLIENTS} was changed: full_name."


def test_the_audit_trails_own_rows_are_sealed(ids, capsys):
    entry = AuditEntry.objects.order_by("pk").last().pk
    tamper(f"UPDATE crm_auditentry SET source = 'api', kind = 'logout' WHERE id = {entry}")
    assert refused(capsys) == f"Row {entry} of crm_auditentry was changed: kind, source."


@pytest.mark.skipif(IS_POSTGRES, reason="PostgreSQL refuses it")
def test_nonsense_in_a_column_is_a_changed_row_and_no_traceback(ids, capsys):
    tamper(f"UPDATE {CLIENTS} SET history_date = 'nonsense', full_name = x'00ff' WHERE history_id = {ids[4]}")
    assert refused(capsys) == f"Row {ids[4]} of {CLIENTS} was changed: full_name, history_date."


def test_a_seal_removed_from_the_middle_is_named(two_seals, capsys):
    factories.make_client("Eva Malá")
    seal()
    tamper("DELETE FROM crm_sealblock WHERE seal_id = 2", "DELETE FROM crm_auditseal WHERE number = 2")
    assert refused(capsys) == "Seal 2 is missing."


def test_every_problem_is_told_in_order(ids, capsys):
    tamper(
        f"DELETE FROM {CLIENTS} WHERE history_id = {ids[2]}",
        f"UPDATE {CLIENTS} SET source = 'api' WHERE history_id = {ids[5]}",
    )
    assert verify().problems == [
        f"Row {ids[2]} of {CLIENTS} was removed.",
        f"Row {ids[5]} of {CLIENTS} was changed: source.",
    ]


def test_what_is_not_sealed_can_be_changed_unseen_and_that_is_said(ids, capsys):
    factories.make_client("Dana Nová")
    tamper(f"UPDATE {CLIENTS} SET source = 'api' WHERE history_id > {ids[-1]}")
    call_command("verify_audit")
    assert "3 rows not sealed yet" in capsys.readouterr().out


# --- What nobody can read: named, and never the end of the verification ---

ROWS_OF_POSTGRES = [
    (CLIENTS, "history_date", "'infinity'"),
    (CLIENTS, "history_date", "'20000-01-01'"),
    (CLIENTS, "history_date", "'0044-03-15 12:00:00 BC'"),
    (CLIENTS, "id_document_valid_until", "'infinity'"),
]
ROWS_OF_SQLITE = [
    (CLIENTS, "history_user_name", "CAST(x'FF' AS TEXT)"),
    (CLIENTS, "history_date", "'2026-13-45 00:00:00'"),
    (CLIENTS, "id_document_valid_until", "'1. 3. 2026'"),
    (CLIENTS, "operation_id", "upper(operation_id)"),
    (CLIENTS, "history_user_id", "'x'"),
]


@pytest.mark.parametrize(("table", "column", "value"), ROWS_OF_POSTGRES if IS_POSTGRES else ROWS_OF_SQLITE)
def test_a_value_that_nobody_can_read_is_a_change_of_its_row(ids, capsys, table, column, value):
    tamper(f"UPDATE {table} SET {column} = {value} WHERE history_id = {ids[4]}")
    assert refused(capsys) == f"Row {ids[4]} of {table} was changed: {column}."


@pytest.mark.parametrize(
    "change",
    ["mac = 'č'", "previous = 'č'", *(["at = 'infinity'"] if IS_POSTGRES else ["at = 'x'", "mac = x'00'"])],
)
def test_a_seal_that_nobody_can_read_is_a_rewritten_one(two_seals, capsys, change):
    tamper(f"UPDATE crm_auditseal SET {change} WHERE number = 1")
    assert "Seal 1 " in refused(capsys) + str(verify().problems)


@pytest.mark.skipif(IS_POSTGRES, reason="PostgreSQL refuses it")
@pytest.mark.parametrize(
    "change", ["digests = 'abc'", "digests = 5", "columns = CAST(x'FF' AS TEXT)", "columns = 5", "rows = 'x'"]
)
def test_digests_that_nobody_can_read_are_rewritten_ones(two_seals, capsys, change):
    tamper(f"UPDATE crm_sealblock SET {change} WHERE seal_id = 1 AND \"table\" = '{CLIENTS}'")
    assert refused(capsys) == f"The digests of seal 1 for {CLIENTS} from row 1 were rewritten."


@pytest.mark.skipif(IS_POSTGRES, reason="PostgreSQL refuses it")
def test_a_seal_without_a_proper_number_is_named(two_seals, capsys):
    tamper("PRAGMA foreign_keys = OFF", "UPDATE crm_auditseal SET number = 'x' WHERE number = 2")
    assert refused(capsys) == "A seal has no proper number: x."


def test_what_nothing_foresaw_is_told_and_kept_too(ids, capsys, monkeypatch):
    def broken(*_args):
        raise RecursionError

    monkeypatch.setattr("crm.audit.verifying.Digester.unpack", broken)
    assert refused(capsys) == "Seal 1 cannot be read: RecursionError."


def test_what_stops_the_job_leaves_no_result(ids):
    def stop(_rows):
        raise KeyError

    before = AuditCheck.objects.count()
    with pytest.raises(KeyError):
        verify(progress=stop)
    assert AuditCheck.objects.count() == before


# --- What only looks the same ---


@pytest.mark.skipif(IS_POSTGRES, reason="PostgreSQL's columns hold nothing else")
@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("crm_historicalcase", "loan_amount_czk", "100.004"),
        ("crm_historicalcase", "loan_amount_czk", "'1_00'"),
        ("crm_historicalcase", "decided_on", "'1. 3. 2026'"),
        ("crm_historicalcase", "operation_id", "'{' || operation_id || '}'"),
        ("crm_historicaluser", "is_staff", "7"),
        ("crm_historicallender", "aliases", '\'["A","B"]\''),
    ],
)
def test_a_value_that_django_would_read_as_the_same_is_another(capsys, table, column, value):
    factories.make_case(loan_amount_czk=100)
    factories.make_user()
    factories.make_lender(aliases=["A", "B"])
    seal()
    assert verify().is_whole
    row = raw_first(table)
    tamper(f"UPDATE {table} SET {column} = {value} WHERE history_id = {row}")
    assert refused(capsys) == f"Row {row} of {table} was changed: {column}."


def raw_first(table: str) -> int:
    with plain_sql() as opened:
        return opened.execute(f"SELECT min(history_id) FROM {table}").fetchone()[0]


# --- The numbers that the audit trail keeps of an operation ---


@pytest.mark.parametrize("counts", ['{"lender": {"-": 777}}', "[1, 2]", '{"client": 5}'])
def test_false_numbers_of_an_operation_are_named(ids, capsys, counts):
    entry = AuditEntry.objects.order_by("pk").last().pk
    tamper(f"UPDATE crm_auditentry SET counts = '{counts}' WHERE id = {entry}")
    assert refused(capsys) == f"What row {entry} of crm_auditentry counts is not what its operation changed."


def test_the_numbers_of_a_large_operation_are_true(ids):
    with operation(Source.COMMAND):
        for number in range(MANY + 1):
            factories.make_client(f"Client {number}")
    assert AuditEntry.objects.exclude(counts={}).get().counts == {"client": {"+": MANY + 1}}
    seal()
    assert verify().problems == []


@pytest.mark.parametrize("counts", ["[1, 2]", '{"client": 5}', '{"client": {"+": "x"}}', "7"])
def test_numbers_that_are_none_are_counted_anew(ids, counts):
    tamper(f"UPDATE crm_auditentry SET counts = '{counts}'")
    entry = AuditEntry.objects.get(operation_id=Client.history.get(history_id=ids[0]).operation_id)
    assert trail.counts_of([entry], None)[entry.pk] == {"client": {"+": 1}}


# --- The verifications themselves ---


def test_a_failed_verification_that_was_made_whole_is_named(ids, capsys):
    tamper(f"UPDATE {CLIENTS} SET source = 'api' WHERE history_id = {ids[4]}")
    assert not verify().is_whole
    forged = AuditCheck.objects.order_by("pk").last().pk
    tamper("UPDATE crm_auditcheck SET is_whole = (1 = 1), message = ''")
    said = f"Verification {forged} was rewritten, or made with a key that AUDIT_KEY has not."
    assert refused(capsys) == said


@pytest.mark.parametrize("mac", ["mac", "''"])
def test_a_verification_made_whole_is_not_believed(ids, mac):
    tamper(f"UPDATE {CLIENTS} SET source = 'api' WHERE history_id = {ids[4]}")
    verify()
    assert [how for _check, how in newest_checks(2)] == [Standing.PROVEN, Standing.PROVEN]
    tamper(f"UPDATE crm_auditcheck SET is_whole = (1 = 1), message = '', mac = {mac} WHERE message <> ''")
    [(check, how), (_whole, before)] = newest_checks(2)
    assert (how, check.is_whole) in ((Standing.FORGED, False), (Standing.UNPROVEN, True))
    assert before is Standing.PROVEN


def test_where_there_is_no_key_a_verification_is_not_proven(ids, settings):
    settings.AUDIT_KEYS = []
    assert [how for _check, how in newest_checks(1)] == [Standing.UNPROVEN]


def test_a_sealed_verification_that_was_removed_is_named(ids, capsys):
    seal()
    first = AuditCheck.objects.get().pk
    tamper("DELETE FROM crm_auditcheck")
    assert refused(capsys) == f"Row {first} of crm_auditcheck was removed."


@pytest.mark.parametrize(
    "change", ["seals = 0", *(["at = 'infinity'"] if IS_POSTGRES else ["at = 'x'", "seals = 'x'", "since = 'x'"])]
)
def test_a_verification_that_nobody_can_read_is_named(ids, capsys, change):
    tamper(f"UPDATE crm_auditcheck SET {change}")
    assert refused(capsys).startswith("Verification ")
    assert newest_checks(2)[1][1] is Standing.FORGED
