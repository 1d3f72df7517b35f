"""One's own calendar address in the admin, the office's list of them, and the calendar of a case."""

import re

import icalendar
import pytest
from django.urls import reverse

from crm import calendars, roles, values, workflow
from crm.models import AuditEntry, CalendarFeed
from crm.tests import factories

pytestmark = pytest.mark.django_db
MINE = "/admin/crm/calendarfeed/mine/"
MAKE = "/admin/crm/calendarfeed/make/"
REVOKE = "/admin/crm/calendarfeed/revoke/"
STAFF = [role for role in roles.ROLES if role != roles.CLIENT]


def shown_in(answer) -> str:
    found = re.search(r'value="https://testserver(/calendar/[\w-]{43}\.ics)"', answer.content.decode())
    return found[1] if found else ""


@pytest.fixture
def anna(client):
    anna = factories.make_user(language="en")
    client.force_login(anna)
    return anna


# --- One's own ---


@pytest.mark.parametrize("role", STAFF)
def test_every_role_has_its_calendar(client, role):
    client.force_login(factories.make_user(role))
    assert client.get(MINE).status_code == 200
    assert client.get(shown_in(client.post(MAKE))).status_code == 200


def test_who_may_see_no_step_has_none(client):
    stranger = factories.make_user()
    stranger.groups.clear()
    client.force_login(stranger)
    assert [client.get(MINE).status_code, client.post(MAKE).status_code, client.post(REVOKE).status_code] == [403] * 3
    assert not CalendarFeed.objects.exists()


def test_without_a_login_there_is_no_page(client):
    assert {client.get(MINE).status_code, client.post(MAKE).status_code} == {302}


@pytest.mark.parametrize("path", [MAKE, REVOKE])
def test_only_a_post_makes_and_revokes(client, anna, path):
    calendars.make(anna)
    before = CalendarFeed.objects.get().digest
    assert client.get(path).status_code == 405
    assert CalendarFeed.objects.get().digest == before


def test_the_address_is_shown_once_and_never_kept_by_a_cache(client, anna):
    answer = client.post(MAKE)
    assert shown_in(answer) and f'href="webcals://testserver{shown_in(answer)}"' in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]
    again = client.get(MINE).content.decode()
    assert "/calendar/" not in again.replace("crm/calendarfeed", "") and "You have an address" in again


def test_a_new_address_makes_the_old_one_void(client, anna):
    first, second = shown_in(client.post(MAKE)), shown_in(client.post(MAKE))
    assert (client.get(first).status_code, client.get(second).status_code) == (404, 200)
    assert CalendarFeed.objects.count() == 1


def test_the_offices_page_says_since_when(client, administrator):
    administrator.language = "en"
    administrator.save()
    calendars.make(factories.make_user())
    feed = CalendarFeed.objects.with_made_at().get()
    client.force_login(administrator)
    page = client.get(reverse("admin:crm_calendarfeed_change", args=[feed.pk]))
    assert values.moment(feed.made_at) in page.content.decode()


def test_a_revoked_address_is_gone_and_the_trail_knows_who_did_it(client, anna):
    address = shown_in(client.post(MAKE))
    assert client.post(REVOKE).status_code == 302
    assert client.get(address).status_code == 404
    assert [row.history_user_id for row in CalendarFeed.history.all()] == [anna.pk] * 2
    assert AuditEntry.objects.filter(user_id=anna.pk, kind="change").count() == 2


def test_the_menu_leads_there(client, anna):
    assert f'href="{MINE}"' in client.get("/admin/").content.decode()


# --- The office's list ---


@pytest.mark.parametrize("role", STAFF)
def test_only_an_administrator_sees_and_revokes_the_others(client, role):
    feed_of = factories.make_user()
    address = calendars.make(feed_of).removeprefix("https://testserver")
    client.force_login(factories.make_user(role))
    feed = CalendarFeed.objects.get()
    delete = reverse("admin:crm_calendarfeed_delete", args=[feed.pk])
    may = role == roles.ADMINISTRATOR
    assert client.get(reverse("admin:crm_calendarfeed_changelist")).status_code == (200 if may else 403)
    page = client.get(delete)
    assert page.status_code == (200 if may else 403)
    client.post(delete, {"post": "yes", **_hidden(page)})
    assert client.get(address).status_code == (404 if may else 200)


def _hidden(page) -> dict:
    return dict(re.findall(r'type="hidden" name="(?!csrf)(\w+)" value="([^"]*)"', page.content.decode()))


def test_nobody_reads_a_digest(client, administrator):
    calendars.make(factories.make_user())
    feed = CalendarFeed.objects.get()
    client.force_login(administrator)
    for page in ("changelist", "change", "history", "delete"):
        answer = client.get(reverse(f"admin:crm_calendarfeed_{page}", args=[] if page == "changelist" else [feed.pk]))
        assert feed.digest not in answer.content.decode(), page
    entry = AuditEntry.objects.filter(kind="change").latest("pk")
    assert feed.digest not in client.get(reverse("admin:crm_operation", args=[entry.operation_id])).content.decode()


# --- Of one case ---


def file_of(case) -> str:
    return reverse("admin:crm_case_calendar", args=[case.pk])


@pytest.mark.parametrize("role", STAFF)
def test_whoever_sees_the_case_takes_its_calendar(client, role):
    case = factories.make_case(adviser=factories.make_user())
    client.force_login(factories.make_user(role, language="cs"))
    answer = client.get(file_of(case))
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/calendar; charset=utf-8")
    assert answer["Content-Disposition"] == f'attachment; filename="{case.reference}.ics"'
    found = icalendar.Calendar.from_ical(answer.content).walk("VEVENT")
    assert {str(each["SUMMARY"]) for each in found} == {
        f"{case.reference}: {step.step.name_cs}" for step in case.steps.select_related("step")
    }
    assert "Nov" not in answer.content.decode()


def test_a_foreign_case_has_none(client, anna, settings):
    settings.ADVISER_SCOPE = "own"
    case, own = factories.make_case(adviser=factories.make_user()), factories.make_case(adviser=anna)
    assert (client.get(file_of(case)).status_code, client.get(file_of(own)).status_code) == (404, 200)
    assert client.get("/admin/crm/case/x/calendar/").status_code == 404


def test_without_the_right_to_see_cases_there_is_none(client, anna):
    case = factories.make_case(adviser=anna)
    anna.groups.clear()
    assert client.get(file_of(case)).status_code == 403


def test_the_page_of_an_active_case_offers_it(client, anna, manager):
    case = factories.make_case(adviser=anna)
    page = reverse("admin:crm_case_change", args=[case.pk])
    assert file_of(case) in client.get(page).content.decode()
    workflow.withdraw(case, by=manager, on=factories.TODAY, reason="no more")
    assert file_of(case) not in client.get(page).content.decode()
