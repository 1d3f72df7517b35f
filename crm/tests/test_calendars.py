"""The calendar: what stands in it, that a parser and the letter of RFC 5545 agree, and that its address is a secret."""

import datetime
import io
import logging
import re

import icalendar
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

from crm import calendars, roles, workflow
from crm.models import AuditEntry, CalendarFeed, CaseStep, Step, User
from crm.tests import factories

pytestmark = pytest.mark.django_db
DAY = datetime.date(2026, 4, 15)


def days(number: int) -> datetime.date:
    return DAY + datetime.timedelta(days=number)


@pytest.fixture
def anna(db):
    return factories.make_user(first_name="Anna", last_name="Malá", language="cs")


@pytest.fixture
def bob(db):
    return factories.make_user(first_name="Bob", language="en")


def make_case(adviser=None, *deadlines, **fields):
    """With deadlines of its first steps only."""
    case = factories.make_case(factories.make_client("Alice Nováková"), adviser=adviser, **fields)
    case.steps.update(deadline=None)
    for step, deadline in zip(case.steps.all(), deadlines, strict=False):
        CaseStep.objects.filter(pk=step.pk).update(deadline=deadline)
    return case


def events(content: bytes) -> list[icalendar.Event]:
    return icalendar.Calendar.from_ical(content).walk("VEVENT")


def told(user, on=DAY) -> list[tuple[str, datetime.date]]:
    return [(str(each["SUMMARY"]), each.decoded("DTSTART")) for each in events(calendars.of_person(user, on))]


# --- What stands in it ---


def test_a_pending_step_is_a_day_with_its_reference_its_name_and_its_link(anna):
    case = make_case(anna, days(2))
    [event] = events(calendars.of_person(anna, DAY))
    assert str(event["SUMMARY"]) == f"{case.reference}: {case.steps.first().step.name_cs}"
    assert event.decoded("DTSTART") == days(2)
    assert str(event["URL"]) == str(event["DESCRIPTION"]) == f"https://testserver/admin/crm/case/{case.pk}/change/"
    assert (event["CLASS"], event["TRANSP"], event["STATUS"]) == ("PRIVATE", "TRANSPARENT", "CONFIRMED")


def test_it_speaks_the_persons_language(anna, bob):
    make_case(anna, DAY), make_case(bob, DAY)
    step = Step.objects.first()
    with translation.override("en"):
        assert told(anna)[0][0].endswith(step.name_cs)
    with translation.override("cs"):
        assert told(bob)[0][0].endswith(step.name_en)
    assert b"X-WR-CALNAME:Hypodesk: term\xc3\xadny\r\n" in calendars.of_person(anna, DAY)


def test_nobody_is_named_and_no_amount_told(anna):
    case = make_case(anna, DAY, loan_amount_czk=2_345_678, stand_in=factories.make_user(last_name="Zástupná"))
    CaseStep.objects.filter(pk=case.steps.first().pk).update(note="Volat sousedce")
    for content in (calendars.of_person(anna, DAY), calendars.of_case(case)):
        text = content.decode().replace("\r\n ", "")
        assert not re.search("Alice|Novákov|Malá|Anna|Zástupná|2345678|2 345|sousedce", text)


@pytest.mark.parametrize(("distance", "is_told"), [(-91, False), (-90, True), (0, True), (4000, True)])
def test_the_last_ninety_days_and_all_that_comes(anna, distance, is_told):
    make_case(anna, days(distance))
    assert bool(told(anna)) is is_told


def test_settled_steps_and_closed_cases_are_no_longer_told(anna, manager):
    case, other = make_case(anna, DAY, days(1)), make_case(anna, DAY)
    workflow.complete_step(case.steps.first(), by=manager, on=factories.TODAY)
    workflow.withdraw(other, by=manager, on=factories.TODAY, reason="no more")
    assert [day for _summary, day in told(anna)] == [days(1)]
    assert events(calendars.of_case(other)) == []


def test_others_cases_are_not_told(anna, bob):
    make_case(bob, DAY), make_case(None, DAY)
    assert told(anna) == []


@pytest.mark.parametrize(
    ("absence", "is_told"),
    [({}, False), ({"absent_from": days(-1)}, True), ({"absent_from": days(0), "absent_until": days(0)}, True),
     ({"absent_from": days(1)}, False), ({"absent_from": days(-5), "absent_until": days(-1)}, False),
     ({"is_active": False}, True), ({"is_staff": False}, True)],
)  # fmt: skip
def test_a_stand_in_sees_the_case_while_its_adviser_is_away(anna, bob, absence, is_told):
    make_case(anna, DAY, stand_in=bob)
    User.objects.filter(pk=anna.pk).update(**absence)
    assert bool(told(bob)) is is_told
    assert told(anna)


def test_a_case_without_an_adviser_is_its_stand_ins_and_one_who_stands_in_for_himself_reads_it_once(bob):
    make_case(None, DAY, stand_in=bob), make_case(bob, days(1), stand_in=bob)
    assert [day for _summary, day in told(bob)] == [DAY, days(1)]


def test_a_moved_deadline_keeps_its_uid_and_gets_a_higher_sequence(anna, time_machine):
    time_machine.move_to(datetime.datetime(2026, 4, 1, 10, tzinfo=datetime.UTC))
    case = make_case(anna, DAY)
    [before] = events(calendars.of_case(case))
    time_machine.move_to(datetime.datetime(2026, 4, 2, 10, tzinfo=datetime.UTC))
    workflow.set_deadline(case.steps.first(), days(7), by=anna)
    [after] = events(calendars.of_case(case))
    assert (before["UID"], before.decoded("DTSTART"), after.decoded("DTSTART")) == (after["UID"], DAY, days(7))
    assert before["SEQUENCE"] < after["SEQUENCE"]
    assert before.decoded("LAST-MODIFIED") < after.decoded("LAST-MODIFIED") == after.decoded("DTSTAMP")


def test_the_earliest_are_told_where_there_are_too_many(anna, monkeypatch):
    monkeypatch.setattr(calendars, "MOST_EVENTS", 2)
    make_case(anna, days(3), days(1), days(2))
    assert [day for _summary, day in told(anna)] == [days(1), days(2)]


def test_the_number_of_queries_does_not_follow_the_cases(anna, bob):
    User.objects.filter(pk=bob.pk).update(absent_from=DAY)
    token = token_of(calendars.make(anna))
    now = timezone.make_aware(datetime.datetime.combine(DAY, datetime.time(9)))

    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as found:
            assert calendars.read(token, now)
        assert "full_name" not in str(found.captured_queries) and "note" not in str(found.captured_queries)
        return len(found)

    for _ in range(5):
        make_case(anna, DAY, days(1)), make_case(bob, DAY, stand_in=anna)
    first = queries()
    for _ in range(5):
        make_case(anna, DAY, days(1)), make_case(bob, DAY, stand_in=anna)
    assert queries() == first <= 6


# --- By the letter of RFC 5545 ---


def long_step(name: str) -> None:
    Step.objects.update(name_cs=name, name_en=name)


@pytest.mark.parametrize("letter", ["ř", "a", "€", "😀", "ař"])
@pytest.mark.parametrize("length", [1, 20, 50, 57, 58, 59, 60, 61, 62, 99])
def test_lines_are_folded_at_75_octets_and_no_letter_is_cut(anna, letter, length):
    make_case(anna, DAY)
    name = (letter * length)[:length]
    long_step(name)
    content = calendars.of_person(anna, DAY)
    lines = content.split(b"\r\n")
    assert lines.pop() == b"" and max(map(len, lines)) <= 75
    assert b"\n" not in content.replace(b"\r\n", b"") and b"\r" not in content.replace(b"\r\n", b"")
    assert all(line.decode() for line in lines)
    assert told(anna)[0][0].endswith(f": {name}")


def test_what_the_format_uses_itself_is_escaped(anna):
    make_case(anna, DAY)
    long_step('a;b,c\\n\\d\nEND:VEVENT\r\nx\x07y:"z"')
    assert told(anna)[0][0].endswith(': a;b,c\\n\\d\nEND:VEVENT\nxy:"z"')


def test_it_has_every_required_property_once(anna):
    make_case(anna, DAY, days(1)), make_case(anna, days(2))
    content = calendars.of_person(anna, DAY)
    lines = content.decode().replace("\r\n ", "").split("\r\n")
    assert lines[0] == "BEGIN:VCALENDAR" and lines[-2:] == ["END:VCALENDAR", ""]
    assert (lines.count("VERSION:2.0"), sum(line.startswith("PRODID:") for line in lines)) == (1, 1)
    assert not [line for line in lines if line.startswith("METHOD")]
    blocks = "\n".join(lines).split("BEGIN:VEVENT\n")[1:]
    assert len(blocks) == 3
    for block in blocks:
        for name in ("UID", "DTSTAMP", "DTSTART", "SUMMARY", "SEQUENCE", "LAST-MODIFIED", "STATUS", "CLASS", "TRANSP"):
            assert len(re.findall(rf"^{name}[:;]", block, re.M)) == 1, name
        assert re.search(r"^DTSTART;VALUE=DATE:\d{8}$", block, re.M)
        assert re.search(r"^DTSTAMP:\d{8}T\d{6}Z$", block, re.M)
        assert re.search(r"^UID:step-\d+@testserver$", block, re.M)
    assert len({event["UID"] for event in events(content)}) == 3
    assert icalendar.Calendar.from_ical(content).errors == []


def test_an_empty_calendar_is_valid_too(anna):
    calendar = icalendar.Calendar.from_ical(calendars.of_person(anna, DAY))
    assert [each.name for each in calendar.subcomponents] == ["VTIMEZONE"] and not calendar.errors


def test_the_same_deadlines_are_the_same_bytes(anna):
    make_case(anna, DAY, days(1))
    assert calendars.of_person(anna, DAY) == calendars.of_person(anna, days(1))


# --- Its address ---


def token_of(address: str) -> str:
    return re.fullmatch(r"https://testserver/calendar/([\w-]{43})\.ics", address)[1]


def path_of(address: str) -> str:
    return address.removeprefix("https://testserver")


@pytest.fixture
def address(anna):
    make_case(anna, timezone.localdate())
    return path_of(calendars.make(anna))


def test_who_knows_the_address_reads_the_calendar_without_a_login(client, anna, address):
    answer = client.get(address)
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/calendar; charset=utf-8")
    assert len(events(answer.content)) == 1
    assert answer["Cache-Control"] == "private, no-cache" and answer["Referrer-Policy"] == "no-referrer"
    assert "noindex" in answer["X-Robots-Tag"]
    assert not answer.cookies
    assert client.head(address).status_code == 200


def test_what_did_not_change_is_not_sent_again(client, address):
    tag = client.get(address)["ETag"]
    again = client.get(address, headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    CaseStep.objects.update(deadline=timezone.localdate() + datetime.timedelta(days=1))
    assert client.get(address, headers={"If-None-Match": tag}).status_code == 200


def test_the_database_does_not_know_the_secret(address):
    feed = CalendarFeed.objects.get()
    assert len(feed.digest) == 64 and feed.digest not in address
    assert token_of("https://testserver" + address) not in str(
        [*CalendarFeed.history.values(), *AuditEntry.objects.values()]
    )


def _revoke(user):
    assert calendars.revoke(user)


def _make_another(user):
    assert calendars.make(user)


@pytest.mark.parametrize(
    "end",
    [_revoke, _make_another, lambda user: User.objects.filter(pk=user.pk).update(is_active=False),
     lambda user: User.objects.filter(pk=user.pk).update(is_staff=False),
     lambda user: roles.assign(user, roles.CLIENT), lambda user: user.groups.clear(),
     lambda user: (user.cases.all().update(adviser=None), user.delete())],
)  # fmt: skip
def test_an_ended_address_answers_like_one_that_never_was(client, anna, address, end):
    end(anna)
    answer, never = client.get(address), client.get("/calendar/" + "A" * 43 + ".ics")
    assert (answer.status_code, answer.content, dict(answer.headers)) == (404, never.content, dict(never.headers))
    assert not AuditEntry.objects.filter(kind="refused").exists()


def test_revoking_what_is_not_there_says_so(bob):
    assert not calendars.revoke(bob)


@pytest.mark.parametrize("token", ["x", "%00", "A" * 5000, "ř", "%FF", "a%2Fb"])
def test_an_odd_address_is_not_found(client, db, token):
    assert client.get(f"/calendar/{token}.ics").status_code == 404


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch", "options"])
def test_it_is_read_only(client, address, method):
    assert getattr(client, method)(address).status_code == 405


def test_reading_leaves_nothing_behind(client, address):
    before = AuditEntry.objects.count(), CalendarFeed.history.count()
    client.get(address)
    client.get(address + "x")
    assert (AuditEntry.objects.count(), CalendarFeed.history.count()) == before


def test_a_lookers_own_login_changes_nothing(client, bob, address):
    client.force_login(bob)
    assert "Hypodesk: termíny" in client.get(address).content.decode()


@pytest.fixture
def log():
    """What the product's handler writes, and Django's loggers with no handler of their own."""
    [handler] = [each for each in logging.getLogger().handlers if type(each) is logging.StreamHandler]
    target = io.StringIO()
    before = handler.setStream(target)
    yield target
    handler.setStream(before)


@pytest.mark.parametrize("suffix", ["", "x", "/", "?a=1"])
def test_no_log_tells_the_secret(client, anna, address, log, suffix):
    calendars.revoke(anna)
    client.get(address + suffix)
    client.post(address + suffix)
    written = log.getvalue()
    assert "/calendar/…" in written and token_of("https://testserver" + address)[:8] not in written


def test_no_log_tells_the_secret_of_what_broke(client, address, log, monkeypatch):
    monkeypatch.setattr(calendars, "of_person", lambda *_: 1 / 0)
    client.raise_request_exception = False
    assert client.get(address).status_code == 500
    assert "ZeroDivisionError" in log.getvalue()
    assert token_of("https://testserver" + address)[:8] not in log.getvalue()


def test_djangos_own_handlers_are_gone():
    assert logging.getLogger("django").handlers == []
