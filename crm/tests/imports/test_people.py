"""The nine-column layout: samples with their exact last lines, and what is written of them."""

import datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from crm import catalogue, imports, workflow
from crm.choices import CaseStatus, Source
from crm.imports.columns import recognise
from crm.imports.people import RowDigests
from crm.imports.plans import Plan
from crm.imports.reading import Rows, Sheet
from crm.imports.shelf import CellError
from crm.models import Case, CaseStep, Client, ImportRun
from crm.tests.imports.workbooks import csv, xlsx

SAMPLES = Path(__file__).parent / "samples"
TODAY = datetime.date(2026, 3, 2)
LINES = {
    "older_crm_clients.csv": "14 rows: 12 created, 0 updated, 0 skipped, 2 errors",
    "czech_excel.csv": "11 rows: 6 created, 0 updated, 1 skipped, 4 errors",
    "czech_excel_bom.csv": "12 rows: 7 created, 0 updated, 1 skipped, 4 errors",
    "czech_excel.xlsx": "5 rows: 3 created, 0 updated, 1 skipped, 1 errors",
}

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _catalogue(db):
    catalogue.load()


def check(content, name="x.csv", user=None):
    return imports.check(content, name, user, on=TODAY)


def row(
    name="Alice Nová",
    day="1.2.2025",
    lender="KB",
    amount="2000000",
    reason="",
    purpose="",
    terms="",
    ltv="80",
    price="2500000",
):
    return [name, day, lender, amount, reason, purpose, terms, ltv, price]


def load(*rows, **kwargs):
    plan = check(csv(*rows, **kwargs))
    imports.write(plan)
    return plan


def reasons(plan):
    return [(problem.row, problem.column, problem.severity) for problem in plan.problems]


def run_command(*args):
    """(exit code, lines on standard output)"""
    out = StringIO()
    try:
        call_command("import_clients", *map(str, args), stdout=out, stderr=StringIO())
    except SystemExit as stop:
        return stop.code, out.getvalue().splitlines()
    return 0, out.getvalue().splitlines()


@pytest.mark.parametrize("name", LINES)
def test_a_sample_comes_out_as_its_table_says(name):
    code, lines = run_command(SAMPLES / name)
    assert (code, lines[-1]) == (2, LINES[name])
    created = int(lines[-1].split()[2])
    assert (Client.objects.count(), Case.objects.count(), CaseStep.objects.count()) == (created, created, 15 * created)


@pytest.mark.parametrize("name", LINES)
def test_a_sample_imported_twice_adds_nothing(name):
    run_command(SAMPLES / name)
    before = Client.objects.count()
    _code, lines = run_command(SAMPLES / name)
    assert " 0 created, 0 updated" in lines[-1] and Client.objects.count() == before


def test_equal_rows_are_skipped_whatever_header_and_encoding_they_came_in():
    run_command(SAMPLES / "czech_excel.csv")
    _code, lines = run_command(SAMPLES / "czech_excel_bom.csv")
    assert lines[-1] == "12 rows: 1 created, 0 updated, 7 skipped, 4 errors"


@pytest.mark.parametrize("name", LINES)
def test_a_dry_run_counts_the_same_and_writes_nothing(name):
    _code, lines = run_command(SAMPLES / name, "--dry-run")
    assert lines[-1] == LINES[name]
    assert (Client.objects.count(), ImportRun.objects.count()) == (0, 0)


def test_one_bad_row_keeps_all_out_where_all_or_nothing_is_asked():
    code, lines = run_command(SAMPLES / "czech_excel.csv", "--all-or-nothing")
    assert (code, lines[-1]) == (2, "11 rows: 0 created, 0 updated, 7 skipped, 4 errors")
    assert Client.objects.count() == 0


def test_all_rows_go_in_where_all_or_nothing_is_asked_and_all_are_good(tmp_path):
    (tmp_path / "good.csv").write_bytes(csv(row(), row("Bob")))
    assert run_command(tmp_path / "good.csv", "--all-or-nothing")[0] == 0
    assert Client.objects.count() == 2


def test_an_unusable_file_is_exit_code_1(tmp_path):
    (tmp_path / "bad.csv").write_bytes(b"name of nothing;x\r\n1;2\r\n")
    assert run_command(tmp_path / "bad.csv")[0] == 1
    assert run_command(tmp_path / "none.csv")[0] == 1


def test_the_errors_file_can_be_corrected_and_imported(tmp_path):
    errors = tmp_path / "errors.csv"
    run_command(SAMPLES / "czech_excel.csv", "--errors", errors)
    assert errors.stat().st_mode & 0o777 == 0o600
    text = errors.read_bytes().decode("utf-8-sig")
    assert text.splitlines()[0].endswith(";problem") and len(text.splitlines()) == 5
    assert not any(cell.startswith("=") for line in text.splitlines() for cell in line.split(";"))
    text = text.replace("'-500000;", "500000;").replace("31.2.2025;", "1.2.2025;").replace("asi milion;", "1000000;")
    errors.write_text(text.replace("\r\n;3.3.2025", "\r\nDoplněné Jméno;3.3.2025"), encoding="utf-8")
    assert run_command(errors)[1][-1] == "4 rows: 4 created, 0 updated, 0 skipped, 0 errors"
    assert '=HYPERLINK("http://x")' in [case.loan_purpose for case in Case.objects.all()]


def test_what_is_written_of_a_row():
    load(row("  Ing.  Jan   Dvořák ", "1. 2. 2025", "k.b.", "1 234 567,50 Kč", "", "Byt", "anuita", "79,9 %", "3 mil."))
    client, case = Client.objects.get(), Case.objects.get()
    assert (client.full_name, client.reference) == ("Ing. Jan Dvořák", "C-000001")
    assert (case.opened_on, case.lender.name) == (datetime.date(2025, 2, 1), "Komerční banka")
    assert (case.loan_amount_czk, case.property_price_czk) == (Decimal("1234567.50"), Decimal("3000000.00"))
    assert (case.ltv_percent, case.loan_purpose, case.proposed_terms) == (Decimal("79.90"), "Byt", "anuita")
    assert (case.status, case.current_step.number) == (CaseStatus.OPEN, 1)


def test_an_imported_case_is_what_the_workflow_says_it_is():
    run_command(SAMPLES / "czech_excel_bom.csv")
    assert list(workflow.mismatches()) == []
    assert CaseStep.objects.get(case=Case.objects.first(), step__number=1).deadline


def test_a_rejection_reason_makes_a_declined_case_without_a_deadline():
    load(row(reason="Záznam v registru"))
    case = Case.objects.get()
    assert (case.status, case.rejection_reason, case.next_deadline) == ("declined", "Záznam v registru", None)


def test_an_unknown_lender_is_kept_as_the_note_of_the_third_step():
    plan = load(row(lender="Banka Na Rohu"))
    assert CaseStep.objects.get(step__code="vyber_banky").note == "Banka Na Rohu"
    assert reasons(plan) == [(2, "vyber_banky", "warning")]


def test_a_row_without_a_date_is_opened_today_with_a_warning():
    plan = load(row(day=""))
    assert (Case.objects.get().opened_on, reasons(plan)) == (TODAY, [(2, "datum", "warning")])


@pytest.mark.parametrize("amount", ["0", "", "0,00 Kč"])
def test_an_unknown_amount_is_stored_as_empty(amount):
    load(row(amount=amount))
    assert Case.objects.get().loan_amount_czk is None


@pytest.mark.parametrize(("ltv", "warned"), [("100", False), ("100,01", True), ("120 %", True)])
def test_an_ltv_above_100_is_a_warning(ltv, warned):
    assert [problem.severity for problem in load(row(ltv=ltv)).problems] == ["warning"] * warned
    assert Case.objects.count() == 1


@pytest.mark.parametrize(("length", "created"), [(200, 1), (201, 0)])
def test_a_name_has_at_most_200_characters(length, created):
    load(row("x" * length))
    assert Client.objects.count() == created


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"name": ""}, "jmeno"),
        ({"name": " \u00a0 "}, "jmeno"),
        ({"name": "gAAAAABk0000"}, "jmeno"),
        ({"name": "'gAAAAABk0000"}, None),
        ({"day": "31.2.2025"}, "datum"),
        ({"day": "zítra"}, "datum"),
        ({"amount": "-1"}, "navrh_financovani_castka"),
        ({"amount": "1,234"}, "navrh_financovani_castka"),
        ({"amount": "1000000000000"}, "navrh_financovani_castka"),
        ({"price": "-500000"}, "cena"),
        ({"ltv": "-5"}, "navrh_financovani_procento"),
        ({"ltv": "1,5"}, "navrh_financovani_procento"),
        ({"ltv": "10000"}, "navrh_financovani_procento"),
        ({"purpose": "gAAAAABx"}, "co_financuje"),
        ({"terms": " gAAAAABx"}, "navrh_financovani"),
        ({"reason": "gAAAAABx"}, "duvod_zamitnuti"),
        ({"terms": "a\x07b"}, "navrh_financovani"),
        ({"lender": "gAAAAABx"}, "vyber_banky"),
    ],
)
def test_a_bad_value_refuses_its_row_by_column_and_leaves_the_others(change, column):
    plan = load(row("Bob"), row(**change), row("Charlie"))
    refused = [(problem.row, problem.column) for problem in plan.problems if problem.is_error]
    assert refused == ([(3, column)] if column else [])
    assert Client.objects.count() == (2 if column else 3)


def test_every_problem_of_a_row_is_named_not_only_the_first():
    plan = check(csv(row("", "31.2.2025", "KB", "mnoho", "", "", "", "x", "-1")))
    assert [problem.column for problem in plan.problems] == [
        "datum", "navrh_financovani_castka", "navrh_financovani_procento", "cena", "jmeno",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "cells", [[*row(), "too", "many"], ["Alice", "1.2.2025", "x;y"] + [""] * 6]
)  # an unquoted delimiter moves the cells
def test_a_row_with_more_cells_than_the_header_is_refused(cells):
    plan = check(csv(cells))
    assert plan.errors == 1 and plan.problems[0].row == 2


@pytest.mark.parametrize(("ending", "errors"), [("", 1), ("\r\n", 0)])
def test_a_last_row_that_the_files_end_cuts_off_is_refused(ending, errors):
    content = csv(row(), ["Bob", "1.2.2025", "KB", "200"]) + ending.encode()
    assert check(content).errors == errors


def test_extra_columns_of_clients_are_taken():
    header = ["Jméno", "E-mail", "Telefon", "Rodné číslo", "datum", "Narozen dne"]
    header[5] = "birth_date"
    load(["Alice", "alice@example.com", "777 123 456", "", "1.2.2025", "1.2.1980"], header=header)
    client = Client.objects.get()
    assert (client.email, client.phone, client.birth_date) == (
        "alice@example.com", "777 123 456", datetime.date(1980, 2, 1),
    )  # fmt: skip
    assert Client.objects.search("alice@example.com").exists()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("email", "alice@"), ("birth_number", "850101/1234"), ("business_id", "12345678"), ("bank_account", "1/0100"),
        ("business_id", "123456789"), ("phone", "7" * 41), ("birth_date", "1.1.1850"), ("term_months", "0"),
        ("term_months", "601"), ("term_months", "12,5"), ("fixation_years", "51"), ("interest_rate_percent", "0,0399"),
        ("interest_rate_percent", "100"), ("purpose_kind", "cosi"), ("adviser", "nobody"), ("dti", "-1"),
        ("citizenship", "CZE"), ("interest_rate_percent", "3,9999 %"), ("decided_on", "30.2.2025"), ("status", "maybe"),
    ],
)  # fmt: skip
def test_what_a_form_would_refuse_the_import_refuses(column, value):
    plan = check(csv(["Alice", "1.2.2025", value], header=["jmeno", "datum", column]))
    assert [(problem.column, problem.value, problem.is_error) for problem in plan.problems] == [(column, value, True)]


@pytest.mark.parametrize(
    "header",
    [
        ["datum", "cena"], ["jmeno", "Jméno klienta"], ["jmeno", "cena", "Cena nemovitosti"], ["foo", "bar"],
        ["datum", "vyber_banky", "navrh_financovani_castka"],
    ],
)  # fmt: skip
def test_a_header_that_does_not_tell_what_the_rows_are_makes_the_file_unusable(header):
    with pytest.raises(imports.UnusableFile):
        check(csv(["1"] * len(header), header=header))


def test_an_unknown_column_is_a_warning():
    plan = load(["Alice", "modrá"], header=["jmeno", "barva"])
    assert ("barva" in [problem.column for problem in plan.problems], Client.objects.count()) == (True, 1)


def test_rows_that_differ_in_an_unknown_column_are_not_equal():
    load(["Alice", "modrá"], ["Alice", "červená"], header=["jmeno", "barva"])
    assert Client.objects.count() == 2


def test_two_equal_rows_of_a_file_are_one_and_the_second_says_so():
    plan = load(row(), row(), row(price="2500001"))
    assert (plan.summary_line(), reasons(plan)[0]) == (
        "3 rows: 2 created, 0 updated, 1 skipped, 0 errors",
        (3, "", "warning"),
    )


def test_a_bad_row_repeated_is_bad_twice():
    assert check(csv(row(price="-1"), row(price="-1"))).errors == 2


@pytest.mark.parametrize(
    ("name", "day", "expected"),
    [
        ("Alice Nová", "5.5.2025", "Perhaps"),
        ("NOVÁ Alice", "5.5.2025", "Perhaps"),
        ("Ing. alice nova, Ph.D.", "1.2.2025", "Probably"),
        ("Alice Nováková", "1.2.2025", None),
    ],
)
def test_a_namesake_is_told_and_never_merged(name, day, expected):
    load(row("Alice Nová", "1.2.2025"))
    plan = load(row(name, day, price="1"))
    said = [problem.reason for problem in plan.problems]
    assert [reason.split()[0] for reason in said] == ([expected] if expected else [])
    assert all("C-000001" in reason for reason in said)
    assert Client.objects.count() == 2


def test_a_namesake_with_the_same_email_is_probably_the_same():
    header = ["jmeno", "datum", "email"]
    load(["Alice", "1.2.2025", "a@example.com"], header=header)
    plan = check(csv(["Alice", "9.9.2025", "A@EXAMPLE.COM"], header=header))
    assert plan.problems[0].reason.startswith("Probably")


def test_namesakes_in_one_file_name_each_others_row():
    plan = check(csv(row("Alice", "1.1.2025"), row("Bob"), row("ALICE", "2.2.2025")))
    assert "row 2" in plan.problems[0].reason and plan.problems[0].row == 4


def test_a_warning_names_nobody_elses_client(settings, adviser):
    load(row("Alice Nová", "1.2.2025"))
    settings.ADVISER_SCOPE = "own"
    assert check(csv(row("Alice Nová", "1.2.2025", price="1")), user=adviser).problems == []


def test_all_of_an_import_is_one_operation_of_its_user(manager):
    plan = check(csv(row("Alice"), row("Bob")), user=manager)
    run = imports.write(plan, manager)
    for model, count in ((Client, 2), (Case, 2), (CaseStep, 30)):
        rows = model.history.filter(operation_id=run.operation_id, source=Source.IMPORT, history_type="+")
        assert rows.count() == count
        assert set(rows.values_list("history_user_id", "history_user_name")) == {(manager.pk, str(manager))}
    assert (run.rows, run.created_count, run.state, run.user) == (2, 2, "done", manager)


def test_history_holds_what_was_written():
    load(row("Alice", lender="Banka Na Rohu"))
    client, case = Client.objects.get(), Case.objects.get()
    assert client.history.get().full_name == "Alice"
    assert (case.history.get().current_step_id, case.history.get().reference) == (case.current_step_id, case.reference)
    assert CaseStep.history.get(step__code="vyber_banky").note == "Banka Na Rohu"


def test_imported_clients_are_found_by_name():
    run_command(SAMPLES / "older_crm_clients.csv")
    assert Client.objects.search("malkova").count() == 1
    assert Client.objects.search("vlk tom").count() == 2


def test_nothing_of_the_file_stands_in_the_clear():
    load(row("Zvláštní Jméno", purpose="tajný účel", reason="tajný důvod"), row("Druhé Zvláštní", price="-1"))
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names():
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            text = repr(cursor.fetchall())
            assert not any(secret in text for secret in ("Zvláštní", "tajný")), table
    assert ImportRun.objects.get().problems.startswith("[")


def test_queries_follow_the_batches_not_the_rows():
    load(row("The First"))  # makes the counters
    counts = []
    for size in (10, 60):
        rows = [row(f"Client{size} Number{n}", price=str(1000 + n)) for n in range(size)]
        with CaptureQueriesContext(connection) as queries:
            load(*rows)
        # INSERTs follow the rows or are COPY, by database.
        counts.append([query["sql"].split()[0] for query in queries if "INSERT INTO" not in query["sql"]])
    assert counts[0] == counts[1]


def test_without_a_date_column_it_is_said_once():
    plan = check(csv(["Alice"], ["Bob"], header=["jmeno"]))
    assert len(plan.problems) == 1 and plan.created == 2


def test_a_case_without_a_day_takes_the_day_of_the_office():
    plan = imports.check(csv(row(day="")), "x.csv")
    assert plan.items[0].case.opened_on == timezone.localdate()


def test_an_xlsx_row_and_the_same_row_again_are_equal():
    content = xlsx(["jmeno", "datum", "cena"], ["Alice", datetime.date(2025, 5, 28), 2500000.5])
    imports.write(check(content, "a.xlsx"))
    assert check(content, "b.xlsx").skipped == 1


def test_the_digest_of_a_row_stays_what_is_stored_of_earlier_imports():
    header = ["jmeno", "datum", "problem", "Naše", "problem", "cena", ""]
    rows = [
        ["Alice \u00a0Nováková", "1.2.2025", ' „x" \\ \t', "", "why", 1.5, "beyond"],
        ["Bob", datetime.datetime(2025, 2, 1), "a\u200b", "b\n\u2028c", None, CellError("#REF!"), None],
        ["Eva\ud800", "x\x01", " ", "=1", "'=1", True, 7],
    ]
    sheet = Sheet(header, Rows([header, *rows], range(2, 5)))
    digests = RowDigests(Plan("x.csv", "", sheet, recognise(sheet)[0]))
    for _each in range(2):  # what is known of a column's cells changes nothing
        assert [digests.older(row) for row in sheet.rows] == [
            "73b58eefcae8929e2ca1b29d3d663677", "3210ef3a8a6f4c7aa3bb446037464c39", "ca0b4656de4cd2586b93794885371fa3",
        ]  # fmt: skip


def test_the_digest_of_what_a_row_says_stays_too():
    header = ["jmeno", "datum", "Naše", "vyber_banky", "cena", "navrh_financovani_procento", "co_financuje"]
    rows = [
        ["Alice \u00a0Nováková", "1.2.2025", ' „x" \\ \t', "KB", "1 500 000,50 Kč", "0,8", "Byt\n2+kk"],
        ["Bob", datetime.datetime(2025, 2, 1), None, None, 1500000.5, 80, "'=1"],
    ]
    assert [item.case.import_digest for item in check(xlsx(header, *rows), "x.xlsx").items] == [
        "v4f7383568607662fad20f82d66f88706", "v89c663333fdfabbc284b7cf3d9ca9162",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "header", ["Jméno;Příjmení", "PŘÍJMENÍ;Křestní jméno", "First name;Last name", "Name;Surname", "jmeno;prijmeni"]
)
def test_a_name_in_two_columns_is_refused_with_the_cure(header):
    with pytest.raises(imports.UnusableFile, match="in two pieces. Join them"):
        check(csv(["Jan", "Bílý"], header=header.split(";")))


@pytest.mark.parametrize(
    ("header", "cells"),
    [("Jméno;Příjmení", ["Jan Bílý", ""]), ("Celé jméno;Příjmení", ["Jan Bílý", "Bílý"]), ("Jméno;Rodné příjmení", ["Jan Bílý", "Dub"])],
)  # fmt: skip
def test_a_whole_name_is_taken_whatever_stands_beside_it(header, cells):
    plan = check(csv(cells, header=header.split(";")))
    assert [item.client.full_name for item in plan.items] == ["Jan Bílý"]
