"""Nothing serious for axe-core on any kind of page, in light and dark, at a desk and on a phone; and what axe cannot see:
the keyboard's way through the frame."""

import pytest
from axe_playwright_python import sync_playwright as axe

pytestmark = pytest.mark.e2e

PAGES = [
    "/admin/",
    "/admin/crm/client/",
    "/admin/crm/client/add/",
    "/admin/crm/client/1/change/",
    "/admin/crm/client/1/history/",
    "/admin/crm/client/1/timeline/",
    "/admin/crm/case/",
    "/admin/crm/case/add/",
    "/admin/crm/case/1/change/",
    "/admin/crm/case/import/",
    "/admin/crm/casestep/",
    "/admin/crm/step/",
    "/admin/crm/user/",
    "/admin/crm/importrun/",
    "/admin/crm/jobschedule/",
    "/admin/crm/noticerule/",
    "/admin/inbox/",
    "/admin/inbox/choices/",
    "/admin/password_change/",
]
SCREENS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1440, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1440, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}


def violations(page) -> list[str]:
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['html'][:200]} {node['failureSummary']}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("screen", SCREENS)
def test_no_page_shuts_anybody_out_or_is_wider_than_the_screen(desk, screen):
    own, wide = desk(**SCREENS[screen]), {}
    own.go("/admin/login/")
    found = {"/admin/login/": violations(own.page)}
    page = own.log_in("administrator")
    for path in PAGES:
        own.go(path)
        found[path] = violations(page)
        wide[path] = page.evaluate("document.documentElement.scrollWidth")
    assert {path: lines for path, lines in found.items() if lines} == {}
    most = SCREENS[screen]["viewport"]["width"]
    assert {path: width for path, width in wide.items() if width > most} == {}


def test_the_first_key_leads_to_the_content(desk):
    own = desk()
    page = own.log_in("adviser")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "hd-content"


def test_the_palette_finds_a_client_from_the_keyboard(desk):
    own = desk(**SCREENS["light"])
    page = own.log_in("adviser")
    reference = page.locator("[aria-labelledby=due-soon] .hd-second, [aria-labelledby=due-overdue] .hd-second").first
    reference = reference.inner_text().split("·")[1].strip()
    page.keyboard.press("Control+k")
    page.locator("#search-input-command").press_sequentially(reference)
    page.locator("#command-results-list a").first.wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/admin/crm/client/*/change/")
    assert reference in page.inner_text("h1")


def test_the_persons_menu_opens_from_the_keyboard_and_changes_the_language(desk):
    own = desk(**SCREENS["light"])
    page = own.log_in("auditor")
    assert page.get_attribute("html", "lang") == "cs"
    page.focus("[aria-controls=hd-user-menu]")
    page.keyboard.press("Enter")
    page.click("#hd-user-menu form:has([name=language][value=en]) button")
    page.wait_for_load_state()
    assert page.get_attribute("html", "lang") == "en"
    page.focus("[aria-controls=hd-user-menu]")
    page.keyboard.press("Enter")
    page.click("#hd-user-menu form:has([name=language][value=cs]) button")
    page.wait_for_load_state()
    assert page.get_attribute("html", "lang") == "cs"


def test_on_a_phone_saving_comes_before_deleting(desk):
    own = desk(**SCREENS["phone"])
    own.log_in("administrator")
    page = own.go("/admin/crm/client/1/change/")
    save = page.locator("[name=_save]").bounding_box()
    delete = page.locator("#submit-row a[href*='/delete/']").bounding_box()
    assert save["y"] < delete["y"]
