"""How the rows of a long export come from PostgreSQL: a few at a time, as they were when it began."""

import pytest
from django.db import connection, transaction

from crm.exports import tables
from crm.exports.columns import columns_of
from crm.models import Case
from crm.tests import factories
from crm.tests.processes import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL has cursors on its side"),
]


@pytest.fixture
def chunks(monkeypatch):
    """Of five cases, one at a time."""
    monkeypatch.setattr(tables, "CHUNK", 1)
    for _number in range(5):
        factories.make_case()
    found = tables.Table(columns_of(Case), Case.objects.order_by("pk")).chunks()
    yield found
    found.close()


def connections_open() -> int:
    return asked(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
    )


def asked(sql: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


def test_rows_are_as_they_were_when_the_file_was_begun(chunks):
    next(chunks)
    Case.objects.order_by("-pk").first().delete()
    factories.make_case()
    assert len(list(chunks)) == 4


def test_nothing_is_stored_on_the_server_before_the_first_row(chunks):
    """A cursor that outlives its transaction would be."""
    next(chunks)
    assert asked("SELECT count(*) FROM pg_cursors") == 0


@pytest.mark.parametrize("given_up", [True, False])
def test_its_connection_ends_with_the_file(chunks, given_up):
    before = connections_open()
    next(chunks)
    assert connections_open() == before + 1
    if given_up:
        chunks.close()
    else:
        list(chunks)
    # The server takes a moment to let go of what was hung up.
    assert wait_until(lambda: connections_open() == before, within_s=30)


def test_in_a_transaction_its_own_rows_are_in_the_file(chunks):
    with transaction.atomic():
        factories.make_case()
        assert len(list(chunks)) == 6
