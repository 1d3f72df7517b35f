"""A row that is probably about somebody known: a person says that it is he, gives him the case alone, or neither."""

import datetime

import pytest

from crm import catalogue, imports, jobs, tasks
from crm.audit import undo
from crm.imports import preview, runs
from crm.imports.decisions import CASE_ONLY, SKIP
from crm.models import Case, Client, ImportRun, User
from crm.tests.factories import make_case, make_client
from crm.tests.gaps import gaps
from crm.tests.imports.workbooks import csv
from crm.tests.raw import tamper

PEOPLE = ["jmeno", "datum", "email", "telefon"]
CLIENTS = ["Reference", "Full name", "Birth number", "Phone", "City"]
COMBINED = ["reference", "full_name", "email", "phone", "case.reference", "case.opened_on"]
ROW = ["Rozhod Nuty", "1.2.2026", "rozhod@example.com", "+420700111222"]
NUMBER = "8503191235"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _office(manager):
    catalogue.load()
    User.objects.update(language="en")
    manager.refresh_from_db()


@pytest.fixture
def known():
    return make_client("Rozhod Nuty", email="rozhod@example.com", birth_number=NUMBER, city="Brno")


@pytest.fixture(params=["short", "long"])
def done(request, monkeypatch):
    """What becomes of an import that was begun, corrected or confirmed: at once, or by jobs."""
    monkeypatch.setattr(runs, "ROWS_AT_ONCE", 0 if request.param == "long" else 500)

    def work(run) -> ImportRun:
        if request.param == "long":
            jobs.carry_out(run.job_id, tasks.JOBS)
        return ImportRun.objects.select_related("job", "user").get(pk=run.pk)

    return work


def check(user, header, *rows, **options):
    return imports.check(csv(*rows, header=header), "x.csv", user, on=datetime.date(2026, 3, 2), **options)


def changes(plan):
    return [(item.row, item.before) for item in plan.items if not item.is_new]


def reasons(plan, row=2):
    return [(each.column, each.reason) for each in plan.problems_of(row) if each.kind != "duplicate"]


def lines(run):
    return preview.lines_at(run, list(range(run.rows)))


def test_a_row_of_somebody_known_changes_him_and_brings_his_case(manager, known, done):
    run = done(imports.begin(csv(ROW, header=PEOPLE), "x.csv", manager))
    assert lines(run)[0]["choices"] == [SKIP, known.reference, f"{CASE_ONLY}{known.reference}"]
    runs.correct(run, manager, {}, {2: known.reference})
    [line] = lines(run := done(run))
    assert line["changes"] == [["client.phone", "", "+420700111222"]]
    assert (line["choice"], line["says"]) == (known.reference, ["A new case of a client who is known"])
    run = done(imports.confirm(run, manager))
    known.refresh_from_db()
    assert (Client.objects.get(), known.phone) == (known, "+420700111222")
    assert known.cases.get().opened_on == datetime.date(2026, 2, 1)
    assert set(Client.objects.search("700111222")) == {known}
    newest = known.history.first()
    assert (newest.operation_id, newest.history_user_id, newest.source) == (run.operation_id, manager.pk, "import")
    assert Case.history.get().operation_id == run.operation_id
    assert gaps() == []
    undo.undo(run.operation_id, manager)
    known.refresh_from_db()
    assert (known.phone, Case.objects.count(), Client.objects.search("700111222").exists()) == ("", 0, False)


def test_the_same_file_again_finds_nothing_to_do(manager, known, done):
    run = done(imports.begin(csv(ROW, header=PEOPLE), "x.csv", manager))
    runs.correct(run, manager, {}, {2: known.reference})
    done(imports.confirm(done(run), manager))
    assert [check(manager, PEOPLE, ROW).count(each) for each in ("create", "update", "skip")] == [0, 0, 1]


def test_in_a_file_of_clients_the_row_changes_him(manager, known):
    row = ["", "Rozhod Nutý", NUMBER, "601", "Brno"]
    run = imports.begin(csv(row, header=CLIENTS), "x.csv", manager)
    assert lines(run)[0]["choices"] == [SKIP, known.reference]
    runs.correct(run, manager, {}, {2: known.reference})
    assert lines(run)[0]["changes"] == [
        ["client.full_name", "Rozhod Nuty", "Rozhod Nutý"],
        ["client.phone", "", "601"],
    ]
    run = imports.confirm(run, manager)
    known.refresh_from_db()
    assert (run.created_count, run.updated_count, Client.objects.get().full_name) == (0, 1, "Rozhod Nutý")
    assert (known.phone, known.history.count()) == ("601", 2)


def test_nothing_chosen_makes_somebody_new(manager, known):
    plan = check(manager, PEOPLE, ROW)
    assert [(item.row, item.client.pk, item.case is not None) for item in plan.items] == [(2, None, True)]
    assert [each.about for each in plan.problems if each.kind == "duplicate"] == [known.reference]


def test_of_a_row_that_gives_its_case_alone_the_clients_cells_are_told(manager, known):
    row = ["Nuty Rozhod", *ROW[1:]]
    plan = check(manager, PEOPLE, row, decisions={2: f"{CASE_ONLY}{known.reference}"})
    not_taken = f"Not taken: {known.reference} is given the case and nothing else."
    assert reasons(plan) == [("jmeno", not_taken), ("telefon", not_taken)]
    assert (plan.created, plan.errors) == (1, 0)
    imports.write(plan, manager)
    known.refresh_from_db()
    assert (known.full_name, known.phone, known.cases.count()) == ("Rozhod Nuty", "", 1)


def test_a_row_without_a_case_brings_none(manager, known):
    plan = check(manager, PEOPLE, [ROW[0], "", *ROW[2:]], decisions={2: known.reference})
    assert (changes(plan), len(plan.items), reasons(plan)) == ([(2, {"phone": ""})], 1, [])
    assert (plan.created, plan.updated) == (0, 1)


def test_a_row_with_nothing_else_to_say_changes_nothing(manager, known):
    plan = check(manager, ["jmeno", "email"], ["Rozhod Nuty", "rozhod@example.com"], decisions={2: known.reference})
    assert (plan.items, plan.skipped) == ([], 1)


@pytest.mark.parametrize("header", [PEOPLE, CLIENTS])
def test_two_rows_are_not_the_same_client(manager, known, header):
    row = ROW if header is PEOPLE else ["", "Rozhod Nuty", NUMBER, "601", ""]
    other = [*row[:3], "602", *row[4:]]
    plan = check(manager, header, row, other, decisions={2: known.reference, 3: known.reference})
    assert reasons(plan, 3)[-1][1] == "Row 2 is about the same record."
    assert (plan.errors, {item.row for item in plan.items}) == (1, {2})


def test_nor_is_one_beside_the_row_of_his_reference(manager, known):
    rows = [[known.reference, "Rozhod Nuty", "", "", ""], ["", "Rozhod Nuty", NUMBER, "601", ""]]
    plan = check(manager, CLIENTS, *rows, decisions={3: known.reference})
    assert (reasons(plan, 3)[-1][1], plan.items) == ("Row 2 is about the same record.", [])


def test_one_row_changes_him_and_another_gives_him_its_case(manager, known):
    decisions = {2: known.reference, 3: f"{CASE_ONLY}{known.reference}"}
    imports.write(check(manager, PEOPLE, ROW, [ROW[0], "2.2.2026", *ROW[2:]], decisions=decisions), manager)
    known.refresh_from_db()
    assert (known.phone, known.cases.count(), Client.objects.count()) == ("+420700111222", 2, 1)


def test_rows_of_clients_with_cases_are_decided_too(manager, known):
    case = make_case(make_client("Alice"))
    rows = [
        [case.client.reference, "Alice", "", "603", case.reference, ""],
        ["", "Rozhod Nuty", "rozhod@example.com", "601", "", "1.2.2026"],
    ]
    plan = check(manager, COMBINED, *rows, decisions={3: known.reference})
    assert changes(plan) == [(3, {"phone": ""}), (2, {"phone": ""})]
    imports.write(plan, manager)
    assert (known.cases.count(), Client.objects.get(pk=known.pk).phone, Client.objects.count()) == (1, "601", 2)


def test_an_empty_cell_deletes_where_that_was_chosen(manager, known):
    row = ["", "Rozhod Nuty", NUMBER, "601", ""]
    assert changes(check(manager, CLIENTS, row, decisions={2: known.reference})) == [(2, {"phone": ""})]
    plan = check(manager, CLIENTS, row, decisions={2: known.reference}, empty_deletes=True)
    assert changes(plan) == [(2, {"phone": "", "city": "Brno"})]


def test_the_version_of_his_row_tells_what_the_office_changed_since(manager, known):
    row = ["", "Rozhod Nuty", NUMBER, "601", "Praha", str(known.history.first().history_id)]
    known.phone = "602"
    known.save()
    plan = check(manager, [*CLIENTS, "Row version"], row, decisions={2: known.reference})
    assert [(each.column.name, each.now, each.value) for each in plan.conflicts] == [("phone", "602", "601")]
    assert changes(plan) == [(2, {"city": "Brno"})]


def test_a_stored_value_that_cannot_be_read_refuses_the_row(manager, known):
    tamper(known, "phone", "gAAAAABkbroken")
    plan = check(manager, PEOPLE, ROW, decisions={2: known.reference})
    assert reasons(plan) == [("telefon", "The stored value cannot be read, so it cannot be replaced.")]
    assert (plan.items, plan.errors) == ([], 1)


def test_somebody_elses_client_is_nobody_of_mine(settings, manager, adviser, known):
    settings.ADVISER_SCOPE = "own"
    make_case(known, adviser=manager)
    for choice in (known.reference, f"{CASE_ONLY}{known.reference}"):
        plan = check(adviser, PEOPLE, ROW, decisions={2: choice})
        assert reasons(plan) == [("", "There is no such record among yours.")]
        assert (plan.items, plan.errors) == ([], 1)


def test_whoever_changed_meanwhile_refuses_the_whole_row(manager, known):
    plan = check(manager, PEOPLE, ROW, decisions={2: known.reference})
    known.city = "Praha"
    known.save()
    imports.write(plan, manager)
    assert (plan.errors, Case.objects.count(), Client.objects.get().phone) == (1, 0, "")
