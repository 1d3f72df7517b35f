"""Every registered page: who may open it, whose rows it shows, and what it costs."""

import re

import pytest
from django import forms
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from simple_history.admin import SimpleHistoryAdmin

from crm import models, roles
from crm.admin import paging
from crm.admin.forms import SafeFormMixin
from crm.encryption import encrypted_names
from crm.tests import factories
from crm.tests.admin.rows import MAKERS, NO_PAGES

pytestmark = pytest.mark.django_db
REGISTERED = sorted(admin.site._registry, key=lambda model: model._meta.label)
EDITED = [model for model in REGISTERED if hasattr(model, "history")]
OF_SOMEBODY = [
    models.Client, models.Case, models.CaseStep, models.CaseParty, models.FinanceItem, models.Property, models.Document,
    models.Note, models.Commission, models.Consent, models.Identification,
]  # fmt: skip
TOKEN = "gAAAAABk" + "A" * 92


def name(model) -> str:
    return model._meta.model_name


def url(model, page: str, *args) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def pages_of(row) -> dict[str, str]:
    model = type(row)
    found = {page: url(model, page, row.pk) for page in ("change", "history", "delete")}
    if hasattr(model, "history"):
        found["version"] = url(model, "simple_history", row.pk, row.history.first().history_id)
    return found


@pytest.fixture
def catalogue(db):
    return factories.make_catalogue()


@pytest.fixture
def superuser(db):
    user = factories.make_user(roles.ADMINISTRATOR)
    user.is_superuser = True
    user.save()
    return user


@pytest.fixture
def stranger(db):
    """Staff without a single permission."""
    return models.User.objects.create_user("stranger", password="a long enough password", is_staff=True)


def test_every_registered_model_has_a_row_for_these_tests():
    assert set(REGISTERED) == MAKERS.keys() - NO_PAGES


@pytest.mark.parametrize("model", REGISTERED, ids=name)
def test_a_superuser_opens_every_page(model, catalogue, superuser, client):
    client.force_login(superuser)
    row = MAKERS[model]()
    model_admin = admin.site.get_model_admin(model)
    request = RequestFactory().get("/")
    request.user = superuser
    answers = {page: client.get(path).status_code for page, path in pages_of(row).items()}
    answers["list"] = client.get(url(model, "changelist")).status_code
    answers["add"] = client.get(url(model, "add")).status_code
    assert answers["add"] == (200 if model_admin.has_add_permission(request) else 403)
    assert answers["delete"] == (200 if model_admin.has_delete_permission(request) else 403)
    assert {answers[page] for page in answers.keys() - {"add", "delete"}} == {200}


@pytest.mark.parametrize("model", REGISTERED, ids=name)
def test_staff_without_permission_gets_403_everywhere(model, catalogue, stranger, client):
    client.force_login(stranger)
    row = MAKERS[model]()
    paths = [url(model, "changelist"), url(model, "add"), *pages_of(row).values()]
    assert [client.get(path).status_code for path in paths] == [403] * len(paths)
    assert [client.post(path).status_code for path in paths] == [403] * len(paths)


@pytest.mark.parametrize("model", OF_SOMEBODY, ids=name)
def test_a_foreign_row_is_not_found(model, catalogue, settings, adviser, client):
    settings.ADVISER_SCOPE = "own"
    row = models.Case.objects.get(pk=MAKERS[models.Case]().pk).client if model is models.Client else MAKERS[model]()
    client.force_login(adviser)
    may_delete = model is not models.CaseStep
    for page, path in pages_of(row).items():
        expected = 403 if page == "delete" and not may_delete else 404
        assert client.get(path).status_code == expected, path
        assert client.post(path, {"post": "yes"}).status_code == expected, path
    assert model.objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize("model", OF_SOMEBODY, ids=name)
def test_a_list_shows_no_foreign_row(model, catalogue, settings, adviser, client):
    settings.ADVISER_SCOPE = "own"
    row = models.Case.objects.get(pk=MAKERS[models.Case]().pk).client if model is models.Client else MAKERS[model]()
    client.force_login(adviser)
    assert client.get(url(model, "changelist")).context["cl"].result_count == 0
    row.delete() if model is models.Note else None


def test_the_plain_history_page_shows_a_foreign_row(catalogue, superuser, rf):
    """stack.md 8: simple-history's own admin asks no get_queryset for a version."""

    class Plain(SimpleHistoryAdmin):
        def get_queryset(self, request):
            return super().get_queryset(request).none()

        def render_history_view(self, request, template, context, **kwargs):
            return context

    lender = factories.make_lender()
    request = rf.get("/")
    request.user = superuser
    plain = Plain(models.Lender, admin.site)
    context = plain.history_form_view(request, str(lender.pk), str(lender.history.first().history_id))
    assert context["original"].name == lender.name


def test_the_plain_history_page_reverts_for_who_may_only_look(catalogue, stranger, rf, settings):
    """stack.md 7: SIMPLE_HISTORY_REVERT_DISABLED hides the button, not the POST."""
    stranger.user_permissions.add(Permission.objects.get(codename="view_documenttype"))
    stranger = models.User.objects.get(pk=stranger.pk)
    kind = models.DocumentType.objects.create(code="x", name_cs="Typ", name_en="Before")
    old = kind.history.first()
    kind.name_en = "After"
    kind.save()
    request = rf.post("/", {"code": "x", "name_cs": "Typ", "name_en": "Before", "is_active": "on"})
    request.user = stranger

    class Plain(SimpleHistoryAdmin):
        def response_change(self, request, obj):
            return None

        def log_change(self, *args):
            return None

    Plain(models.DocumentType, admin.site).history_form_view(request, str(kind.pk), str(old.history_id))
    kind.refresh_from_db()
    assert kind.name_en == "Before"


@pytest.mark.parametrize("model", EDITED, ids=name)
def test_nobody_reverts_by_post(model, catalogue, superuser, client):
    client.force_login(superuser)
    row = MAKERS[model]()
    assert client.post(pages_of(row)["version"], {}).status_code == 403


def _list_sql(client, model) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        assert (
            client.get(url(model, "changelist"), {"quick": "all"} if model is models.CaseStep else {}).status_code
            == 200
        )
    return [query["sql"] for query in captured]


@pytest.mark.parametrize("model", REGISTERED, ids=name)
def test_a_list_fetches_no_encrypted_column_that_it_does_not_show(model, catalogue, superuser, client):
    client.force_login(superuser)
    MAKERS[model]()
    shown = {path.rpartition("__")[2] for path in admin.site.get_model_admin(model).list_encrypted}
    hidden = {f'"{each._meta.db_table}"."{field}"' for each in REGISTERED for field in encrypted_names(each) - shown}
    fetched = {column for sql in _list_sql(client, model) for column in hidden if column in sql}
    assert fetched == set()


@pytest.mark.parametrize("model", OF_SOMEBODY, ids=name)
def test_a_page_fetches_no_encrypted_column_of_the_client_behind_it(model, catalogue, superuser, client):
    """Its own values are on the form; of a case's client the name is shown, and limits depend on his age."""
    client.force_login(superuser)
    row = MAKERS[model]()
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url(model, "change", row.pk)).status_code == 200
    if model is models.Client:
        hidden = {(models.Case, field) for field in encrypted_names(models.Case)}
    else:
        hidden = {(models.Client, field) for field in encrypted_names(models.Client) - {"full_name", "birth_date"}}
    if model not in (models.Client, models.Case):
        hidden |= {(models.Case, field) for field in encrypted_names(models.Case)}
    columns = {f'"{owner._meta.db_table}"."{field}"' for owner, field in hidden}
    assert {column for query in captured for column in columns if column in query["sql"]} == set()


@pytest.mark.parametrize("model", REGISTERED, ids=name)
def test_a_list_costs_the_same_queries_at_10_and_at_20_rows(model, catalogue, superuser, client):
    client.force_login(superuser)
    for _ in range(10):
        MAKERS[model]()
    client.get(url(model, "changelist"))
    ten = len(_list_sql(client, model))
    for _ in range(10):
        MAKERS[model]()
    twenty = _list_sql(client, model)
    assert len(twenty) == ten
    assert ten < 12, "\n".join(twenty)


def test_large_ids_have_no_thousand_separators(catalogue, superuser, client, settings):
    superuser.language = "cs"
    superuser.save()
    client.force_login(superuser)
    person = models.Client.objects.create(pk=1234567, full_name="Alice Nováková")
    case = factories.make_case(person, pk=7654321)
    note = models.Note.objects.create(pk=2345678, case=case, text="Called.")
    page = client.get(url(models.Case, "change", case.pk)).content.decode()
    assert f'value="{note.pk}"' in page
    assert f"/admin/crm/client/{person.pk}/change/" in page
    listed = client.get(url(models.Case, "changelist")).content.decode()
    assert f'value="{case.pk}"' in listed
    for text in (page, listed):
        assert not re.search(
            r"(1[\s.,\xa0]234[\s.,\xa0]567|7[\s.,\xa0]654[\s.,\xa0]321|2[\s.,\xa0]345[\s.,\xa0]678)", text
        )


def test_the_count_stops_at_a_limit(catalogue, superuser, client, monkeypatch):
    monkeypatch.setattr(paging, "COUNTED", 3)
    client.force_login(superuser)
    for _ in range(3):
        factories.make_client()
    assert str(client.get(url(models.Client, "changelist")).context["cl"].result_count) == "3"
    factories.make_client()
    page = client.get(url(models.Client, "changelist"))
    assert str(page.context["cl"].result_count) == "3+"
    assert "3+" in page.content.decode()


@pytest.mark.parametrize("model", EDITED, ids=name)
def test_every_form_and_inline_refuses_tokens(model, superuser, rf):
    model_admin = admin.site.get_model_admin(model)
    assert issubclass(model_admin.form, SafeFormMixin)
    assert all(issubclass(inline.form, SafeFormMixin) for inline in model_admin.inlines)


def test_a_token_in_a_plain_text_field_is_an_error_on_that_field(catalogue, superuser, client):
    client.force_login(superuser)
    answer = client.post(url(models.DocumentType, "add"), {"code": "x", "name_cs": TOKEN, "name_en": "Type"})
    assert set(answer.context["adminform"].form.errors) == {"name_cs"}
    assert not models.DocumentType.objects.filter(code="x").exists()


def test_every_foreign_key_of_a_form_is_an_autocomplete(catalogue, superuser, rf):
    request = rf.get("/")
    request.user = superuser
    plain = []
    for model in EDITED:
        for each in (
            admin.site.get_model_admin(model),
            *admin.site.get_model_admin(model).get_inline_instances(request),
        ):
            for field in each.opts.fields if isinstance(each, admin.ModelAdmin) else each.model._meta.fields:
                if field.many_to_one and field.editable and field.remote_field.model in admin.site._registry:
                    formfield = each.formfield_for_dbfield(field, request)
                    widget = getattr(formfield.widget, "widget", formfield.widget)
                    if not isinstance(widget, forms.Select) or "autocomplete" not in str(widget.build_attrs({})):
                        plain.append(f"{each} {field}")
    assert plain == []


def test_delete_selected_leaves_foreign_rows_and_a_history(catalogue, settings, adviser, client):
    settings.ADVISER_SCOPE = "own"
    mine, foreign = factories.make_case(adviser=adviser), MAKERS[models.Case]()
    client.force_login(adviser)
    data = {"action": "delete_selected", "_selected_action": [mine.pk, foreign.pk]}
    asked = client.post(url(models.Case, "changelist"), data)
    client.post(url(models.Case, "changelist"), data | {"post": "yes", "seen": asked.context_data["seen"]})
    assert list(models.Case.objects.all()) == [foreign]
    last = models.Case.history.filter(id=mine.pk).first()
    assert (last.history_type, last.history_user_name, last.source) == ("-", adviser.get_display_name(), "admin")


def test_an_assistant_deletes_nothing(catalogue, assistant, client):
    case = MAKERS[models.Case]()
    client.force_login(assistant)
    assert client.post(url(models.Case, "delete", case.pk), {"post": "yes"}).status_code == 403
    data = {"action": "delete_selected", "_selected_action": [case.pk], "post": "yes"}
    client.post(url(models.Case, "changelist"), data)
    assert models.Case.objects.filter(pk=case.pk).exists()
