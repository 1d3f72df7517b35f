"""Whatever an import is given, it is refused with the cure or reported row by row: no server error, no memory without end."""

from collections import Counter
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.urls import reverse

from crm import imports
from crm.choices import ImportState
from crm.imports import parsers
from crm.models import Client, ImportRun, User
from crm.tests import factories
from crm.tests.admin.importing import work
from crm.tests.imports.corpus import CORPUS, MEGABYTE, NO_NAMES, SPACED
from crm.tests.imports.naughty import PLAIN

MOST_MB = 100
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_UPLOAD = reverse("admin:crm_client_import")
# Longer files go to the worker; larger ones are refused by their size, before anybody reads them.
LONGEST, LARGEST = 500, MEGABYTE


@pytest.fixture(scope="module")
def contents():
    """Each file is made once."""
    made = {}
    return lambda title: made.get(title) or made.setdefault(title, CORPUS[title].make())


@pytest.mark.parametrize("title", CORPUS)
def test_a_file_is_refused_with_the_cure_or_told_row_by_row(db, contents, title):
    file, content = CORPUS[title], contents(title)
    before = _memory_mb("VmRSS")
    try:
        plan = imports.check(content, file.name)
    except imports.UnusableFile as error:
        assert file.refused and file.refused in str(error) and str(error).endswith("."), error
    else:
        said = [*map(str, plan.problems), *plan.sheet.notices, ""]
        assert not file.refused and any(file.says in each for each in said), said[:5]
        assert (plan.created, plan.errors, plan.skipped) == (file.created, file.errors, file.skipped), said[:5]
        refused = {problem.row for problem in plan.problems if problem.is_error}
        assert {row for row, outcome in plan.outcomes.items() if outcome == imports.Outcome.ERROR} <= refused
    assert _memory_mb("VmHWM") - before < MOST_MB


def test_the_command_does_not_take_a_file_of_200_mb_into_memory(db, tmp_path, capsys):
    file = tmp_path / "x.csv"
    with file.open("wb") as target:
        target.truncate(200 * MEGABYTE)
    before = _memory_mb("VmRSS")
    with pytest.raises(SystemExit) as left:
        call_command("import_clients", file)
    assert left.value.code == 1 and "larger than 150 MB" in capsys.readouterr().err
    assert _memory_mb("VmHWM") - before < MOST_MB


def _memory_mb(name: str) -> int:
    """Of this process. Asked for what it holds now, it begins to count the most it will hold."""
    if not _RESET.exists():
        return 0
    if name == "VmRSS":
        _RESET.write_text("5")
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) // 1024


def test_the_pages_answer_for_every_file(client, manager, contents):
    """With a refusal on the form or of the job that reads a large sheet, or a preview; never with a server error."""
    User.objects.filter(pk=manager.pk).update(language="en")
    client.force_login(manager)
    for title, file in CORPUS.items():
        content = contents(title)
        if len(content) > LARGEST or file.created + file.errors + file.skipped > LONGEST:
            continue
        page = client.post(_UPLOAD, {"file": SimpleUploadedFile(file.name, content)}, follow=True)
        if run := ImportRun.objects.filter(state=ImportState.CHECKING).first():
            work(run)
            page = client.get(page.redirect_chain[-1][0], follow=True)
        assert page.status_code == 200, title
        # Columns that nobody knows may be named on a page of their own.
        assert file.refused == NO_NAMES or file.refused in page.content.decode(), title
        assert file.refused or page.redirect_chain or run, title
    assert not Client.objects.exists()


def test_naughty_names_are_stored_as_they_are(db):
    factories.make_catalogue()
    imports.write(imports.check(CORPUS["naughty texts"].make(), "x.csv"))
    stored = Counter(Client.objects.values_list("full_name", flat=True))
    assert not set(map(parsers.line, PLAIN)) - set(stored)
    assert stored.total() == len(PLAIN) - SPACED >= 200
