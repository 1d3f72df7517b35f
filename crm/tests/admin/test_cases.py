"""The case's list and page, and its actions: approve, reject, withdraw, reopen, hand over."""

import datetime
from decimal import Decimal

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from crm import models, roles, workflow
from crm.admin.merging import VERSIONS
from crm.choices import CaseStatus, NoteKind
from crm.exceptions import CannotTakeCase
from crm.tests import factories
from crm.tests.admin.rows import as_now

pytestmark = pytest.mark.django_db
LIST = "/admin/crm/case/"
PREFIXES = ("steps", "parties", "properties", "documents", "notes", "commissions")
ACTIONS = ("approve", "reject", "withdraw", "hand-over")


def change(case) -> str:
    return reverse("admin:crm_case_change", args=[case.pk])


def page_of(case, action: str) -> str:
    return f"{change(case).removesuffix('change/')}{action}/"


def posted(client, case, **typed) -> dict:
    """What the browser would send for the case's page as it is shown, with `typed` over it."""
    context = client.get(change(case)).context
    data = {}
    forms = [context["adminform"].form]
    for inline in context["inline_admin_formsets"]:
        forms += [inline.formset.management_form, *inline.formset.initial_forms]
    for form in forms:
        for bound in form:
            value = bound.value()
            shown = bound.field.widget.format_value(value) if value is not None else ""
            if isinstance(shown, list):
                shown = shown[0] if shown else ""
            if not bound.field.disabled and value is not False:
                data[bound.html_name] = "" if shown is None else shown
    return {**data, VERSIONS: context["versions"], **typed}


@pytest.fixture
def case(db, adviser):
    return factories.make_case(
        factories.make_client("Alice Nováková"), adviser=adviser, loan_amount_czk=Decimal("2000000.00")
    )


def test_a_new_case_gets_its_15_steps(adviser, client):
    factories.make_catalogue()
    person = factories.make_client()
    client.force_login(adviser)
    data = {"client": person.pk, "adviser": adviser.pk, "opened_on": "2. 3. 2026", "loan_amount_czk": "1 234 567,50"}
    answer = client.post(f"{LIST}add/", data)
    case = models.Case.objects.get()
    assert answer.url == change(case)
    assert (case.steps.count(), case.current_step.number) == (15, 1)
    assert (case.opened_on, case.loan_amount_czk) == (datetime.date(2026, 3, 2), Decimal("1234567.50"))


def works_here_no_more(**fields):
    return factories.make_user(is_active=False, **fields)


def only_looks(**fields):
    return factories.make_user(roles.AUDITOR, **fields)


NO_TAKERS = pytest.mark.parametrize("make_other", [works_here_no_more, only_looks])


@NO_TAKERS
def test_a_new_case_is_given_to_nobody_who_may_not_change_cases(make_other, adviser, client):
    factories.make_catalogue()
    client.force_login(adviser)
    data = {"client": factories.make_client().pk, "adviser": make_other().pk, "opened_on": "2026-03-02"}
    answer = client.post(f"{LIST}add/", data)
    assert answer.context["adminform"].form.errors == {"adviser": [str(CannotTakeCase())]}
    assert not models.Case.objects.exists()


@NO_TAKERS
def test_nobody_stands_in_who_may_not_change_cases(make_other, case, adviser, client):
    client.force_login(adviser)
    answer = client.post(change(case), posted(client, case, stand_in=make_other().pk))
    assert answer.context["adminform"].form.errors == {"stand_in": [str(CannotTakeCase())]}


@NO_TAKERS
def test_who_stands_in_already_stays_whatever_he_may_do_now(make_other, case, adviser, client):
    other = make_other()
    models.Case.objects.filter(pk=case.pk).update(stand_in=other)
    client.force_login(adviser)
    assert client.post(change(case), posted(client, case, proposed_terms="Fixed.")).status_code == 302
    case.refresh_from_db()
    assert (case.stand_in, case.proposed_terms) == (other, "Fixed.")


@pytest.mark.parametrize("field", workflow.GIVEN_TO)
def test_whoever_may_not_change_cases_is_offered_for_none(field, adviser, client):
    for make in (works_here_no_more, only_looks):
        make(last_name="Nováková")
    anna = factories.make_user(last_name="Nováková", first_name="Anna")
    client.force_login(adviser)
    asked = {"term": "nov", "app_label": "crm", "model_name": "case", "field_name": field}
    found = client.get(reverse("admin:autocomplete"), asked).json()["results"]
    assert [choice["id"] for choice in found] == [str(anna.pk)]


def test_saving_the_page_unchanged_changes_nothing(case, adviser, client):
    adviser.language = "cs"
    adviser.save()
    client.force_login(adviser)
    before = models.Case.objects.values().get(pk=case.pk)
    steps = list(models.CaseStep.objects.filter(case=case).order_by("pk").values())
    assert client.post(change(case), posted(client, case)).status_code == 302
    after = models.Case.objects.values().get(pk=case.pk)
    assert {key for key in before if before[key] != after[key]} <= {"updated_at"}
    assert list(models.CaseStep.objects.filter(case=case).order_by("pk").values()) == steps


@pytest.mark.parametrize("written", ["1 234 567,50", "1234567.50", "1\u202f234\u202f567,50", "1234567,5 Kč"])
@pytest.mark.parametrize("language", ["cs", "en"])
def test_an_amount_is_taken_as_people_write_it(written, language, case, adviser, client):
    adviser.language = language
    adviser.save()
    client.force_login(adviser)
    assert client.post(change(case), posted(client, case, loan_amount_czk=written)).status_code == 302
    case.refresh_from_db()
    assert case.loan_amount_czk == Decimal("1234567.50")


@pytest.mark.parametrize(("language", "shown"), [("cs", "1 234 567,50"), ("en", "1 234 567.50")])
def test_an_amount_is_shown_as_the_reader_writes_it(language, shown, case, adviser, client):
    adviser.language = language
    adviser.save()
    models.Case.objects.filter(pk=case.pk).update(loan_amount_czk=Decimal("1234567.50"))
    client.force_login(adviser)
    assert f'value="{shown}"'.replace(" ", "\xa0") in client.get(change(case)).content.decode().replace(" ", "\xa0")


def test_an_amount_that_cannot_be_read_is_an_error_and_not_empty(case, adviser, client):
    client.force_login(adviser)
    answer = client.post(change(case), posted(client, case, loan_amount_czk="two million"))
    assert set(answer.context["adminform"].form.errors) == {"loan_amount_czk"}


def test_typed_amounts_stay_and_a_mismatch_is_a_warning(case, adviser, client):
    client.force_login(adviser)
    data = posted(client, case, loan_amount_czk="2 000 000", property_price_czk="2 500 100", ltv_percent="95")
    client.post(change(case), data)
    case.refresh_from_db()
    assert (case.loan_amount_czk, case.ltv_percent) == (Decimal("2000000"), Decimal("95"))
    assert any("95,00" in str(warning) for warning in client.get(change(case)).context["case_warnings"])


def test_the_page_shows_the_steps_as_a_line(case, adviser, client):
    first = case.steps.order_by("step__number").first()
    workflow.complete_step(first, by=adviser, on=factories.TODAY)
    client.force_login(adviser)
    answer = client.get(change(case))
    line = answer.context["progress"]
    assert [entry["state"] for entry in line][:2] != ["done", "done"]
    assert line[0]["state"] == "done"
    assert [entry["is_current"] for entry in line].index(True) == 1
    assert answer.content.decode().count('aria-current="step"') == 1


def test_a_deadline_typed_in_the_steps_moves_the_case(case, adviser, client):
    client.force_login(adviser)
    answer = client.post(change(case), posted(client, case, **{"steps-0-deadline": "4. 3. 2026"}))
    assert answer.status_code == 302
    case.refresh_from_db()
    assert case.next_deadline == datetime.date(2026, 3, 4)
    assert list(workflow.mismatches()) == []


def test_a_note_of_a_step_keeps_its_state(case, adviser, client):
    client.force_login(adviser)
    data = posted(client, case, **{"steps-0-note": "Waits for the contract."})
    step = case.steps.order_by("step__number").first()
    workflow.complete_step(step, by=adviser, on=factories.TODAY)
    assert client.post(change(case), data).status_code == 302
    step.refresh_from_db()
    assert (step.note, step.state) == ("Waits for the contract.", "done")


def test_state_and_status_are_not_typed(case, adviser, client):
    client.force_login(adviser)
    typed = {"status": "approved", "steps-0-state": "done", "steps-0-completed_on": "2026-03-02", "adviser": ""}
    client.post(change(case), posted(client, case, **typed))
    case.refresh_from_db()
    assert (case.status, case.adviser) == (CaseStatus.OPEN, adviser)
    assert case.steps.filter(state="done").count() == 0


def test_a_note_gets_its_author(case, adviser, client):
    client.force_login(adviser)
    data = posted(client, case, **{"notes-TOTAL_FORMS": 1, "notes-0-text": "Called.", "notes-0-case": case.pk})
    assert client.post(change(case), data).status_code == 302
    note = models.Note.objects.get()
    assert (note.author, note.author_name, note.text) == (adviser, str(adviser), "Called.")


def test_an_imported_note_can_be_neither_changed_nor_deleted(case, adviser, client):
    note = models.Note.objects.create(case=case, kind=NoteKind.CHANGE, text="Old log.")
    client.force_login(adviser)
    data = posted(client, case, **{"notes-0-id": note.pk, "notes-0-text": "Forged."})
    client.post(change(case), data)
    client.post(change(case), {**data, "notes-0-DELETE": "on"})
    assert client.post(reverse("admin:crm_note_change", args=[note.pk]), {"text": "Forged."}).status_code == 403
    assert client.post(reverse("admin:crm_note_delete", args=[note.pk]), {"post": "yes"}).status_code == 403
    note.refresh_from_db()
    assert note.text == "Old log."


# --- Actions ---


def test_approve_asks_for_a_reason_before_its_turn(case, manager, client):
    lender = factories.make_lender()
    client.force_login(manager)
    typed = {"on": "3. 3. 2026", "lender": lender.pk, "approved_amount_czk": "1 900 000", **as_now(case)}
    answer = client.post(page_of(case, "approve"), typed)
    assert len(answer.context["form"].non_field_errors()) == 1
    assert models.Case.objects.get(pk=case.pk).status == "open"
    answer = client.post(page_of(case, "approve"), {**typed, "override_reason": "The bank was quick."})
    assert answer.url == change(case)
    case.refresh_from_db()
    assert (case.status, case.lender, case.approved_amount_czk) == ("approved", lender, Decimal("1900000"))
    assert case.decided_on == datetime.date(2026, 3, 3)


def test_reject_needs_a_reason(case, adviser, client):
    client.force_login(adviser)
    path = page_of(case, "reject")
    assert set(client.post(path, {"on": "2026-03-03", "reason": " "}).context["form"].errors) == {"reason"}
    assert client.post(path, {"on": "2026-03-03", "reason": "Low income."}).status_code == 302
    case.refresh_from_db()
    assert (case.status, case.rejection_reason) == ("declined", "Low income.")


def test_nothing_is_decided_on_a_day_to_come(case, adviser, client):
    client.force_login(adviser)
    tomorrow = timezone.localdate() + datetime.timedelta(days=1)
    path = page_of(case, "reject")
    assert set(client.post(path, {"on": tomorrow.isoformat(), "reason": "No"}).context["form"].errors) == {"on"}
    today = timezone.localdate().isoformat()
    assert client.post(path, {"on": today, "reason": "No"}).status_code == 302


def test_withdraw_and_reopen(case, adviser, client):
    client.force_login(adviser)
    client.post(page_of(case, "withdraw"), {"on": "2026-03-03", "reason": "He bought nothing."})
    case.refresh_from_db()
    assert case.status == "withdrawn"
    client.post(page_of(case, "reopen"), {"reason": "He found another flat."})
    case.refresh_from_db()
    assert case.status == "open"


def test_hand_over_to_a_colleague(case, manager, client):
    bob = factories.make_user()
    client.force_login(manager)
    assert client.post(page_of(case, "hand-over"), {"to": bob.pk, "reason": "Holiday"}).status_code == 302
    case.refresh_from_db()
    assert case.adviser == bob
    assert case.history.first().history_change_reason == "Holiday"


@pytest.mark.parametrize("action", [*ACTIONS, "reopen"])
def test_a_get_changes_nothing(action, case, manager, client):
    client.force_login(manager)
    before = models.Case.objects.values().get(pk=case.pk)
    assert client.get(page_of(case, action)).status_code == 200
    assert models.Case.objects.values().get(pk=case.pk) == before


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        (roles.MANAGER, {"approve", "reject", "withdraw", "hand-over"}),
        (roles.ADVISER, {"approve", "reject", "withdraw"}),
        (roles.ASSISTANT, set()),
        (roles.AUDITOR, set()),
    ],
)
def test_a_role_sees_and_reaches_only_its_actions(role, allowed, case, client):
    client.force_login(factories.make_user(role))
    page = client.get(change(case)).content.decode()
    assert {action for action in ACTIONS if f'href="{page_of(case, action)}"' in page} == allowed
    answers = {action: client.post(page_of(case, action)).status_code for action in ACTIONS}
    assert answers == {action: 200 if action in allowed else 403 for action in ACTIONS}


@pytest.mark.parametrize("action", [*ACTIONS, "reopen"])
def test_an_action_on_a_foreign_case_is_not_found(action, settings, case, client):
    settings.ADVISER_SCOPE = "own"
    bob = factories.make_user(roles.MANAGER)
    bob.groups.first().permissions.remove(*bob.groups.first().permissions.filter(codename="view_all_cases"))
    client.force_login(models.User.objects.get(pk=bob.pk))
    assert client.get(page_of(case, action)).status_code == 404


def test_a_declined_case_offers_only_reopening_and_handing_over(case, manager, client):
    workflow.reject(case, by=manager, on=factories.TODAY, reason="Low income.")
    client.force_login(manager)
    page = client.get(change(case)).content.decode()
    shown = {action for action in (*ACTIONS, "reopen") if f'href="{page_of(case, action)}"' in page}
    assert shown == {"reopen", "hand-over"}


# --- The list ---


@pytest.fixture
def office(db, adviser):
    """Three cases with deadlines before, on and after a day."""
    made = {}
    for name, amount, first in (("late", 1_000_000, 1), ("today", 2_000_000, 2), ("later", 3_000_000, 30)):
        case = factories.make_case(factories.make_client(f"{name.title()} Svoboda"), loan_amount_czk=Decimal(amount))
        step = case.steps.order_by("step__number").first()
        workflow.set_deadline(step, datetime.date(2026, 3, first), by=None)
        made[name] = case
    models.Case.objects.filter(pk=made["today"].pk).update(adviser=adviser)
    return made


def listed(client, office, **query) -> set[str]:
    found = set(client.get(LIST, query).context["cl"].queryset.values_list("pk", flat=True))
    return {name for name, case in office.items() if case.pk in found}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, {"late", "today", "later"}),
        ({"q": "svo"}, {"late", "today", "later"}),
        ({"q": "later"}, {"later"}),
        ({"quick": "mine"}, {"today"}),
        ({"quick": "overdue"}, {"late"}),
        ({"quick": "nobodys"}, {"late", "later"}),
        ({"next_deadline_from": "2. 3. 2026", "next_deadline_to": "2026-03-02"}, {"today"}),
        ({"loan_amount_czk_from": "1 000 000,01"}, {"today", "later"}),
        ({"loan_amount_czk_from": "1000000", "loan_amount_czk_to": "1 999 999,99"}, {"late"}),
        ({"loan_amount_czk_to": "nonsense"}, {"late", "today", "later"}),
        ({"status__exact": "declined"}, set()),
    ],
)
def test_the_list_is_filtered(query, expected, office, adviser, client):
    client.force_login(adviser)
    with time_machine.travel(datetime.datetime(2026, 3, 2, 9, tzinfo=datetime.UTC), tick=False):
        assert listed(client, office, **query) == expected


@pytest.mark.parametrize("column", range(1, 10))
def test_every_column_can_be_asked_to_sort(column, office, adviser, client):
    client.force_login(adviser)
    assert client.get(LIST, {"o": str(column)}).status_code == 200
    assert client.get(LIST, {"o": f"-{column}"}).context["cl"].result_count == 3


def test_the_list_colours_deadlines(office, adviser, client):
    client.force_login(adviser)
    with time_machine.travel(datetime.datetime(2026, 3, 2, 9, tzinfo=datetime.UTC), tick=False):
        page = client.get(LIST).content.decode()
    assert page.count("hd-badge--overdue") == 1
    assert page.count("hd-badge--today") == 1


def test_a_party_that_is_a_colleagues_client_stays_on_saving(settings, case, adviser, client):
    settings.ADVISER_SCOPE = "own"
    foreign = factories.make_case(factories.make_client("Bob Svoboda"), adviser=factories.make_user()).client
    party = models.CaseParty.objects.create(case=case, client=foreign)
    client.force_login(adviser)
    page = client.get(change(case)).content.decode()
    assert f"Bob Svoboda ({foreign.reference})" in page
    data = posted(client, case, **{"parties-0-role": "guarantor"})
    assert client.post(change(case), data).status_code == 302
    party.refresh_from_db()
    assert (party.client, party.role) == (foreign, "guarantor")


def test_an_adviser_who_left_stays_on_his_old_cases(case, adviser, manager, client):
    models.User.objects.filter(pk=adviser.pk).update(is_active=False)
    models.Case.objects.filter(pk=case.pk).update(stand_in=adviser)
    client.force_login(manager)
    assert client.post(change(case), posted(client, case, proposed_terms="Fixed.")).status_code == 302
    case.refresh_from_db()
    assert (case.adviser, case.stand_in, case.proposed_terms) == (adviser, adviser, "Fixed.")


def test_a_longer_page_of_a_case_asks_the_database_nothing_more(case, manager, client):
    """Documents, parties and their choices come at once, not one by one."""
    client.force_login(manager)
    types = list(models.DocumentType.objects.all()[:8])

    def grow(number):
        for kind in types[:number]:
            models.Document.objects.create(case=case, type=kind)
        for index in range(number):
            models.CaseParty.objects.create(case=case, client=factories.make_client(f"Carol {index}"))

    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(change(case)).status_code == 200
        return len(queries)

    grow(1)
    asked()
    few = asked()
    grow(8)
    assert asked() == few
