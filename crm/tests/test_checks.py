"""What refuses to start, and the system checks. Whole processes are in test_start.py."""

import base64
from types import SimpleNamespace

import pytest
from django.contrib import admin
from django.core import checks as django_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection, models
from django.db.models import F
from django.test import override_settings
from django.test.utils import isolate_apps

from crm import checks
from crm.encryption import EncryptedCharField, fingerprint
from crm.models import Case, Client, KeyCanary, User
from crm.tests import raw
from crm.tests.raw import tamper
from project.env import throw_away_key

GOOD = {
    "MISSING_SECRETS": [],
    "SECRET_KEY": raw.KEYS["SECRET_KEY"],
    "SEARCH_KEY": raw.KEYS["SEARCH_KEY"],
    "ALLOWED_HOSTS": ["office.example.com"],
    "DEBUG": False,
    "SITE_URL": "https://office.example.com",
    "SITE_IS_LOCAL": False,
}


def refused(**changes) -> list[str]:
    with override_settings(**(GOOD | changes)):
        return [error.id for error in checks.unsafe_settings()]


def test_good_settings_are_not_refused():
    assert refused() == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"MISSING_SECRETS": ["SECRET_KEY"]}, "crm.E001"),
        ({"MISSING_SECRETS": ["FIELD_ENCRYPTION_KEY"]}, "crm.E001"),
        ({"SECRET_KEY": raw.KEYS["SECRET_KEY"][:31]}, "crm.E002"),
        ({"SEARCH_KEY": raw.KEYS["SEARCH_KEY"][:31]}, "crm.E002"),
        ({"SECRET_KEY": "a" * 50}, "crm.E002"),
        ({"SECRET_KEY": "012345678" * 5}, "crm.E002"),
        ({"SECRET_KEY": "0123456789abcdef" * 3}, "crm.E002"),
        ({"AUDIT_KEYS": [raw.KEYS["SEARCH_KEY"][:31]]}, "crm.E002"),
        ({"SEARCH_KEY": GOOD["SECRET_KEY"]}, "crm.E003"),
        ({"AUDIT_KEYS": [GOOD["SEARCH_KEY"]]}, "crm.E003"),
        ({"BACKUP_KEYS": [GOOD["SEARCH_KEY"]]}, "crm.E003"),
        ({"S3_BUCKET": "office"}, "crm.E007"),
        ({"S3_ENDPOINT_URL": "https://s3.example.com"}, "crm.E007"),
        ({"S3_ACCESS_KEY_ID": "id", "S3_SECRET_ACCESS_KEY": "secret"}, "crm.E007"),
        ({"ALLOWED_HOSTS": ["office.example.com", "*"]}, "crm.E004"),
        ({"DEBUG": True}, "crm.E005"),
        ({"SITE_URL": "http://office.example.com"}, "crm.E006"),
    ],
)
def test_unsafe_settings_are_refused(changes, code):
    assert refused(**changes) == [code]


def test_an_object_store_with_bucket_and_keys_is_whole():
    assert refused(S3_BUCKET="office", S3_ACCESS_KEY_ID="id", S3_SECRET_ACCESS_KEY="secret") == []


def test_just_enough_is_enough():
    assert refused(SECRET_KEY=raw.KEYS["SECRET_KEY"][:32]) == []
    assert refused(SECRET_KEY="0123456789" * 3 + "ab") == []
    assert refused(DEBUG=True, SITE_URL="http://localhost:8000", SITE_IS_LOCAL=True) == []


def test_one_key_for_two_things_is_found_in_every_notation():
    bits = bytes(range(100, 132))
    key = throw_away_key()
    as_field_key = [base64.urlsafe_b64encode(bits).decode()]
    assert refused(FIELD_ENCRYPTION_KEY=as_field_key, SEARCH_KEY=bits.hex()) == ["crm.E003"]
    assert refused(FIELD_ENCRYPTION_KEY=as_field_key, SECRET_KEY=bits.hex().upper()) == ["crm.E003"]
    assert refused(FIELD_ENCRYPTION_KEY=as_field_key, SEARCH_KEY=base64.b64encode(bits).decode()) == ["crm.E003"]
    assert refused(FIELD_ENCRYPTION_KEY=[key, *as_field_key], SEARCH_KEY=as_field_key[0].rstrip("=")) == ["crm.E003"]
    assert refused(FIELD_ENCRYPTION_KEY=[key, *as_field_key], SEARCH_KEY=bits[::-1].hex()) == []
    assert refused(BACKUP_KEYS=as_field_key, AUDIT_KEYS=[bits.hex()]) == ["crm.E003"]
    assert refused(BACKUP_KEYS=[key, *as_field_key], FIELD_ENCRYPTION_KEY=as_field_key) == ["crm.E003"]
    assert refused(BACKUP_KEYS=as_field_key, FIELD_ENCRYPTION_KEY=[key]) == []


# --- Keys of the database ---


def test_the_keys_of_this_database_are_not_refused(db):
    assert KeyCanary.objects.count() == 2
    assert checks.wrong_keys() == []


def test_a_wrong_field_key_is_named_by_its_fingerprint(db, settings):
    key = throw_away_key()
    planted = KeyCanary.objects.get(kind="field").fingerprint
    settings.FIELD_ENCRYPTION_KEY = [key]
    with raw.keys(key.encode()):
        said = " ".join(checks.wrong_keys())
    assert fingerprint(key) in said
    assert planted in said
    assert key not in said


def test_a_wrong_search_key_is_named_by_its_fingerprint(db, settings):
    settings.SEARCH_KEY = "another search key, long enough, 0123456789"
    said = " ".join(checks.wrong_keys())
    assert fingerprint(settings.SEARCH_KEY) in said
    assert "FIELD_ENCRYPTION_KEY" not in said


def test_a_new_first_key_beside_the_older_one_is_not_wrong(db, settings):
    new = throw_away_key()
    with raw.keys(new.encode(), settings.FIELD_ENCRYPTION_KEY[0].encode()):
        assert checks.wrong_keys() == []


@pytest.mark.parametrize("token", ["", "nonsense", "gAAAAABmZ", "ž"])
def test_a_damaged_canary_is_refused_and_not_repaired(db, token):
    tamper(KeyCanary.objects.get(kind="field"), "token", token)
    tamper(KeyCanary.objects.get(kind="search"), "token", token)
    checks.plant_canaries()
    assert len(checks.wrong_keys()) == 3


def test_planting_again_changes_nothing(db):
    before = list(KeyCanary.objects.values_list())
    checks.plant_canaries()
    assert list(KeyCanary.objects.values_list()) == before


def test_nothing_is_planted_under_throw_away_keys(db, settings):
    KeyCanary.objects.all().delete()
    settings.MISSING_SECRETS = ["FIELD_ENCRYPTION_KEY"]
    checks.plant_canaries()
    assert not KeyCanary.objects.exists()


def test_no_canary_is_planted_over_clients_of_another_key(db):
    Client.objects.create(full_name="Alice")
    KeyCanary.objects.all().delete()
    with raw.keys(throw_away_key().encode()), pytest.raises(ImproperlyConfigured):
        checks.plant_canaries()
    assert not KeyCanary.objects.exists()
    checks.plant_canaries()
    assert KeyCanary.objects.count() == 2


def test_a_flush_plants_them_again(transactional_db):
    call_command("flush", interactive=False, verbosity=0)
    assert checks.wrong_keys() == []


def test_the_start_is_refused_with_every_reason_at_once(db):
    changes = {"MISSING_SECRETS": ["SEARCH_KEY"], "ALLOWED_HOSTS": ["*"], "SECRET_KEY": "short"}
    with override_settings(**(GOOD | changes)), pytest.raises(ImproperlyConfigured) as said:
        checks.refuse_unsafe_start()
    assert all(reason in str(said.value) for reason in ("SEARCH_KEY is not set", "SECRET_KEY is weak", "ALLOWED_HOSTS"))


def test_demo_users_are_refused_in_production_and_welcome_on_a_desk(db, settings):
    good = GOOD | {"SEARCH_KEY": settings.SEARCH_KEY}
    with override_settings(**good):
        checks.refuse_unsafe_start()
        user = User.objects.create(username="demo", is_demo=True)
        with pytest.raises(ImproperlyConfigured, match="demo"):
            checks.refuse_unsafe_start()
        user.is_active = False
        user.save()
        checks.refuse_unsafe_start()
        User.objects.update(is_active=True)
    with override_settings(**(good | {"DEBUG": True, "SITE_IS_LOCAL": True})):
        checks.refuse_unsafe_start()


def test_a_wrong_key_gets_no_connection(db, settings, monkeypatch):
    """What a script or `python -m django` meets. The connection is the test's own: only the closing is held back."""
    closed = []
    monkeypatch.setattr(connection, "close", lambda: closed.append(True))
    monkeypatch.setattr(checks, "_confirmed", set())
    checks.refuse_wrong_keys(None, connection)
    assert checks._confirmed == {str(connection.settings_dict["NAME"])}
    assert not closed
    settings.SEARCH_KEY = "another search key, long enough, 0123456789"
    checks.refuse_wrong_keys(None, connection)  # once a process is enough
    checks._confirmed.clear()
    with pytest.raises(ImproperlyConfigured, match="SEARCH_KEY"):
        checks.refuse_wrong_keys(None, connection)
    assert closed


# --- System checks ---


def test_the_product_passes_its_own_checks(db):
    call_command("check")
    with override_settings(**GOOD, SECURE_SSL_REDIRECT=True, SESSION_COOKIE_SECURE=True, CSRF_COOKIE_SECURE=True):
        call_command("check", deploy=True, fail_level="WARNING")


def test_unsafe_settings_show_in_the_deploy_check():
    with override_settings(**(GOOD | {"ALLOWED_HOSTS": ["*"]})):
        assert "crm.E004" in {error.id for error in django_checks.run_checks(include_deployment_checks=True)}


def errors_of(monkeypatch, **meta) -> list[str]:
    with isolate_apps("crm"):
        options = type("Meta", (), {"app_label": "crm", **meta})
        model = type(
            "Secret",
            (models.Model,),
            {
                "__module__": "crm.models",
                "name": EncryptedCharField(max_length=10),
                "client": models.ForeignKey(Client, models.CASCADE, related_name="+"),
                "plain": models.CharField(max_length=10),
                "Meta": options,
            },
        )
        monkeypatch.setattr(checks, "apps", SimpleNamespace(get_models=lambda: [model]))
        return [error.id for error in checks.check_encrypted_meta(None)]


@pytest.mark.parametrize(
    "ordering", [["name"], ["-name"], ["plain", "name"], [F("name")], [F("name").desc()], ["client__full_name"]]
)
def test_a_check_finds_ordering_by_an_encrypted_field(monkeypatch, ordering):
    assert errors_of(monkeypatch, ordering=ordering) == ["crm.E011"]


@pytest.mark.parametrize(
    "meta",
    [
        {"constraints": [models.UniqueConstraint(fields=["plain", "name"], name="x")]},
        {"indexes": [models.Index(fields=["-name"], name="x")]},
        {"unique_together": [("plain", "name")]},
    ],
)
def test_a_check_finds_constraints_and_indexes_on_an_encrypted_field(monkeypatch, meta):
    assert errors_of(monkeypatch, **meta) == ["crm.E013"]


def test_plain_columns_are_let_pass(monkeypatch):
    meta = {
        "ordering": ["plain", "-client__reference", F("pk").desc()],
        "indexes": [models.Index(fields=["plain"], name="x")],
        "unique_together": [("plain", "client")],
    }
    assert errors_of(monkeypatch, **meta) == []


@pytest.mark.parametrize(
    ("model", "option", "value", "found"),
    [
        (Client, "search_fields", ["full_name"], True),
        (Client, "search_fields", ["=email"], True),
        (Client, "search_fields", ["reference"], False),
        (Client, "list_filter", ["city"], True),
        (Client, "list_filter", [("birth_date", admin.DateFieldListFilter)], True),
        (Client, "list_filter", ["citizenship"], False),
        (Client, "ordering", ["-full_name"], True),
        (Client, "date_hierarchy", "birth_date", True),
        (Client, "date_hierarchy", "created_at", False),
        (Case, "search_fields", ["client__full_name"], True),
        (Case, "search_fields", ["reference", "client__reference"], False),
        (Case, "list_filter", ["client__cases__rejection_reason"], True),
    ],
)
def test_a_check_finds_admin_options_that_reach_an_encrypted_field(monkeypatch, model, option, value, found):
    site = admin.AdminSite()
    site.register(model, type("Admin", (admin.ModelAdmin,), {option: value}))
    monkeypatch.setattr(checks.admin, "site", site)
    assert [error.id for error in checks.check_encrypted_admin_options(None)] == ["crm.E012"] * found


def test_what_needs_no_database_is_asked_without_one(settings):
    checks.refuse_unsafe_settings()  # pytest-django lets no test reach a database that does not say so
    settings.MISSING_SECRETS = ["SEARCH_KEY"]
    with pytest.raises(ImproperlyConfigured, match="SEARCH_KEY is not set"):
        checks.refuse_unsafe_settings()
