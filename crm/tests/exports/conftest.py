import pytest
from django.utils import translation

from crm.imports import conflicts


@pytest.fixture(autouse=True)
def _english():
    with translation.override("en"):
        yield


@pytest.fixture
def without_versions(monkeypatch):
    """As a file whose rows do not say how old they are: then nothing that the office did since stands in the way."""
    monkeypatch.setattr(conflicts, "changed_since", lambda model, versions: {})
