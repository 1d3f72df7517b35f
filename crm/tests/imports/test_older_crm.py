"""The older CRM's dump: the sample with its exact outcome, and what other dumps may hold."""

import copy
import datetime
import json
from collections import Counter
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command

from crm import catalogue, workflow
from crm.choices import NoteKind, Source
from crm.imports import UnusableFile, older_crm
from crm.imports.older_clients import STEP_CODES
from crm.models import Case, CaseStep, Client, ImportRun, Note, Step, User
from crm.tests.factories import make_user

SAMPLE = Path(__file__).parent / "samples" / "older_crm_dump.json"
RECORDS = json.loads(SAMPLE.read_text(encoding="utf-8"))
TODAY = datetime.date(2026, 11, 20)
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _catalogue(db):
    catalogue.load()


def run_command(*args):
    out = StringIO()
    try:
        call_command("import_older_crm", *map(str, args), stdout=out, stderr=StringIO())
    except SystemExit as stop:
        return stop.code, out.getvalue().splitlines()
    return 0, out.getvalue().splitlines()


def dump(records) -> bytes:
    return json.dumps(records).encode()


def client_record(pk=1, without=(), **fields):
    record = copy.deepcopy(next(each for each in RECORDS if each["pk"] == 101 and each["model"] == "klienti.klient"))
    record["pk"] = pk
    record["fields"] |= {name: None for name in record["fields"] if name.startswith(("deadline_", "splneno_"))}
    record["fields"] |= {"jmeno": "Alice Nová", "jmeno_index": "Alice Nová"} | fields
    for name in without:
        record["fields"].pop(name, None)
    return record


def load(*records, on=TODAY):
    plan = older_crm.check(dump(records), "dump.json", on=on)
    older_crm.write(plan)
    return plan


def case_of(pk) -> Case:
    return Case.objects.get(legacy_id=str(pk))


def states(case) -> str:
    marks = {"done": "d", "pending": ".", "not_applicable": "n"}
    return "".join(marks[step.state] for step in case.steps.order_by("step__number"))


def test_the_sample_comes_out_as_its_table_says():
    code, lines = run_command(SAMPLE)
    assert (code, lines[-1]) == (2, "14 rows: 13 created, 0 updated, 0 skipped, 1 errors")
    assert (Client.objects.count(), Case.objects.count(), CaseStep.objects.count()) == (13, 13, 195)
    assert Counter(Note.objects.values_list("kind", flat=True)) == {"note": 2, "change": 1, "step_log": 2}
    assert not Client.objects.filter(legacy_id="113").exists()
    assert list(workflow.mismatches()) == []


def test_running_it_again_changes_nothing():
    run_command(SAMPLE)
    before = [
        list(model.history.order_by("history_id").values_list("history_id")) for model in (Client, Case, CaseStep, Note)
    ]
    code, lines = run_command(SAMPLE)
    assert (code, lines[-1]) == (2, "14 rows: 0 created, 0 updated, 13 skipped, 1 errors")
    after = [
        list(model.history.order_by("history_id").values_list("history_id")) for model in (Client, Case, CaseStep, Note)
    ]
    assert before == after


def test_a_dry_run_writes_nothing():
    assert run_command(SAMPLE, "--dry-run")[1][-1].startswith("14 rows: 13 created")
    assert (Client.objects.count(), ImportRun.objects.count()) == (0, 0)


def test_every_filled_column_of_the_sample_has_a_home():
    """Every value of the dump is found again in something that was stored for its client."""
    run_command(SAMPLE)
    for record in RECORDS:
        if record["model"] != "klienti.klient" or record["pk"] == 113:
            continue
        case = case_of(record["pk"])
        values = {str(getattr(owner, f.attname)) for owner in (case.client, case) for f in owner._meta.concrete_fields}
        values |= {case.lender.name if case.lender else ""}
        for step in case.steps.all():
            values |= {str(step.deadline), str(step.completed_on), step.note}
        numbers = {Decimal(value) for value in values if value.replace(".", "").isdecimal()}
        for column, value in record["fields"].items():
            if value in (None, "") or column in ("vyber_banky",):
                continue
            text = " ".join(str(value).split())
            if text.replace(".", "").isdecimal():
                assert Decimal(text) == 0 or Decimal(text) in numbers, column
            else:
                assert text in values or any(text in each for each in values), column


def test_the_dump_has_59_columns_and_each_is_known():
    record = next(each for each in RECORDS if each["model"] == "klienti.klient")
    assert len(record["fields"]) + 1 == 59  # and the key
    plan = load(client_record())
    assert not [problem for problem in plan.problems if "no field" in problem.reason]


def test_a_completed_an_approved_a_declined_and_an_open_case():
    run_command(SAMPLE)
    assert {pk: case_of(pk).status for pk in (102, 106, 105, 101)} == {
        102: "completed", 106: "approved", 105: "declined", 101: "open",
    }  # fmt: skip
    assert case_of(106).decided_on == CaseStep.objects.get(case=case_of(106), step__code="schvalovani").completed_on


def test_the_gap_at_step_four_is_not_applicable():
    run_command(SAMPLE)
    assert {pk: states(case_of(pk)) for pk in (102, 103, 104, 106)} == {
        102: "d" * 15, 103: "." * 15, 104: "d" * 7 + "." * 8, 106: "dddndddddddddd.",
    }  # fmt: skip


def test_prices_of_nothing_and_below_are_left_out_with_a_warning():
    _code, lines = run_command(SAMPLE)
    assert (case_of(107).property_price_czk, case_of(103).property_price_czk) == (None, None)
    assert sum("cena" in line and line.startswith(("row 107", "row 103")) for line in lines) == 2
    assert "-500000.00" in case_of(107).client.note


def test_typed_amounts_stay_as_they_are():
    run_command(SAMPLE)
    case = case_of(104)
    assert (case.loan_amount_czk, case.property_price_czk, case.ltv_percent) == (
        Decimal("2000100.00"), Decimal("3000000.00"), Decimal("66.67"),
    )  # fmt: skip


def test_one_lender_has_many_spellings():
    run_command(SAMPLE)
    assert {case_of(pk).lender.name for pk in (101, 102, 103, 104)} == {"Komerční banka"}


def test_the_step_log_of_a_16_step_client_counts_one_less():
    run_command(SAMPLE)
    texts = case_of(104).notes.filter(kind=NoteKind.STEP_LOG).order_by("created_at")
    assert [note.text for note in texts] == [
        "6. Kompletace podkladů: podáno osobně",
        "15. Podmínky pro splacení: krok z verze se 16 kroky",
    ]


@pytest.mark.parametrize(
    ("numbers", "without", "text"),
    [
        ([7], (), "7. Podání žádosti"),
        ([7, 15], (), "7. Podání žádosti"),
        ([7, 16], (), "6. Kompletace podkladů"),
        ([1, 16], (), "Jméno klienta"),
        ([3], ("deadline_schvalene_financovani", "splneno_schvalene_financovani"), "3. Výběr banky"),
        ([4], ("deadline_schvalene_financovani", "splneno_schvalene_financovani"), "5. Příprava žádosti"),
        (["Odhad"], (), "Odhad"),
        ([99], (), "99"),
    ],
)
def test_step_numbers_of_every_version(numbers, without, text):
    logs = [
        {"model": "klienti.hypotekaworkflow", "pk": pk, "fields": {"klient": 1, "krok": number, "datum": "2026-05-02T08:00:00Z", "poznamka": ""}}
        for pk, number in enumerate(numbers, start=1)
    ]  # fmt: skip
    load(client_record(without=without), *logs)
    assert Note.objects.get(legacy_id="hypotekaworkflow-1").text == text


def test_a_client_of_the_14_step_version_skips_step_four():
    load(client_record(without=("deadline_schvalene_financovani", "splneno_schvalene_financovani")))
    assert states(case_of(1)) == "...n..........."


def test_both_names_of_the_last_step_are_taken():
    names = {f"{part}podminky_pro_splaceni" for part in ("", "deadline_", "splneno_")}
    load(
        client_record(
            without=names,
            podminky_pro_vycerpani="hotovo",
            deadline_podminky_pro_vycerpani="2026-05-09",
            splneno_podminky_pro_vycerpani="2026-05-08",
        )
    )
    step = CaseStep.objects.get(step__code="podminky_pro_splaceni")
    assert (step.note, step.deadline, step.completed_on) == (
        "hotovo",
        datetime.date(2026, 5, 9),
        datetime.date(2026, 5, 8),
    )


def test_an_author_who_is_a_user_signs_and_another_is_kept_by_name():
    user = make_user(username="poradce1", first_name="Petra", last_name="Radová")
    run_command(SAMPLE)
    note = Note.objects.get(legacy_id="poznamka-1")
    assert (note.author, note.author_name) == (user, "Petra Radová")
    assert note.created_at == datetime.datetime(2026, 2, 1, 9, 15, tzinfo=datetime.UTC)
    user.delete()


def test_an_author_without_a_user_and_a_profile_are_told():
    _code, lines = run_command(SAMPLE)
    assert Note.objects.get(legacy_id="zmena-1").author_name == "poradce1"
    assert sum("poradce1" in line for line in lines) == 1 and any("User profile 1" in line for line in lines)


def test_accounts_of_the_dump_name_authors_and_portal_users():
    user = User.objects.create_user("alice")
    load(
        client_record(user=9),
        {"model": "auth.user", "pk": 9, "fields": {"username": "alice"}},
        {"model": "klienti.poznamka", "pk": 1, "fields": {"klient": 1, "text": "x", "created": "2026-01-01T00:00:00", "author": 9}},
    )  # fmt: skip
    assert (case_of(1).client.portal_user, Note.objects.get().author) == (user, user)


def test_a_login_that_is_not_here_is_kept_in_the_note():
    plan = load(client_record(user=9))
    assert (case_of(1).client.portal_user, case_of(1).client.note) == (None, "user: 9")
    assert plan.problems[0].column == "user"


def test_a_later_dump_brings_only_new_notes():
    note = {
        "model": "klienti.poznamka",
        "pk": 1,
        "fields": {"klient": 1, "text": "x", "created": "2026-01-01T00:00:00Z"},
    }
    load(client_record())
    plan = load(client_record(), note)
    assert (plan.summary_line(), Note.objects.count()) == ("1 rows: 0 created, 1 updated, 0 skipped, 0 errors", 1)
    assert load(client_record(), note).summary_line().startswith("1 rows: 0 created, 0 updated, 1 skipped")


def test_a_note_of_nobody_is_an_error_row():
    plan = load(client_record(), {"model": "klienti.poznamka", "pk": 1, "fields": {"klient": 2, "text": "x"}})
    assert plan.summary_line() == "2 rows: 1 created, 0 updated, 0 skipped, 1 errors"


def test_the_plain_copy_stands_in_for_an_unreadable_name():
    plan = load(client_record(jmeno="gAAAAABx", jmeno_index="Alice Nová"))
    assert (case_of(1).client.full_name, plan.errors) == ("Alice Nová", 0)


@pytest.mark.parametrize("names", [("", ""), (None, None), ("gAAAAABx", "gAAAAABx"), ("  ", "gAAAAABx"), ("a\x07", "")])
def test_a_client_without_a_readable_name_is_refused_and_the_rest_goes_in(names):
    plan = load(client_record(1, jmeno=names[0], jmeno_index=names[1]), client_record(2))
    assert plan.summary_line() == "2 rows: 1 created, 0 updated, 0 skipped, 1 errors"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("cena", "-1"), ("cena", "mnoho"), ("cena", "NaN"), ("cena", "1e30"), ("datum", "31.2.2025"), ("email", "alice@"),
        ("navrh_financovani_procento", "1.5"), ("deadline_odhad", "zítra"), ("splneno_odhad", "2026-02-30"),
        ("odhad", "a\x00b"), ("navrh_financovani", "a\ud800b"), ("co_financuje", "a\x01"), ("deadline_jmeno_klienta", "2026-01-01"),
        ("barva", "modrá"), ("vlastni_zdroj", [1]), ("datum", 7),
    ],
)  # fmt: skip
def test_what_no_field_takes_is_told_and_kept_in_the_clients_note(column, value):
    plan = load(client_record(**{column: value}))
    assert plan.errors == 0 and column in [problem.column for problem in plan.problems]
    assert case_of(1).client.note.startswith(f"{column}: ")


def test_a_name_too_long_is_cut_and_kept_whole_in_the_note():
    load(client_record(jmeno="x" * 201, jmeno_index=""))
    client = case_of(1).client
    assert (len(client.full_name), client.note) == (200, "jmeno: " + "x" * 201)


def test_an_unknown_lender_is_the_note_of_its_step():
    load(client_record(vyber_banky="Banka Na Rohu"))
    assert CaseStep.objects.get(step__code="vyber_banky").note == "Banka Na Rohu"


def test_a_quote_of_the_dump_is_the_texts_own():
    load(client_record(co_financuje="'=1+1", navrh_financovani="=1+1"))
    assert (case_of(1).loan_purpose, case_of(1).proposed_terms) == ("'=1+1", "=1+1")


def test_amounts_of_a_dump_have_a_decimal_point():
    load(client_record(cena="1234.5", navrh_financovani_castka="1.234", vlastni_zdroj=500))
    case = case_of(1)
    assert (case.property_price_czk, case.loan_amount_czk, case.own_funds_czk) == (
        Decimal("1234.5"),
        Decimal("1.23"),
        500,
    )


def test_a_step_that_the_office_removed_leaves_its_text():
    Step.objects.filter(code="odhad").delete()
    load(client_record(odhad="odhad 5 mil."))
    assert "odhad: odhad 5 mil." in case_of(1).client.note and case_of(1).steps.count() == 14


def test_a_step_that_the_office_added_is_not_invented_for_older_cases():
    Step.objects.create(number=16, code="kolaudace", name_cs="Kolaudace", name_en="Approval for use", default_days=120)
    load(client_record(**{f"splneno_{code}": "2026-01-01" for code in STEP_CODES}))
    assert (case_of(1).status, case_of(1).steps.count()) == ("completed", 15)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"[1]", b'"x"', b"not json", b'[{"model": "klienti.klient"}]', b"\xff\xfe", SAMPLE.read_bytes()[:500],
     b'[{"model": "klienti.klient", "pk": 1, "fields": 5}]', b"[" * 100_000, dump([{"model": "a.b", "pk": 1, "fields": {}}])],
)  # fmt: skip
def test_what_is_no_dump_is_unusable(content, tmp_path):
    with pytest.raises(UnusableFile):
        older_crm.check(content, "dump.json")
    (tmp_path / "dump.json").write_bytes(content)
    assert run_command(tmp_path / "dump.json")[0] == 1


def test_all_of_it_is_one_operation_with_history():
    plan = older_crm.check(SAMPLE.read_bytes(), "dump.json")
    run = older_crm.write(plan)
    for model in (Client, Case, CaseStep, Note):
        rows = model.history.filter(operation_id=run.operation_id, source=Source.IMPORT, history_type="+")
        assert rows.count() == model.objects.count()
    assert Client.objects.search("malkova").count() == 1
    assert (run.rows, run.created_count, run.error_count) == (14, 13, 1)


def test_the_problems_go_to_a_file_that_only_its_owner_reads(tmp_path):
    errors = tmp_path / "errors.csv"
    run_command(SAMPLE, "--errors", errors)
    lines = errors.read_bytes().decode("utf-8-sig").splitlines()
    assert lines[0] == "row;column;value;problem" and any(line.startswith("113;jmeno;") for line in lines)
    assert errors.stat().st_mode & 0o777 == 0o600
