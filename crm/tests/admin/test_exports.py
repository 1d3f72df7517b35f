"""Every door through which a list leaves the admin: button, page, action. Plain django-import-export is run beside."""

import datetime

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.http import HttpResponse
from django.test import override_settings
from django.urls import reverse
from import_export.admin import ExportActionModelAdmin, ExportMixin

from crm import roles
from crm.admin import exports as pages
from crm.models import Case, Client, ExportRun, User
from crm.tests import factories
from crm.tests.exports.reading import csv_rows, xlsx_rows

CLIENTS, CASES = reverse("admin:crm_client_changelist"), reverse("admin:crm_case_changelist")
EXPORT = reverse("admin:crm_client_export")
XLSX, CSV = "0", "1"


@pytest.fixture
def browse(client):
    def as_user(user):
        User.objects.filter(pk=user.pk).update(language="en")
        client.force_login(user)
        return client

    return as_user


def chosen(*names, **values):
    return {"format": CSV, "columns": names or ["full_name"], "resource": "0", **values}


def test_a_manager_exports_the_list(browse, manager):
    factories.make_client("Alice Nováková")
    response = browse(manager).post(EXPORT, chosen("full_name", "email"))
    [row] = csv_rows(response.content)
    assert list(row) == ["Reference", "Full name", "E-mail"]
    assert row["Full name"] == "Alice Nováková"


def test_a_workbook_downloads_under_a_name_with_the_day_and_nobodys_name(browse, manager):
    factories.make_client()
    response = browse(manager).post(EXPORT, chosen(format=XLSX))
    today = datetime.date.today().isoformat()
    assert response["Content-Disposition"] == f'attachment; filename="clients-{today}.xlsx"'
    assert response["Content-Type"].startswith("application/vnd.openxmlformats")
    assert len(xlsx_rows(response.content)) == 1


def test_the_page_offers_every_column_and_says_how_many_rows(browse, manager):
    factories.make_client()
    response = browse(manager).get(EXPORT)
    assert response.context["rows"] == 1
    content = response.content.decode()
    assert "Identity document issuer" in content
    assert "Always in the file" in content


@pytest.mark.parametrize("role", [roles.ASSISTANT, roles.AUDITOR])
@pytest.mark.parametrize("model", ["client", "case"])
def test_whoever_may_not_export_finds_no_door(browse, db, role, model):
    factories.make_case()
    browser = browse(factories.make_user(role))
    url = reverse(f"admin:crm_{model}_export")
    listed = browser.get(reverse(f"admin:crm_{model}_changelist"))
    assert url not in listed.content.decode()
    assert "export_admin_action" not in listed.content.decode()
    assert browser.get(url).status_code == 403
    assert browser.post(url, chosen()).status_code == 403
    assert not ExportRun.objects.exists()


def test_the_action_of_the_list_is_refused_without_the_permission(browse, assistant):
    client = factories.make_client("Alice Nováková")
    response = browse(assistant).post(
        CLIENTS, {"action": "export_admin_action", "_selected_action": [client.pk]}, follow=True
    )
    assert "admin/import_export/export.html" not in [template.name for template in response.templates]
    assert "Alice" in response.content.decode()  # the list again


@pytest.mark.parametrize("role", [roles.ADMINISTRATOR, roles.MANAGER, roles.ADVISER])
def test_whoever_may_export_finds_the_button_and_the_action(browse, db, role):
    factories.make_client()
    content = browse(factories.make_user(role)).get(CLIENTS).content.decode()
    assert EXPORT in content
    assert "export_admin_action" in content


@override_settings(ADVISER_SCOPE="own")
def test_a_foreign_row_is_in_no_file(browse, adviser):
    factories.make_case(factories.make_client("Own"), adviser=adviser)
    foreign = factories.make_case(factories.make_client("Foreign"), adviser=factories.make_user())
    browser = browse(adviser)
    assert [row["Full name"] for row in csv_rows(browser.post(EXPORT, chosen()).content)] == ["Own"]
    ticked = browser.post(EXPORT, chosen(selected=str(foreign.client_id)))
    assert csv_rows(ticked.content) == []


def test_the_filters_of_the_list_hold_for_its_file(browse, manager):
    factories.make_client("Czech", citizenship="CZ")
    factories.make_client("Slovak", citizenship="SK")
    response = browse(manager).post(f"{EXPORT}?citizenship=SK", chosen())
    assert [row["Full name"] for row in csv_rows(response.content)] == ["Slovak"]
    assert ExportRun.objects.get().filter == {"citizenship": "SK"}


def test_a_search_is_recorded_without_its_words(browse, manager):
    factories.make_client("Alice Nováková")
    factories.make_client("Bob")
    response = browse(manager).post(f"{EXPORT}?q=novakova", chosen())
    assert [row["Full name"] for row in csv_rows(response.content)] == ["Alice Nováková"]
    assert ExportRun.objects.get().filter == {"search": True}


def test_an_impossible_filter_leads_back_to_the_list(browse, manager):
    response = browse(manager).get(f"{EXPORT}?created_at__gte=never")
    assert response.status_code == 302
    assert response["Location"].startswith(CLIENTS)


def test_a_run_is_recorded_with_who_and_what(browse, manager):
    factories.make_client()
    browse(manager).post(EXPORT, chosen("email"))
    run = ExportRun.objects.get()
    assert (run.user, run.model, run.format, run.rows, run.columns) == (
        manager, "client", "csv", 1, ["reference", "email"],
    )  # fmt: skip
    assert len(run.sha256) == 64


def test_no_column_at_all_is_an_error_on_the_form(browse, manager):
    response = browse(manager).post(EXPORT, {"format": CSV, "columns": []})
    assert response.context["form"].errors["columns"]
    assert not ExportRun.objects.exists()


@pytest.mark.parametrize("keys", ["1; DROP", "x", "1,,2", "²", "1,9" + "\0"])
def test_a_forged_selection_is_an_error_on_the_form(browse, manager, keys):
    response = browse(manager).post(EXPORT, chosen(selected=keys))
    assert response.context["form"].errors["selected"]


@pytest.mark.parametrize("keys", ["9" * 30, "9" * 5000])
def test_a_selection_of_what_can_be_no_row_is_empty(browse, manager, keys):
    factories.make_client()
    assert csv_rows(browse(manager).post(EXPORT, chosen(selected=keys)).content)[1:] == []


@pytest.mark.parametrize("most", [1, 2])
def test_a_list_too_long_for_a_page_names_the_command(browse, manager, monkeypatch, most):
    monkeypatch.setattr(pages, "MOST_ROWS", most)
    factories.make_client("Alice")
    factories.make_client("Bob")
    response = browse(manager).post(EXPORT, chosen(), follow=True)
    assert ("export_clients" in response.content.decode()) == (most < 2)


def test_ticked_rows_travel_in_one_field(browse, manager):
    clients = [factories.make_client(name) for name in ("Alice", "Bob", "Charlie")]
    ticked = [client.pk for client in clients[:2]]
    browser = browse(manager)
    page = browser.post(CLIENTS, {"action": "export_admin_action", "_selected_action": ticked})
    keys = page.context["form"].initial["selected"]
    assert sorted(keys.split(",")) == sorted(map(str, ticked))
    assert page.context["rows"] == 2
    rows = csv_rows(browser.post(page.context["export_url"], chosen(selected=keys)).content)
    assert sorted(row["Full name"] for row in rows) == ["Alice", "Bob"]


def test_all_rows_of_the_list_selected_means_the_filtered_list(browse, manager):
    first = factories.make_client("Alice", citizenship="CZ")
    factories.make_client("Bob", citizenship="CZ")
    factories.make_client("Charlie", citizenship="SK")
    browser = browse(manager)
    action = {"action": "export_admin_action", "_selected_action": [first.pk], "select_across": "1"}
    page = browser.post(f"{CLIENTS}?citizenship=CZ", action)
    assert page.context["form"].initial["selected"] == ""
    rows = csv_rows(browser.post(page.context["export_url"], chosen()).content)
    assert sorted(row["Full name"] for row in rows) == ["Alice", "Bob"]


def test_a_selection_of_1001_rows_is_exported(browse, manager):
    Client.objects.bulk_create(Client(full_name=f"Client {number}") for number in range(1001))
    keys = ",".join(map(str, Client.objects.values_list("pk", flat=True)))
    response = browse(manager).post(EXPORT, chosen(selected=keys))
    assert len(csv_rows(response.content)) == 1001


@override_settings(DATA_UPLOAD_MAX_NUMBER_FIELDS=1000)
def test_the_plain_package_fails_from_the_thousandth_selected_row_on(browse, administrator, rf):
    response = browse(administrator).post(EXPORT, {"format": CSV, "export_items": list(range(1001))})
    assert response.status_code == 400


class PlainAdmin(ExportMixin, admin.ModelAdmin):
    pass


class PlainActionAdmin(ExportActionModelAdmin):
    pass


@override_settings(IMPORT_EXPORT_EXPORT_PERMISSION_CODE=None)
def test_the_plain_package_gives_every_client_decrypted_to_staff_without_any_permission(rf, db):
    factories.make_client("Alice Nováková", birth_number="7801233540")
    nobody = factories.make_user(username="nobody")
    nobody.groups.clear()
    request = rf.post("/", {"format": "0", "clientresource_full_name": "on", "clientresource_birth_number": "on"})
    request.user = type(nobody).objects.get(pk=nobody.pk)
    assert not request.user.get_all_permissions()
    response = PlainAdmin(Client, admin.site).export_action(request)
    assert isinstance(response, HttpResponse)
    assert "Alice Nováková" in response.content.decode()


@pytest.mark.parametrize("model", ["lender", "step", "documenttype", "regulatorylimit"])
def test_a_catalogue_is_exported_by_managers_only(browse, manager, adviser, model):
    factories.make_catalogue()
    url = reverse(f"admin:crm_{model}_export")
    browser = browse(manager)
    name = browser.get(url).context["form"].fields["columns"].choices[0][0]
    assert csv_rows(browser.post(url, chosen(name)).content)
    assert browse(adviser).get(url).status_code == 403


def test_the_permissions_are_there_to_be_given(db):
    codes = Permission.objects.filter(content_type__app_label="crm").values_list("codename", flat=True)
    assert {"export_client", "export_case", "import_client", "import_case"} <= set(codes)


def test_the_cases_list_exports_too(browse, manager):
    case = factories.make_case(adviser=manager)
    response = browse(manager).post(reverse("admin:crm_case_export"), chosen("status"))
    assert csv_rows(response.content) == [
        {"Reference": case.reference, "Client": case.client.reference, "Status": "Open"}
    ]
    assert Case.objects.count() == 1
