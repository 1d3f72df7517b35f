import pytest

from crm.models import Client, Consent
from crm.tests import factories

pytestmark = pytest.mark.django_db


def test_citizenships_are_each_named_once_and_sorted():
    for code in ("SK", "CZ", "", "CZ", "VN", "SK"):
        factories.make_client(citizenship=code)
    assert Client.objects.citizenships() == ["", "CZ", "SK", "VN"]


def test_an_office_without_clients_has_no_citizenships():
    assert Client.objects.citizenships() == []


@pytest.mark.parametrize(
    ("consents", "may"),
    [
        ([], True),
        ([("2025-01-01", None)], True),
        ([("2026-01-01", "2026-03-01")], False),
        ([("2025-01-01", None), ("2026-01-01", "2026-03-01")], False),
        ([("2026-01-01", "2026-03-01"), ("2026-03-02", None)], True),
        ([("2026-01-01", "2026-03-01"), ("2026-03-01", None)], True),
        ([("2026-03-01", None), ("2026-01-01", "2026-03-01")], False),
        ([("2025-01-01", "2026-04-01"), ("2026-01-01", "2026-03-01"), ("2026-03-02", None)], False),
    ],
)
def test_only_a_consent_given_after_the_last_withdrawal_counts(consents, may):
    client = factories.make_client()
    for given_on, withdrawn_on in consents:
        Consent.objects.create(client=client, purpose="messages", given_on=given_on, withdrawn_on=withdrawn_on)
    assert Client.objects.may_be_written_to().exists() is may
