"""The week's figures, and the mail that brings them."""

import datetime
import io

import openpyxl
import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

from crm import jobs, outbox, reports, roles, schedules, tasks, weekly, workflow
from crm.audit import sealing
from crm.exceptions import ReportsNotMade
from crm.models import Case, CaseStep, JobRun, MessageLog
from crm.tests import factories
from crm.tests.audit.sealed import KEY, make_past
from crm.tests.smtp import post_office

pytestmark = pytest.mark.django_db
MONDAY = datetime.date(2026, 3, 2)
NEXT = datetime.datetime(2026, 3, 9, 9, tzinfo=datetime.UTC)


def day(number: int) -> datetime.date:
    return MONDAY + datetime.timedelta(days=number)


@pytest.fixture
def jana(db):
    return factories.make_user(roles.MANAGER, email="jana@example.com", language="en")


@pytest.fixture
def anna(db):
    return factories.make_user(first_name="Anna", last_name="Řeháková", email="anna@example.com", language="en")


@pytest.fixture
def office(jana, anna):
    """A case of each fate in the week, and one of each in the week before."""
    lender = factories.make_lender("Banka Pod Lipou")
    found = {}
    for name, on in (("approved", day(1)), ("declined", day(2)), ("withdrawn", day(6)), ("before", day(-1))):
        case = found[name] = factories.make_case(adviser=anna, opened_on=day(-20))
        if name == "declined":
            workflow.reject(case, by=jana, on=on, reason="no income")
        elif name == "withdrawn":
            workflow.withdraw(case, by=jana, on=on, reason="moved")
        else:
            workflow.approve(case, by=jana, on=on, lender=lender, amount_czk=2_000_000, override_reason="agreed")
    found["new"] = factories.make_case(opened_on=day(6))
    return found


def week(cases=None, on=None) -> reports.Week:
    return reports.week(MONDAY, Case.objects.all() if cases is None else cases, on=on or day(7))


def references(found: reports.Week) -> dict[str, list[str]]:
    return {what: [row.reference for row in rows] for what, rows in found.cases.items()}


def test_each_fate_is_told_in_the_week_in_which_it_fell(office):
    found = references(week())
    assert found[reports.NEW] == [office["new"].reference]
    assert found[reports.APPROVED] == [office["approved"].reference]
    assert found[reports.DECLINED] == [office["declined"].reference]
    assert found[reports.WITHDRAWN] == [office["withdrawn"].reference]
    assert found[reports.MOVED] == [office["approved"].reference]


def test_an_approved_case_stays_approved_when_it_is_completed_later(office, jana):
    case = office["approved"]
    for step in case.steps.exclude(state="done"):
        workflow.mark_not_applicable(step, by=jana)
    case.refresh_from_db()
    assert case.status == "completed"
    assert references(week())[reports.APPROVED] == [case.reference]


def test_overdue_is_what_is_active_and_was_due_before_the_day_of_the_report(office):
    due = Case.objects.get(pk=office["new"].pk)
    CaseStep.objects.filter(case=due).update(deadline=day(7))
    Case.objects.filter(pk=due.pk).update(next_deadline=day(7))
    assert due.reference not in references(week(on=day(7)))[reports.OVERDUE]
    assert due.reference in references(week(on=day(8)))[reports.OVERDUE]
    assert office["declined"].reference not in references(week(on=day(8)))[reports.OVERDUE]


def test_volumes_are_of_what_was_approved_by_lender_and_adviser(office):
    found = week()
    assert [(each.name, each.count, int(each.amount_czk)) for each in found.by_lender] == [
        ("Banka Pod Lipou", 1, 2_000_000)
    ]
    assert [each.name for each in found.by_adviser] == ["Anna Řeháková"]


def test_advisers_of_one_name_are_told_apart_and_nobody_is_named(jana):
    lender, amount = factories.make_lender(), 1_000_000
    names = [{"first_name": "Jan", "last_name": "Novák", "username": name} for name in ("novak", "novak2")]
    for adviser in (*(factories.make_user(**each) for each in names), factories.make_user(username="eva"), None):
        case = factories.make_case(adviser=adviser, opened_on=day(0))
        workflow.approve(case, by=jana, on=day(3), lender=lender, amount_czk=amount, override_reason="agreed")
        amount *= 2
    with translation.override("en"):
        found = week()
        sheet = openpyxl.load_workbook(io.BytesIO(weekly.workbook(found))).worksheets[0]
    expected = ["nobody", "eva", "Jan Novák (novak2)", "Jan Novák (novak)"]
    assert [each.name for each in found.by_adviser] == expected
    assert [int(each.amount_czk) for each in found.by_adviser] == [8_000_000, 4_000_000, 2_000_000, 1_000_000]
    assert {row.adviser for row in found.cases[reports.APPROVED]} == set(expected)
    assert set(expected) <= {cell.value for row in sheet.iter_rows() for cell in row}


def test_the_days_of_a_step_begin_with_the_step_before(jana):
    factories.make_catalogue()
    for opened, first, second in ((day(-4), day(-2), day(0)), (day(-4), day(1), day(5))):
        case = factories.make_case(opened_on=opened)
        one, two = case.steps.all()[:2]
        workflow.complete_step(one, by=jana, on=first)
        workflow.complete_step(two, by=jana, on=second)
    assert [(each.step[:2], each.count, each.median) for each in week().days] == [("1.", 1, 5), ("2.", 2, 3)]


def test_twenty_cases_cost_as_many_queries_as_ten(jana):
    counts = []
    for _ in range(2):
        for _ in range(10):
            factories.make_case(opened_on=MONDAY)
        with CaptureQueriesContext(connection) as queries:
            week()
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 12


# --- The mail ---


def bodies(**kwargs) -> dict[str, str]:
    return {message.recipient: message.body for message in weekly.messages(MONDAY, on=day(7), **kwargs)}


def test_managers_hear_of_all_cases_advisers_of_their_own_and_others_of_nothing(office, anna, settings):
    factories.make_user(roles.CLIENT, email="client@example.com")
    factories.make_user(email="idle@example.com")
    found = bodies()
    assert set(found) == {"jana@example.com", "anna@example.com"}
    assert (
        office["new"].reference in found["jana@example.com"]
        and office["new"].reference not in found["anna@example.com"]
    )
    assert office["approved"].reference in found["anna@example.com"]
    assert "2\u00a0000\u00a0000 Kč" in found["jana@example.com"].replace("2,000,000", "2\u00a0000\u00a0000")
    assert set(bodies(to=["anna@example.com", "stranger@example.com"])) == {"anna@example.com"}


def test_a_stand_in_hears_of_the_cases_only_while_their_adviser_is_away(office, anna):
    bob = factories.make_user(email="bob@example.com")
    Case.objects.filter(adviser=anna).update(stand_in=bob)
    assert "bob@example.com" not in bodies()
    anna.absent_from = day(7)
    anna.save()
    assert office["approved"].reference in bodies()["bob@example.com"]
    anna.absent_from, anna.is_active = None, False
    anna.save()
    assert office["approved"].reference in bodies()["bob@example.com"]


def test_no_client_is_named(office):
    name = Case.objects.get(pk=office["approved"].pk).client.full_name
    [message] = weekly.messages(MONDAY, on=day(7), to=["jana@example.com"])
    assert name not in message.subject + message.body
    cells = [cell.value for row in sheet(weekly.workbook(week())).iter_rows() for cell in row]
    assert office["approved"].reference in cells and name not in cells


def sheet(content: bytes):
    return openpyxl.load_workbook(io.BytesIO(content)).active


def test_one_whose_report_fails_keeps_nobody_else_waiting(office, monkeypatch, caplog):
    real = weekly.workbook

    def workbook(week):
        if not MessageLog.objects.exists() and not caplog.records:
            raise ValueError("Alice Nováková")
        return real(week)

    monkeypatch.setattr(weekly, "workbook", workbook)
    with time_machine.travel(NEXT, tick=True):
        with pytest.raises(ReportsNotMade) as told:
            weekly.send(timezone.now())
        assert told.value.details == {"count": 1} and MessageLog.objects.count() == 1
        assert "ValueError" in caplog.text and "Alice" not in caplog.text
        assert weekly.send(timezone.now())["messages"] == 1


def test_it_is_sent_on_monday_once_with_its_spreadsheet_and_its_pages(office, settings):
    with post_office(settings) as post, time_machine.travel(NEXT, tick=True):
        run = weekly.send(timezone.now())
        assert run == {"week": "2026-W10", "messages": 2}
        assert weekly.send(timezone.now())["messages"] == 0
        assert outbox.send_due(timezone.now())["sent"] == 2
    [first, second] = post.taken
    assert {first["To"], second["To"]} == {"jana@example.com", "anna@example.com"}
    assert "2026-W10" in first["Subject"]
    files = {part.get_filename(): part for part in first.walk() if part.get_filename()}
    assert set(files) == {"hypodesk-2026-W10.xlsx", "hypodesk-2026-W10.pdf"}
    assert files["hypodesk-2026-W10.pdf"].get_content_type() == "application/pdf"
    rows = list(sheet(files["hypodesk-2026-W10.xlsx"].get_payload(decode=True)).iter_rows(values_only=True))
    assert rows[0][1] == "Reference" and (office["approved"].reference in {row[1] for row in rows})
    assert set(tasks.JOBS) >= {"send_weekly_report"}


def test_the_command_takes_a_week_and_addresses(office, capsys):
    call_command("send_reporting_email", "--week", "2026-W10", "--to", "anna@example.com")
    call_command("send_reporting_email", "--week", "2026-W10", "--to", "anna@example.com")
    assert capsys.readouterr().out.split() == ["1", "messages", "0", "messages"]
    assert "H-0000" in MessageLog.objects.get().body
    with pytest.raises(CommandError, match="2026-W47"):
        call_command("send_reporting_email", "--week", "last")


def test_a_week_that_is_not_over_is_told_until_today_beside_mondays_report(office, capsys):
    friday = datetime.datetime.combine(day(4), datetime.time(10), NEXT.tzinfo)
    with time_machine.travel(friday, tick=True):
        call_command("send_reporting_email", "--week", "2026-W10")
        call_command("send_reporting_email", "--week", "2026-W10")
    assert capsys.readouterr().out.splitlines() == ["2 messages", "0 messages"]
    assert all("2026-W10 until" in message.subject for message in MessageLog.objects.all())
    with time_machine.travel(NEXT, tick=True):
        assert weekly.send(timezone.now())["messages"] == 2
    assert "until" not in MessageLog.objects.first().subject


def test_a_week_is_over_after_its_sunday(office):
    assert (week(on=day(6)).is_over, week(on=day(7)).is_over) == (False, True)
    assert (week(on=day(4)).last, week(on=day(7)).last) == (day(4), day(6))


def test_neither_a_week_to_come_nor_who_reads_no_report_is_written_to(office):
    with time_machine.travel(NEXT, tick=True), pytest.raises(CommandError, match="2026-W12 has not begun"):
        call_command("send_reporting_email", "--week", "2026-W12")
    with pytest.raises(CommandError, match="nobody was written to: a@b.cz, c@d.cz$"):
        call_command("send_reporting_email", "--to", "a@b.cz", "--to", "jana@example.com", "--to", "c@d.cz")
    assert not MessageLog.objects.exists()


def test_a_slot_that_is_tried_again_tells_its_own_week(office, jana):
    run = JobRun.objects.create(name="send_weekly_report", slot="2026-W11", queue="long", state="missed")
    with time_machine.travel(NEXT + 2 * reports.WEEK, tick=True):
        schedules.retry(run, by=jana)
        tasks.run_job(run.pk)
    run.refresh_from_db()
    assert (run.state, run.counts) == ("done", {"week": "2026-W10", "messages": 2})


def test_what_one_try_could_not_make_the_next_one_does(office, monkeypatch):
    real, left = weekly.workbook, [OperationalError]

    def workbook(week):
        if left:
            raise left.pop()("database is locked")
        return real(week)

    monkeypatch.setattr(weekly, "workbook", workbook)
    states = []
    with time_machine.travel(NEXT, tick=True) as clock:
        run = jobs.enqueue("send_weekly_report", slot="2026-W11", queue="long")
        for _ in range(2):
            tasks.run_job(run.pk)
            run.refresh_from_db()
            states.append((run.state, run.attempts, MessageLog.objects.count()))
            clock.shift(jobs.RETRY_AFTER[0])
    assert states == [("queued", 1, 1), ("done", 2, 2)]


def test_who_reads_the_seals_gets_their_head_and_it_finds_a_cut_off_end(office, settings, capsys):
    settings.AUDIT_KEYS = [KEY]
    make_past()
    sealing.seal(now=timezone.now())
    body = bodies()["jana@example.com"]
    line = sealing.head_line()
    assert line in body and line not in bodies()["anna@example.com"]
    call_command("verify_audit", "--head", line)
    assert "compared with the anchor" in capsys.readouterr().out
    later = line.replace("1 ", "2 ", 1)
    with pytest.raises(SystemExit):
        call_command("verify_audit", "--head", later)
    assert "Seal 2 is missing" in capsys.readouterr().out
    with pytest.raises(CommandError):
        call_command("verify_audit", "--head", "nonsense")
