"""A file with more problems than anybody reads: the first are listed, the others counted, and nothing else changes."""

import pytest

from crm import catalogue, imports
from crm.imports import preview, values
from crm.imports.plans import Outcome, Outcomes
from crm.models import Client, User
from crm.tests.imports.workbooks import csv

HEADER = ["jmeno", "datum", "cena", "navrh_financovani_castka"]
BAD = [[f"Jan Zlý{number}", "nikdy", "asi milion", "nic"] for number in range(6)]
LEFT = "Not listed here: 6 more errors and 0 more warnings of rows further down."
UNLISTED = "Its problems are not listed: the rows above have too many already."

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _few(monkeypatch, manager):
    catalogue.load()
    User.objects.update(language="en")
    manager.refresh_from_db()
    monkeypatch.setattr(values, "MOST_LISTED", 10)


def content(*good: list[str]) -> bytes:
    return csv(*BAD, *good, header=HEADER)


def test_whole_rows_are_listed_up_to_the_most_and_the_rest_is_counted():
    plan = imports.check(content(["Alice", "1.2.2026", "5", "4"]), "x.csv")
    listed = [problem.row for problem in plan.problems if problem.is_error]
    assert listed == [row for row in range(2, 6) for _cell in range(3)]
    assert [str(each.reason) for each in plan.problems if not each.is_error] == [LEFT]
    assert (plan.rows, plan.errors, plan.created) == (7, 6, 1)


def test_as_many_as_are_listed_leave_nothing_out(monkeypatch):
    monkeypatch.setattr(values, "MOST_LISTED", 18)
    plan = imports.check(content(), "x.csv")
    assert len(plan.problems) == 18 and all(problem.is_error for problem in plan.problems)


def test_warnings_do_not_hide_errors():
    odd = [["Eva Nová", "1.2.2026", "5", "4", "150"] for _each in range(12)]
    bad = ["Jan Zlý", "nikdy", "5", "4", "80"]
    plan = imports.check(csv(*odd, bad, header=[*HEADER, "LTV"]), "x.csv")
    assert [problem.row for problem in plan.problems if problem.is_error] == [14]


def test_every_refused_row_says_why_in_the_preview_and_in_its_file(manager):
    run = imports.begin(content(["Alice", "1.2.2026", "5", "4"]), "x.csv", manager)
    index = preview.index_of(run)
    assert [each[2] for each in index.of_file] == [LEFT]
    assert (index.count("error"), index.count("noted")) == (6, 6)
    told = [[problem[2] for problem in line["problems"]] for line in preview.lines_at(run, index.positions("error"))]
    assert [len(each) for each in told] == [3, 3, 3, 3, 1, 1] and told[5] == [UNLISTED]
    done = imports.confirm(run, manager)
    assert (done.created_count, done.error_count, Client.objects.count()) == (1, 6, 1)
    assert preview.errors_file(done).decode().count(UNLISTED) == 2


def test_the_commands_file_says_it_too():
    assert imports.check(content(), "x.csv").errors_file().decode().count(UNLISTED) == 2


def test_outcomes_are_what_a_dict_of_them_is():
    outcomes, plain = Outcomes(), {}
    for row, outcome in [(7, Outcome.CREATE), (2, Outcome.ERROR), (900, Outcome.SKIP), (7, Outcome.UPDATE)]:
        outcomes[row] = plain[row] = outcome
    assert outcomes == plain and list(outcomes) == [2, 7, 900] and len(outcomes) == 3
    assert (outcomes.get(3), outcomes.get(901), 7 in outcomes, outcomes.count(Outcome.UPDATE)) == (None, None, True, 1)
    del outcomes[7]
    assert list(outcomes.values()) == [Outcome.ERROR, Outcome.SKIP]
