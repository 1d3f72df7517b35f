import stat

import pytest
from django.core.management import CommandError, call_command

from crm.models import ExportRun
from crm.tests import factories
from crm.tests.exports.reading import xlsx_rows


def test_the_command_writes_the_file_and_the_record(db, tmp_path, capsys):
    factories.make_client("Alice Nováková")
    call_command("export_clients", tmp_path / "clients.xlsx")
    [row] = xlsx_rows((tmp_path / "clients.xlsx").read_bytes())
    run = ExportRun.objects.get()
    assert (row["Full name"], run.user, run.rows, run.format) == ("Alice Nováková", None, 1, "xlsx")
    assert capsys.readouterr().out == f"1 rows: {tmp_path / 'clients.xlsx'}\n"


def test_only_its_owner_can_read_the_file(db, tmp_path):
    call_command("export_clients", tmp_path / "clients.csv")
    assert stat.S_IMODE((tmp_path / "clients.csv").stat().st_mode) == 0o600


def test_a_file_that_is_there_stays(db, tmp_path):
    (tmp_path / "clients.csv").write_text("mine")
    with pytest.raises(CommandError, match="is there already"):
        call_command("export_clients", tmp_path / "clients.csv")
    assert (tmp_path / "clients.csv").read_text() == "mine"


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
