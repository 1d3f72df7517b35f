"""A stranger's first minutes, in a real browser on a real office: each role, every list and form, a tick, a
spreadsheet in and one out."""

import re
from pathlib import Path

import pytest
from python_calamine import CalamineWorkbook

pytestmark = pytest.mark.e2e

SAMPLES = Path(__file__).parent.parent / "imports" / "samples"
BUSINESS = ["client", "case", "casestep"]
CATALOGUE = ["step", "lender", "documenttype", "regulatorylimit"]


def links(page, prefix: str) -> set[str]:
    """The sidebar's links: all that this person is offered."""
    hrefs = page.eval_on_selector_all("a[href]", "all => all.map(one => one.getAttribute('href'))")
    return {href.split("?")[0] for href in hrefs if href and href.startswith(prefix)}


def open_first_row(page) -> bool:
    row = page.locator("#result_list tbody tr th a, #result_list tbody tr td a").first
    if row.count() == 0:
        return False
    with page.expect_navigation():
        row.click()
    return True


@pytest.mark.parametrize("role", ["administrator", "manager", "adviser", "assistant", "auditor"])
def test_each_role_opens_every_list_and_form_that_it_is_offered(desk, role):
    own = desk()
    page = own.log_in(role)
    offered = {path for path in links(page, "/admin/") if re.fullmatch(r"/admin/\w+/\w+/", path)}
    assert {f"/admin/crm/{model}/" for model in BUSINESS} <= offered
    for path in sorted(offered):
        own.go(path)
        assert page.locator("h1, #content, main").count(), path
        may_add = page.locator(f"a[href^='{path}add/']").count()
        open_first_row(page)
        if may_add:
            own.go(f"{path}add/")
            assert page.locator("form").count(), path


def test_a_clients_login_does_not_reach_the_admin(desk):
    own = desk()
    own.go("/admin/login/")
    own.page.fill("[name=username]", "client")
    own.page.fill("[name=password]", "hypodesk-demo")
    own.page.click("[type=submit]")
    assert "/login/" in own.page.url


def test_an_adviser_ticks_a_step_from_his_day(desk):
    own = desk()
    page = own.log_in("adviser")
    form = page.locator("form[action*='complete']").first
    action = form.get_attribute("action")
    with page.expect_navigation():
        form.locator("button").click()
    assert page.url.split("?")[0].rstrip("/").endswith("/admin")
    assert page.locator(f"form[action='{action}']").count() == 0


def test_an_adviser_ticks_the_current_step_on_the_case_page(desk):
    own = desk()
    page = own.log_in("adviser2")
    own.go("/admin/crm/case/?status__exact=open")
    assert open_first_row(page)
    case = page.url
    done = page.locator("[data-state=done], .hd-progress__step--done, .hd-step--done").count()
    with page.expect_navigation():
        page.locator("button[formaction*='complete']").first.click()
    assert page.url.split("?")[0].split("#")[0] == case.split("?")[0].split("#")[0]
    assert page.locator("[data-state=done], .hd-progress__step--done, .hd-step--done").count() == done + 1


def test_the_bell_leads_to_what_happened_and_counts_one_less(desk):
    own = desk()
    page = own.log_in("adviser2")
    bell = page.locator(".hd-bell")
    before = int(bell.inner_text().split()[-1])
    bell.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/admin/inbox/")
    page.click(".hd-inbox__item--unread button")
    page.wait_for_url("**/admin/crm/case/*/change/")
    assert int(page.locator(".hd-bell").inner_text().split()[-1]) == before - 1


def test_ctrl_k_finds_a_client_without_accents(desk):
    own = desk()
    page = own.log_in("manager")
    own.go("/admin/crm/client/")
    name = page.locator("#result_list tbody tr").first.inner_text()
    reference = re.search(r"C-\d{6}", name)[0]
    page.keyboard.press("Control+k")
    page.keyboard.type(reference, delay=20)
    page.locator("a", has_text=reference).last.wait_for(timeout=10000)


def test_a_manager_imports_the_spreadsheet_that_czech_excel_saved(desk):
    own = desk()
    page = own.log_in("manager")
    own.go("/admin/crm/client/")
    page.locator("a[href*='/import/']").first.click()
    page.wait_for_load_state()
    page.set_input_files("input[type=file]", SAMPLES / "czech_excel.csv")
    page.locator("form:has(input[type=file]) [type=submit]").first.click()
    page.wait_for_load_state()
    preview = page.locator("main, #content").first.inner_text()
    for refused in ("-500000", "31.2.2025", "asi milion"):
        assert refused in preview
    page.locator("form:has([name=csrfmiddlewaretoken]) button[type=submit], form [type=submit]").filter(
        has_text=re.compile("import|confirm|write", re.IGNORECASE)
    ).first.click()
    page.wait_for_load_state()
    result = page.locator("main, #content").first.inner_text()
    assert "11" in result and "6" in result and "4" in result
    own.go("/admin/crm/client/?q=krejci")
    assert "Alena Krejčí" in page.locator("#result_list").inner_text()


def test_an_assistant_is_offered_neither_import_nor_export(desk):
    own = desk()
    page = own.log_in("assistant")
    own.go("/admin/crm/client/")
    assert page.locator("a[href*='/import/'], a[href*='/export/']").count() == 0


def test_an_adviser_exports_a_list_that_a_spreadsheet_opens(desk, tmp_path):
    own = desk()
    page = own.log_in("adviser")
    own.go("/admin/crm/case/")
    page.locator("a[href*='/export/']").first.click()
    page.wait_for_load_state()
    if page.locator("select[name=format]").count():
        page.select_option("select[name=format]", index=page.locator("select[name=format] option").count() - 1)
        labels = page.locator("select[name=format] option").all_inner_texts()
        page.select_option("select[name=format]", label=next(label for label in labels if "xlsx" in label.lower()))
    with page.expect_download() as download:
        page.locator("form:has([name=format]) .hd-button--primary[type=submit]").click()
    file = tmp_path / "cases.xlsx"
    download.value.save_as(file)
    rows = CalamineWorkbook.from_path(str(file)).get_sheet_by_index(0).to_python()
    assert len(rows) > 40
    assert any(re.fullmatch(r"H-\d{6}", str(cell)) for cell in rows[1])


@pytest.mark.parametrize(
    ("name", "context"),
    [
        ("light", {"color_scheme": "light"}),
        ("dark", {"color_scheme": "dark"}),
        ("phone", {"viewport": {"width": 390, "height": 844}, "has_touch": True}),
    ],
)
def test_the_main_pages_fit_their_screen(desk, name, context):
    own = desk(locale="cs-CZ", **context)
    page = own.log_in("manager")
    for path in ("/admin/", "/admin/crm/client/", "/admin/crm/case/", "/admin/crm/casestep/", "/admin/crm/case/add/"):
        own.go(path)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 1, f"{path} is {wide} px too wide on {name}"
        assert own.picture(f"{name}{path.replace('/', '-')}").stat().st_size > 5000


def test_the_office_speaks_czech_to_a_czech_and_english_to_who_chose_it(desk):
    own = desk(locale="cs-CZ")
    page = own.log_in("auditor")
    assert page.locator("html").get_attribute("lang") == "cs"
    assert "Klienti" in page.locator("body").inner_text()


def test_the_older_addresses_lead_to_their_new_pages(desk):
    own = desk()
    page = own.log_in("manager")
    for old, new in {
        "/": "/admin/",
        "/klienti/": "/admin/crm/client/",
        "/dashboard/": "/admin/",
        "/reporting/": "/admin/",
    }.items():
        own.go(old)
        assert page.url.split("?")[0] == own.address + new
