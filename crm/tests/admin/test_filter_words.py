"""What an export's record and its sheet "Info" say of the filter: the list's own titles and choices, in the reader's words."""

import io
from urllib.parse import parse_qsl

import openpyxl
import pytest
from django.urls import reverse
from django.utils import translation

from crm import exports
from crm.choices import RunState
from crm.models import ExportRun, Lender, User
from crm.tests import factories

CASES = reverse("admin:crm_case_export")


def said(user, query: str, language: str, model: str = "case") -> str:
    run = ExportRun(user=user, model=model, filter=dict(parse_qsl(query, keep_blank_values=True)))
    with translation.override(language):
        return exports.filter_text(run, user).replace("\xa0", " ")


@pytest.mark.parametrize(
    ("query", "czech", "english"),
    [
        ("quick=overdue", "Rychlý výběr: Po termínu", "Quick choice: Overdue"),
        ("status__exact=open", "Stav: Otevřeno", "Status: Open"),
        ("loan_amount_czk_from=1234567,5", "Výše úvěru (Kč) ≥ 1 234 567,50", "Loan amount (CZK) ≥ 1 234 567.50"),
        ("next_deadline_to=1.3.2026", "Nejbližší termín ≤ 1. 3. 2026", "Next deadline ≤ 2026-03-01"),
        ("next_deadline_to=soon", "Nejbližší termín ≤ soon", "Next deadline ≤ soon"),
        ("search=True", "hledání", "search"),
        ("search=True&status__exact=open", "Stav: Otevřeno; hledání", "Status: Open; search"),
        ("selected=3", "vybraných řádků: 3", "selected rows: 3"),
        ("", "vše", "everything"),
        # Of a list that was since given other filters.
        ("colour=red", "colour: red", "colour: red"),
    ],
)
def test_filters_are_told_in_the_readers_words(manager, query, czech, english):
    assert (said(manager, query, "cs"), said(manager, query, "en")) == (czech, english)


def test_people_and_records_are_told_by_name(manager):
    adviser = factories.make_user(first_name="Lucie", last_name="Radová")
    [lender] = Lender.objects.bulk_create([Lender(name="Komerční banka")])
    query = f"adviser={adviser.pk}&lender__id__exact={lender.pk}"
    assert said(manager, query, "en") == "Adviser: Lucie Radová; Lender: Komerční banka"
    Lender.objects.all().delete()
    assert said(manager, query, "en").endswith(f"Lender: {lender.pk}")


@pytest.mark.parametrize(
    ("query", "english"),
    [
        (
            "created_at__gte=2026-03-01 00:00:00%2B01:00&created_at__lt=2026-04-01",
            "Created ≥ 2026-03-01; Created < 2026-04-01",
        ),
        # As the command takes them.
        ("status=open&adviser=adviser2", "Adviser: adviser2; Status: Open"),
        ("loan_amount_czk__gt=1000000.00&next_deadline=", "Loan amount (CZK) > 1 000 000; Next deadline: –"),
        ("case.opened_on__lte=2026-03-01", "Opened on ≤ 2026-03-01"),
    ],
)
@pytest.mark.parametrize("person", ["manager", "nobody"])
def test_so_are_those_of_the_clients_list_and_of_the_command(manager, query, english, person):
    assert said(manager if person == "manager" else None, query, "en", "client") == english


def test_the_file_and_the_page_of_the_record_say_it(client, manager):
    factories.make_case()
    User.objects.filter(pk=manager.pk).update(language="en")
    client.force_login(manager)
    asked = {"format": exports.XLSX, "columns": ["full_name"]}
    content = client.post(f"{CASES}?quick=active&status__exact=open&q=H-0", asked).content
    run = ExportRun.objects.get()
    wanted = "Quick choice: Active; Status: Open; search"
    assert (run.state, run.filter["search"]) == (RunState.DONE, True)
    info = openpyxl.load_workbook(io.BytesIO(content))["Info"]
    assert ("Filter", wanted) in [row[:2] for row in info.values]
    assert wanted in client.get(reverse("admin:crm_exportrun_change", args=[run.pk])).content.decode()


def test_what_nobody_filtered_costs_nothing(manager, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert said(manager, "", "en") == "everything"
        assert said(manager, "search=True&selected=2", "en") == "search; selected rows: 2"
