"""Rows without a reference in our own layout: who is new, who is known, and ids that cannot be given."""

import pytest

from crm import search
from crm.imports import writing
from crm.models import Case, CaseStep, Client
from crm.tests.factories import make_case, make_catalogue, make_client
from crm.tests.imports.test_own import load

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _catalogue(db):
    make_catalogue()


def test_a_namesake_is_never_skipped_for_the_name_alone():
    make_client("Dana Nová")
    plan = load(["reference", "full_name"], ["", "Dana Nová"], ["", "Dana Nová"])
    assert (plan.created, Client.objects.count(), [problem.row for problem in plan.problems]) == (2, 3, [2, 3])


@pytest.mark.parametrize(
    ("column", "value"), [("email", "dana@example.com"), ("birth_number", "780123/3540"), ("birth_date", "1.2.1985")]
)
def test_a_new_row_that_says_who_a_known_client_is_is_skipped_and_told(column, value):
    rows = ["reference", "full_name", column], ["", "Dana Nová", value]
    load(*rows)
    plan = load(*rows)
    assert (plan.skipped, Client.objects.count()) == (1, 1)
    assert [(each.row, each.severity, "C-000001" in each.reason) for each in plan.problems] == [(2, "warning", True)]


def test_a_new_row_that_differs_in_one_cell_is_somebody_else():
    header = ["reference", "full_name", "email", "city"]
    load(header, ["", "Dana Nová", "dana@example.com", "Brno"])
    assert load(header, ["", "Dana Nová", "dana@example.com", "Praha"]).created == 1


def test_a_new_row_twice_in_a_file_is_left_out_and_told():
    row = ["", "Dana Nová", "dana@example.com"]
    plan = load(["reference", "full_name", "email"], row, row)
    assert (plan.created, plan.skipped, [each.row for each in plan.problems]) == (1, 1, [3])


@pytest.mark.parametrize("kind", ["clients", "cases"])
def test_a_new_older_id_twice_in_a_file_is_an_error_the_second_time(kind):
    client = make_client("Alice")
    header, row = (
        (["legacy_id", "full_name"], ["7", "Bob"])
        if kind == "clients"
        else (["legacy_id", "client", "opened on"], ["7", client.reference, "1.2.2025"])
    )
    plan = load(header, row, row)
    assert (plan.created, plan.errors, plan.problems[-1].column) == (1, 1, "legacy_id")


@pytest.mark.parametrize(("length", "created"), [(40, 1), (41, 0)])
@pytest.mark.parametrize("kind", ["clients", "cases"])
def test_an_older_id_has_at_most_40_characters(kind, length, created):
    client = make_client("Alice")
    key = "9" * length
    plan = (
        load(["legacy_id", "full_name"], [key, "Bob"])
        if kind == "clients"
        else load(["legacy_id", "client", "opened on"], [key, client.reference, "1.2.2025"])
    )
    assert (plan.created, plan.errors) == (created, 1 - created)


def test_the_older_id_of_a_foreign_record_is_not_given_again(settings, adviser):
    settings.ADVISER_SCOPE = "own"
    make_case(make_client("Alice", legacy_id="7"))
    plan = load(["legacy_id", "full_name"], ["7", "Bob"], user=adviser)
    assert (plan.errors, plan.problems[0].column) == (1, "legacy_id")


def test_a_bad_case_row_repeated_is_bad_twice():
    client = make_client("Alice")
    row = ["", client.reference, "31.2.2025"]
    assert load(["reference", "client", "opened on"], row, row).errors == 2


@pytest.mark.parametrize("at_once", [2, 100])
def test_each_new_case_is_its_clients_however_many_are_written_at_once(monkeypatch, at_once):
    monkeypatch.setattr(writing, "CREATED_AT_ONCE", at_once)
    people = [f"Klient {letter}" for letter in "ABCDEFG"]
    rows = [["", name, f"{name[-1]}@example.com", "", "1.2.2026", f"dům, {name}"] for name in people]
    rows[3:3] = [[make_client("Alice").reference, "Alice", "", "", "1.2.2026", "dům, Alice"]]
    rows[5][3:] = [""] * 3
    plan = load(["reference", "full_name", "email", "case.reference", "case.opened_on", "case.loan_purpose"], *rows)
    assert (plan.created, plan.errors) == (8, 0)
    cases = Case.objects.select_related("client")
    assert [case.loan_purpose for case in cases] == [f"dům, {case.client.full_name}" for case in cases]
    assert {case.client.full_name for case in cases} == {"Alice", *people} - {"Klient E"}
    steps = CaseStep.objects.filter(case__in=cases).count()
    assert steps == CaseStep.history.count() == 7 * len(cases[0].steps.all())
    assert Case.history.count() == 7 and Client.history.count() == 8
    for name in people:
        [token] = search.tokens({"email": f"{name[-1]}@example.com"})
        found = Client.objects.get(search_tokens__kind=token[0], search_tokens__digest=token[1])
        assert found.full_name == name
