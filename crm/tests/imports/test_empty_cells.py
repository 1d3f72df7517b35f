"""An empty cell of our own export leaves the value, unless the person chose that it deletes."""

import pytest

from crm import imports
from crm.models import Client
from crm.tests import factories


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
