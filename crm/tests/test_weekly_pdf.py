"""The weekly report as a PDF: the week's figures in the reader's language, and nobody's name but advisers'."""

import base64
import datetime
import io
import json
from decimal import Decimal

import pypdf
import pytest
from django.utils import translation

from crm import reports, roles, weekly, weekly_pdf
from crm.tests import factories

MONDAY = datetime.date(2026, 3, 2)


def row(number: int, **fields) -> reports.Row:
    known = {
        "status": "Open", "adviser": "Anna Řeháková", "lender": "Banka Pod Lipou", "opened_on": MONDAY,
        "decided_on": None, "next_deadline": datetime.date(2026, 5, 6), "loan_amount_czk": Decimal(1_234_567),
        "approved_amount_czk": None,
    }  # fmt: skip
    return reports.Row(f"H-{number:06d}", **known | fields)


def week(**cases) -> reports.Week:
    found = {what: cases.get(what, []) for what in weekly.TITLES}
    approved = [reports.Volume("Banka Pod Lipou", 2, Decimal(3_000_000)), reports.Volume("", 1, Decimal(500_000))]
    days = [reports.StepDays("5. Odhad", 4, 6.5)]
    return reports.Week(MONDAY, MONDAY + datetime.timedelta(days=6), found, approved, approved, days)


def text_of(content: bytes) -> str:
    pages = pypdf.PdfReader(io.BytesIO(content)).pages
    return " ".join(" ".join(page.extract_text() for page in pages).split())


def shown(found: reports.Week, language: str = "en") -> str:
    with translation.override(language):
        return text_of(weekly_pdf.pages(found, weekly.TITLES))


def test_the_figures_are_the_weeks():
    found = shown(week(new=[row(1), row(2)], overdue=[row(3)]))
    assert "Weekly report 2026-W10 2026-03-02 – 2026-03-08" in found
    assert "New cases 2 Moved on 0 Approved 0 Declined 0 Withdrawn 0 Overdue 1" in found
    assert "Banka Pod Lipou 2 3 000 000 – 1 500 000 Total 3 3 500 000" in found
    assert "5. Odhad 4 6.5" in found


def test_a_group_shows_the_date_and_the_amount_that_it_is_about():
    decided = {"decided_on": datetime.date(2026, 3, 4), "approved_amount_czk": Decimal(999)}
    found = shown(week(new=[row(1)], approved=[row(2, **decided)], overdue=[row(3)]))
    assert "Opened on Amount (CZK) H-000001 Open Anna Řeháková Banka Pod Lipou 2026-03-02 1 234 567" in found
    assert "Decided on Amount (CZK) H-000002 Open Anna Řeháková Banka Pod Lipou 2026-03-04 999" in found
    assert "Next deadline Amount (CZK) H-000003 Open Anna Řeháková Banka Pod Lipou 2026-05-06 1 234 567" in found


def test_it_speaks_czech():
    found = shown(week(new=[row(1)]), "cs")
    assert "Týdenní přehled 2026-W10 2. 3. 2026 – 8. 3. 2026" in found
    assert "Nové případy (1)" in found and "6,5" in found and "Strana 1 z 1" in found
    assert "Total" not in found and "Celkem 3 3 500 000" in found


def test_a_group_without_cases_and_a_week_without_figures_show_no_table():
    found = shown(reports.Week(MONDAY, MONDAY, {what: [] for what in weekly.TITLES}, [], [], []))
    assert "New cases 0" in found and "Total" not in found and "New cases (" not in found


@pytest.mark.parametrize(("count", "is_cut"), [(3, False), (4, True)])
def test_a_whole_imported_office_is_cut(monkeypatch, count, is_cut):
    monkeypatch.setattr(weekly_pdf, "SHOWN", 3)
    found = shown(week(new=[row(number) for number in range(count)]))
    assert (f"New cases ({count})" in found, "H-000003" in found) == (True, False)
    assert ("1 more stand in the spreadsheet." in found) is is_cut


@pytest.mark.django_db
def test_it_goes_out_with_the_mail_and_names_no_client():
    jana = factories.make_user(roles.MANAGER, language="cs")
    case = factories.make_case(factories.make_client("Alice Nováková"), opened_on=MONDAY)
    [message] = [each for each in weekly.messages(MONDAY, on=MONDAY + reports.WEEK) if each.user == jana]
    files = {name: (kind, base64.b64decode(content)) for name, kind, content in json.loads(message.attachments)}
    assert set(files) == {"hypodesk-2026-W10.xlsx", "hypodesk-2026-W10.pdf"}
    kind, content = files["hypodesk-2026-W10.pdf"]
    assert kind == "application/pdf" and content.startswith(b"%PDF-")
    assert case.reference in text_of(content) and "Nové případy (1)" in text_of(content)
    assert "Nováková" not in text_of(content) and "Alice" not in text_of(content)
