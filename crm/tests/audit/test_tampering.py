"""Whoever has the database and not the key: each of the seven ways is found and named. Plain SQL, no ORM."""

import contextlib
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection, connections

from crm.models import AuditCheck, AuditEntry, AuditSeal
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
    assert "2 rows not sealed yet" in capsys.readouterr().out
