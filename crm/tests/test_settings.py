"""The settings file run under one environment after another, and what the settings do to an answer."""

import os
import runpy
from pathlib import Path

import pytest
from axes.models import AccessAttempt
from django.core.exceptions import ImproperlyConfigured
from django.test import Client as Browser
from django.test import override_settings
from django.urls import reverse

from crm.models import User
from crm.tests.raw import KEYS, ROOT, environment

PASSWORD = "a long enough password"


@pytest.fixture
def read(monkeypatch, tmp_path):
    """The settings as another environment makes them."""

    def read(**changes):
        env = environment(**({"DATA_DIR": str(tmp_path)} | changes))
        monkeypatch.setattr(os, "environ", os.environ.copy())
        os.environ.clear()
        os.environ.update(env)
        return runpy.run_path(str(ROOT / "project" / "settings.py"))

    return read


def test_production_is_the_default(read):
    found = read()
    assert found["DEBUG"] is False
    assert found["ALLOWED_HOSTS"] == ["office.example.com"]
    assert found["CSRF_TRUSTED_ORIGINS"] == ["https://office.example.com"]
    assert found["SECURE_SSL_REDIRECT"]
    assert found["SECURE_HSTS_SECONDS"] >= 365 * 24 * 3600
    assert found["SESSION_COOKIE_SECURE"]
    assert found["CSRF_COOKIE_SECURE"]
    assert "SECURE_PROXY_SSL_HEADER" not in found
    assert found["MISSING_SECRETS"] == []


def test_a_desk_is_http_on_local_names(read):
    found = read(DEBUG="1", SITE_URL=None)
    assert found["SITE_IS_LOCAL"]
    assert {"localhost", "127.0.0.1", "[::1]"} <= set(found["ALLOWED_HOSTS"])
    assert not found["SECURE_SSL_REDIRECT"]
    assert found["SECURE_HSTS_SECONDS"] == 0
    assert not found["SESSION_COOKIE_SECURE"]


def test_further_hosts_and_origins_may_be_named(read):
    found = read(ALLOWED_HOSTS="crm.example.com, x.example.com", CSRF_TRUSTED_ORIGINS="https://crm.example.com")
    assert set(found["ALLOWED_HOSTS"]) == {"office.example.com", "crm.example.com", "x.example.com"}
    assert found["CSRF_TRUSTED_ORIGINS"] == ["https://office.example.com", "https://crm.example.com"]


def test_an_address_with_a_port_gives_a_host_without_it(read):
    found = read(SITE_URL="https://office.example.com:8443")
    assert found["ALLOWED_HOSTS"] == ["office.example.com"]
    assert found["CSRF_TRUSTED_ORIGINS"] == ["https://office.example.com:8443"]


def test_without_secrets_it_still_imports_with_throw_away_ones(read):
    first, second = (read(**dict.fromkeys(KEYS)) for _ in range(2))
    assert set(first["MISSING_SECRETS"]) == set(KEYS)
    assert first["SECRET_KEY"] != second["SECRET_KEY"]
    assert first["FIELD_ENCRYPTION_KEY"] != second["FIELD_ENCRYPTION_KEY"]


def test_a_bad_value_is_named(read):
    for changes in (
        {"DEBUG": "maybe"}, {"UPLOAD_LIMIT_MB": "0"}, {"LANGUAGE_CODE": "de"}, {"ADVISER_SCOPE": "some"},
        {"BACKUP_KEY": "short"}, {"BACKUP_EVERY": "daily"}, {"BACKUP_KEEP_LEAST": "0"}, {"BACKUP_NIGHTLY_DAYS": "3651"}, {"BACKUP_WEEKLY_WEEKS": "521"}, {"S3_ENDPOINT_URL": "s3"},
    ):  # fmt: skip
        with pytest.raises(ImproperlyConfigured, match=next(iter(changes))):
            read(**changes)


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("postgres://u:p@db.example.com/office", "require"),
        ("postgres://u:p@10.0.0.5/office", "require"),
        ("postgres://u:p@db.example.com/office?sslmode=verify-full", "verify-full"),
        ("postgres://u:p@db/office?sslmode=disable", "disable"),
        ("postgres://u:p@localhost/office", None),
        ("postgres://u:p@127.0.0.1/office", None),
        ("postgres://u:p@[::1]/office", None),
        ("postgres:///office", None),
    ],
)
def test_a_remote_database_is_reached_encrypted(read, url, mode):
    assert read(DATABASE_URL=url)["DATABASES"]["default"]["OPTIONS"].get("sslmode") == mode


def test_only_who_asks_for_it_pools_connections(read):
    url = "postgres://u:p@localhost/office"
    assert "pool" not in read(DATABASE_URL=url)["DATABASES"]["default"]["OPTIONS"]
    pooled = read(DATABASE_URL=url, DATABASE_POOL="1", DATABASE_POOL_SIZE="3")["DATABASES"]["default"]
    assert pooled["OPTIONS"]["pool"]["max_size"] == 3
    assert pooled["CONN_MAX_AGE"] == 0


def test_sqlite_stands_in_the_data_folder_and_writes_at_once(read, tmp_path):
    found = read()["DATABASES"]["default"]
    assert found["NAME"] == str(tmp_path / "hypodesk.sqlite3")
    assert found["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert "journal_mode=WAL" in found["OPTIONS"]["init_command"]


def test_a_relative_data_folder_counts_from_the_repository(read, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read(DATA_DIR="data")["DATA_DIR"] == ROOT / "data"


def test_uploads_never_reach_a_temporary_file(read):
    found = read(UPLOAD_LIMIT_MB="7")
    assert found["FILE_UPLOAD_HANDLERS"] == ["django.core.files.uploadhandler.MemoryFileUploadHandler"]
    assert found["FILE_UPLOAD_MAX_MEMORY_SIZE"] == 8 * 1024 * 1024


def test_backups_stand_in_the_repository_and_need_no_key_to_start(read, tmp_path):
    found = read()
    assert found["BACKUP_DIR"] == ROOT / "backups"
    assert found["BACKUP_KEYS"] == []
    assert found["S3_BUCKET"] == ""
    assert found["MEDIA_ROOT"] == tmp_path / "files"
    assert read(BACKUP_DIR="/var/backups/office")["BACKUP_DIR"] == Path("/var/backups/office")


# --- Answers ---


def test_health_needs_neither_host_nor_https_nor_login(db):
    with override_settings(SECURE_SSL_REDIRECT=True, ALLOWED_HOSTS=["office.example.com"]):
        assert Browser(SERVER_NAME="10.0.0.1").get("/healthz").content == b"ok"
        assert Browser(SERVER_NAME="10.0.0.1").get("/readyz").content == b"ready"
        assert Browser(SERVER_NAME="10.0.0.1").get("/admin/login/").status_code == 400
        assert Browser(SERVER_NAME="office.example.com").get("/admin/login/").status_code == 301


@pytest.mark.parametrize(
    "path", ["/klienti", "/klienti/", "/klienti/5/edit/", "/dashboard/", "/reporting/", "/reporting/x"]
)
def test_the_older_crms_addresses_lead_to_the_new_pages(client, path):
    target = "admin:crm_client_changelist" if path.startswith("/klienti") else "admin:index"
    assert client.get(path).headers["Location"] == reverse(target)


def test_what_only_begins_like_an_older_address_is_not_found(client):
    assert client.get("/klientix/").status_code == 404


def test_the_root_leads_to_the_admin(client):
    assert client.get("/").headers["Location"] == "/admin/"


# --- Lockout ---


@pytest.fixture
def people(db):
    for name in ("alice", "bob"):
        User.objects.create_user(name, password=PASSWORD, is_staff=True)


def login(name: str, password: str = PASSWORD, address: str = "192.0.2.1", **headers) -> int:
    """302 is in, 200 the form again, 429 locked out."""
    browser = Browser(REMOTE_ADDR=address, headers=headers)
    return browser.post("/admin/login/", {"username": name, "password": password}).status_code


@pytest.fixture
def limit(settings):
    settings.AXES_FAILURE_LIMIT = 3
    return 3


def test_an_account_that_fails_too_often_waits_from_whatever_address(people, limit):
    answers = [login("alice", "wrong", f"192.0.2.{number}") for number in range(limit)]
    assert answers == [200] * (limit - 1) + [429]
    assert login("alice", address="198.51.100.1") == 429
    assert login("bob", address="198.51.100.1") == 302


def test_an_address_that_fails_too_often_waits_for_whatever_account(people, limit):
    answers = [login(f"nobody{number}", "wrong") for number in range(limit)]
    assert answers == [200] * (limit - 1) + [429]
    assert login("bob") == 429
    assert login("bob", address="198.51.100.1") == 302


def test_a_forged_forwarded_for_is_no_other_address(people, limit):
    for number in range(limit):
        login(f"nobody{number}", "wrong", X_Forwarded_For=f"203.0.113.{number}")
    assert login("bob", X_Forwarded_For="203.0.113.99") == 429


def test_a_success_forgets_the_failures_before(people, limit):
    for _ in range(2):
        for _ in range(limit - 1):
            assert login("alice", "wrong") == 200
        assert login("alice") == 302


def test_a_lockout_ends_by_itself_although_somebody_goes_on_trying(people, limit, settings, time_machine):
    time_machine.move_to("2026-03-02 09:00:00+01:00", tick=False)
    for _ in range(limit):
        login("alice", "wrong")
    assert login("alice", address="198.51.100.1") == 429
    time_machine.shift(settings.AXES_COOLOFF_TIME / 2)
    assert login("alice", "wrong", address="198.51.100.2") == 429
    time_machine.shift(settings.AXES_COOLOFF_TIME / 2 - settings.AXES_COOLOFF_TIME / 900)
    assert login("alice", address="198.51.100.1") == 429
    time_machine.shift(settings.AXES_COOLOFF_TIME / 450)
    assert login("alice", address="198.51.100.1") == 302


def test_no_password_is_kept_with_the_attempts(people, limit):
    login("alice", "my-wrong-password")
    assert "my-wrong-password" not in str(list(AccessAttempt.objects.values()))
