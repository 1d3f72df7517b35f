"""Two people at two browsers edit one client: who comes second sees what the first one wrote, and chooses."""

import re

import pytest

pytestmark = pytest.mark.e2e


def open_contact(page) -> None:
    page.get_by_text(re.compile(r"^\s*(Contact|Kontakt)\s*$")).first.click()
    page.locator("#id_phone").wait_for()


def save(page):
    with page.expect_navigation():
        page.locator("button[name=_continue], input[name=_continue]").first.click()


def test_the_second_of_two_merges_and_chooses(desk):
    first, second = desk(locale="en-GB"), desk(locale="cs-CZ")
    for each, username in ((first, "manager"), (second, "adviser")):
        each.log_in(username)
    page, other = first.page, second.page
    first.go("/admin/crm/client/")
    with page.expect_navigation():
        page.locator("#result_list tbody tr th a").first.click()
    address = re.sub(r"^https?://[^/]+", "", page.url).split("?")[0]
    second.go(address)
    for browser in (page, other):
        open_contact(browser)

    page.fill("#id_phone", "+420 601 111 111")
    page.fill("#id_city", "Brno-jih")
    save(page)
    other.fill("#id_phone", "+420 602 222 222")
    other.fill("#id_street", "Pod Lipou 5")
    save(other)

    asked = other.locator(".crm-conflict")
    assert asked.count() == 1
    assert "+420 601 111 111" in asked.inner_text()
    assert other.input_value("#id_phone") == "+420 602 222 222"
    assert other.input_value("#id_street") == "Pod Lipou 5"
    second.picture("conflict")
    asked.locator("input[type=radio][value^=mine]").check()
    save(other)
    assert other.locator(".crm-conflict").count() == 0
    first.go(address)
    assert [page.input_value(f"#id_{name}") for name in ("phone", "street", "city")] == [
        "+420 602 222 222", "Pod Lipou 5", "Brno-jih",
    ]  # fmt: skip
