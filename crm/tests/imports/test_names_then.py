"""A file of an export comes back after a lender or a person got another name: the file's old name still means the same one."""

import re

import pytest

from crm import imports
from crm.models import Case, ExportRun, User
from crm.tests.factories import make_case, make_catalogue, make_client, make_lender, make_user
from crm.tests.imports.test_own import check, exported

FORMATS = ("csv", "xlsx", "plain_csv")
pytestmark = pytest.mark.django_db


@pytest.fixture
def case(db):
    make_catalogue()
    adviser = make_user(username="jan", first_name="Jan", last_name="Novák")
    return make_case(
        make_client("Alice"), adviser=adviser, lender=make_lender("Stará banka"), loan_amount_czk=1_000_000
    )


def change(record, **fields):
    for name, value in fields.items():
        setattr(record, name, value)
    record.save()


def rename_lender(case):
    change(case.lender, name="Nová banka")


def give_lenders_name_to_another(case):
    rename_lender(case)
    make_lender("Stará banka")


def marry(case):
    change(case.adviser, last_name="Provdaný")


def rename_account(case):
    change(case.adviser, username="provdany", first_name="", last_name="")


def hire_namesake(case):
    make_user(first_name="Jan", last_name="Novák")


CHANGES = (rename_lender, give_lenders_name_to_another, marry, rename_account, hire_namesake)


def back(content, file_format):
    return check(content, file_format.removeprefix("plain_"))


@pytest.mark.parametrize("act", CHANGES, ids=lambda act: act.__name__)
@pytest.mark.parametrize("file_format", FORMATS)
def test_what_was_exported_is_unchanged_under_whatever_names(case, act, file_format):
    content = exported(Case, file_format)
    act(case)
    plan = back(content, file_format)
    assert (plan.summary_line(), plan.problems) == ("1 rows: 0 created, 0 updated, 1 skipped, 0 errors", [])


@pytest.mark.parametrize("act", CHANGES, ids=lambda act: act.__name__)
def test_another_cell_of_such_a_row_is_taken(case, act):
    content = exported(Case, "plain_csv")
    act(case)
    plan = back(content.replace(b"1000000.00", b"1500000.00"), "csv")
    assert ([item.changed for item in plan.items], plan.problems) == ([("loan_amount_czk",)], [])


def test_what_the_office_chose_since_stays_under_whatever_name_the_former_goes(case):
    content = exported(Case, "csv")
    former = case.lender
    change(case, lender=make_lender("Třetí banka"))
    change(former, name="Nová banka")
    plan = back(content, "csv")
    assert (plan.skipped, plan.problems, plan.conflicts) == (1, [], [])


def test_a_name_that_the_file_changed_is_taken(case):
    content = exported(Case, "plain_csv")
    rename_lender(case)
    other = make_lender("Třetí banka")
    imports.write(back(content.replace("Stará banka".encode(), "Třetí banka".encode()), "csv"))
    case.refresh_from_db()
    assert case.lender == other


def test_a_name_of_before_the_export_means_whoever_has_it_now(case):
    rename_lender(case)
    other = make_lender("Stará banka")
    content = exported(Case, "plain_csv").replace("Nová banka".encode(), "Stará banka".encode())
    [item] = back(content, "csv").items
    assert (item.changed, item.case.lender) == (("lender",), other)


def test_exports_that_nobody_knows_of_tell_no_names(case, django_assert_max_num_queries):
    content = exported(Case, "csv").decode("utf-8-sig")
    marry(case)
    header, row = content.splitlines()
    reference = case.reference
    for _number in range(20):
        make_case(make_client("Bob"), adviser=User.objects.get(username="jan"))
    rows = [
        re.sub(r"E\d+-", f"E{900 + number}-", row).replace(reference, each.reference)
        for number, each in enumerate(Case.objects.order_by("pk"))
    ]
    assert ExportRun.objects.count() == 1
    with django_assert_max_num_queries(25):
        plan = check("\n".join([header, *rows]).encode("utf-8-sig"))
    assert plan.errors == 21
