import datetime
import re

import pytest
from django.contrib import admin
from django.contrib.staticfiles import finders
from django.core.cache import cache
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from unfold.sites import UnfoldAdminSite

from crm import roles, workflow
from crm.admin import navigation
from crm.models import Case, CaseStep, Client, User
from crm.tests import factories

pytestmark = pytest.mark.django_db
STAFF = [role for role in roles.ROLES if role != roles.CLIENT]
SEARCH = "/admin/search/"


def links_of(response) -> list[str]:
    return [item["link"] for group in response.context["sidebar_navigation"] for item in group["items"]]


def english(user):
    user.language = "en"
    user.save(update_fields=["language"])
    return user


# --- Sidebar ---


@pytest.mark.parametrize("role", STAFF)
def test_every_link_of_the_sidebar_opens(client, role):
    client.force_login(factories.make_user(role))
    links = links_of(client.get("/admin/"))
    assert "/admin/crm/client/" in links
    assert {link: client.get(link).status_code for link in links} == dict.fromkeys(links, 200)


@pytest.mark.parametrize("role", STAFF)
def test_what_the_sidebar_hides_is_forbidden(client, role):
    everything = _links_for(client, roles.ADMINISTRATOR)
    hidden = everything - _links_for(client, role)
    assert {client.get(link).status_code for link in hidden} <= {403}
    assert bool(hidden) == (role != roles.ADMINISTRATOR)


def _links_for(client, role):
    client.force_login(factories.make_user(role))
    return set(links_of(client.get("/admin/")))


def test_the_administrator_reaches_everything_that_is_registered(client):
    listed = _links_for(client, roles.ADMINISTRATOR)
    for model in admin.site._registry:
        if admin.site.get_model_admin(model).has_module_permission(_request(factories.make_user(roles.ADMINISTRATOR))):
            assert navigation.list_url(model) in listed, model


def _request(user, path="/admin/"):
    request = RequestFactory().get(path)
    request.user = user
    return request


def test_the_badge_counts_overdue_steps_of_ones_own_cases_only(adviser):
    long_ago = datetime.date(2020, 1, 1)
    own, other = factories.make_case(adviser=adviser), factories.make_case(adviser=factories.make_user())
    CaseStep.objects.update(deadline=None)
    assert navigation.own_overdue(_request(adviser)) is None
    for case in (own, other):
        workflow.set_deadline(case.steps.get(step__number=1), long_ago, by=None)
    assert navigation.own_overdue(_request(adviser)) == 1


def test_the_badge_stops_counting(adviser, monkeypatch):
    monkeypatch.setattr(navigation, "MOST_COUNTED", 14)
    factories.make_case(adviser=adviser, opened_on=datetime.date(2020, 1, 1))  # fifteen steps, all long overdue
    assert navigation.own_overdue(_request(adviser)) == "14+"


# --- The command palette ---


@pytest.fixture
def alice():
    return factories.make_client("Alice Nováková", email="alice@example.com", phone="+420 601 234 567")


@pytest.mark.parametrize("term", ["novak", "NOV", "alice@example.com", "601234567", "C-0000"])
def test_the_palette_finds_a_client(client, adviser, alice, term):
    client.force_login(adviser)
    page = client.post(SEARCH, {"s": term}).content.decode()
    assert "Alice Nováková" in page
    assert reverse("admin:crm_client_change", args=[alice.pk]) in page


def test_the_palette_finds_a_case_by_its_reference(client, adviser):
    case = factories.make_case()
    client.force_login(adviser)
    page = client.post(SEARCH, {"s": case.reference.lower()}).content.decode()
    assert reverse("admin:crm_case_change", args=[case.pk]) in page


@pytest.mark.parametrize(("term", "found"), [("no", 0), ("nov", 1)])
def test_two_letters_are_too_few_and_three_are_enough(adviser, alice, term, found):
    assert len(navigation.search_clients(_request(adviser), term)) == found


def test_the_palette_shows_at_most_ten_clients(adviser):
    for _ in range(11):
        factories.make_client("Bob Novotný")
    assert len(navigation.search_clients(_request(adviser), "novotny")) == navigation.MOST_RESULTS


def test_the_palette_asks_twice_and_decrypts_the_name_alone(adviser, alice):
    adviser.get_all_permissions()
    with CaptureQueriesContext(connection) as caught:
        navigation.search_clients(_request(adviser), "novakova")
    assert len(caught) == 2
    assert '"crm_client"."birth_number"' not in caught[0]["sql"]


def test_the_palette_hides_foreign_clients_and_cases(adviser, settings):
    settings.ADVISER_SCOPE = "own"
    case = factories.make_case(adviser=factories.make_user())
    assert navigation.search_clients(_request(adviser), "novakova") == []
    assert navigation.search_clients(_request(adviser), case.reference) == []


def test_the_palette_finds_nothing_for_a_person_without_a_role(client, alice):
    user = factories.make_user()
    user.groups.clear()
    client.force_login(user)
    assert "Alice" not in client.post(SEARCH, {"s": "novakova"}).content.decode()


def test_a_name_never_stands_in_the_address(client, adviser):
    client.force_login(adviser)
    assert client.get(SEARCH, {"s": "novakova"}).status_code == 405


def test_what_the_palette_found_is_kept_nowhere(client, adviser, alice):
    cache.clear()
    client.force_login(adviser)
    response = client.post(SEARCH, {"s": "novakova"})
    assert "Alice" in response.content.decode()
    assert "no-store" in response["Cache-Control"]
    assert not cache._cache
    adviser.groups.clear()
    assert "Alice" not in client.post(SEARCH, {"s": "novakova"}).content.decode()


def test_plain_unfold_keeps_names_in_the_cache(adviser, alice):
    """The trap that OfficeSite.search closes. When this fails, Unfold has closed it too."""
    cache.clear()
    UnfoldAdminSite.search(admin.site._wrapped, _request(adviser, "/admin/search/?s=novakova"))
    assert any("Alice Nováková".encode() in kept for kept in cache._cache.values())
    cache.clear()


# --- Language ---


def test_the_switch_changes_the_person_and_the_page(client, adviser):
    client.force_login(adviser)
    assert 'lang="cs"' in client.get("/admin/").content.decode()
    response = client.post(reverse("admin:language"), {"language": "en", "next": "/admin/crm/client/"})
    assert response["Location"] == "/admin/crm/client/"
    assert User.objects.get(pk=adviser.pk).language == "en"
    assert 'lang="en"' in client.get("/admin/").content.decode()


def test_another_browser_speaks_the_persons_language_too(client, adviser):
    client.cookies["django_language"] = "cs"
    client.force_login(english(adviser))
    assert 'lang="en"' in client.get("/admin/", headers={"accept-language": "cs"}).content.decode()


def test_the_switch_leads_to_no_other_site(client, adviser):
    client.force_login(adviser)
    response = client.post(reverse("admin:language"), {"language": "en", "next": "https://example.com/"})
    assert response["Location"] == "/admin/"


def test_a_language_that_we_do_not_speak_changes_nothing(client, adviser):
    client.force_login(adviser)
    client.post(reverse("admin:language"), {"language": "de"})
    assert User.objects.get(pk=adviser.pk).language == "cs"


def test_a_link_cannot_switch_the_language(client, adviser):
    client.force_login(adviser)
    assert client.get(reverse("admin:language")).status_code == 405


# --- What is for a desk only ---


def _login_page(client) -> str:
    return client.get("/admin/login/", headers={"accept-language": "en"}).content.decode()


@pytest.mark.parametrize(("debug", "demo", "hinted"), [(True, True, True), (True, False, False), (False, True, False)])
def test_the_login_tells_demo_passwords_on_a_desk_with_the_demo_office_only(client, settings, debug, demo, hinted):
    settings.DEBUG = debug
    factories.make_user(is_demo=demo)
    assert ("hypodesk-demo" in _login_page(client)) is hinted


@pytest.mark.parametrize("debug", [True, False])
def test_the_header_says_demo_on_a_desk_only(client, adviser, settings, debug):
    settings.DEBUG = debug
    client.force_login(english(adviser))
    assert bool(re.search(r">\s*Demo\s*<", client.get("/admin/").content.decode())) is debug


# --- Files ---


@pytest.mark.parametrize("callback", [navigation.stylesheet, navigation.script, navigation.favicon])
def test_the_files_that_every_page_names_are_there(callback):
    assert finders.find(callback(None).removeprefix("/static/"))


def test_the_case_and_client_models_have_their_pages():
    assert navigation.list_url(Case) == "/admin/crm/case/"
    assert navigation.list_url(Client, "q=1") == "/admin/crm/client/?q=1"
