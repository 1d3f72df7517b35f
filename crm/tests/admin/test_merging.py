"""Two people at one record: nothing is overwritten silently, and nothing typed is lost."""

import re
import threading

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client as Browser
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.html import escape

from crm import models, roles, workflow
from crm.admin.merging import VERSIONS
from crm.models import operation
from crm.tests import factories
from crm.tests.raw import tamper
from crm.tests.test_no_gap import filled

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice(db):
    return factories.make_client("Alice Nováková", email="alice@example.com", phone="601", citizenship="CZ")


@pytest.fixture
def bob(db):
    return factories.make_user(first_name="Bob", last_name="Malý")


@pytest.fixture
def browse(client):
    client.force_login(factories.make_user(language="en"))
    return client


def page(row) -> str:
    return reverse(f"admin:crm_{row._meta.model_name}_change", args=[row.pk])


def opened(browse, row) -> dict:
    """The form as somebody has it on the screen while others go on working."""
    return filled(browse.get(page(row)))


def meanwhile(by, row, **changes):
    with operation("admin", user=by):
        type(row).objects.filter(pk=row.pk).update(**changes)


def said(answer) -> str:
    return " ".join(str(message) for message in get_messages(answer.wsgi_request))


def test_what_i_did_not_touch_takes_the_others_value_and_i_am_told(browse, alice, bob):
    form = opened(browse, alice)
    meanwhile(bob, alice, phone="602", note="met")
    answer = browse.post(page(alice), form | {"email": "new@example.com"})
    assert answer.status_code == 302
    alice.refresh_from_db()
    assert (alice.email, alice.phone, alice.note) == ("new@example.com", "602", "met")
    assert said(answer).startswith("Bob Malý changed meanwhile, and it stays: Phone, Note.")
    row = models.Client.history.first()
    assert (row.email, row.phone) == ("new@example.com", "602")


def test_a_field_that_both_changed_is_asked_about_and_nothing_is_saved(browse, alice, bob):
    form = opened(browse, alice) | {"phone": "603", "email": "mine@example.com"}
    meanwhile(bob, alice, phone="602")
    answer = browse.post(page(alice), form)
    assert answer.status_code == 200
    shown = answer.content.decode()
    assert escape("Bob Malý") in shown and "“601”" in shown and "“602”" in shown
    assert filled(answer)["phone"] == "603" and filled(answer)["email"] == "mine@example.com"
    alice.refresh_from_db()
    assert (alice.phone, alice.email) == ("602", "alice@example.com")


@pytest.mark.parametrize(("choice", "phone"), [("mine", "603"), ("theirs", "602")])
def test_the_choice_is_made_by_hand(browse, alice, bob, choice, phone):
    form = opened(browse, alice) | {"phone": "603", "email": "mine@example.com"}
    meanwhile(bob, alice, phone="602")
    answer = browse.post(page(alice), form)
    [value] = re.findall(rf'name="_decide-phone" value="({choice}[^"]*)"', answer.content.decode())
    again = filled(answer) | {"_decide-phone": value}
    assert browse.post(page(alice), again).status_code == 302
    alice.refresh_from_db()
    assert (alice.phone, alice.email) == (phone, "mine@example.com")


def test_a_choice_made_before_the_other_wrote_once_more_is_asked_again(browse, alice, bob):
    form = opened(browse, alice) | {"phone": "603"}
    meanwhile(bob, alice, phone="602")
    answer = browse.post(page(alice), form)
    [value] = re.findall(r'name="_decide-phone" value="(mine[^"]*)"', answer.content.decode())
    meanwhile(bob, alice, phone="604")
    again = browse.post(page(alice), form | {"_decide-phone": value})
    assert again.status_code == 200 and "“604”" in again.content.decode()
    alice.refresh_from_db()
    assert alice.phone == "604"


def test_a_mistake_elsewhere_does_not_make_the_others_value_mine(browse, alice, bob):
    form = opened(browse, alice) | {"birth_number": "nonsense"}
    meanwhile(bob, alice, phone="602")
    answer = browse.post(page(alice), form)
    again = filled(answer) | {"birth_number": ""}
    assert browse.post(page(alice), again).status_code == 302
    alice.refresh_from_db()
    assert alice.phone == "602"


def test_rows_of_an_inline_are_merged_too(browse, alice, bob):
    item = models.FinanceItem.objects.create(client=alice, kind="rent", monthly_czk=100, proof="old")
    form = opened(browse, alice)
    meanwhile(bob, item, monthly_czk=200)
    assert browse.post(page(alice), form | {"finance_items-0-proof": "new"}).status_code == 302
    item.refresh_from_db()
    assert (item.monthly_czk, item.proof) == (200, "new")
    form = opened(browse, alice)
    meanwhile(bob, item, monthly_czk=300)
    answer = browse.post(page(alice), form | {"finance_items-0-monthly_czk": "400"})
    assert answer.status_code == 200
    assert 'name="_decide-finance_items-0-monthly_czk"' in answer.content.decode()
    item.refresh_from_db()
    assert item.monthly_czk == 300


def test_a_row_that_was_deleted_meanwhile_is_told_and_one_that_was_added_stays(browse, alice, bob):
    item = models.FinanceItem.objects.create(client=alice, kind="rent", monthly_czk=100)
    form = opened(browse, alice) | {"finance_items-0-proof": "typed at length"}
    item.delete()
    added = models.FinanceItem.objects.create(client=alice, kind="business", monthly_czk=5)
    answer = browse.post(page(alice), form)
    assert answer.status_code == 200
    assert "deleted this row" in answer.content.decode() and "typed at length" in answer.content.decode()
    assert browse.post(page(alice), form | {"finance_items-0-DELETE": "on"}).status_code == 302
    assert list(alice.finance_items.all()) == [added]


def test_a_row_that_another_changed_meanwhile_is_deleted_only_by_who_has_seen_that(browse, alice, bob):
    item = models.FinanceItem.objects.create(client=alice, kind="rent", monthly_czk=100, proof="old")
    form = opened(browse, alice) | {"finance_items-0-DELETE": "on", "phone": "603"}
    meanwhile(bob, item, proof="an hour of work")
    answer = browse.post(page(alice), form)
    shown = answer.content.decode()
    assert answer.status_code == 200 and "Bob Malý changed" in shown and "an hour of work" in shown
    [asked] = re.findall(r'name="_decide-finance_items-0-DELETE" value="(mine[^"]*)"', shown)
    assert filled(answer)["phone"] == "603"
    again = filled(answer) | {"_decide-finance_items-0-DELETE": asked}
    meanwhile(bob, item, monthly_czk=200)
    assert browse.post(page(alice), again).status_code == 200
    item.refresh_from_db()
    [asked] = re.findall(
        r'name="_decide-finance_items-0-DELETE" value="(mine[^"]*)"', browse.post(page(alice), again).content.decode()
    )
    done = browse.post(page(alice), again | {"_decide-finance_items-0-DELETE": asked})
    assert done.status_code == 302 and "it stays" not in said(done)
    assert not alice.finance_items.exists()


def test_a_deletion_that_is_taken_back_merges_the_row(browse, alice, bob):
    item = models.FinanceItem.objects.create(client=alice, kind="rent", monthly_czk=100, proof="old")
    form = opened(browse, alice) | {"finance_items-0-DELETE": "on"}
    meanwhile(bob, item, proof="an hour of work")
    again = filled(browse.post(page(alice), form)) | {"finance_items-0-monthly_czk": "300"}
    del again["finance_items-0-DELETE"]
    assert browse.post(page(alice), again).status_code == 302
    item.refresh_from_db()
    assert (item.monthly_czk, item.proof) == (300, "an hour of work")


@pytest.mark.parametrize("what", ["record", "row"])
def test_a_deletion_is_confirmed_of_what_was_shown(browse, alice, bob, what):
    item = models.FinanceItem.objects.create(client=alice, kind="rent")
    address = reverse("admin:crm_client_delete", args=[alice.pk])
    shown = browse.get(address)
    meanwhile(bob, alice, note="met") if what == "record" else meanwhile(bob, item, proof="an hour of work")
    late = browse.post(address, {"post": "yes", "seen": shown.context["seen"]}, follow=True)
    assert "was changed since this page was opened" in late.content.decode()
    assert models.Client.objects.filter(pk=alice.pk).exists()
    assert browse.post(address, {"post": "yes", "seen": late.context["seen"]}).status_code == 302
    assert not models.Client.objects.filter(pk=alice.pk).exists()


def test_a_deletion_of_the_selected_is_confirmed_of_what_was_shown(browse, alice, bob):
    other = factories.make_client("Charlie")
    data = {"action": "delete_selected", ACTION_CHECKBOX_NAME: [alice.pk, other.pk]}
    address = reverse("admin:crm_client_changelist")
    shown = browse.post(address, data)
    assert f'value="{shown.context_data["seen"]}"' in shown.content.decode()
    meanwhile(bob, other, note="met")
    late = browse.post(address, data | {"post": "yes", "seen": shown.context_data["seen"]})
    assert "was changed since this page was opened" in late.content.decode()
    assert models.Client.objects.count() == 2
    browse.post(address, data | {"post": "yes", "seen": late.context_data["seen"]})
    assert not models.Client.objects.exists()


def test_what_a_rule_refuses_while_saving_comes_back_as_it_was_typed(browse, settings, bob):
    settings.ADVISER_SCOPE = "own"
    me = factories.make_user(language="en")
    case = factories.make_case(adviser=bob, stand_in=me)
    browse.force_login(me)
    form = opened(browse, case) | {"stand_in": "", "steps-0-deadline": "2031-01-01", "loan_purpose": "typed at length"}
    answer = browse.post(page(case), form)
    assert answer.status_code == 200 and "Your role does not allow this." in answer.content.decode()
    assert (filled(answer)["loan_purpose"], filled(answer)["steps-0-deadline"]) == ("typed at length", "2031-01-01")
    case.refresh_from_db()
    assert (case.loan_purpose, case.stand_in) == ("", me)


@pytest.mark.parametrize("verb", ["reject", "withdraw", "reopen", "hand_over"])
def test_a_case_that_was_deleted_gives_back_the_reason_that_was_typed(browse, bob, verb):
    browse.force_login(factories.make_user(roles.MANAGER, language="en"))
    case = factories.make_case()
    address = reverse(f"admin:crm_case_{verb}", args=[case.pk])
    case.delete()
    assert browse.get(address).status_code == 404
    answer = browse.post(address, {"on": "2026-03-01", "reason": "typed at length"})
    assert answer.status_code == 404 and dict(answer.context["typed"])["Reason"] == "typed at length"


def test_a_step_that_was_deleted_gives_back_the_reason_that_was_typed(browse):
    case = factories.make_case()
    address = reverse("admin:crm_casestep_not_applicable", args=[case.steps.first().pk])
    case.delete()
    answer = browse.post(address, {"reason": "typed at length"})
    assert answer.status_code == 404 and "typed at length" in answer.content.decode()


def test_a_row_that_others_rows_moved_to_the_next_page_is_still_mine(browse, bob):
    case = factories.make_case()
    notes = [models.Note.objects.create(case=case, text=f"note {number}") for number in range(10)]
    form = opened(browse, case)
    models.Note.objects.create(case=case, text="of another")
    last = next(
        name
        for name, value in form.items()
        if name.startswith("notes") and name.endswith("-id") and str(value) == str(notes[0].pk)
    )
    assert browse.post(page(case), form | {last.replace("-id", "-text"): "mine"}).status_code == 302
    notes[0].refresh_from_db()
    assert notes[0].text == "mine"


def test_a_record_that_was_deleted_meanwhile_gives_back_what_was_typed(browse, bob):
    client = factories.make_client("Charlie")
    models.FinanceItem.objects.create(client=client, kind="rent")
    form = opened(browse, client) | {"note": "typed at length", "finance_items-0-proof": "a payslip"}
    client.delete()
    answer = browse.post(page(client), form)
    assert answer.status_code == 404
    typed = dict(answer.context["typed"])
    assert (typed["Proof"], typed["Full name"]) == ("a payslip", "Charlie")
    assert "typed at length" in answer.content.decode()
    assert not any("FORMS" in label or "-" in label for label in typed)


def test_the_steps_of_a_case_are_merged_too(browse, bob):
    case = factories.make_case()
    step = case.steps.first()
    form = opened(browse, case)
    meanwhile(bob, step, deadline=factories.TODAY.replace(day=20))
    assert browse.post(page(case), form | {"steps-0-note": "called"}).status_code == 302
    step.refresh_from_db()
    assert (step.deadline.day, step.note) == (20, "called")


def test_numbers_and_dates_of_a_czech_form_are_compared_by_their_value(client, bob):
    jana = factories.make_user(language="cs")
    client.force_login(jana)
    case = factories.make_case(loan_amount_czk="1234567.50")
    form = opened(client, case)
    assert form["loan_amount_czk"] == "1\u00a0234\u00a0567,50"
    meanwhile(bob, case, property_price_czk=5)
    assert client.post(page(case), form | {"ltv_percent": "79,9"}).status_code == 302
    assert [row.history_user_name for row in models.Case.history.all()[:2]] == [str(jana), str(bob)]
    case.refresh_from_db()
    assert (str(case.loan_amount_czk), str(case.ltv_percent), case.property_price_czk) == ("1234567.50", "79.90", 5)


def test_line_breaks_that_a_browser_sends_are_no_change(browse, alice):
    meanwhile(None, alice, note="one\ntwo")
    before = models.Client.history.count()
    form = opened(browse, alice)
    assert browse.post(page(alice), form | {"note": "one\r\ntwo"}).status_code == 302
    assert models.Client.history.count() == before


def test_an_unreadable_value_merges_with_the_rest(browse, alice, bob):
    tamper(alice, "email", "damaged")
    form = opened(browse, alice)
    meanwhile(bob, alice, phone="602")
    assert browse.post(page(alice), form | {"citizenship": "SK"}).status_code == 302
    alice.refresh_from_db()
    assert (alice.phone, alice.citizenship) == ("602", "SK")


@pytest.mark.parametrize(
    "versions", ["", "{", '{"client:%s": "x"}', '{"client:%s": 999999}', "[]", '{"client:%s": 1e999}']
)
def test_a_version_that_is_missing_or_never_was_saves_only_what_was_looked_at(browse, alice, bob, versions):
    form = opened(browse, alice) | {"phone": "603", VERSIONS: versions.replace("%s", str(alice.pk))}
    meanwhile(bob, alice, phone="602")
    answer = browse.post(page(alice), form)
    assert answer.status_code == 200 and "Phone: “602”" in answer.content.decode()
    alice.refresh_from_db()
    assert alice.phone == "602"
    again = filled(answer)
    assert again["phone"] == "603"
    assert browse.post(page(alice), again).status_code == 302
    alice.refresh_from_db()
    assert alice.phone == "603"


def test_a_version_of_another_record_is_none_of_this_one(browse, alice, bob):
    other = factories.make_client("Charlie", phone="601")
    foreign = other.history.first().history_id
    form = opened(browse, alice) | {"phone": "603", VERSIONS: f'{{"client:{alice.pk}": {foreign}}}'}
    meanwhile(bob, alice, phone="602")
    assert browse.post(page(alice), form).status_code == 200
    alice.refresh_from_db()
    assert alice.phone == "602"


def test_a_field_that_was_closed_meanwhile_gives_back_what_was_typed(browse, bob):
    case = factories.make_case()
    step = case.steps.first()
    form = opened(browse, case) | {"steps-0-deadline": "2031-05-06"}
    with operation("admin", user=bob):
        workflow.complete_step(step, by=bob, on=factories.TODAY)
    answer = browse.post(page(case), form)
    assert answer.status_code == 200 and "You typed “2031-05-06”" in answer.content.decode()
    step.refresh_from_db()
    assert step.deadline.year != 2031


def test_an_approval_takes_back_nobodys_numbers(browse, bob):
    case, lender = factories.make_case(loan_amount_czk=100), models.Lender.objects.first()
    browse.force_login(factories.make_user(roles.MANAGER, language="en"))
    address = reverse("admin:crm_case_approve", args=[case.pk])
    answer = browse.get(address)
    typed = {
        VERSIONS: answer.context["versions"], "on": "2026-01-05", "lender": lender.pk, "approved_amount_czk": "90",
        "override_reason": "because", "term_months": "",
    }  # fmt: skip
    meanwhile(bob, case, term_months=240)
    done = browse.post(address, typed)
    assert done.status_code == 302 and "Bob Malý changed meanwhile" in said(done)
    case.refresh_from_db()
    assert (case.status, case.term_months) == ("approved", 240)


def test_a_role_that_another_gave_meanwhile_stays(browse, bob):
    browse.force_login(factories.make_user(roles.ADMINISTRATOR, language="en"))
    form = opened(browse, bob)
    with operation("admin", user=bob):
        roles.assign(bob, roles.MANAGER)
    assert browse.post(page(bob), form | {"email": "bob@example.com"}).status_code == 302
    bob = models.User.objects.get(pk=bob.pk)
    assert (roles.role_of(bob), bob.email) == (roles.MANAGER, "bob@example.com")
    form = opened(browse, bob) | {"role": roles.AUDITOR}
    with operation("admin", user=bob):
        roles.assign(bob, roles.ADVISER)
    answer = browse.post(page(bob), form)
    assert answer.status_code == 200 and "“Manager” to “Adviser”" in answer.content.decode()


def test_a_page_with_twenty_rows_asks_as_often_as_one_with_ten(browse, alice):
    counts = []
    browse.get(page(alice))
    for _ in range(2):
        for number in range(10):
            models.FinanceItem.objects.create(client=alice, kind="rent", monthly_czk=number)
        with CaptureQueriesContext(connection) as queries:
            browse.get(page(alice))
        counts.append(len(queries))
    assert counts[0] == counts[1]


@pytest.mark.django_db(transaction=True)
def test_of_two_who_save_one_field_at_the_same_moment_one_is_asked():
    alice = factories.make_client("Alice Nováková", phone="601")
    forms, answers, ready = [], [], threading.Barrier(2)
    for _ in range(2):
        browser = Browser()
        browser.force_login(factories.make_user(roles.ADVISER))
        forms.append((browser, opened(browser, alice)))

    def save(browser, form, phone):
        ready.wait()
        answers.append(browser.post(page(alice), form | {"phone": phone}).status_code)
        connection.close()

    threads = [threading.Thread(target=save, args=(*form, f"70{at}")) for at, form in enumerate(forms)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 302]
    assert models.Client.history.filter(history_type="~").count() == 1


@pytest.mark.django_db(transaction=True)
def test_who_writes_while_a_case_is_being_approved_waits_and_loses_nothing(monkeypatch):
    case, lender = factories.make_case(), factories.make_lender()
    browser = Browser()
    browser.force_login(factories.make_user(roles.MANAGER))
    address = reverse("admin:crm_case_approve", args=[case.pk])
    typed = {
        VERSIONS: browser.get(address).context["versions"], "on": "2026-01-05", "lender": lender.pk,
        "approved_amount_czk": "90", "override_reason": "because", "approved_terms": "",
    }  # fmt: skip

    def write():
        meanwhile(None, case, approved_terms="of another")
        connection.close()

    other, approve = threading.Thread(target=write), workflow.approve

    def slow(*args, **kwargs):
        other.start()
        other.join(1)
        return approve(*args, **kwargs)

    monkeypatch.setattr(workflow, "approve", slow)
    assert browser.post(address, typed).status_code == 302
    other.join()
    case.refresh_from_db()
    assert (case.status, case.approved_terms) == ("approved", "of another")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("round", range(3))
def test_of_two_at_one_step_on_different_pages_one_is_asked_and_none_is_thrown_out(round):
    case = factories.make_case()
    step = case.steps.first()
    meanwhile(None, step, note="before")
    answers, ready = {}, threading.Barrier(2)
    forms = []
    for row, name in ((case, "steps-0-note"), (step, "note")):
        browser = Browser()
        browser.force_login(factories.make_user(roles.ADVISER))
        deadline = {name.replace("note", "deadline"): "2031-05-06"}
        forms.append((browser, row, opened(browser, row) | {name: f"of the {row._meta.model_name}"} | deadline))

    def save(browser, row, form):
        ready.wait()
        answers[row._meta.model_name] = browser.post(page(row), form).status_code
        connection.close()

    threads = [threading.Thread(target=save, args=each) for each in forms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers.values()) == [200, 302]
    step.refresh_from_db()
    [winner] = [name for name, status in answers.items() if status == 302]
    assert step.note == f"of the {winner}"


def test_versions_that_are_nested_too_deep_are_none(browse, alice):
    form = opened(browse, alice) | {"_versions": "[" * 100_000, "phone": "605"}
    assert "does not say when it was opened" in browse.post(page(alice), form).content.decode()
