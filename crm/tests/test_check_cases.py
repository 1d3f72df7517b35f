import pytest
from django.core.management import call_command

from crm.models import Case
from crm.tests.factories import TODAY, make_case

pytestmark = pytest.mark.django_db


def test_true_cases_pass(capsys):
    make_case()
    call_command("check_cases")
    assert capsys.readouterr().out == "1 cases checked, 0 wrong\n"


def test_a_wrong_case_is_named_and_fails(capsys):
    case = make_case()
    Case.objects.update(next_deadline=TODAY)
    with pytest.raises(SystemExit, match="1"):
        call_command("check_cases")
    assert f"{case.reference} next_deadline: stored 2026-03-02, should be 2026-03-09" in capsys.readouterr().out


def test_fix_writes_the_truth_with_history(capsys):
    case = make_case()
    Case.objects.update(next_deadline=TODAY)
    call_command("check_cases", "--fix")
    call_command("check_cases")
    assert case.history.first().source == "command"


def test_checking_does_not_ask_the_database_once_a_case(django_assert_num_queries):
    for _ in range(5):
        make_case()
    with django_assert_num_queries(3):
        call_command("check_cases")
