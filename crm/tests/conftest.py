import pytest
from django.contrib.auth.models import Group
from django.utils import translation

from crm import jobs, roles
from crm.tests import factories


@pytest.fixture(autouse=True)
def _suites_own_language():
    """A request leaves its reader's language in the thread, and the next test would speak it."""
    translation.deactivate()
    yield
    translation.deactivate()


@pytest.fixture(autouse=True)
def _roles(request, _django_db_marker):
    """Groups and permissions as `release` leaves them, wherever a test has a database. Flushed tables get them anew."""
    if request.node.get_closest_marker("django_db") or {"db", "transactional_db"} & set(request.fixturenames):
        request.getfixturevalue("transactional_db" if "transactional_db" in request.fixturenames else "db")
        if not Group.objects.exists():
            roles.sync()


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
