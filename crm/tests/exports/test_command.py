import contextlib
import hashlib
import stat
from unittest.mock import Mock

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError

from crm.choices import RunState
from crm.exports import csv_file
from crm.exports.xlsx_file import TooManyRows
from crm.models import ExportRun
from crm.tests import factories
from crm.tests.exports.reading import xlsx_rows


def test_the_command_writes_the_file_and_the_record(db, tmp_path, capsys):
    factories.make_client("Alice Nováková")
    call_command("export_clients", tmp_path / "clients.xlsx")
    [row] = xlsx_rows((tmp_path / "clients.xlsx").read_bytes())
    run = ExportRun.objects.get()
    assert (row["Full name"], run.user, run.rows, run.format) == ("Alice Nováková", None, 1, "xlsx")
    assert capsys.readouterr().out == f"1 rows: {tmp_path / 'clients.xlsx'} (export {run.pk})\n"


def test_the_name_of_a_file_carries_the_number_of_its_record_where_that_is_asked_for(db, tmp_path, capsys):
    call_command("export_clients", tmp_path / "clients-{number}.csv")
    run = ExportRun.objects.get()
    [file] = tmp_path.iterdir()
    assert (file.name, stat.S_IMODE(file.stat().st_mode)) == (f"clients-{run.pk}.csv", 0o600)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == run.sha256
    assert capsys.readouterr().out == f"0 rows: {file} (export {run.pk})\n"


def test_the_rows_of_a_csv_carry_the_number_and_an_import_says_whose_export_they_are(db, tmp_path, capsys):
    alice = factories.make_client("Alice Nováková")
    file = tmp_path / "clients.csv"
    call_command("export_clients", file)
    number = ExportRun.objects.get().pk
    assert f"E{number}-{alice.history.get().history_id}" in file.read_text("utf-8-sig")
    call_command("import_clients", file)
    said = capsys.readouterr().out
    assert f"(export {number})." in said and said.endswith("1 rows: 0 created, 0 updated, 1 skipped, 0 errors\n")


def test_a_file_of_that_number_stays(db, tmp_path):
    last = ExportRun.objects.create(model="client", format="csv").pk
    older = tmp_path / f"clients-{last + 1}.csv"
    older.write_text("mine")
    with pytest.raises(CommandError, match=f"{older.name} is there already"):
        call_command("export_clients", tmp_path / "clients-{number}.csv")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["mine"]
    run = ExportRun.objects.get(pk=last + 1)
    assert (run.state, run.message, run.sha256) == (RunState.FAILED, "File exists", "")


def test_a_name_that_no_file_can_have_is_said_to_be_one(db, tmp_path):
    with pytest.raises(CommandError, match="No file can have this name"):
        call_command("export_clients", tmp_path / "cli\0ents.csv")
    assert not ExportRun.objects.exists()


def test_only_its_owner_can_read_the_file(db, tmp_path):
    call_command("export_clients", tmp_path / "clients.csv")
    assert stat.S_IMODE((tmp_path / "clients.csv").stat().st_mode) == 0o600


def test_a_file_that_is_there_stays(db, tmp_path):
    (tmp_path / "clients.csv").write_text("mine")
    with pytest.raises(CommandError, match="is there already"):
        call_command("export_clients", tmp_path / "clients.csv")
    assert (tmp_path / "clients.csv").read_text() == "mine"


@pytest.mark.parametrize(
    "options", [{"columns": "nonsense"}, {"filter": ["status=opn"]}, {"filter": ["status"]}, {"user": "nobody"}]
)
def test_a_mistyped_call_leaves_an_older_file_alone(db, tmp_path, options):
    (tmp_path / "clients.csv").write_text("mine")
    with pytest.raises(CommandError):
        call_command("export_clients", tmp_path / "clients.csv", **options)
    assert (tmp_path / "clients.csv").read_text() == "mine"


@pytest.mark.parametrize("error", [TooManyRows(limit=1), DatabaseError("away"), OSError("full"), KeyboardInterrupt()])
def test_of_a_file_that_did_not_become_whole_nothing_is_left(db, tmp_path, monkeypatch, error):
    monkeypatch.setattr(csv_file, "write", Mock(side_effect=error))
    with pytest.raises((CommandError, DatabaseError, KeyboardInterrupt)):
        call_command("export_clients", tmp_path / "clients.csv")
    assert not (tmp_path / "clients.csv").exists()
    assert ExportRun.objects.get().state == RunState.FAILED


def test_a_person_without_the_permission_gets_no_rows(assistant, tmp_path):
    factories.make_client()
    with pytest.raises(CommandError, match="Your role does not allow this"):
        call_command("export_clients", tmp_path / "clients.csv", user=assistant.username)
    assert not ExportRun.objects.exists()
    assert not (tmp_path / "clients.csv").exists()


def test_an_adviser_gets_every_column_but_the_sensitive_ones(adviser, tmp_path):
    factories.make_client(birth_number="7801233540")
    call_command("export_clients", tmp_path / "clients.xlsx", user=adviser.username)
    [row] = xlsx_rows((tmp_path / "clients.xlsx").read_bytes())
    assert "Status" in row and "Birth number" not in row


def test_an_export_for_a_person_is_recorded_as_his(manager, tmp_path):
    call_command("export_clients", tmp_path / "clients.csv", user=manager.username)
    assert ExportRun.objects.get().user == manager


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("clients.ods", {}, "xlsx or .csv"),
        ("clients.xlsx", {"machine": True}, "in .csv"),
        ("clients.csv", {"user": "nobody"}, "does not exist"),
        ("missing/clients.csv", {}, "No such file"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(db, tmp_path, name, options, said):
    with pytest.raises(CommandError, match=said):
        call_command("export_clients", tmp_path / name, **options)


def test_a_moment_before_all_calendars_is_told_in_a_line_or_finds_nothing(db, tmp_path):
    """Each database has its own first day."""
    with contextlib.suppress(CommandError):
        call_command("export_clients", tmp_path / "clients.csv", filter=["created_at=0001-01-01"])
    assert ExportRun.objects.get().rows == 0
