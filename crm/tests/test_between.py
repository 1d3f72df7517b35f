"""After a test that commits, the database is as the set-up left it; and none begins at the end of a day."""

import datetime

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command

from crm import roles
from crm.models import KeyCanary
from crm.tests import factories
from crm.tests.between import Baseline, seconds_to_a_new_day


@pytest.mark.django_db(transaction=True)
def test_what_was_written_goes_and_what_was_taken_comes_back():
    before = Baseline()
    factories.make_case(by=factories.make_user())
    Group.objects.get(name=roles.ADVISER).permissions.clear()
    Group.objects.filter(name=roles.AUDITOR).delete()
    KeyCanary.objects.update(token="another")
    before.restore()
    assert Baseline().rows == before.rows


@pytest.mark.django_db(transaction=True)
def test_after_a_flush_new_rows_get_keys_of_their_own():
    before = Baseline()
    call_command("flush", interactive=False, verbosity=0)
    before.restore()
    Group.objects.create(name="Trainees")
    Group.objects.get(name=roles.ADVISER).permissions.clear()
    roles.sync()
    assert factories.make_user(roles.ADVISER).has_perm("crm.change_case")


@pytest.mark.django_db(transaction=True)
def test_what_nobody_touched_is_not_written(django_assert_max_num_queries):
    before = Baseline()
    with django_assert_max_num_queries(len(before.rows) + 4) as asked:
        before.restore()
    assert not [query["sql"] for query in asked if query["sql"].startswith(("DELETE", "INSERT"))]


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        ("23:59:45", 15),
        ("22:59:59", 1),
        ("21:59:40", 20),
        ("21:59:39", 0),
        ("23:58:59", 0),
        ("12:59:59", 0),
        ("00:00:00", 0),
    ],
)
def test_no_test_begins_where_a_day_ends_in_utc_or_in_prague(moment, seconds):
    assert seconds_to_a_new_day(datetime.datetime.fromisoformat(f"2026-12-31T{moment}+00:00")) == seconds
