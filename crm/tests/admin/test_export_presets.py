"""Columns that people choose: their order, the last choice, presets, and the sensitive ones."""

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.urls import reverse

from crm import exports, roles
from crm.models import Client, ExportChoice, ExportPreset, ExportRun, ExportSchedule
from crm.tests import factories
from crm.tests.exports.reading import csv_rows

EXPORT = reverse("admin:crm_client_export")
CSV = exports.CSV
BIRTH_NUMBER = "7801233540"


def chosen(*names, **values):
    return {"format": CSV, "columns": names or ["full_name"], **values}


def saved(browser, name, *columns, at=EXPORT, **values):
    values = {"preset_name": name, "_save_new_preset": "", **values}
    response = browser.post(at, chosen(*columns, **values))
    return response, ExportPreset.objects.filter(name=name).order_by("-pk").first()


def page_of(preset):
    return reverse("admin:crm_client_export_preset", args=[preset.pk])


# --- Order, and the last choice ---


def test_columns_stand_as_they_were_ordered(browse, manager):
    factories.make_client()
    browser = browse(manager)
    order = "city,email,full_name,street"
    response = browser.post(EXPORT, chosen("full_name", "email", "city", "phone", order=order))
    assert list(csv_rows(response.content)[0]) == ["Reference", "City", "E-mail", "Full name", "Phone", "Row version"]


def test_what_was_chosen_last_is_chosen_again_by_the_same_person_for_the_same_list(browse, manager, administrator):
    browse(manager).post(EXPORT, chosen("email", "city", order="city,email"))
    form = browse(manager).get(EXPORT).context["form"]
    assert (form.initial["format"], form.initial["order"]) == (CSV, "reference,city,email,row_version")
    assert form.initial["columns"] == ["reference", "city", "email", "row_version"]
    cases = browse(manager).get(reverse("admin:crm_case_export")).context["form"]
    assert "status" in cases.initial["columns"]
    assert "full_name" in browse(administrator).get(EXPORT).context["form"].initial["columns"]
    assert ExportChoice.objects.count() == 1


def test_boxes_stand_by_the_list_that_they_are_of(browse, manager):
    groups = browse(manager).get(EXPORT).context["form"].groups()
    assert [group.title for group in groups] == ["Client", "Case"]
    assert "case.status" in {box.data["value"] for box, _is_sensitive in groups[1].boxes}


# --- Presets ---


def test_a_preset_keeps_format_columns_and_filter(browse, manager):
    factories.make_client("Czech", citizenship="CZ")
    factories.make_client("Slovak", citizenship="SK")
    browser = browse(manager)
    response, preset = saved(
        browser, "Slovaks", "full_name", "city", at=f"{EXPORT}?citizenship=SK", order="city,full_name"
    )
    assert response["Location"] == f"{page_of(preset)}?citizenship=SK"
    assert not ExportRun.objects.exists()
    page = browser.get(response["Location"])
    form = page.context["form"]
    assert (page.context["rows"], form.initial["format"], form.initial["columns"]) == (1, CSV, ["city", "full_name"])
    assert "Slovaks" in browser.get(EXPORT).content.decode()
    rows = csv_rows(browser.post(response["Location"], chosen()).content)
    assert [row["Full name"] for row in rows] == ["Slovak"]


def test_what_a_preset_searches_for_is_not_readable(browse, manager):
    saved(browse(manager), "One", at=f"{EXPORT}?q=novakova")
    with connection.cursor() as cursor:
        cursor.execute("SELECT query FROM crm_exportpreset")
        assert "novakova" not in cursor.fetchone()[0]


def test_a_preset_is_changed_renamed_copied_and_deleted(browse, manager):
    browser = browse(manager)
    _response, preset = saved(browser, "One", "full_name")
    browser.post(page_of(preset), chosen("email", preset_name="Two", _save_preset=""))
    preset.refresh_from_db()
    assert (preset.name, preset.columns) == ("Two", ["email"])
    saved(browser, "Three", "city", at=page_of(preset))
    assert ExportPreset.objects.count() == 2
    browser.post(page_of(preset), {"_delete_preset": ""})
    assert [each.name for each in ExportPreset.objects.all()] == ["Three"]


@pytest.mark.parametrize(("name", "said"), [("", "Give the preset a name."), ("One", "of this name already")])
def test_a_preset_has_a_name_of_its_own(browse, manager, name, said):
    browser = browse(manager)
    saved(browser, "One")
    response, _preset = saved(browser, name)
    assert said in response.content.decode()
    assert ExportPreset.objects.count() == 1


def test_a_private_preset_is_nobody_elses(browse, manager, administrator):
    _response, preset = saved(browse(manager), "One")
    browser = browse(administrator)
    assert browser.get(page_of(preset)).status_code == 404
    assert browser.post(page_of(preset), {"_delete_preset": ""}).status_code == 404
    assert "One" not in [each.name for each, _url in browser.get(EXPORT).context["presets"]]


def test_a_shared_preset_is_used_and_copied_but_not_changed_by_others(browse, manager, adviser):
    _response, preset = saved(browse(manager), "Ours", "full_name", "email", is_shared="on")
    assert preset.is_shared
    browser = browse(adviser)
    assert browser.get(page_of(preset)).context["form"].initial["columns"] == ["full_name", "email"]
    browser.post(page_of(preset), chosen("city", preset_name="Mine", _save_preset=""))
    preset.refresh_from_db()
    assert (preset.name, preset.columns) == ("Ours", ["full_name", "email"])
    assert ExportPreset.objects.get(name="Mine").user == adviser
    assert browser.post(page_of(preset), {"_delete_preset": ""}).status_code == 403


SEARCHED = "What this list is searched for may be a name, which everybody would read."


def test_what_was_searched_for_is_not_shared(browse, manager, adviser):
    browser = browse(manager)
    response, preset = saved(browser, "Ours", at=f"{EXPORT}?q=Tajny", is_shared="on")
    assert (preset, response.context["form"].errors["is_shared"][0].startswith(SEARCHED)) == (None, True)
    assert '<details class="ie-preset" open>' in response.content.decode()  # where it is said
    _response, preset = saved(browser, "Mine", at=f"{EXPORT}?q=Tajny")
    response = browser.post(f"{page_of(preset)}?q=Tajny", chosen(preset_name="Mine", is_shared="on", _save_preset=""))
    preset.refresh_from_db()
    assert (preset.is_shared, SEARCHED in response.content.decode()) == (False, True)
    browser.post(f"{page_of(preset)}?q=", chosen(preset_name="Mine", is_shared="on", _save_preset=""))
    assert "Mine" in browse(adviser).get(EXPORT).content.decode()


def test_one_that_lost_the_right_to_share_keeps_no_searched_one_shared(browse, manager):
    browser = browse(manager)
    _response, preset = saved(browser, "Ours", is_shared="on")
    manager.groups.get().permissions.remove(Permission.objects.get(codename="share_exportpreset"))
    response = browser.post(f"{page_of(preset)}?q=Tajny", chosen(preset_name="Ours", _save_preset=""))
    assert SEARCHED in response.content.decode()
    assert ExportPreset.objects.get().query == ""


def test_of_an_older_shared_one_nobody_reads_what_it_searches_for(browse, manager, adviser):
    ExportPreset.objects.create(
        user=manager, name="Ours", model="client", format="csv", query="q=Tajny", is_shared=True
    )
    assert "Tajny" in browse(manager).get(EXPORT).content.decode()
    assert "Tajny" not in browse(adviser).get(EXPORT).content.decode()


def test_only_who_may_share_does(browse, adviser):
    browser = browse(adviser)
    assert "is_shared" not in browser.get(EXPORT).context["form"].fields
    _response, preset = saved(browser, "One", is_shared="on")
    assert not preset.is_shared


def test_a_preset_of_another_list_is_not_found(browse, manager):
    _response, preset = saved(browse(manager), "One")
    assert browse(manager).get(reverse("admin:crm_case_export_preset", args=[preset.pk])).status_code == 404


def test_who_may_not_export_opens_no_preset(browse, manager, auditor):
    _response, preset = saved(browse(manager), "One", is_shared="on")
    assert browse(auditor).get(page_of(preset)).status_code == 403


def test_a_preset_that_is_sent_regularly_is_not_deleted(browse, manager):
    browser = browse(manager)
    _response, preset = saved(browser, "One")
    ExportSchedule.objects.create(user=manager, preset=preset)
    answer = browser.post(page_of(preset), {"_delete_preset": ""}, follow=True)
    assert "sent regularly" in answer.content.decode()
    assert ExportPreset.objects.exists()


# --- Sensitive columns ---


def test_sensitive_columns_are_not_chosen_by_themselves(browse, manager):
    form = browse(manager).get(EXPORT).context["form"]
    assert "birth_number" in dict(form.fields["columns"].choices)
    assert not {"birth_number", "bank_account", "id_document_number"} & set(form.initial["columns"])


def test_a_sensitive_column_needs_a_reason_that_is_kept_unreadable(browse, manager):
    factories.make_client(birth_number=BIRTH_NUMBER)
    browser = browse(manager)
    refused = browser.post(EXPORT, chosen("birth_number"))
    assert "sensitive" in str(refused.context["form"].errors["reason"])
    assert not ExportRun.objects.exists()
    response = browser.post(EXPORT, chosen("birth_number", reason="The bank asked"))
    assert csv_rows(response.content)[0]["Birth number"] == BIRTH_NUMBER
    run = ExportRun.objects.get()
    assert run.reason == "The bank asked"
    page = browser.get(reverse("admin:crm_exportrun_change", args=[run.pk]))
    assert "The bank asked" in page.content.decode()
    with connection.cursor() as cursor:
        cursor.execute("SELECT reason FROM crm_exportrun")
        assert "bank" not in cursor.fetchone()[0]


def test_without_the_right_sensitive_columns_are_neither_offered_nor_taken(browse, adviser):
    factories.make_client(birth_number=BIRTH_NUMBER)
    browser = browse(adviser)
    form = browser.get(EXPORT).context["form"]
    assert not {"birth_number", "case.dti"} & set(dict(form.fields["columns"].choices))
    assert "reason" not in form.fields
    response = browser.post(EXPORT, chosen("birth_number", reason="x"))
    assert response.context["form"].errors["columns"] and BIRTH_NUMBER not in response.content.decode()


def test_a_preset_says_what_it_leaves_out_for_who_may_not_have_it(browse, manager, adviser):
    _response, preset = saved(browse(manager), "Ours", "full_name", "birth_number", is_shared="on")
    page = browse(adviser).get(page_of(preset))
    assert "Left out, since your role may not export them or they are gone: Birth number." in page.content.decode()
    assert page.context["form"].initial["columns"] == ["full_name"]


def test_a_role_gets_the_right_by_itself(browse, adviser):
    adviser.user_permissions.add(Permission.objects.get(codename="export_sensitive"))
    assert "birth_number" in dict(browse(adviser).get(EXPORT).context["form"].fields["columns"].choices)


@pytest.mark.parametrize("role", [roles.MANAGER, roles.ADMINISTRATOR])
def test_managers_and_administrators_have_the_right(db, role):
    assert "birth_number" in {each.name for each in exports.offered(factories.make_user(role), Client)}
