import pytest
from django.contrib.auth.models import Group
from django.utils import translation

from crm import roles
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
