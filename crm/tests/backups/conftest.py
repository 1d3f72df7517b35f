import pytest

from crm.backups import offsite
from crm.tests.backups.store import BUCKET, call, serving


@pytest.fixture(scope="session")
def s3_server():
    with serving() as door:
        yield door


@pytest.fixture
def store(s3_server, settings, monkeypatch):
    """An empty bucket of the office; who fails is asked twice."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(offsite, "ATTEMPTS", 2)
    settings.S3_ENDPOINT_URL = s3_server.url
    settings.S3_BUCKET, settings.S3_PREFIX = BUCKET, "prague"
    settings.S3_ACCESS_KEY_ID, settings.S3_SECRET_ACCESS_KEY = "id-of-the-office", "secret-words of the office"
    s3_server.fault = lambda method, path: ""
    assert call(s3_server, "POST", "/moto-api/reset") == 200
    assert call(s3_server, "PUT", f"/{BUCKET}") == 200
    s3_server.asked.clear()
    yield s3_server
    s3_server.fault = lambda method, path: ""
