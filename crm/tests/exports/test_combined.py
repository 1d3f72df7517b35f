"""Clients and their cases in one file, a row a case: from the command, and back through an import."""

import csv
import io
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import translation

from crm import catalogue, demo, exports, imports, roles
from crm.exceptions import NotAllowed
from crm.exports.columns import columns_of
from crm.models import Case, Client, ExportRun, User
from crm.tests import factories
from crm.tests.exports.reading import csv_rows, export, plain_rows, sheet, xlsx_rows

ALL = {model: [each.name for each in columns_of(model)] for model in (Client, Case)}
FORMATS = [exports.XLSX, exports.CSV, exports.PLAIN_CSV]


@pytest.fixture(scope="module")
def office(django_db_setup, django_db_blocker):
    """One for the whole file: each test's own changes are rolled back to it. How many rows a file of all has."""
    with django_db_blocker.unblock(), override_settings(DEBUG=True), transaction.atomic():
        roles.sync()
        catalogue.load()
        demo.load(12)
        Client.objects.bulk_create([Client(full_name="Nobody's", note="=1+1")])
        yield Case.objects.count() + Client.objects.filter(cases=None).count()
        transaction.set_rollback(True)


@pytest.fixture
def in_the_office(office, db):
    return office


@pytest.fixture
def adviser(in_the_office):
    return User.objects.get(username="adviser")


@pytest.fixture
def written(in_the_office, tmp_path, capsys):
    def write(name="all.csv", **options):
        call_command("export_clients", tmp_path / name, **options)
        return (tmp_path / name).read_bytes()

    return write


def assert_nothing_to_do(plan, rows):
    assert [str(problem) for problem in plan.problems] == []
    assert (plan.rows, plan.created, plan.updated, plan.skipped, plan.errors) == (rows, 0, 0, rows, 0)


@pytest.mark.parametrize(("name", "machine"), [("all.xlsx", False), ("all.csv", False), ("all.csv", True)])
@pytest.mark.parametrize("language", ["en", "cs"])
def test_what_the_command_wrote_an_import_leaves_as_it_is(written, in_the_office, name, machine, language):
    with translation.override(language):
        content = written(name, machine=machine)
    assert_nothing_to_do(imports.check(content, name), in_the_office)
    run = ExportRun.objects.get()
    assert (run.reason, run.rows, set(run.columns)) == ("command", in_the_office, set(ALL[Client]))


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("language", ["en", "cs"])
def test_a_list_of_cases_with_all_of_their_clients_comes_back_too(in_the_office, file_format, language):
    with translation.override(language):
        content = export(Case.objects.all(), file_format, columns=ALL[Case])
    assert_nothing_to_do(imports.check(content, f"x.{exports.ENDINGS[file_format]}"), Case.objects.count())


def test_every_column_is_there_once_and_rows_of_one_client_say_the_same(written):
    rows = csv_rows(written())
    header = list(rows[0])
    assert len(header) == len(set(header)) == len(ALL[Client])
    assert header[-2:] == ["Row version", "Row version (case)"]
    assert {row["Reference (case)"] for row in rows} == {*Case.objects.values_list("reference", flat=True), ""}


def as_file(rows):
    target = io.StringIO(newline="")
    writer = csv.DictWriter(target, list(rows[0]), delimiter=";")
    writer.writeheader()
    writer.writerows(rows)
    return target.getvalue().encode()


def test_a_changed_cell_of_the_client_and_one_of_the_case_are_the_only_changes(written):
    case = Case.objects.order_by("pk").first()
    rows = csv_rows(written())
    for row in rows:
        if row["Reference"] == case.client.reference:
            row["Employer"] = "New employer"
        if row["Reference (case)"] == case.reference:
            row["Contract number"] = "7/2026"
    before = Client.history.count(), Case.history.count()
    imports.write(imports.check(as_file(rows), "x.csv"))
    case.refresh_from_db()
    assert (case.client.employer, case.contract_number) == ("New employer", "7/2026")
    assert (Client.history.count(), Case.history.count()) == (before[0] + 1, before[1] + 1)


def test_rows_that_say_two_things_of_one_client_are_refused(written):
    client = factories.make_client()
    factories.make_case(client)
    factories.make_case(client)
    rows = [row for row in csv_rows(written()) if row["Reference"] == client.reference]
    rows[1]["Employer"] = "Another"
    plan = imports.check(as_file(rows), "x.csv")
    assert (plan.skipped, plan.errors) == (1, 1)
    assert "Row 2 says something else of the same client." in str(plan.problems[0])


@pytest.mark.parametrize("refused", [[0], [0, 1], [1], [0, 1, 2]])
def test_what_rows_change_of_a_client_is_written_by_the_first_good_one(written, refused):
    client = factories.make_client()
    cases = [factories.make_case(client) for _each in range(3)]
    rows = [row | {"Employer": "New"} for row in csv_rows(written()) if row["Reference"] == client.reference]
    rows[2]["Contract number"] = "7/2026"
    for at in refused:
        rows[at]["Loan amount (CZK)"] = "asi milion"
    plan = imports.check(as_file(rows), "x.csv")
    good = [row for row in (2, 3, 4) if row - 2 not in refused]
    assert [row for row, outcome in plan.outcomes.items() if outcome == "error"] == [at + 2 for at in refused]
    assert [item.row for item in plan.items if item.case is None] == good[:1]
    assert plan.updated == len({*good[:1], *good[-1:]})
    imports.write(plan)
    client.refresh_from_db()
    cases[2].refresh_from_db()
    assert (client.employer, cases[2].contract_number) == (("New", "7/2026") if good else ("", ""))


def test_new_rows_are_a_new_case_of_a_known_client_or_both(written):
    client = factories.make_client()
    rows = csv_rows(written())
    alone = next(row for row in rows if row["Reference"] == client.reference)
    known = dict.fromkeys(rows[0], "") | {"Reference": client.reference, "Full name": alone["Full name"]}
    rows = [
        known | {"Opened on": "1.3.2026", "Loan amount (CZK)": "1000000"},
        dict.fromkeys(rows[0], "") | {"Full name": "Brand New", "Opened on": "1.3.2026", "E-mail": "new@example.com"},
        dict.fromkeys(rows[0], "") | {"Full name": "Only Client", "E-mail": "only@example.com"},
    ]
    plan = imports.check(as_file(rows), "x.csv")
    assert (plan.created, plan.errors, [str(each) for each in plan.problems]) == (3, 0, [])
    before = Client.objects.count(), Case.objects.count()
    imports.write(plan)
    assert (Client.objects.count(), Case.objects.count()) == (before[0] + 2, before[1] + 2)
    assert client.cases.get().loan_amount_czk == 1_000_000


def test_a_filter_of_cases_leaves_their_rows_alone(written):
    rows = csv_rows(written(filter=["status=open"]))
    assert {row["Status"] for row in rows} == {"Open"}
    assert len(rows) == Case.objects.filter(status="open").count()
    run = ExportRun.objects.get()
    assert run.filter == {"status": "open"}


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        (["status=open", "adviser=adviser"], [0]),
        (["status=open", "adviser=adviser2"], []),
        (["status=open", "loan_amount_czk__gte=1", "loan_amount_czk__lte=1"], [0]),
        (["status=open", "status=withdrawn"], []),
    ],
)
@pytest.mark.parametrize("columns", [None, "email"])
def test_several_filters_hold_for_one_case_together(written, conditions, found, columns):
    client, users = factories.make_client(), User.objects.in_bulk(["adviser", "adviser2"], field_name="username")
    cases = [
        factories.make_case(client, adviser=users["adviser"], loan_amount_czk=1),
        factories.make_case(client, adviser=users["adviser2"], loan_amount_czk=2, status="withdrawn"),
    ]
    rows = [
        row for row in csv_rows(written(filter=conditions, columns=columns)) if row["Reference"] == client.reference
    ]
    assert len(rows) == len(found)
    if not columns:
        assert [row["Reference (case)"] for row in rows] == [cases[number].reference for number in found]
    told = ExportRun.objects.get().filter
    assert sorted(told) == sorted({condition.partition("=")[0] for condition in conditions})


@pytest.mark.parametrize("condition", ["adviser=nobody", "stand_in=nobody", "current_step=x", "lender=No Bank"])
def test_a_filter_by_what_is_not_there_is_a_mistake(written, tmp_path, condition):
    with pytest.raises(CommandError, match=condition.partition("=")[2]):
        written(filter=[condition])
    assert not ExportRun.objects.exists() and not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("citizenship=SK", lambda: Client.objects.filter(citizenship="SK")),
        ("adviser=adviser", lambda: Client.objects.filter(cases__adviser__username="adviser").distinct()),
        ("next_deadline=", lambda: Client.objects.exclude(cases__next_deadline__isnull=False)),
        (
            "loan_amount_czk__gte=3000000",
            lambda: Client.objects.filter(cases__loan_amount_czk__gte=3_000_000).distinct(),
        ),
    ],
)
def test_columns_of_clients_alone_are_a_row_a_client(written, condition, found):
    rows = csv_rows(written(columns="citizenship", filter=[condition]))
    assert list(rows[0] if rows else {"Reference": 1, "Citizenship": 1, "Row version": 1}) == [
        "Reference", "Citizenship", "Row version",
    ]  # fmt: skip
    named = {row["Reference"] for row in rows}
    assert named >= set(found().values_list("reference", flat=True)) and len(rows) == len(named)


def test_columns_stand_in_the_order_in_which_they_are_named(written):
    [row, *_rest] = csv_rows(written(columns="status,email"))
    assert list(row) == ["Reference", "Reference (case)", "Status", "E-mail", "Row version", "Row version (case)"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"columns": "password"}, "There is no column password."),
        ({"filter": ["password=x"]}, "There is no column password."),
        ({"filter": ["status"]}, "NAME=VALUE"),
        ({"filter": ["status=opne"]}, "none of: open"),
        ({"filter": ["full_name=Jan"]}, "Encrypted values"),
        ({"filter": ["opened_on=never"]}, "This filter cannot be used"),
        ({"filter": ["adviser__password=x"]}, "NAME=VALUE"),
        ({"filter": ["row_version=1"]}, "There is no column row_version."),
    ],
)
def test_a_wrong_call_says_what_is_wrong(written, tmp_path, options, said):
    with pytest.raises(CommandError, match=said):
        written(**options)
    assert not (tmp_path / "all.csv").exists() and not ExportRun.objects.exists()


@override_settings(ADVISER_SCOPE="own")
def test_of_a_client_nobody_gets_the_cases_of_another(in_the_office, adviser):
    client = factories.make_client()
    own = factories.make_case(client, adviser=adviser)
    factories.make_case(client, adviser=User.objects.get(username="adviser2"))
    rows = csv_rows(export(Client.objects.all(), "csv", adviser, columns=["full_name", "case.status"]))
    assert [row["Reference (case)"] for row in rows if row["Reference"] == client.reference] == [own.reference]
    seen = Case.objects.visible_to(adviser).values_list("reference", flat=True)
    assert {row["Reference (case)"] for row in rows} == {*seen, ""}


@pytest.mark.parametrize(("model", "column"), [(Client, "case.status"), (Case, "client.email")])
def test_columns_of_another_list_need_its_permission(in_the_office, adviser, model, column):
    other = "export_case" if model is Client else "export_client"
    adviser.groups.get().permissions.remove(Permission.objects.get(codename=other))
    adviser = User.objects.get(pk=adviser.pk)
    with pytest.raises(NotAllowed):
        export(model.objects.all(), "csv", adviser, columns=[column])
    assert export(model.objects.all(), "csv", adviser)


def test_a_machine_reads_values_as_they_are_stored(adviser):
    case = factories.make_case(
        adviser=adviser, loan_amount_czk=Decimal("1234567.50"), ltv_percent=Decimal("0.80"),
        lender=factories.make_lender("Banka, s. r. o."),
    )  # fmt: skip
    content = export(Case.objects.filter(pk=case.pk), exports.PLAIN_CSV, columns=ALL[Case])
    assert content.startswith(b"reference,client,")
    [row] = plain_rows(content)
    assert (row["status"], row["adviser"], row["lender"]) == ("open", "adviser", "Banka, s. r. o.")
    assert (row["loan_amount_czk"], row["ltv_percent"]) == ("1234567.50", "0.80")
    assert (row["opened_on"], row["current_step"]) == (case.opened_on.isoformat(), case.current_step.code)
    assert row["created_at"] == case.created_at.isoformat()
    number = ExportRun.objects.get().pk
    assert row["row_version"] == f"E{number}-{case.history.first().history_id}"
    assert row["client.row_version"] == f"E{number}-{case.client.history.first().history_id}"


def test_ten_rows_and_twenty_cost_the_same_number_of_queries(in_the_office):
    def queries():
        with CaptureQueriesContext(connection) as found:
            export(Client.objects.all(), "csv", columns=ALL[Client])
        return len(found)

    few = queries()
    factories.make_case()
    assert queries() == few


@pytest.mark.parametrize("file_format", exports.FORMATS)
def test_each_row_carries_the_number_of_the_export(in_the_office, file_format):
    for _again in range(2):
        content = export(Client.objects.all(), file_format, columns=["email"])
    read = {"xlsx": xlsx_rows, "csv": csv_rows, "plain_csv": plain_rows}[file_format]
    label = "row_version" if file_format == exports.PLAIN_CSV else "Row version"
    number = ExportRun.objects.latest("pk").pk
    assert {row["Reference"] if label == "Row version" else row["reference"]: row[label] for row in read(content)} == {
        client.reference: f"E{number}-{client.history.first().history_id}" for client in Client.objects.all()
    }


def test_a_workbook_hides_the_versions(in_the_office):
    found = sheet(export(Client.objects.all(), "xlsx", columns=["email"]))
    assert [cell.value for cell in found[1]] == ["Reference", "E-mail", "Row version"]
    assert [found.column_dimensions[letter].hidden for letter in "ABC"] == [False, False, True]
