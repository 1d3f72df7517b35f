"""The same values into many records: seen first, one operation, and nobody's rule is stepped over."""

import datetime
import re

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from crm import bulk_edit, roles, workflow
from crm.audit import undo
from crm.models import AuditEntry, Case, CaseStep, Client, Document, DocumentType
from crm.tests import factories
from crm.tests.gaps import gaps

pytestmark = pytest.mark.django_db
CLIENTS = reverse("admin:crm_client_changelist")
CASES = reverse("admin:crm_case_changelist")


@pytest.fixture
def jana(db):
    return factories.make_user(roles.MANAGER, first_name="Jana", last_name="Malá", language="en")


@pytest.fixture
def clients(db):
    return [factories.make_client(f"Client {number}", citizenship="CZ" if number else "SK") for number in range(4)]


def post(client, page, rows, step="", across="0", **values):
    data = {"action": "bulk_edit", "select_across": across, ACTION_CHECKBOX_NAME: [row.pk for row in rows]}
    return client.post(page, data | values | ({"step": step} if step else {}))


def written(client, page, rows, across="0", **values):
    preview = post(client, page, rows, "preview", across, **values)
    return post(client, page, rows, "write", across, seen=preview.context["seen"], **values)


def test_a_preview_counts_and_shows_and_writes_nothing(client, clients, jana):
    client.force_login(jana)
    assert post(client, CLIENTS, clients).context["step"] == "form"
    answer = post(client, CLIENTS, clients, "preview", citizenship="CZ", city="Brno")
    assert answer.context["counts"] == [("Citizenship", 1), ("City", 4)]
    assert (answer.context["plan"].matched, len(answer.context["plan"].changed)) == (4, 4)
    shown = answer.content.decode()
    assert "<del>SK</del>" in shown and "<ins>Brno</ins>" in shown
    assert set(Client.objects.values_list("citizenship", flat=True)) == {"SK", "CZ"}


def test_only_what_was_touched_changes_as_one_operation_that_can_be_undone(client, clients, jana):
    client.force_login(jana)
    before = Client.history.count()
    answer = written(client, CLIENTS, clients, citizenship="CZ", reason="moved")
    assert answer.status_code == 302
    assert Client.history.count() == before + 1
    entry = AuditEntry.objects.get(kind="bulk_edit")
    row = Client.history.first()
    assert (row.operation_id, row.history_change_reason, row.citizenship) == (entry.operation_id, "moved", "CZ")
    assert [each.full_name for each in Client.objects.order_by("pk")] == [f"Client {number}" for number in range(4)]
    undo.undo(entry.operation_id, jana)
    assert Client.objects.get(pk=clients[0].pk).citizenship == "SK"
    assert gaps() == []


def test_everything_that_the_filter_matches_now_not_a_list_of_keys(client, clients, jana):
    client.force_login(jana)
    page = f"{CLIENTS}?citizenship=CZ"
    answer = post(client, page, clients[1:2], "preview", "1", employer="Pod Lipou")
    assert answer.context["plan"].matched == 3
    assert len(re.findall(f'name="{ACTION_CHECKBOX_NAME}"', answer.content.decode())) == 1
    factories.make_client("Later", citizenship="CZ")
    late = post(client, page, clients[1:2], "write", "1", seen=answer.context["seen"], employer="Pod Lipou")
    assert "Look at the preview once more" in late.content.decode()
    assert not any(each.employer for each in Client.objects.all())
    written(client, page, clients[1:2], "1", employer="Pod Lipou")
    assert sorted(each.employer for each in Client.objects.all()) == ["", *["Pod Lipou"] * 4]


def test_a_field_is_emptied_only_by_its_box(client, clients, jana):
    client.force_login(jana)
    assert "Fill in at least one" in post(client, CLIENTS, clients, "preview", citizenship="").content.decode()
    written(client, CLIENTS, clients[:2], **{"empty-citizenship": "1"})
    assert [each.citizenship for each in Client.objects.order_by("pk")] == ["", "", "CZ", "CZ"]


def test_a_bad_value_is_told_on_its_field(client, clients, jana):
    client.force_login(jana)
    answer = post(client, CLIENTS, clients, "preview", retention_until="31. 2. 2026")
    assert answer.status_code == 200 and "retention_until" in answer.context["form"].errors


def test_a_case_changes_hands_by_the_rules_of_handing_over(client, jana):
    bob, gone = factories.make_user(), factories.make_user(roles.AUDITOR)
    cases = [factories.make_case(adviser=factories.make_user(), stand_in=bob) for _ in range(2)]
    client.force_login(jana)
    for name in ("adviser", "stand_in"):
        refused = post(client, CASES, cases, "preview", **{name: gone.pk})
        assert "needs somebody who works here" in str(refused.context["form"].errors[name])
    written(client, CASES, cases, adviser=bob.pk, reason="holiday")
    assert {(each.adviser_id, each.stand_in_id) for each in Case.objects.all()} == {(bob.pk, None)}
    assert gaps() == []


def test_an_adviser_is_not_offered_the_adviser_and_an_assistant_edits_what_he_may(client):
    case = factories.make_case()
    client.force_login(factories.make_user(roles.ADVISER))
    assert "adviser" not in post(client, CASES, [case]).context["form"].fields
    written(client, CASES, [case], term_months="240", adviser=str(factories.make_user().pk))
    case.refresh_from_db()
    assert (case.term_months, case.adviser_id) == (240, None)


def test_who_may_only_look_has_no_such_action_and_a_foreign_row_stays(client, settings, clients):
    client.force_login(factories.make_user(roles.AUDITOR))
    assert "bulk_edit" not in client.get(CLIENTS).content.decode()
    post(client, CLIENTS, clients, "write", seen="4:4", city="Brno")
    settings.ADVISER_SCOPE = "own"
    me = factories.make_user(roles.ADVISER)
    foreign, mine = factories.make_case(adviser=factories.make_user()), factories.make_case(adviser=me)
    client.force_login(me)
    written(client, CASES, [foreign, mine], term_months="240")
    assert [each.term_months for each in Case.objects.order_by("pk")] == [None, 240]
    assert not any(each.city for each in Client.objects.all())


def test_documents_are_checked_in_one_go(client, jana):
    case = factories.make_case()
    documents = [Document.objects.create(case=case, type=DocumentType.objects.first()) for _ in range(3)]
    client.force_login(jana)
    written(client, reverse("admin:crm_document_changelist"), documents, status="checked")
    assert set(Document.objects.values_list("status", flat=True)) == {"checked"}


def test_deadlines_of_steps_move_those_of_their_cases(client, jana):
    cases = [factories.make_case() for _ in range(2)]
    steps = CaseStep.objects.filter(case__in=cases)
    client.force_login(jana)
    page = reverse("admin:crm_casestep_changelist")
    written(client, page, steps, deadline="24. 12. 2030")
    assert {str(each.next_deadline) for each in Case.objects.all()} == {"2030-12-24"}
    assert set(steps.values_list("deadline", flat=True)) == {datetime.date(2030, 12, 24)}
    assert list(workflow.mismatches()) == []
    undo.undo(AuditEntry.objects.get(kind="bulk_edit").operation_id, jana)
    assert len(set(steps.values_list("deadline", flat=True))) == 15
    assert list(workflow.mismatches()) == []
    assert gaps() == []


def test_what_others_changed_after_the_preview_is_shown_before_it_is_overwritten(client, clients, jana):
    client.force_login(jana)
    preview = post(client, CLIENTS, clients, "preview", city="Brno")
    Client.objects.filter(pk=clients[0].pk).update(city="Praha")
    late = post(client, CLIENTS, clients, "write", seen=preview.context["seen"], city="Brno")
    assert "Look at the preview once more" in late.content.decode() and "<del>Praha</del>" in late.content.decode()
    assert Client.objects.get(pk=clients[0].pk).city == "Praha"


def test_what_another_wrote_as_i_pressed_the_button_is_shown_before_it_is_overwritten(
    client, clients, jana, monkeypatch
):
    client.force_login(jana)
    preview = post(client, CLIENTS, clients, "preview", city="Brno")
    carry_out = bulk_edit.carry_out

    def late(*args, **kwargs):
        Client.objects.filter(pk=clients[0].pk).update(city="Praha")
        return carry_out(*args, **kwargs)

    monkeypatch.setattr(bulk_edit, "carry_out", late)
    answer = post(client, CLIENTS, clients, "write", seen=preview.context["seen"], city="Brno")
    assert "Look at the preview once more" in answer.content.decode() and answer.context["step"] == "preview"
    assert {each.city for each in Client.objects.all()} == {"", "Praha"}


def test_zero_is_a_value_and_empty_is_none(client, jana):
    free, unknown = factories.make_case(interest_rate_percent=0), factories.make_case()
    client.force_login(jana)
    written(client, CASES, [unknown], interest_rate_percent="0")
    written(client, CASES, [free], **{"empty-interest_rate_percent": "1"})
    assert [each.interest_rate_percent for each in Case.objects.order_by("pk")] == [None, 0]


def test_a_field_that_has_to_hold_something_is_emptied_by_no_box(client, jana):
    document = Document.objects.create(case=factories.make_case(), type=DocumentType.objects.first(), status="received")
    client.force_login(jana)
    answer = post(client, reverse("admin:crm_document_changelist"), [document], "write", **{"empty-status": "1"})
    assert "This value is not possible" in answer.content.decode()
    document.refresh_from_db()
    assert document.status == "received"


def test_the_deadline_of_a_settled_step_is_left_and_counted(client, jana):
    case = factories.make_case()
    done, pending, *_rest = case.steps.order_by("step__number")
    workflow.complete_step(done, by=jana, on=factories.TODAY)
    page = f"{reverse('admin:crm_casestep_changelist')}?quick=all"
    client.force_login(jana)
    preview = post(client, page, [done, pending], "preview", deadline="2031-01-01", note="called")
    plan = preview.context["plan"]
    assert (plan.matched, list(plan.changed), plan.same, plan.settled) == (2, [pending.pk], 0, [done.pk])
    assert "1 step is left as it is" in preview.content.decode()
    written(client, page, [done, pending], deadline="2031-01-01", note="called")
    deadlines = [CaseStep.objects.get(pk=step.pk).deadline for step in (done, pending)]
    assert deadlines == [done.deadline, datetime.date(2031, 1, 1)]


def test_more_than_the_limit_is_refused(client, clients, jana, monkeypatch):
    monkeypatch.setattr(bulk_edit, "MOST_ROWS", 3)
    client.force_login(jana)
    assert "More than 3 records" in post(client, CLIENTS, clients, "preview", city="Brno").content.decode()


def test_twenty_records_cost_as_many_queries_as_ten(client, jana):
    client.force_login(jana)
    counts = []
    rows = [factories.make_client(str(number)) for number in range(20)]
    for some in (rows[:10], rows):
        post(client, CLIENTS, some, "preview", city="Brno")
        with CaptureQueriesContext(connection) as queries:
            written(client, CLIENTS, some, city=f"Brno {len(some)}")
        counts.append(len(queries))
    assert counts[0] == counts[1]
