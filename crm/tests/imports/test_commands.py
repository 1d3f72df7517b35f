"""What both import commands do with wrong arguments and without tables: one line, exit code 1, nothing lost."""

from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command, load_command_class
from django.db import connection

from crm import catalogue
from crm.models import Client
from crm.tests.imports.workbooks import csv

SAMPLES = Path(__file__).parent / "samples"
COMMANDS = {"import_clients": "czech_excel.csv", "import_older_crm": "older_crm_dump.json"}
each_command = pytest.mark.parametrize("command", COMMANDS)
pytestmark = pytest.mark.django_db


def run(command, *args):
    """(exit code, what it said on standard error)"""
    err = StringIO()
    with pytest.raises(SystemExit) as stop:
        call_command(command, *map(str, args), stdout=StringIO(), stderr=err)
    return stop.value.code, err.getvalue()


@pytest.fixture
def file(tmp_path, request):
    """A copy of the command's sample."""
    catalogue.load()
    name = COMMANDS[request.getfixturevalue("command")]
    (tmp_path / name).write_bytes((SAMPLES / name).read_bytes())
    return tmp_path / name


@each_command
def test_the_errors_never_overwrite_the_file_they_are_about(command, file):
    before = file.read_bytes()
    link = file.with_name("link")
    link.symlink_to(file)
    for errors in (file, link, file.parent / "." / file.name):
        code, said = run(command, file, "--errors", errors)
        assert (code, "--errors" in said, file.read_bytes() == before) == (1, True, True)
    assert not Client.objects.exists()


@each_command
def test_the_errors_never_overwrite_another_file(command, file, tmp_path):
    (tmp_path / "mine.csv").write_text("mine")
    code, said = run(command, file, "--errors", tmp_path / "mine.csv")
    assert (code, "--errors" in said, (tmp_path / "mine.csv").read_text()) == (1, True, "mine")
    assert not Client.objects.exists()


@each_command
@pytest.mark.parametrize("args", [[], ["a.csv", "--unknown"], ["a.csv", "b.csv"]])
def test_wrong_arguments_are_exit_code_1(command, args, capsys):
    with pytest.raises(SystemExit) as stop:
        load_command_class("crm", command).run_from_argv(["manage.py", command, *args])
    assert stop.value.code == 1 and "usage:" in capsys.readouterr().err


@each_command
def test_help_is_no_failure(command, capsys):
    with pytest.raises(SystemExit) as stop:
        load_command_class("crm", command).run_from_argv(["manage.py", command, "--help"])
    assert stop.value.code == 0


@each_command
def test_a_database_without_tables_is_one_line(command, file, transactional_db):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE crm_importrun RENAME TO away")
    try:
        code, said = run(command, file)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE away RENAME TO crm_importrun")
    assert (code, said.count("\n"), "migrate" in said) == (1, 1, True)


def test_what_the_write_refuses_stands_in_the_errors_too(tmp_path, monkeypatch):
    from crm import imports

    alice = Client.objects.create(full_name="Alice")
    (tmp_path / "x.csv").write_bytes(csv([alice.reference, "Alice A"], header=["reference", "full name"]))
    write = imports.write

    def write_too_late(plan, **kwargs):
        alice.note = "changed meanwhile"
        alice.save()
        return write(plan, **kwargs)

    monkeypatch.setattr(imports, "write", write_too_late)
    code, _said = run("import_clients", tmp_path / "x.csv", "--errors", tmp_path / "errors.csv")
    assert code == 2 and "Alice A" in (tmp_path / "errors.csv").read_text(encoding="utf-8-sig")
