"""Payloads that a spreadsheet would run, through every format and every sheet of it: no formula goes out, and each comes back
as the text that it is."""

import csv
import io

import openpyxl
import pytest
from django.db import transaction

from crm import exports, imports, roles
from crm.exports.columns import columns_of
from crm.models import Case, Client
from crm.tests import factories
from crm.tests.exports.reading import export

PAYLOADS = (
    "=1+1", "==1+1", "+1+1", "++1", "-1+1", "--1", "@SUM(A1:A9)", "@@x", "=cmd|' /C calc'!A0",
    '=HYPERLINK("http://example.com","x")', '=IMPORTXML("http://example.com","//a")', "=WEBSERVICE(A1)", "=A1;B1",
    "+420777123456", "-", "=", "+", "@", "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff201", "\uff1d\uff1d1", "'=1", "''=1",
    "'\uff1d1", "\t=1", "\r=1", "\n=1", "=1\n=2", "=1\t+2", "-2+3+cmd|' /C calc'!A0", '="a""b"', "=\u200b1", "+\uff1d1",
    "=DDE(a)", "'t Hooft", "'", "=žluťoučký", "@\U0001f3e0",
)  # fmt: skip
STARTS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
ALL = [each.name for each in columns_of(Client)]


@pytest.fixture(scope="module")
def office(django_db_setup, django_db_blocker):
    """In every text that anybody types: of clients and cases, and the names of a lender and of who exports."""
    with django_db_blocker.unblock(), transaction.atomic():
        roles.sync()
        manager = factories.make_user(roles.MANAGER, first_name="=1+1", last_name="@x", language="en")
        for number, payload in enumerate(PAYLOADS):
            texts = dict.fromkeys(("birth_place", "city", "mailing_address", "employer", "note"), payload)
            client = factories.make_client(payload.strip() or "x", **texts, legacy_id=f"={number}")
            factories.make_case(
                client, adviser=manager, lender=factories.make_lender(f"={number % 3}"), loan_purpose=payload,
                proposed_terms=payload, approved_terms=payload, contract_number=payload,
            )  # fmt: skip
        yield manager
        transaction.set_rollback(True)


@pytest.fixture
def exported(office, db):
    return lambda file_format: export(Client.objects.order_by("pk"), file_format, office, columns=ALL)


def cells_of(content, file_format):
    """Of a workbook those of every sheet, with whether they are formulas."""
    if file_format == exports.XLSX:
        pages = openpyxl.load_workbook(io.BytesIO(content))
        return [(cell.value, cell.data_type == "f") for page in pages for row in page.iter_rows() for cell in row]
    text = content.decode("utf-8-sig")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=";" if file_format == exports.CSV else ",")
    return [(cell, cell.startswith(STARTS)) for row in rows for cell in row]


@pytest.mark.parametrize("file_format", exports.FORMATS)
def test_no_cell_of_any_file_is_a_formula(exported, file_format):
    cells = cells_of(exported(file_format), file_format)
    assert sum(isinstance(value, str) and value.lstrip("'").startswith(STARTS) for value, _runs in cells) > 300
    assert [value for value, runs in cells if runs] == []
    texts = [value for value, _runs in cells if isinstance(value, str)]
    assert not [value for value in texts if value.startswith(STARTS)]


@pytest.mark.parametrize("file_format", exports.FORMATS)
def test_an_import_finds_nothing_to_do_in_it(exported, file_format):
    plan = imports.check(exported(file_format), f"x.{exports.ENDINGS[file_format]}")
    assert [str(problem) for problem in plan.problems] == []
    assert (plan.skipped, plan.created, plan.updated, plan.errors) == (len(PAYLOADS), 0, 0, 0)


@pytest.mark.parametrize("file_format", exports.FORMATS)
def test_each_is_stored_again_as_it_was(exported, file_format, without_versions):
    notes = dict(Client.objects.values_list("pk", "note"))
    terms = dict(Case.objects.values_list("pk", "proposed_terms"))
    content = exported(file_format)
    Client.objects.update(note="")
    Case.objects.update(proposed_terms="")
    imports.write(imports.check(content, f"x.{exports.ENDINGS[file_format]}"))
    assert {key: as_kept(note) for key, note in notes.items()} == dict(Client.objects.values_list("pk", "note"))
    assert {key: as_kept(each) for key, each in terms.items()} == dict(Case.objects.values_list("pk", "proposed_terms"))


def as_kept(text):
    """In a workbook a CR is no line end."""
    return text.replace("\r", "\n")
