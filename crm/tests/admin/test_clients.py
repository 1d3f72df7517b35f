"""Clients: search, form, inlines, values that no key opens, and tokens typed into fields."""

import datetime

import pytest
from cryptography.fernet import Fernet
from django.db import connection
from django.db.models import ProtectedError
from django.urls import reverse

from crm import models
from crm.encryption import UNREADABLE
from crm.tests import factories
from crm.tests.admin.rows import as_now

pytestmark = pytest.mark.django_db
LIST = "/admin/crm/client/"
TOKEN = "gAAAAABk" + "A" * 92


def change(person) -> str:
    return reverse("admin:crm_client_change", args=[person.pk])


def formsets(**prefixes) -> dict:
    data = {}
    for prefix in ("cases", "finance_items", "consents", "identifications"):
        total = prefixes.get(prefix, 0)
        data |= {f"{prefix}-TOTAL_FORMS": total, f"{prefix}-INITIAL_FORMS": 0}
    return data


def typed(person, **fields) -> dict:
    """The form as the page shows it, with `fields` typed over."""
    return {"full_name": person.full_name, **formsets(), **as_now(person), **fields}


def tamper(person, column: str) -> str:
    foreign = Fernet(Fernet.generate_key()).encrypt(b"secret").decode()
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE crm_client SET {column} = %s WHERE id = %s", [foreign, person.pk])
    return foreign


def stored(person, column: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM crm_client WHERE id = %s", [person.pk])
        return cursor.fetchone()[0]


@pytest.fixture
def alice(db):
    return factories.make_client("Alice Nováková", email="alice@example.com", phone="+420 777 123 456")


@pytest.mark.parametrize("text", ["nov", "NOVAKOVA", "alice nov", "alice@example.com", "777 123 456", "C-0"])
def test_the_list_finds_a_client_by_what_is_encrypted(text, alice, adviser, client):
    factories.make_client("Bob Svoboda")
    client.force_login(adviser)
    found = client.get(LIST, {"q": text}).context["cl"].result_list
    assert alice in found
    assert len(found) == (2 if text == "C-0" else 1)


def test_the_autocomplete_finds_by_name_and_shows_it(alice, adviser, client):
    client.force_login(adviser)
    asked = {"term": "nov", "app_label": "crm", "model_name": "case", "field_name": "client"}
    answer = client.get(reverse("admin:autocomplete"), asked).json()
    assert answer["results"] == [{"id": str(alice.pk), "text": f"Alice Nováková ({alice.reference})"}]


def test_the_autocomplete_shows_no_foreign_client(settings, adviser, client):
    settings.ADVISER_SCOPE = "own"
    factories.make_case(factories.make_client("Alice Nováková"), adviser=factories.make_user())
    client.force_login(adviser)
    asked = {"term": "nov", "app_label": "crm", "model_name": "case", "field_name": "client"}
    assert client.get(reverse("admin:autocomplete"), asked).json()["results"] == []


def test_a_foreign_client_cannot_be_chosen_by_his_id(settings, adviser, client):
    settings.ADVISER_SCOPE = "own"
    foreign = factories.make_case(factories.make_client(), adviser=factories.make_user()).client
    client.force_login(adviser)
    data = {"client": foreign.pk, "opened_on": "2026-03-02", "adviser": adviser.pk}
    answer = client.post("/admin/crm/case/add/", data)
    assert set(answer.context["adminform"].form.errors) == {"client"}


def test_a_client_is_written_down_the_czech_way(adviser, client):
    adviser.language = "cs"
    adviser.save()
    client.force_login(adviser)
    data = {"full_name": "Ing. Jiří Šťastný, Ph.D.", "birth_date": "1. 2. 1985"}
    answer = client.post("/admin/crm/client/add/", data)
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    person = models.Client.objects.get()
    assert (person.full_name, person.birth_date) == ("Ing. Jiří Šťastný, Ph.D.", datetime.date(1985, 2, 1))
    page = client.get(change(person)).content.decode()
    assert 'value="1.\xa02.\xa01985"' in page


@pytest.mark.parametrize("written", ["750815 / 5006", "750815\xa0/\u202f5006", " 750815/ 5006\t"])
def test_a_birth_number_may_have_blanks_round_its_slash(written, alice, adviser, client):
    client.force_login(adviser)
    assert "maxlength" not in client.get(change(alice)).context["adminform"].form.fields["birth_number"].widget.attrs
    answer = client.post(change(alice), typed(alice, birth_number=written))
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    alice.refresh_from_db()
    assert alice.birth_number == "750815/5006"


def test_a_wrong_birth_number_is_an_error_on_its_field(alice, adviser, client):
    client.force_login(adviser)
    answer = client.post(change(alice), typed(alice, birth_number="850101/1234"))
    assert set(answer.context["adminform"].form.errors) == {"birth_number"}


@pytest.mark.parametrize("field", ["full_name", "email", "note", "street", "citizenship", "birth_date"])
def test_a_token_is_an_error_on_its_field_and_changes_nothing(field, alice, adviser, client):
    client.force_login(adviser)
    answer = client.post(change(alice), typed(alice, **{field: TOKEN}))
    assert set(answer.context["adminform"].form.errors) == {field}
    assert "Alice Nováková" not in str(answer.context["adminform"].form.errors)


def test_our_own_token_is_not_decrypted_by_pasting_it(alice, adviser, client):
    """stack.md 4: the plain package's to_python decrypts what is typed."""
    token = stored(alice, "email")
    client.force_login(adviser)
    answer = client.post(change(alice), typed(alice, note=token))
    assert set(answer.context["adminform"].form.errors) == {"note"}
    assert "alice@example.com" not in str(answer.context["adminform"].form["note"])


def test_a_token_in_an_inline_is_an_error_there(alice, adviser, client):
    client.force_login(adviser)
    data = typed(alice, **formsets(finance_items=1))
    data |= {"finance_items-0-kind": "employment", "finance_items-0-proof": TOKEN, "finance_items-0-client": alice.pk}
    answer = client.post(change(alice), data)
    assert answer.status_code == 200
    errors = [formset.formset.errors for formset in answer.context["inline_admin_formsets"]]
    assert {"proof"} in [set(error) for group in errors for error in group]
    assert not models.FinanceItem.objects.exists()


def test_an_income_in_czech_writing_is_kept_to_the_heller(alice, adviser, client):
    client.force_login(adviser)
    data = typed(alice, **formsets(finance_items=1))
    data |= {
        "finance_items-0-kind": "employment",
        "finance_items-0-monthly_czk": "1\xa0234\xa0567,50 Kč",
        "finance_items-0-client": alice.pk,
    }
    assert client.post(change(alice), data).status_code == 302
    assert str(models.FinanceItem.objects.get().monthly_czk) == "1234567.50"


def test_the_list_loads_with_a_value_that_no_key_opens(alice, adviser, client):
    tamper(alice, "full_name")
    factories.make_client("Bob Svoboda")
    client.force_login(adviser)
    page = client.get(LIST).content.decode()
    assert "⚠ unreadable" in page
    assert "Bob Svoboda" in page


@pytest.mark.parametrize("field", ["email", "birth_date", "full_name", "note"])
def test_an_unreadable_value_is_an_error_on_its_field_and_survives_saving(field, alice, adviser, client):
    foreign = tamper(alice, field)
    client.force_login(adviser)
    form = client.get(change(alice)).context["adminform"].form
    assert [name for name in form.fields if form[name].errors] == [field]
    assert form[field].errors == [UNREADABLE]
    assert form.fields[field].disabled
    data = typed(alice, **{"city": "Brno", "full_name": "Alice Nováková", field: "typed all the same"})
    assert client.post(change(alice), data).status_code == 302
    assert stored(alice, field) == foreign
    assert models.Client.objects.get(pk=alice.pk).city == "Brno"


def test_an_unreadable_value_is_shown_to_who_may_only_look(alice, auditor, client):
    tamper(alice, "birth_date")
    client.force_login(auditor)
    assert "⚠ unreadable" in client.get(change(alice)).content.decode()


def test_a_client_with_a_case_is_not_deleted_and_the_page_says_why(alice, adviser, client):
    case = factories.make_case(alice)
    client.force_login(adviser)
    path = reverse("admin:crm_client_delete", args=[alice.pk])
    assert case.reference in client.get(path).content.decode()
    answer = client.post(path, {"post": "yes"})
    assert answer.status_code == 200
    assert models.Client.objects.filter(pk=alice.pk).exists()
    with pytest.raises(ProtectedError):
        alice.delete()


def test_deleting_a_client_keeps_his_history(alice, adviser, client):
    client.force_login(adviser)
    page = reverse("admin:crm_client_delete", args=[alice.pk])
    assert client.post(page, {"post": "yes", "seen": client.get(page).context["seen"]}).status_code == 302
    assert not models.Client.objects.filter(pk=alice.pk).exists()
    assert [row.history_type for row in models.Client.history.filter(id=alice.pk)] == ["-", "+"]


def test_the_page_links_cases_and_a_new_one(alice, adviser, client):
    case = factories.make_case(alice)
    client.force_login(adviser)
    page = client.get(change(alice)).content.decode()
    assert reverse("admin:crm_case_change", args=[case.pk]) in page
    assert f"/admin/crm/case/add/?client={alice.pk}" in page


def test_the_new_case_of_a_client_knows_him(alice, adviser, client):
    client.force_login(adviser)
    form = client.get("/admin/crm/case/add/", {"client": alice.pk}).context["adminform"].form
    assert str(form.initial["client"]) == str(alice.pk)


def test_the_list_cannot_be_sorted_by_a_name(alice, adviser, client):
    client.force_login(adviser)
    answer = client.get(LIST, {"o": "3"})
    assert answer.status_code == 200
    assert answer.context["cl"].get_ordering_field("full_name") is None


def test_saving_writes_who_and_from_where(alice, adviser, client):
    client.force_login(adviser)
    client.post(change(alice), typed(alice, city="Brno"))
    last = alice.history.first()
    assert (last.history_user_id, last.history_user_name, last.source) == (adviser.pk, str(adviser), "admin")


def test_saving_without_a_change_leaves_no_history_row(alice, adviser, client):
    client.force_login(adviser)
    fields = {name: getattr(alice, name) for name in ("email", "phone")}
    assert client.post(change(alice), typed(alice, **fields)).status_code == 302
    assert alice.history.count() == 1


def test_saving_keeps_what_a_colleague_wrote_the_moment_before(alice, adviser, client, monkeypatch):
    client.force_login(adviser)
    shown = {"email": alice.email, "phone": alice.phone, "city": "Brno"}
    keep = models.Client.save

    def meanwhile(self, *args, **kwargs):
        models.Client.objects.filter(pk=self.pk).update(citizenship="SK")
        return keep(self, *args, **kwargs)

    monkeypatch.setattr(models.Client, "save", meanwhile)
    client.post(change(alice), typed(alice, **shown))
    alice.refresh_from_db()
    assert (alice.city, alice.citizenship) == ("Brno", "SK")
