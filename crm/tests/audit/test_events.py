"""What is entered into the audit trail beside the changes of rows, and that no entry ever breaks what it tells of."""

import io
import json
from pathlib import Path

import pytest
from django.conf import settings as project
from django.contrib.auth.models import Group, Permission
from django.contrib.auth.tokens import default_token_generator
from django.core.cache import cache
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.test import Client as Browser
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from crm import exports, imports, roles
from crm.audit import events
from crm.choices import OPERATION_KINDS, AuditKind, Source
from crm.exports import xlsx_file
from crm.models import AuditEntry, Case, Client, ExportedClient, User, operation
from crm.tests import factories

pytestmark = pytest.mark.django_db
PASSWORD = "a long enough password"
LOGIN = reverse("admin:login")
SAMPLES = Path(project.BASE_DIR) / "crm" / "tests" / "imports" / "samples"
BACKEND = "django.contrib.auth.backends.ModelBackend"


@pytest.fixture(autouse=True)
def _another_minute():
    cache.clear()


@pytest.fixture
def alice(db):
    return factories.make_user(roles.ADVISER, username="alice", first_name="Alice", last_name="Nováková")


@pytest.fixture
def since(db):
    """Entries of a kind since the test began."""
    before = AuditEntry.objects.order_by("pk").values_list("pk", flat=True).last() or 0

    def entries(*kinds):
        return list(AuditEntry.objects.filter(pk__gt=before, kind__in=kinds).order_by("pk"))

    return entries


def detail(entry) -> dict:
    return json.loads(entry.detail)


def log_in(browser, username="alice", password=PASSWORD):
    return browser.post(LOGIN, {"username": username, "password": password})


# --- Logins ---


def test_a_login_and_a_logout_are_entered_with_who_and_from_where(client, alice, since):
    assert log_in(client).status_code == 302
    client.post(reverse("admin:logout"))
    login, logout = since(AuditKind.LOGIN, AuditKind.LOGOUT)
    assert (login.kind, logout.kind) == (AuditKind.LOGIN, AuditKind.LOGOUT)
    for entry in (login, logout):
        assert (entry.user_id, entry.user_name, entry.source) == (alice.pk, "Alice Nováková", Source.ADMIN)
        assert detail(entry) == {"address": "127.0.0.1"}


@pytest.mark.parametrize("username", ["alice", "nobody"])
def test_a_failed_login_is_entered_with_the_account_that_was_tried(client, alice, since, username):
    log_in(client, username, "wrong")
    [entry] = since(AuditKind.LOGIN_FAILED)
    assert (entry.user_id, entry.user_name) == (None, "")
    assert detail(entry) == {"account": username, "address": "127.0.0.1"}
    assert (entry.model, entry.object_id) == (("user", str(alice.pk)) if username == "alice" else ("", ""))
    assert not since(AuditKind.LOGIN)


def test_a_lockout_is_entered_once_a_minute_however_often_somebody_tries_again(client, alice, since, settings):
    settings.AXES_FAILURE_LIMIT = 3
    for _ in range(3):
        log_in(client, password="wrong")
    assert [entry.kind for entry in since(AuditKind.LOGIN_FAILED, AuditKind.LOCKOUT)] == [
        AuditKind.LOGIN_FAILED, AuditKind.LOGIN_FAILED, AuditKind.LOCKOUT, AuditKind.LOGIN_FAILED,
    ]  # fmt: skip
    for _ in range(5):
        assert log_in(client).status_code == 429
    assert len(since(AuditKind.LOGIN_FAILED, AuditKind.LOCKOUT)) == 4
    [lockout] = since(AuditKind.LOCKOUT)
    assert detail(lockout) == {"account": "alice", "address": "127.0.0.1"}
    cache.clear()  # the minute is over
    log_in(client)
    assert len(since(AuditKind.LOCKOUT)) == 2


def test_the_clear_columns_name_no_account_and_no_address(client, alice):
    log_in(client, "Bob Qzx", "wrong")
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM crm_auditentry ORDER BY id DESC")
        row = str(cursor.fetchone())
    assert "login_failed" in row
    assert not any(word in row for word in ("Qzx", "127.0.0.1"))


# --- Passwords ---


def test_a_new_user_with_a_password_has_it_entered(since):
    User.objects.create_user("carol", password=PASSWORD)
    [entry] = since(AuditKind.PASSWORD)
    assert detail(entry) == {"name": "carol", "how": "first"}
    assert entry.model == "user"


def test_an_own_password_and_that_of_another_are_told_apart(alice, administrator, since):
    for by in (alice, administrator):
        with operation(Source.ADMIN, user=by):
            alice.set_password("another long password")
            alice.save()
    own, other = since(AuditKind.PASSWORD)
    assert (own.user_id, detail(own)["how"]) == (alice.pk, "own")
    assert (other.user_id, detail(other)["how"]) == (administrator.pk, "other")
    assert (other.model, other.object_id) == ("user", str(alice.pk))


def test_a_password_set_by_the_admin_page_is_entered(client, alice, administrator, since):
    client.force_login(administrator, backend=BACKEND)
    page = reverse("admin:auth_user_password_change", args=[alice.pk])
    new = "quite another password"
    answer = client.post(page, {"password1": new, "password2": new, "usable_password": "true"})
    assert answer.status_code == 302
    [entry] = since(AuditKind.PASSWORD)
    assert (entry.user_id, detail(entry)["how"], entry.source) == (administrator.pk, "other", Source.ADMIN)


def test_a_password_reset_by_a_link_is_entered(client, alice, since):
    key, token = urlsafe_base64_encode(force_bytes(alice.pk)), default_token_generator.make_token(alice)
    client.get(reverse("password_reset_confirm", args=[key, token]))
    page = reverse("password_reset_confirm", args=[key, "set-password"])
    client.post(page, {"new_password1": "quite another password", "new_password2": "quite another password"})
    [entry] = since(AuditKind.PASSWORD)
    assert (entry.user_id, entry.object_id, detail(entry)["how"]) == (None, str(alice.pk), "unknown")


def test_a_password_that_is_taken_away_is_entered(alice, since):
    alice.set_unusable_password()
    alice.save()
    assert [detail(entry)["how"] for entry in since(AuditKind.PASSWORD)] == ["taken"]


def test_a_hash_that_a_login_renews_and_another_change_are_no_new_password(alice, since, settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher", *settings.PASSWORD_HASHERS]
    before = alice.password
    assert alice.check_password(PASSWORD)
    alice.first_name = "Alena"
    alice.save()
    assert alice.password != before
    assert not since(AuditKind.PASSWORD)


def test_no_entry_holds_a_password(alice):
    alice.set_password("Qzxverysecret password")
    alice.save()
    assert not any("Qzxverysecret" in entry.detail for entry in AuditEntry.objects.all())


# --- Permissions ---


def test_a_role_given_and_taken_is_entered(alice, administrator, since):
    with operation(Source.ADMIN, user=administrator):
        roles.assign(alice, roles.MANAGER)
    entries = since(AuditKind.PERMISSIONS)
    assert {entry.user_id for entry in entries} == {administrator.pk}
    assert {(entry.model, entry.object_id) for entry in entries} == {("user", str(alice.pk))}
    told = [detail(entry)["groups"] for entry in entries]
    assert sorted(told, key=str) == [{"added": ["Manager"]}, {"removed": ["Adviser"]}]


def test_a_role_is_entered_from_its_own_end_too(alice, since):
    group = Group.objects.create(name="Trainees")
    group.user_set.add(alice)
    group.user_set.clear()
    alice.groups.clear()
    told = [detail(entry) for entry in since(AuditKind.PERMISSIONS)]
    assert told == [
        {"name": "Trainees", "group": "created"},
        {"name": "Alice Nováková", "groups": {"added": ["Trainees"]}},
        {"name": "Alice Nováková", "groups": {"removed": ["Trainees"]}},
        {"name": "Alice Nováková", "groups": {"removed": ["Adviser"]}},
    ]


def test_permissions_of_a_user_and_of_a_role_are_entered(alice, since):
    permission = Permission.objects.get(codename="view_auditentry")
    alice.user_permissions.add(permission)
    group = Group.objects.get(name=roles.ASSISTANT)
    group.permissions.add(permission)
    permission.group_set.remove(group)
    told = [(entry.model, detail(entry)["permissions"]) for entry in since(AuditKind.PERMISSIONS)]
    given, taken = {"added": ["view_auditentry"]}, {"removed": ["view_auditentry"]}
    assert told == [("user", given), ("group", given), ("group", taken)]


def test_what_is_given_twice_is_entered_once(alice, since):
    permission = Permission.objects.get(codename="view_auditentry")
    for _ in range(2):
        alice.user_permissions.add(permission)
    assert len(since(AuditKind.PERMISSIONS)) == 1


@pytest.mark.parametrize("by_queryset", [True, False])
@pytest.mark.parametrize(("flag", "value"), [("is_active", False), ("is_staff", False), ("is_superuser", True)])
def test_a_flag_is_entered_whatever_wrote_it(alice, since, flag, value, by_queryset):
    if by_queryset:
        User.objects.filter(pk=alice.pk).update(**{flag: value})
    else:
        setattr(alice, flag, value)
        alice.save()
    [entry] = since(AuditKind.PERMISSIONS)
    assert detail(entry)["flags"] == {flag: value}
    assert entry.object_id == str(alice.pk)


def test_an_ordinary_change_of_a_user_is_no_change_of_permissions(alice, since):
    User.objects.create_user("client", password=PASSWORD)
    alice.language = "en"
    alice.save()
    User.objects.filter(pk=alice.pk).update(first_name="Alena")
    assert not since(AuditKind.PERMISSIONS)


def test_a_group_renamed_and_deleted_is_entered_with_its_members(alice, since):
    group = Group.objects.create(name="Trainees")
    alice.groups.add(group)
    key = group.pk
    group.name = "Juniors"
    group.save()
    group.save()
    group.delete()
    told = [detail(entry) for entry in since(AuditKind.PERMISSIONS) if entry.model == "group"]
    assert told[1:] == [
        {"name": "Juniors", "group": "renamed", "before": "Trainees"},
        {"name": "Juniors", "group": "deleted", "members": [alice.pk]},
    ]
    assert since(AuditKind.PERMISSIONS)[-1].object_id == str(key)


# --- Exports ---


def export(queryset, user=None, file_format="csv", **kwargs):
    return exports.write(queryset, io.BytesIO(), file_format=file_format, user=user, reason="x", **kwargs)


def gone_out(run) -> list[int]:
    return list(ExportedClient.objects.filter(run=run).order_by("client_id").values_list("client_id", flat=True))


@pytest.mark.parametrize("file_format", ["xlsx", "csv"])
def test_an_export_is_entered_with_whose_data_went_out(manager, since, file_format):
    clients = [factories.make_client(name) for name in ("Alice", "Bob")]
    factories.make_client("Charlie")
    run = export(Client.objects.filter(pk__in=[c.pk for c in clients]), manager, file_format, columns=["email"])
    [entry] = since(AuditKind.EXPORT)
    assert (entry.user_id, entry.model, entry.object_id) == (manager.pk, "exportrun", str(run.pk))
    assert entry.operation_id == run.operation_id
    assert detail(entry) == {
        "list": "client", "format": file_format, "rows": 2, "columns": ["reference", "email", "row_version"],
        "filter": {},
        "state": "done",
    }  # fmt: skip
    assert gone_out(run) == sorted(client.pk for client in clients)


def test_of_a_list_of_cases_each_client_is_noted_once(manager):
    alice, bob = factories.make_client("Alice"), factories.make_client("Bob")
    for client in (alice, alice, bob):
        factories.make_case(client)
    factories.make_client("Charlie")
    assert gone_out(export(Case.objects.all(), manager)) == [alice.pk, bob.pk]


def test_only_clients_that_the_person_sees_are_noted(adviser, settings):
    settings.ADVISER_SCOPE = "own"
    own = factories.make_case(factories.make_client("Own"), adviser=adviser)
    factories.make_case(factories.make_client("Foreign"), adviser=factories.make_user())
    assert gone_out(export(Client.objects.all(), adviser)) == [own.client_id]


def test_an_export_that_failed_is_entered_and_nobodys_data_went_out(manager, since, monkeypatch):
    factories.make_client()
    monkeypatch.setattr(xlsx_file, "MAX_ROWS", 0)
    with pytest.raises(xlsx_file.TooManyRows):
        export(Client.objects.all(), manager, "xlsx")
    [entry] = since(AuditKind.EXPORT)
    assert detail(entry)["state"] == "failed"
    assert not ExportedClient.objects.exists()


def test_a_catalogue_names_no_client(manager, since):
    factories.make_lender()
    run = export(factories.Lender.objects.all(), manager)
    assert since(AuditKind.EXPORT)
    assert gone_out(run) == []


def test_an_export_by_command_is_entered(tmp_path, since):
    factories.make_client()
    call_command("export_clients", str(tmp_path / "a.csv"), stdout=io.StringIO())
    [entry] = since(AuditKind.EXPORT)
    assert (entry.source, entry.user_id) == (Source.COMMAND, None)
    assert ExportedClient.objects.count() == 1


# --- Imports ---


def test_an_import_is_entered_with_its_file(manager, since):
    plan = imports.check(b"jmeno;email\nAlice Novakova;alice@example.com\n", "klienti.csv", manager)
    run = imports.write(plan, manager)
    [entry] = since(*OPERATION_KINDS)
    assert (entry.kind, entry.source, entry.operation_id) == (AuditKind.IMPORT, Source.IMPORT, run.operation_id)
    assert detail(entry) == {"file": "klienti.csv"}
    assert (entry.user_id, since(AuditKind.CHANGE)) == (manager.pk, [])


def test_an_import_that_wrote_nothing_has_a_line_all_the_same(manager, since):
    content = b"jmeno;email\nAlice Novakova;no address\n"
    run = imports.write(imports.check(content, "spatne.csv", manager), manager, all_or_nothing=True)
    assert run.created_count == 0
    [entry] = since(*OPERATION_KINDS)
    assert (entry.kind, entry.operation_id) == (AuditKind.IMPORT, run.operation_id)
    assert detail(entry) == {"file": "spatne.csv"}


def test_the_older_crms_dump_is_entered_as_an_import(since):
    factories.make_catalogue()
    with pytest.raises(SystemExit):  # some of its rows are refused
        call_command("import_older_crm", SAMPLES / "older_crm_dump.json", stdout=io.StringIO(), stderr=io.StringIO())
    entries = since(AuditKind.IMPORT)
    assert [detail(entry) for entry in entries] == [{"file": "older_crm_dump.json"}]


# --- Refused accesses ---


@pytest.fixture
def as_alice(client, alice):
    client.force_login(alice, backend=BACKEND)
    return client


def test_a_page_without_the_permission_is_entered_once_a_minute(as_alice, alice, since):
    page = reverse("admin:crm_importrun_changelist")
    for _ in range(3):
        assert as_alice.get(page).status_code == 403
    [entry] = since(AuditKind.REFUSED)
    assert (entry.user_id, entry.model, entry.object_id, entry.source) == (alice.pk, "importrun", "", Source.ADMIN)
    assert detail(entry) == {"path": page, "method": "GET", "address": "127.0.0.1"}
    assert as_alice.get(reverse("admin:crm_step_add")).status_code == 403
    cache.clear()  # the minute is over
    as_alice.get(page)
    assert len(since(AuditKind.REFUSED)) == 3


@pytest.mark.parametrize("page", ["change", "history", "delete", "approve"])
def test_a_foreign_row_asked_for_by_its_id_is_entered(as_alice, alice, since, settings, page):
    settings.ADVISER_SCOPE = "own"
    foreign = factories.make_case(adviser=factories.make_user())
    path = reverse(f"admin:crm_case_{page}", args=[foreign.pk])
    assert as_alice.get(path).status_code == 404
    [entry] = since(AuditKind.REFUSED)
    assert (entry.user_id, entry.model, entry.object_id) == (alice.pk, "case", str(foreign.pk))
    assert detail(entry)["path"] == path


def test_a_step_of_a_foreign_case_is_entered(as_alice, since, settings):
    settings.ADVISER_SCOPE = "own"
    step = factories.make_case(adviser=factories.make_user()).steps.first()
    assert as_alice.post(reverse("admin:crm_casestep_complete", args=[step.pk])).status_code == 404
    assert [entry.object_id for entry in since(AuditKind.REFUSED)] == [str(step.pk)]


@pytest.mark.parametrize("key", ["999999", "9" * 40, "x", "Alice Nováková"])
def test_a_row_that_is_not_there_is_nobodys(as_alice, since, key):
    assert as_alice.get(f"/admin/crm/case/{key}/change/").status_code == 404
    assert as_alice.get("/admin/nonsense/").status_code == 404
    assert not since(AuditKind.REFUSED)


def test_what_was_typed_in_place_of_an_id_stands_in_no_clear_column(as_alice, since):
    assert as_alice.get("/admin/crm/step/Qzx Novák/delete/").status_code == 403
    [entry] = since(AuditKind.REFUSED)
    assert (entry.model, entry.object_id) == ("step", "")
    assert "Qzx" in detail(entry)["path"]


def test_an_own_row_is_entered_nowhere(as_alice, alice, since, settings):
    settings.ADVISER_SCOPE = "own"
    own = factories.make_case(adviser=alice)
    assert as_alice.get(reverse("admin:crm_case_change", args=[own.pk])).status_code == 200
    assert as_alice.get(f"/admin/crm/case/{own.pk}/history/999999/").status_code == 404
    assert not since(AuditKind.REFUSED)


def test_a_form_without_its_token_is_no_refused_access(alice, since):
    browser = Browser(enforce_csrf_checks=True)
    browser.force_login(alice, backend=BACKEND)
    assert browser.post(reverse("admin:language"), {"language": "en"}).status_code == 403
    assert not since(AuditKind.REFUSED)


def test_a_clients_login_at_a_page_of_the_office_is_entered(client, since):
    person = factories.make_user(roles.CLIENT)
    case = factories.make_case()
    client.force_login(person, backend=BACKEND)
    page = reverse("admin:crm_case_change", args=[case.pk])
    for _ in range(2):
        assert client.get(page).status_code == 302
    [entry] = since(AuditKind.REFUSED)
    assert (entry.user_id, entry.model, entry.object_id) == (person.pk, "case", str(case.pk))
    assert client.post(reverse("admin:search"), {"s": "Alice"}).status_code == 302
    assert len(since(AuditKind.REFUSED)) == 2


@pytest.mark.parametrize("page", ["login", "logout"])
def test_a_clients_login_may_come_and_go(client, since, page):
    client.force_login(factories.make_user(roles.CLIENT), backend=BACKEND)
    client.post(reverse(f"admin:{page}"))
    assert not since(AuditKind.REFUSED)


def test_whoever_is_not_logged_in_is_led_to_the_login_and_entered_nowhere(client, since):
    assert client.get(reverse("admin:crm_importrun_changelist")).status_code == 302
    assert not since(*AuditKind)


# --- An entry that cannot be written ---


@pytest.fixture
def broken(monkeypatch):
    def fail(*args, **kwargs):
        with connection.cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")

    monkeypatch.setattr(AuditEntry.objects, "create", fail)


def test_no_event_breaks_what_it_tells_of(client, alice, manager, broken, caplog):
    assert log_in(client).status_code == 302
    assert client.get(reverse("admin:crm_importrun_changelist")).status_code == 403
    client.post(reverse("admin:logout"))
    log_in(client, password="wrong")
    factories.make_client()
    assert export(Client.objects.all(), manager).rows == 1
    assert "no entry of a login (" in caplog.text


def test_an_entry_that_fails_spoils_nobodys_transaction(alice, broken):
    with transaction.atomic():
        alice.is_superuser = True
        alice.save()
    assert User.objects.get(pk=alice.pk).is_superuser


def test_an_export_goes_out_though_its_clients_cannot_be_noted(manager, monkeypatch, caplog):
    def fail(*args):
        raise DatabaseError("no room for Qzx")

    monkeypatch.setattr(exports, "insert_rows", fail)
    factories.make_client()
    assert export(Client.objects.all(), manager).state == "done"
    assert "not noted whose data went out (DatabaseError)" in caplog.text
    assert "Qzx" not in caplog.text


def test_an_event_of_a_change_that_was_rolled_back_did_not_happen(alice, since):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        alice.is_superuser = True
        alice.save()
        raise ZeroDivisionError
    assert not since(AuditKind.PERMISSIONS)


def test_a_detail_that_no_key_opens_is_empty(alice, since):
    events.enter(AuditKind.LOGIN, user=alice, detail={"address": "10.0.0.1"})
    [entry] = since(AuditKind.LOGIN)
    assert events.detail_of(entry) == {"address": "10.0.0.1"}
    entry.detail = "gAAAA"
    assert events.detail_of(entry) == {}
