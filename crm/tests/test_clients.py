import pytest

from crm.models import Client
from crm.tests import factories

pytestmark = pytest.mark.django_db


def test_citizenships_are_each_named_once_and_sorted():
    for code in ("SK", "CZ", "", "CZ", "VN", "SK"):
        factories.make_client(citizenship=code)
    assert Client.objects.citizenships() == ["", "CZ", "SK", "VN"]


def test_an_office_without_clients_has_no_citizenships():
    assert Client.objects.citizenships() == []
