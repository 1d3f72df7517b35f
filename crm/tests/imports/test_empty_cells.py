"""An empty cell of our own export leaves the value, unless the person chose that it deletes."""

import pytest

from crm import imports
from crm.imports import apart, reading
from crm.imports.checking import check_file
from crm.models import Client
from crm.tests import factories
from crm.tests.imports.workbooks import xlsx


@pytest.fixture
def client_row(db):
    return factories.make_client("Alice Nováková", email="alice@example.com", phone="+420777123456")


def plan_of(row: Client, *cells, **options):
    header = "Reference;Full name;E-mail;Phone"
    content = f"{header}\r\n{';'.join([row.reference, *cells])}\r\n".encode()
    return imports.check(content, "x.csv", **options)


def test_an_empty_cell_leaves_the_value(client_row):
    assert plan_of(client_row, "Alice Nováková", "", "+420777123456").skipped == 1


def test_an_empty_cell_deletes_where_that_was_chosen(client_row):
    plan = plan_of(client_row, "Alice Nováková", "", "+420777123456", empty_deletes=True)
    [item] = plan.items
    assert (item.changed, item.before) == (("email",), {"email": "alice@example.com"})
    imports.write(plan)
    client_row.refresh_from_db()
    assert (client_row.email, client_row.phone) == ("", "+420777123456")


def test_what_may_not_be_empty_is_an_error(client_row):
    plan = plan_of(client_row, "", "alice@example.com", "", empty_deletes=True)
    assert [(problem.column, plan.errors) for problem in plan.problems] == [("Full name", 1)]


@pytest.mark.parametrize("reads", [reading.read, lambda content, name: apart.read(lambda: [content], name)])
def test_a_cell_that_a_line_of_text_does_not_reach_leaves_the_value_and_is_told(client_row, reads):
    content = f"Reference;Full name;E-mail;Phone\r\n{client_row.reference};Alice Nováková;\r\n".encode()
    plan = check_file(lambda: reads(content, "x.csv"), "", "x.csv", empty_deletes=True)
    assert [item.changed for item in plan.items] == [("email",)]
    assert [(each.row, each.column, each.is_error) for each in plan.problems] == [(2, "Phone", False)]


def test_a_correction_of_a_short_line_deletes_nothing_before_it(client_row):
    content = f"Reference;Full name;E-mail;Phone\r\n{client_row.reference};Alice Nováková\r\n".encode()
    plan = imports.check(content, "x.csv", empty_deletes=True, corrections={2: {3: "+420777999999"}})
    assert [item.changed for item in plan.items] == [("phone",)]


def test_a_cell_that_a_workbook_leaves_out_at_the_end_of_a_row_is_an_empty_one(client_row):
    header = ["Reference", "Full name", "E-mail", "Phone"]
    plan = imports.check(xlsx(header, [client_row.reference, "Alice Nováková"]), "x.xlsx", empty_deletes=True)
    assert ([item.changed for item in plan.items], plan.problems) == ([("email", "phone")], [])
