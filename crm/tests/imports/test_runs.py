"""Imports as records: short files at once, long ones by jobs, and what is left of either."""

import datetime
from contextlib import nullcontext

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

from crm import catalogue, imports, jobs, tasks
from crm.audit import undo
from crm.choices import RunState
from crm.encryption import TOKEN_PREFIX
from crm.exceptions import NotAllowed
from crm.imports import mappings, pieces, preview, runs, writing
from crm.models import AuditEntry, Case, Client, ImportRun, JobRun, Lender, User
from crm.tests.factories import make_case, make_client, make_lender
from crm.tests.imports.workbooks import csv, xlsx

HEADER = ["jmeno", "email", "datum", "cena"]
ROWS = [[f"Jan Řádek{number}", f"jan{number}@example.com", "1.2.2026", "5"] for number in range(4)]
BAD = ["Petr Zlý", "petr@example.com", "nikdy", "asi milion"]

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _office(manager):
    catalogue.load()
    User.objects.update(language="en")
    manager.refresh_from_db()


@pytest.fixture
def long_files(monkeypatch):
    monkeypatch.setattr(runs, "ROWS_AT_ONCE", 3)


def begin(user, *rows, **options) -> ImportRun:
    return imports.begin(csv(*rows or ROWS, header=HEADER), "x.csv", user, **options)


def work(run) -> ImportRun:
    jobs.carry_out(run.job_id, tasks.JOBS)
    return ImportRun.objects.select_related("job", "user").get(pk=run.pk)


def test_a_file_of_as_many_rows_as_a_page_waits_for_is_checked_at_once(long_files, manager):
    assert [(run.state, run.job) for run in [begin(manager, *ROWS[:3])]] == [("checked", None)]


def test_a_workbook_of_as_many_cells_as_a_page_waits_for_is_checked_and_written_at_once(manager, monkeypatch):
    monkeypatch.setattr(runs, "CELLS_AT_ONCE", 3 * len(HEADER))
    run = imports.begin(xlsx(HEADER, *ROWS[:2]), "x.xlsx", manager)
    assert (run.state, imports.confirm(run, manager).state) == ("checked", "done")


@pytest.mark.parametrize("limit", ["CELLS_AT_ONCE", "UNPACKED_AT_ONCE"])
def test_a_workbook_of_more_cells_is_checked_and_written_by_jobs(manager, monkeypatch, limit):
    monkeypatch.setattr(runs, limit, 3 * len(HEADER) - 1)
    run = imports.begin(xlsx(HEADER, *ROWS[:2]), "x.xlsx", manager)
    assert run.state == "checking"
    run = imports.confirm(work(run), manager)
    assert (run.state, work(run).state, Client.objects.count()) == ("running", "done", 2)


def test_a_long_file_is_checked_and_written_by_jobs(long_files, manager):
    run = begin(manager, *ROWS, BAD)
    assert (run.state, run.job.queue, Client.objects.count()) == ("checking", "long", 0)
    run = work(run)
    assert (run.state, run.rows, run.created_count, run.error_count) == ("checked", 5, 4, 1)
    run = imports.confirm(run, manager)
    assert (run.state, Client.objects.count()) == ("running", 0)
    run = work(run)
    assert (run.state, run.job.state, Client.objects.count()) == ("done", "done", 4)
    assert set(Client.history.values_list("operation_id", "source", "history_user_id")) == {
        (run.operation_id, "import", manager.pk)
    }
    assert AuditEntry.objects.get(operation_id=run.operation_id).kind == "import"
    assert [line["row"] for line in preview.lines_at(run, [0])] == [6]


def test_a_job_begun_again_after_its_end_does_nothing(long_files, manager):
    run = work(imports.confirm(work(begin(manager)), manager))
    JobRun.objects.filter(pk=run.job_id).update(state=RunState.QUEUED)
    again = work(run)
    assert (again.job.state, again.operation_id, Client.objects.count()) == ("done", run.operation_id, 4)


def test_of_two_workers_at_one_import_one_writes(long_files, manager, monkeypatch):
    run = imports.confirm(work(begin(manager)), manager)
    real, woke = runs.check_file, []

    def stall(*args, **kwargs):
        if not woke:  # while the first sleeps its run is given back, and another does all of it
            woke.append(1)
            JobRun.objects.update(beat_at=timezone.now() - datetime.timedelta(hours=1))
            jobs.sweep(timezone.now())
            jobs.carry_out(run.job_id, tasks.JOBS)
        return real(*args, **kwargs)

    monkeypatch.setattr(runs, "check_file", stall)
    run = work(run)
    assert (run.state, run.job.state, Client.objects.count()) == ("done", "done", 4)


def test_whoever_lost_his_job_while_he_wrote_leaves_nothing(long_files, manager, monkeypatch):
    run = imports.confirm(work(begin(manager)), manager)
    monkeypatch.setattr(jobs.Progress, "is_mine", lambda progress: False)
    run = work(run)
    assert (run.state, Client.objects.count(), ImportRun.objects.filter(state="done").count()) == ("running", 0, 0)


def test_a_cancelled_import_writes_nothing_and_can_be_checked_again(long_files, manager, monkeypatch):
    run = imports.confirm(work(begin(manager)), manager)
    runs.cancel(run, by=manager)
    run = work(run)
    assert (runs.state_of(run), Client.objects.count()) == ("failed", 0)
    runs.check_again(run, manager)
    run = work(run)
    assert runs.state_of(run) == "checked"
    assert work(imports.confirm(run, manager)).created_count == 4


def test_cancel_is_heard_between_the_batches_of_the_write(long_files, manager, monkeypatch):
    run = imports.confirm(work(begin(manager)), manager)
    real = runs.write

    def cancelled(*args, progress, **kwargs):
        progress.is_cancelled = True
        return real(*args, progress=progress, **kwargs)

    monkeypatch.setattr(runs, "write", cancelled)
    run = work(run)
    assert (runs.state_of(run), run.job.is_cancelled or run.job.message, Client.objects.count()) == (
        "failed", "Cancelled.", 0,
    )  # fmt: skip


def test_what_changed_meanwhile_is_shown_again(long_files, manager):
    content = csv(*ROWS, header=HEADER)
    run = imports.confirm(work(begin(manager)), manager)
    imports.write(imports.check(content, "x.csv"))
    run = work(run)
    assert (run.state, run.created_count, run.skipped_count) == ("checked", 0, 4)
    assert "changed" in run.message


BORN_TWICE = ["Jan Řádek0", "850101/1233", ""]


def of_persons(*rows) -> bytes:
    return csv(*rows, header=["full_name", "birth_number", "note"])


def test_somebody_entered_meanwhile_is_proposed_before_anything_is_written(manager):
    run = imports.begin(of_persons(BORN_TWICE), "x.csv", manager)
    known = make_client(BORN_TWICE[0], birth_number=BORN_TWICE[1])
    with pytest.raises(runs.ChangedMeanwhile):
        imports.confirm(run, manager)
    run.refresh_from_db()
    [line] = preview.lines_at(run, preview.index_of(run).duplicates)
    assert (run.state, run.duplicate_count, Client.objects.count()) == ("checked", 1, 1)
    assert known.reference in line["problems"][0]
    assert imports.confirm(run, manager).created_count == 1


def test_somebody_entered_meanwhile_is_proposed_by_the_job(long_files, manager):
    run = imports.confirm(work(begin(manager)), manager)
    make_client(ROWS[0][0], email=ROWS[0][1])
    run = work(run)
    assert (run.state, run.duplicate_count, Client.objects.count()) == ("checked", 1, 1)
    assert "changed" in run.message


@pytest.mark.parametrize("is_long", [False, True])
def test_whoever_another_import_brings_while_this_one_is_made_ready_is_proposed(manager, monkeypatch, is_long):
    monkeypatch.setattr(runs, "ROWS_AT_ONCE", 0 if is_long else 500)
    done = work if is_long else lambda run: run
    run = done(imports.begin(of_persons(BORN_TWICE), "x.csv", manager))
    plain, others = runs.check_file, iter([of_persons([*BORN_TWICE[:2], "more"])])

    def check_file(*args, **kwargs):
        plan = plain(*args, **kwargs)
        for other in others:
            imports.write(imports.check(other, "other.csv"))
        return plan

    monkeypatch.setattr(runs, "check_file", check_file)
    with nullcontext() if is_long else pytest.raises(runs.ChangedMeanwhile):
        done(imports.confirm(run, manager))
    run.refresh_from_db()
    assert (run.state, run.created_count, Client.objects.count()) == ("checked", 1, 1)


@pytest.mark.parametrize("is_long", [False, True])
def test_another_language_than_the_previews_asks_nothing_once_more(manager, monkeypatch, is_long):
    monkeypatch.setattr(runs, "ROWS_AT_ONCE", 1 if is_long else 500)
    make_client(ROWS[0][0])
    run = begin(manager, *ROWS[:2], ROWS[1], [ROWS[1][0], "else@example.com", "1.3.2026", "5"])
    if is_long:
        run = work(run)
    assert run.duplicate_count == 2
    User.objects.update(language="cs")
    with translation.override("cs"):
        run = imports.confirm(run, manager)
    if is_long:
        run = work(run)
    assert (run.state, run.created_count) == (RunState.DONE, 3)


WITH_MAIL = csv(["Jana Bílá", "jana@example.com"], header=["jmeno", "Mail klienta"])


@pytest.mark.parametrize("later", [None, "client.note"])
def test_columns_that_mean_something_else_by_now_are_shown_again(manager, later):
    mappings.remember(manager, {"Mail klienta": "client.email"})
    run = imports.begin(WITH_MAIL, "x.csv", manager)
    mappings.forget(manager)
    if later:
        mappings.remember(manager, {"Mail klienta": later})
    with pytest.raises(runs.ChangedMeanwhile):
        imports.confirm(run, manager)
    run.refresh_from_db()
    assert (run.state, Client.objects.count()) == ("checked", 0)
    assert preview.index_of(run).said == ({"Mail klienta": later} if later else {})
    imports.confirm(run, manager)
    assert Client.objects.get().note == ("jana@example.com" if later else "")


@pytest.mark.parametrize("is_long", [False, True])
@pytest.mark.parametrize("is_known", [False, True])
def test_a_lender_whose_name_another_took_meanwhile_is_shown_again(manager, monkeypatch, is_long, is_known):
    monkeypatch.setattr(runs, "ROWS_AT_ONCE", 0 if is_long else 500)
    done = work if is_long else lambda run: run
    lender, other = (make_lender(name, aliases=aliases) for name, aliases in (("Modrá", ["Banka X"]), ("Zelená", [])))
    cells = {"reference": make_case().reference} if is_known else {"jmeno": "Jana Bílá", "datum": "1.2.2026"}
    cells |= {"lender": "Banka X"}
    run = done(imports.begin(csv([*cells.values()], header=[*cells]), "x.csv", manager))
    Lender.objects.filter(pk=lender.pk).update(aliases=[])
    Lender.objects.filter(pk=other.pk).update(aliases=["Banka X"])
    with nullcontext() if is_long else pytest.raises(runs.ChangedMeanwhile):
        done(imports.confirm(run, manager))
    run.refresh_from_db()
    assert (run.state, Case.objects.filter(lender__isnull=False).count()) == ("checked", 0)
    done(imports.confirm(run, manager))
    assert Case.objects.get().lender == other


def test_an_unusable_long_file_says_why_and_keeps_nothing(long_files, manager):
    run = work(imports.begin(csv(*ROWS, header=["jmeno", "full name", "c", "d"]), "x.csv", manager))
    assert (run.state, run.job.state, run.pieces.count()) == ("failed", "done", 0)
    assert "mean the same" in run.problems
    assert "mean the same" not in run.job.log + run.job.message + run.message


def test_a_job_of_who_left_does_nothing(long_files, manager):
    run = begin(manager)
    User.objects.filter(pk=manager.pk).update(is_active=False)
    run = work(run)
    assert (runs.state_of(run), run.job.message) == ("failed", str(NotAllowed()))


def test_a_job_of_who_may_not_import_any_more_does_nothing(long_files, manager):
    run = begin(manager)
    manager.groups.clear()
    assert runs.state_of(work(run)) == "failed"


def test_one_person_has_three_imports_in_work(long_files, manager, administrator):
    for _each in range(runs.MOST_AT_ONCE):
        begin(manager)
    with pytest.raises(runs.TooManyAtOnce):
        begin(manager)
    begin(administrator)


@pytest.mark.parametrize(
    ("chosen", "written"),
    [({}, (1, 1)), ({"update": False}, (1, 0)), ({"create": False}, (0, 1)), ({"all_or_nothing": True}, (0, 0))],
)
def test_what_was_chosen_is_written(manager, chosen, written):
    client = Client.objects.create(full_name="Alice", email="alice@example.com")
    header = ["reference", "full_name", "email"]
    rows = [[client.reference, "Alice", "new@example.com"], ["", "Bob", "bob@example.com"], ["C-999999", "Eva", ""]]
    run = imports.begin(csv(*rows, header=header), "x.csv", manager)
    run = imports.confirm(run, manager, **chosen)
    assert (run.created_count, run.updated_count) == written
    client.refresh_from_db()
    assert client.email == ("new@example.com" if written[1] else "alice@example.com")
    assert Client.objects.count() == 1 + written[0]


@pytest.mark.parametrize("is_long", [False, True])
@pytest.mark.parametrize(
    ("chosen", "counts"), [({}, (1, 1, 0)), ({"update": False}, (1, 0, 0)), ({"create": False}, (0, 1, 0))]
)
def test_a_row_that_changes_a_client_and_adds_a_case_counts_for_what_it_does(
    manager, monkeypatch, is_long, chosen, counts
):
    monkeypatch.setattr(runs, "ROWS_AT_ONCE", 0 if is_long else 500)
    done = work if is_long else lambda run: run
    client = make_client("Alice", phone="+420777000000")
    header = ["reference", "phone", "case.reference", "case.opened_on", "case.loan_amount_czk"]
    row = [client.reference, "+420777000111", "", "1.2.2026", "100000"]
    run = done(imports.begin(csv(row, header=header), "x.csv", manager))
    index = preview.index_of(run)
    assert (run.created_count, run.updated_count, run.skipped_count) == (1, 1, 0)
    assert [index.positions(each) for each in ("create", "update", "skip")] == [[0], [0], []]
    assert [index.count(each) for each in ("create", "update", "skip")] == [1, 1, 0]
    run = done(imports.confirm(run, manager, **chosen))
    client.refresh_from_db()
    assert (run.created_count, run.updated_count, run.skipped_count) == counts
    assert (client.cases.count(), int(client.phone == "+420777000111")) == counts[:2]
    assert run.message.startswith("1 rows: {} created, {} updated, {} skipped".format(*counts))


def test_the_file_and_what_was_found_are_encrypted_and_the_file_is_forgotten_when_written(manager):
    run = begin(manager, BAD, *ROWS)
    for content in run.pieces.values_list("content", flat=True):
        assert bytes(content).startswith(TOKEN_PREFIX.encode())
    run = imports.confirm(run, manager)
    assert sorted(run.pieces.values_list("part", flat=True)) == ["index", "rows"]
    assert b"asi milion" in preview.errors_file(run)


def test_corrected_cells_are_forgotten_with_the_file(manager):
    runs_made = [begin(manager, BAD) for _each in range(2)]
    for run in runs_made:
        runs.correct(run, manager, {(2, 2): "1.2.2026"})
        assert "1.2.2026" in run.corrections
    done = imports.confirm(runs_made[0], manager)
    runs.tidy(timezone.now() + runs.KEPT_FOR + datetime.timedelta(minutes=1))
    runs_made[1].refresh_from_db()
    assert (done.corrections, done.state, runs_made[1].corrections, runs_made[1].state) == ("", "done", "", "missed")
    assert b"1.2.2026" in preview.errors_file(done)


def test_a_confirmation_counts_once(manager):
    run = begin(manager)
    imports.confirm(run, manager)
    with pytest.raises(NotAllowed):
        imports.confirm(run, manager)
    assert Client.objects.count() == 4


def test_nobody_confirms_somebody_elses_file(manager, administrator):
    with pytest.raises(NotAllowed):
        imports.confirm(begin(manager), administrator)


def test_what_nobody_confirmed_and_nobody_fetched_is_tidied_away(manager):
    waiting, done = begin(manager), imports.confirm(begin(manager, BAD, *ROWS), manager)
    runs.tidy(timezone.now() + runs.KEPT_FOR + datetime.timedelta(minutes=1))
    waiting.refresh_from_db()
    assert (waiting.state, waiting.pieces.count(), done.pieces.count()) == ("missed", 0, 2)
    runs.tidy(timezone.now() + runs.REFUSED_KEPT_FOR + datetime.timedelta(minutes=1))
    assert done.pieces.count() == 0


def test_a_file_that_a_job_works_on_is_not_tidied_away(long_files, manager):
    run = begin(manager)
    runs.tidy(timezone.now() + datetime.timedelta(days=2))
    run.refresh_from_db()
    assert (run.state, run.pieces.filter(part="file").count()) == ("checking", 1)


def test_the_last_import_of_the_same_file_is_known(manager):
    first = begin(manager)
    assert runs.earlier(first) is None
    imports.confirm(first, manager)
    assert runs.earlier(begin(manager)) == first


def test_of_imports_of_the_same_file_one_that_stands_goes_before_one_that_was_undone(manager):
    first = imports.confirm(begin(manager), manager)
    gone = Case.objects.get(client__in=Client.objects.search("radek0"))
    gone.delete()
    gone.client.delete()
    second = imports.confirm(begin(manager), manager)
    assert (second.created_count, runs.earlier(begin(manager))) == (1, second)
    undo.undo(second.operation_id, manager)
    assert runs.earlier(begin(manager)) == first
    undo.undo(first.operation_id, manager)
    assert runs.earlier(begin(manager)) == second
    run = begin(manager)
    with CaptureQueriesContext(connection) as queries:
        runs.earlier(run)
    assert len(queries) == 3  # the imports, what undid them, and what undid that


@pytest.mark.parametrize("kind", ["people", "cases", "combined", "clients"])
def test_what_was_undone_comes_back_with_the_same_file(manager, kind):
    """Also what a file of another spelling says, and what changed of a record that stayed."""
    alice = make_client("Alice", phone="601")
    file = {
        "people": [["jmeno", "datum", "cena"], ["Bob", "1.2.2026", "5 000 Kč"]],
        "cases": [["reference", "client", "opened on"], ["", alice.reference, "1.2.2026"]],
        "combined": [
            ["reference", "full_name", "phone", "case.reference", "case.opened_on"],
            [alice.reference, "Alice", "602", "", "1.2.2026"],
        ],
        "clients": [["reference", "full_name", "phone", "row version"],
            [alice.reference, "Alice", "602", str(alice.history.first().history_id)], ["", "Bob", "603", ""]],
    }[kind]  # fmt: skip

    def take():
        return imports.begin(csv(*file[1:], header=file[0]), "x.csv", manager)

    def stored():
        return [list(Client.objects.values_list("full_name", "phone")), list(Case.objects.values_list("opened_on"))]

    first = imports.confirm(take(), manager)
    written = stored()
    undo.undo(first.operation_id, manager)
    assert (stored(), take().skipped_count) == ([[("Alice", "601")], []], 0)
    again = imports.confirm(take(), manager)
    assert (again.created_count, again.updated_count) == (first.created_count, first.updated_count)
    assert (stored(), again.error_count) == (written, 0)


def test_a_page_of_the_preview_reads_only_its_blocks(manager, monkeypatch, django_assert_num_queries):
    monkeypatch.setattr(preview, "BLOCK", 2)
    run = begin(manager, *ROWS, BAD)
    index = preview.index_of(run)
    assert [index.count(chosen) for chosen in ("", "create", "error", "noted")] == [5, 4, 1, 1]
    with django_assert_num_queries(1):
        assert [line["row"] for line in preview.lines_at(run, index.positions("error"))] == [6]


def test_a_file_of_several_pieces_comes_back_whole(manager, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 10)
    run = begin(manager)
    assert run.pieces.filter(part="file").count() > 1
    assert imports.confirm(run, manager).created_count == 4


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite plans by its indexes alone")
@pytest.mark.parametrize(("many", "rows_believed"), [(3, 3), (4, None)])
def test_after_many_new_rows_the_database_knows_how_many_there_are(
    manager, monkeypatch, django_capture_on_commit_callbacks, many, rows_believed
):
    def believed():
        with connection.cursor() as cursor:
            cursor.execute("SELECT reltuples FROM pg_class WHERE relname = 'crm_historicalclient'")
            return cursor.fetchone()[0]

    monkeypatch.setattr(writing, "MANY", many)
    before = believed()
    with django_capture_on_commit_callbacks(execute=True):
        runs.confirm(begin(manager, *ROWS[:3]), manager)
    assert believed() == (before if rows_believed is None else rows_believed)
