import datetime
import time

import pytest
from django.db import connection
from django.test import TransactionTestCase
from django.utils import translation
from hypothesis import settings as hypothesis_settings

from crm import jobs, roles
from crm.tests import factories
from crm.tests.between import Baseline, seconds_to_a_new_day

# The same examples in every run, however busy the machine is.
hypothesis_settings.load_profile("ci")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Files with slow tests and the browser's begin first, so that at the end nobody waits for one of them alone."""
    first = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("e2e")}
    items.sort(key=lambda item: item.path not in first)


def pytest_runtest_setup(item):
    """No test begins on one day and asks for another one's rows, here or in UTC."""
    time.sleep(seconds_to_a_new_day(datetime.datetime.now(datetime.UTC)))


@pytest.fixture(autouse=True)
def _suites_own_language():
    """A request leaves its reader's language in the thread, and the next test would speak it."""
    translation.deactivate()
    yield
    translation.deactivate()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """Groups and permissions as `release` leaves them; after a test that commits, everything as it was before."""
    with django_db_blocker.unblock():
        roles.sync()
        baseline = Baseline()
        connection.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda case: baseline.restore())
        yield


@pytest.fixture(autouse=True)
def _beats_see_the_run(request, monkeypatch):
    """A job's beat has a connection of its own. It sees nothing of a test's transaction, and would take a run that lasts
    longer than from one beat to the next for lost."""
    marker = request.node.get_closest_marker("django_db")
    if "transactional_db" not in request.fixturenames and not (marker and marker.kwargs.get("transaction")):
        monkeypatch.setattr(jobs, "BEAT_EVERY_S", 600)


@pytest.fixture
def manager(db):
    return factories.make_user(roles.MANAGER)


@pytest.fixture
def adviser(db):
    return factories.make_user(roles.ADVISER)


@pytest.fixture
def assistant(db):
    return factories.make_user(roles.ASSISTANT)


@pytest.fixture
def auditor(db):
    return factories.make_user(roles.AUDITOR)


@pytest.fixture
def administrator(db):
    return factories.make_user(roles.ADMINISTRATOR)
