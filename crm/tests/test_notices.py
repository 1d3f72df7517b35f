import datetime

import pytest
from dateutil.relativedelta import relativedelta
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone, translation

from crm import bulk_edit, catalogue, imports, notices, notifications, radar, roles, weekly, workflow
from crm.audit import undo
from crm.choices import NoticeChannel, NoticeKind
from crm.models import AuditEntry, Case, Client, Consent, MessageLog, Notice, NoticeChoice, NoticeRule, Step
from crm.tests import factories

pytestmark = pytest.mark.django_db
TODAY = factories.TODAY
REASON = "a reason"


@pytest.fixture(autouse=True)
def rules(db):
    catalogue.load()


@pytest.fixture
def anna(db):
    return factories.make_user(first_name="Anna", email="anna@example.com", language="en")


@pytest.fixture
def bob(db):
    return factories.make_user(first_name="Bob", email="bob@example.com", language="en")


@pytest.fixture
def case(anna):
    """Whose opening nobody is told of any more."""
    made = factories.make_case(factories.make_client(email="alice@example.com"), adviser=anna)
    Notice.objects.all().delete()
    return made


def rule(kind, **told):
    nobody = {"to_adviser": False, "to_managers": False, "to_administrators": False, "to_client": False}
    NoticeRule.objects.filter(kind=kind).update(**nobody | told)


def subscribe(user, kind, channel=NoticeChannel.BOTH):
    NoticeChoice.objects.create(user=user, kind=kind, channel=channel, is_subscribed=True)


def told() -> list[tuple]:
    """(kind, user) of every notice; a client is None."""
    return [(each.kind, each.user) for each in Notice.objects.order_by("pk")]


def first_step(case):
    return case.steps.order_by("step__number").first()


def complete(case, by=None):
    return workflow.complete_step(first_step(case), by=by, on=TODAY)


def line(notice, language="en"):
    with translation.override(language):
        return notices.line(notice)


# --- Who ---


def test_the_adviser_is_told_what_others_do_in_his_case_and_not_what_he_does_himself(case, anna, bob):
    complete(case, by=anna)
    assert told() == []
    workflow.reopen_step(first_step(case), by=bob)
    assert told() == [(NoticeKind.STEP_REOPENED, anna)]
    [notice] = Notice.objects.all()
    assert (notice.case, notice.step, notice.by_name, notice.count) == (case, first_step(case).step, "Bob", 1)


def test_each_transition_has_its_kind(case, anna, bob, manager):
    last = Notice.objects.order_by("-pk")
    lender = factories.make_lender()
    for step in case.steps.select_related("step").order_by("step__number")[:8]:
        workflow.complete_step(step, by=None, on=TODAY)
    Notice.objects.all().delete()
    workflow.approve(case, by=bob, on=TODAY, lender=lender, amount_czk=1)
    assert told() == [(NoticeKind.APPROVED, anna), (NoticeKind.APPROVED, manager), (NoticeKind.APPROVED, None)]
    workflow.withdraw(case, by=bob, on=TODAY, reason=REASON)
    assert last.first().kind == NoticeKind.WITHDRAWN
    workflow.reopen_case(case, by=bob, reason=REASON)
    assert last.first().kind == NoticeKind.REOPENED
    workflow.reject(case, by=bob, on=TODAY, reason=REASON)
    assert last.first().kind == NoticeKind.DECLINED
    assert {each.step for each in Notice.objects.all()} == {None}


def test_a_new_case_is_told_to_its_adviser_unless_he_opened_it(anna, manager):
    factories.make_case(adviser=anna, by=anna)
    assert told() == []
    factories.make_case(adviser=anna, by=manager)
    assert told() == [(NoticeKind.NEW_CASE, anna)]


def test_a_handed_over_case_is_told_to_the_new_adviser_and_to_the_old_one(case, anna, bob, manager):
    workflow.hand_over(case, by=manager, to=bob)
    found = {each.user: line(each).what for each in Notice.objects.all()}
    assert found == {anna: "Your case was handed over", bob: "Case handed over to you"}
    rule(NoticeKind.HANDED_OVER)
    workflow.hand_over(Case.objects.get(), by=manager, to=anna)
    assert Notice.objects.count() == 2


def test_the_stand_in_is_told_while_the_adviser_is_absent_or_gone(case, anna, bob):
    Case.objects.update(stand_in=bob)
    complete(case)
    assert told() == [(NoticeKind.STEP_COMPLETED, anna)]
    anna.absent_from = anna.absent_until = timezone.localdate()
    anna.save()
    workflow.reopen_step(first_step(case), by=None)
    assert told()[1:] == [(NoticeKind.STEP_REOPENED, anna), (NoticeKind.STEP_REOPENED, bob)]
    anna.is_active = False
    anna.save()
    complete(case)
    assert told()[3:] == [(NoticeKind.STEP_COMPLETED, bob)]


@pytest.mark.parametrize("role", [roles.MANAGER, roles.ADMINISTRATOR])
def test_the_office_says_which_roles_are_told(case, role):
    boss = factories.make_user(role)
    field = {roles.MANAGER: "to_managers", roles.ADMINISTRATOR: "to_administrators"}[role]
    rule(NoticeKind.STEP_COMPLETED, **{field: True})
    complete(case)
    assert told() == [(NoticeKind.STEP_COMPLETED, boss)]


def test_a_superuser_is_an_administrator(case):
    root = factories.make_user(is_superuser=True)
    rule(NoticeKind.STEP_COMPLETED, to_administrators=True)
    complete(case)
    assert told() == [(NoticeKind.STEP_COMPLETED, root)]


def test_nobody_who_is_gone_or_has_no_role_is_told(case, anna, bob, manager):
    rule(NoticeKind.STEP_COMPLETED, to_adviser=True, to_managers=True)
    manager.is_active = False
    manager.save()
    subscribe(bob, NoticeKind.STEP_COMPLETED)
    bob.groups.clear()
    anna.is_staff = False
    anna.save()
    complete(case)
    assert told() == []


def test_who_subscribed_hears_of_every_case_that_he_may_see(case, anna, bob, settings):
    subscribe(bob, NoticeKind.STEP_COMPLETED)
    complete(case, by=anna)
    assert told() == [(NoticeKind.STEP_COMPLETED, bob)]
    settings.ADVISER_SCOPE = "own"
    workflow.reopen_step(first_step(case), by=anna)
    complete(case, by=anna)
    assert len(told()) == 1
    Case.objects.update(stand_in=bob)
    workflow.reopen_step(first_step(case), by=anna)
    complete(case, by=anna)
    assert len(told()) == 2


def test_where_each_sees_his_own_managers_hear_of_all(case, anna, manager, auditor, settings):
    settings.ADVISER_SCOPE = "own"
    subscribe(auditor, NoticeKind.STEP_COMPLETED)
    rule(NoticeKind.STEP_COMPLETED, to_managers=True)
    complete(case)
    assert told() == [(NoticeKind.STEP_COMPLETED, user) for user in sorted([manager, auditor], key=lambda u: u.pk)]


@pytest.mark.parametrize(
    ("channel", "email", "mail", "inbox"),
    [
        (NoticeChannel.BOTH, True, True, True),
        (NoticeChannel.MAIL, True, True, False),
        (NoticeChannel.INBOX, True, False, True),
        (NoticeChannel.BOTH, False, False, True),
        (NoticeChannel.MAIL, False, False, True),
    ],
)
def test_each_is_told_the_way_he_chose(case, anna, channel, email, mail, inbox):
    NoticeChoice.objects.create(user=anna, kind=NoticeKind.STEP_COMPLETED, channel=channel)
    NoticeChoice.objects.create(user=anna, kind=NoticeKind.NEW_CASE, channel=NoticeChannel.NONE)
    if not email:
        anna.email = ""
        anna.save()
    complete(case)
    [notice] = Notice.objects.all()
    assert (notice.wants_mail, notice.in_inbox) == (mail, inbox)


def test_who_wants_nothing_is_told_nothing(case, anna):
    NoticeChoice.objects.create(user=anna, kind=NoticeKind.STEP_COMPLETED, channel=NoticeChannel.NONE)
    complete(case)
    assert told() == []


def test_nobody_stands_in_for_an_adviser_who_merely_wants_nothing(case, anna, bob):
    Case.objects.update(stand_in=bob)
    NoticeChoice.objects.create(user=anna, kind=NoticeKind.STEP_COMPLETED, channel=NoticeChannel.NONE)
    complete(case)
    assert told() == []


def test_without_a_rule_only_who_subscribed_is_told(case, bob):
    NoticeRule.objects.all().delete()
    subscribe(bob, NoticeKind.STEP_COMPLETED)
    complete(case)
    assert told() == [(NoticeKind.STEP_COMPLETED, bob)]


def test_a_new_client_is_told_to_who_subscribed_also_where_each_sees_his_own(client, anna, bob, settings):
    settings.ADVISER_SCOPE = "own"
    subscribe(bob, NoticeKind.NEW_CLIENT)
    subscribe(anna, NoticeKind.NEW_CLIENT)
    client.force_login(anna)
    answer = client.post(reverse("admin:crm_client_add"), {"full_name": "Alice Nováková"})
    assert answer.status_code == 302
    [notice] = Notice.objects.all()
    assert (notice.user, notice.client, notice.kind) == (bob, Client.objects.get(), NoticeKind.NEW_CLIENT)
    assert line(notice).what == "New client" and line(notice).reference == notice.client.reference


# --- The client ---


def of_client(case, code="podani_zadosti"):
    """His step of that code is the first one that is pending."""
    earlier = case.steps.filter(step__number__lt=Step.objects.get(code=code).number)
    earlier.exclude(state="done").update(state="not_applicable")
    return case.steps.get(step__code=code)


def test_the_client_is_told_of_steps_whose_kind_says_so(case):
    workflow.complete_step(first_step(case), by=None, on=TODAY)
    assert None not in dict(told()).values()
    workflow.complete_step(of_client(case), by=None, on=TODAY)
    notice = Notice.objects.get(user=None)
    assert (notice.client, notice.case, notice.wants_mail, notice.in_inbox) == (case.client, case, True, False)


def test_the_client_is_not_told_what_the_office_does_not_tell_him(case):
    rule(NoticeKind.STEP_COMPLETED, to_adviser=True)
    workflow.complete_step(of_client(case), by=None, on=TODAY)
    assert None not in dict(told()).values()


@pytest.mark.parametrize("why", ["no address", "declined"])
def test_a_client_who_may_not_be_written_to_is_not_told(case, why):
    match why:
        case "no address":
            case.client.email = ""
            case.client.save()
        case "declined":
            Consent.objects.create(
                client=case.client, purpose="messages", text_version="1", given_on=TODAY, withdrawn_on=TODAY
            )
    workflow.complete_step(of_client(case), by=None, on=TODAY)
    assert None not in dict(told()).values()


# --- Many at once ---


def sheet(*rows) -> bytes:
    return "\n".join(";".join(row) for row in rows).encode()


def load(by, *rows):
    return imports.write(imports.check(sheet(*rows), "cases.csv", by, on=TODAY), by)


def counted() -> set[tuple]:
    return {(each.kind, each.user, each.count, line(each).what) for each in Notice.objects.with_words()}


def test_an_import_leaves_one_notice_a_kind_and_person(anna, bob, manager):
    subscribe(bob, NoticeKind.NEW_CASE)
    subscribe(bob, NoticeKind.NEW_CLIENT)
    alice = factories.make_client()
    rows = [[alice.reference, anna.username]] * 2 + [[alice.reference, bob.username], [alice.reference, ""]]
    head = ["reference", "client", "adviser", "loan amount"]
    run = load(manager, head, *(["", *row, str(number)] for number, row in enumerate(rows, 1_000_000)))
    assert run.created_count == 4
    assert counted() == {
        (NoticeKind.NEW_CASE, anna, 2, "2 new cases"),
        (NoticeKind.NEW_CASE, bob, 4, "4 new cases"),
    }
    Notice.objects.all().delete()
    assert load(manager, ["full name"], ["Jan Novák"], ["Petr Malý"], ["Eva Malá"]).created_count == 3
    assert (NoticeKind.NEW_CLIENT, bob, 3, "3 new clients") in counted()


def test_the_notice_of_an_only_new_case_leads_to_it_whatever_else_was_imported(anna, bob, manager):
    alice = factories.make_client()
    advisers = [anna.username, bob.username, anna.username]
    rows = [["", alice.reference, adviser, str(number)] for number, adviser in enumerate(advisers, 1_000_000)]
    load(manager, ["reference", "client", "adviser", "loan amount"], *rows)
    assert {(each.user, each.count, each.case) for each in Notice.objects.all()} == {
        (anna, 2, None),
        (bob, 1, Case.objects.get(adviser=bob)),
    }


def test_an_import_that_hands_cases_over_tells_both_sides(case, anna, bob, manager):
    other = factories.make_case(adviser=bob, by=bob)
    head = ["reference", "client", "adviser"]
    assert load(manager, head, [case.reference, "", bob.username], [other.reference, "", anna.username]).updated_count
    assert counted() == {
        (NoticeKind.HANDED_OVER, anna, 1, "Case handed over to you"),
        (NoticeKind.HANDED_OVER, anna, 1, "Your case was handed over"),
        (NoticeKind.HANDED_OVER, bob, 1, "Case handed over to you"),
        (NoticeKind.HANDED_OVER, bob, 1, "Your case was handed over"),
    }
    [gained] = Notice.objects.filter(user=bob, detail__whose="now")
    assert gained.case == case


def test_nobody_is_told_of_what_an_import_refused(anna, manager):
    alice = factories.make_client()
    plan = imports.check(
        sheet(
            ["reference", "client", "adviser"],
            ["", alice.reference, anna.username],
            ["", "C-999999", anna.username],
        ),
        "cases.csv",
        manager,
    )
    imports.write(plan, manager, all_or_nothing=True)
    assert plan.errors == 1 and told() == []


def test_a_bulk_edit_that_hands_cases_over_leaves_one_notice_a_person(case, anna, bob, manager):
    for _number in range(3):
        factories.make_case(case.client, adviser=anna, by=anna)
    factories.make_case(case.client, adviser=bob, by=bob)
    values = {"adviser": bob}
    seen = bulk_edit.plan(Case.objects.all(), values, manager).seen
    bulk_edit.carry_out(Case.objects.all(), values, manager, seen=seen, now=timezone.now())
    assert counted() == {
        (NoticeKind.HANDED_OVER, anna, 4, "4 cases of yours were handed over"),
        (NoticeKind.HANDED_OVER, bob, 4, "4 cases handed over to you"),
    }


@pytest.mark.parametrize("many", [2, 200])
def test_telling_of_many_costs_three_queries(anna, many, django_assert_num_queries):
    cases = [Case(pk=number, adviser=anna) for number in range(many)]
    with django_assert_num_queries(3):
        notices.tell_of_many(NoticeKind.NEW_CASE, cases)
    assert Notice.objects.get().count == many


def test_nothing_at_all_is_told_of_nothing(django_assert_num_queries):
    with django_assert_num_queries(0):
        notices.tell_of_many(NoticeKind.NEW_CASE, [])


# --- What is told on a day of its own ---


def deadlines(day=TODAY):
    """Whose mails were written by the reminders of the day."""
    notifications.written(notifications.plan(day, since=day - notifications.DAY))
    return set(MessageLog.objects.filter(kind="deadlines").values_list("user__email", flat=True))


@pytest.fixture
def due(case, bob):
    """Anna has one deadline today, Bob two."""
    for of, count in ((case, 1), (factories.make_case(adviser=bob, by=bob), 2)):
        of.steps.update(deadline=None)
        of.steps.filter(step__number__lte=count).update(deadline=TODAY)


def test_deadlines_are_told_by_mail_and_in_the_inbox_as_each_chose(due, anna, bob):
    NoticeChoice.objects.create(user=bob, kind=NoticeKind.DEADLINES, channel=NoticeChannel.INBOX)
    assert deadlines() == {"anna@example.com"}
    assert counted() == {
        (NoticeKind.DEADLINES, anna, 1, "1 deadline"),
        (NoticeKind.DEADLINES, bob, 2, "2 deadlines"),
    }
    assert not Notice.objects.to_mail().exists()
    deadlines()
    assert (Notice.objects.count(), MessageLog.objects.count()) == (2, 1)


def test_who_subscribed_is_reminded_of_all_that_he_may_see(due, anna, bob, settings):
    subscribe(bob, NoticeKind.DEADLINES)
    deadlines()
    assert {each.user: each.count for each in Notice.objects.all()} == {anna: 1, bob: 3}
    settings.ADVISER_SCOPE = "own"
    Notice.objects.all().delete()
    deadlines()
    assert {each.user: each.count for each in Notice.objects.all()} == {anna: 1, bob: 2}


def test_the_office_says_who_is_reminded(due, manager):
    rule(NoticeKind.DEADLINES, to_managers=True)
    assert deadlines() == {manager.email}
    assert Notice.objects.get().count == 3


@pytest.mark.parametrize("is_told", [True, False])
def test_clients_are_reminded_where_the_office_says_so(case, is_told):
    Step.objects.update(tell_client=True)
    rule(NoticeKind.DEADLINES, to_client=is_told)
    case.steps.update(deadline=TODAY)
    deadlines()
    assert MessageLog.objects.filter(kind="client_deadlines").exists() is is_told


def test_on_a_quiet_day_nothing_is_told(due):
    sunday = TODAY - notifications.DAY
    assert deadlines(sunday) == set() and told() == []


def test_the_radar_follows_the_rule_and_the_choice(case, anna, bob, manager):
    Case.objects.update(fixation_until=TODAY + relativedelta(months=6))
    subscribe(bob, NoticeKind.RADAR, NoticeChannel.INBOX)
    notifications.written(radar.plan(TODAY, since=TODAY - notifications.DAY))
    assert [each.user for each in MessageLog.objects.all()] == [anna]
    assert counted() == {(NoticeKind.RADAR, user, 1, "1 thing runs out") for user in (anna, bob)}


def test_the_report_is_told_by_mail_and_in_the_inbox_as_each_chose(case, anna, bob, manager, administrator, auditor):
    on = TODAY + datetime.timedelta(days=7)
    now = datetime.datetime.combine(on, datetime.time(9), datetime.UTC)
    NoticeChoice.objects.create(user=manager, kind=NoticeKind.WEEKLY_REPORT, channel=NoticeChannel.INBOX)
    NoticeChoice.objects.create(user=administrator, kind=NoticeKind.WEEKLY_REPORT, channel=NoticeChannel.MAIL)
    for _twice in range(2):
        weekly.send(now)
        assert {each.user for each in MessageLog.objects.all()} == {anna, administrator}
        assert counted() == {
            (NoticeKind.WEEKLY_REPORT, anna, 1, "Weekly report 2026-W10"),
            (NoticeKind.WEEKLY_REPORT, manager, 1, "Weekly report 2026-W10"),
        }
    subscribe(bob, NoticeKind.WEEKLY_REPORT)
    rule(NoticeKind.WEEKLY_REPORT, to_managers=True)
    assert [each.user for each in weekly.messages(TODAY, on=on)] == [bob]
    assert [each.user for each in weekly.messages(TODAY, on=on, to=[manager.email, anna.email])] == [manager]


# --- With what is told ---


def test_what_was_rolled_back_was_not_told(case):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        complete(case)
        raise ZeroDivisionError
    assert told() == []


@pytest.mark.parametrize("people", [1, 20])
def test_telling_costs_three_queries_whoever_hears_it(case, people, django_assert_num_queries):
    for _number in range(people):
        subscribe(factories.make_user(), NoticeKind.STEP_COMPLETED)
    step = first_step(case).step
    with django_assert_num_queries(3):
        notices.tell(NoticeKind.STEP_COMPLETED, case=case, step=step)
    of_client = Step.objects.get(code="podani_zadosti")
    with django_assert_num_queries(4):
        notices.tell(NoticeKind.STEP_COMPLETED, case=case, step=of_client)


def test_completing_a_step_costs_as_much_as_before_and_the_telling(case, anna, bob, monkeypatch):
    assert bob.has_perm("crm.change_casestep")
    counts = []
    for tell in (notices.tell, lambda *args, **kwargs: None):
        monkeypatch.setattr(notices, "tell", tell)
        with CaptureQueriesContext(connection) as queries:
            complete(case, by=bob)
        counts.append(len(queries))
        workflow.reopen_step(first_step(case), by=None)
    assert counts[0] == counts[1] + 3 <= 15


def test_undoing_the_opening_of_a_case_takes_its_notices_along(client, anna, manager):
    alice = factories.make_client()
    case = factories.make_case(alice, adviser=anna, by=manager)
    assert Notice.objects.filter(case=case).exists()
    undo.undo(AuditEntry.objects.order_by("-pk").first().operation_id, manager)
    connection.check_constraints()
    assert not Case.objects.exists() and not Notice.objects.exists()


def test_a_case_is_deleted_with_its_notices_and_comes_back_without(client, case, anna, manager):
    complete(case)
    manager.language = "en"
    manager.save()
    client.force_login(manager)
    page = reverse("admin:crm_case_delete", args=[case.pk])
    shown = client.get(page).context
    assert "notices" not in dict(shown["model_count"]) and "steps of cases" in dict(shown["model_count"])
    assert "Notice: " not in str(shown["deleted_objects"]) and "Step of a case: " in str(shown["deleted_objects"])
    assert client.post(page, {"post": "yes", "seen": shown["seen"]}).status_code == 302
    assert not Notice.objects.exists()
    undo.restore(Case, case.pk, manager)
    assert Case.objects.exists() and not Notice.objects.exists()


def test_undoing_a_hand_over_tells_nobody(case, anna, bob, manager):
    workflow.hand_over(case, by=manager, to=bob)
    before = Notice.objects.count()
    undo.undo(AuditEntry.objects.order_by("-pk").first().operation_id, manager)
    assert Case.objects.get().adviser == anna
    assert Notice.objects.count() == before


# --- Words ---


def test_a_line_names_moment_case_step_and_who_in_the_readers_language(case, anna, bob):
    complete(case, by=bob)
    [notice] = Notice.objects.with_words()
    assert line(notice) == notices.Line(
        moment=line(notice).moment,
        reference=case.reference,
        what="Step completed",
        step="1. Financing need",
        by="Bob",
        path=f"/admin/crm/case/{case.pk}/change/",
    )
    assert line(notice).url == f"https://testserver/admin/crm/case/{case.pk}/change/"
    assert line(notice, "cs").step == "1. Co chce klient financovat"


def test_lines_need_one_query_and_read_nothing_encrypted(case, anna):
    for _number in range(3):
        notices.tell(NoticeKind.STEP_COMPLETED, case=case, step=first_step(case).step)
    with CaptureQueriesContext(connection) as queries:
        assert len([line(each) for each in Notice.objects.of(anna).with_words()]) == 3
    assert len(queries) == 1
    assert "full_name" not in queries[0]["sql"] and "rejection_reason" not in queries[0]["sql"]


@pytest.mark.parametrize(
    ("kind", "values", "what"),
    [
        (NoticeKind.NEW_CASE, {"count": 3}, "3 new cases"),
        (NoticeKind.NEW_CLIENT, {"count": 2}, "2 new clients"),
        (NoticeKind.HANDED_OVER, {"count": 2}, "2 cases handed over"),
        (NoticeKind.HANDED_OVER, {"count": 2, "detail": {"whose": "now"}}, "2 cases handed over to you"),
        (NoticeKind.HANDED_OVER, {"count": 1, "detail": {"whose": "before"}}, "1 case of yours was handed over"),
        (NoticeKind.DEADLINES, {"count": 1, "detail": {"day": "2026-03-02"}}, "1 deadline"),
        (NoticeKind.RADAR, {"count": 2}, "2 things run out"),
        (NoticeKind.WEEKLY_REPORT, {"detail": {"week": "2026-W10"}}, "Weekly report 2026-W10"),
    ],
)
def test_what_came_at_once_is_counted(anna, kind, values, what):
    found = line(Notice(user=anna, kind=kind, **values))
    assert (found.what, found.reference, found.step) == (what, "", "")
    assert found.url.startswith("https://testserver/admin/")


def test_a_day_is_not_needed_to_know_who_was_told(case):
    """`created_at` is the moment, whatever day the step was completed on."""
    workflow.complete_step(first_step(case), by=None, on=datetime.date(2020, 1, 1))
    assert Notice.objects.get().created_at.date() > datetime.date(2020, 1, 1)
