import pytest

from crm.audit import sealing
from crm.backups import offsite
from crm.tests import factories
from crm.tests.backups import archives
from crm.tests.backups.store import BUCKET, call, serving
from crm.tests.between import Baseline
from crm.tests.raw import IS_POSTGRES, Database

AUDIT_KEY = "p3Kd93hfLzmQ7rTyB5xWnV1cUe8sJa2g"
FILES = {"documents/a.pdf": b"\x00\xffa pdf" * 1000, "documents/b.txt": b""}


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


@pytest.fixture
def folders(tmp_path, settings):
    """Of backups and of stored files, as in an office."""
    settings.BACKUP_DIR = tmp_path / "backups"
    settings.MEDIA_ROOT = tmp_path / "files"
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    }


@pytest.fixture(scope="module")
def archive(django_db_setup, django_db_blocker, tmp_path_factory):
    """A backup of a small office with a sealed history and two files; made once, then the database is as it was."""
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.conf.settings.AUDIT_KEYS", [AUDIT_KEY])
        baseline = Baseline()
        try:
            client = factories.make_client("Alice Nováková")
            factories.make_case(client=client)
            factories.make_lender(name="Banka; 'X' \\. \t ž")
            sealing.seal(now=archives.MADE_AT)
            folder = tmp_path_factory.mktemp("archive")
            found = archives.write(folder / "office.hdbk", files=FILES, head=sealing.head_line())
        finally:
            baseline.restore()
    return found


@pytest.fixture
def target(tmp_path):
    """An empty database of its own; on PostgreSQL of a role that has nothing else."""
    own = Database(tmp_path)
    own.role = archives.Role(own) if IS_POSTGRES else None
    if own.role:
        own.role.owns_it()
    own.owner_url = own.role.url if own.role else own.url
    yield own
    own.drop()
    if own.role:
        own.role.drop()


@pytest.fixture
def audit_key(monkeypatch):
    """For the processes that are started."""
    monkeypatch.setenv("AUDIT_KEY", AUDIT_KEY)
