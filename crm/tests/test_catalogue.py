import json

import pytest
from django.core.management import call_command

from crm import catalogue
from crm.models import Case, Client, DocumentType, Lender, RegulatoryLimit, Step
from crm.models.reference import lender_key

pytestmark = pytest.mark.django_db
MODELS = (Step, Lender, DocumentType, RegulatoryLimit)
SAMPLE_LENDERS = [
    "Komerční banka", "KB", "kb", "K.B.", "ČSOB", "CSOB", "Hypoteční banka", "Raiffeisenbank", "UniCredit Bank",
    "mBank", "Moneta", "Česká spořitelna", "Fio",
]  # fmt: skip


def rows() -> list:
    return [list(model.objects.order_by("pk").values()) for model in MODELS]


def loaddata() -> None:
    call_command("loaddata", *sorted(str(path) for path in catalogue.FIXTURES.glob("*.json")), verbosity=0)


def ship(tmp_path, monkeypatch, model: str, **fields) -> None:
    """A next release that ships one more row."""
    for path in catalogue.FIXTURES.glob("*.json"):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    row = [{"model": f"crm.{model}", "pk": 16 if model == "step" else 99, "fields": fields}]
    (tmp_path / "zz_more.json").write_text(json.dumps(row), encoding="utf-8")
    monkeypatch.setattr(catalogue, "FIXTURES", tmp_path)


def test_load_fills_an_empty_office_with_fifteen_steps_in_order():
    catalogue.load()
    steps = list(Step.objects.all())
    assert [step.number for step in steps] == list(range(1, 16))
    assert [step.default_days for step in steps] == [7 * number for number in range(1, 16)]
    assert steps[0].code == "co_financuje"
    assert all(model.objects.exists() for model in MODELS)


def test_load_writes_a_history_row_for_each_row():
    catalogue.load()
    assert [model.history.filter(history_type="+").count() for model in MODELS] == [
        model.objects.count() for model in MODELS
    ]


def test_load_again_adds_nothing():
    catalogue.load()
    before = rows()
    assert catalogue.load() == 0
    assert rows() == before


def test_load_keeps_what_the_office_changed():
    catalogue.load()
    Step.objects.filter(code="odhad").update(default_days=3, name_cs="Náš odhad")
    catalogue.load()
    step = Step.objects.get(code="odhad")
    assert (step.default_days, step.name_cs) == (3, "Náš odhad")


def test_load_does_not_bring_back_what_the_office_deleted():
    catalogue.load()
    Lender.objects.get(name="Oberbank").delete()
    catalogue.load()
    assert not Lender.objects.filter(name="Oberbank").exists()


def test_load_does_not_put_the_old_name_beside_a_renamed_lender():
    catalogue.load()
    lender = Lender.objects.get(name="Oberbank")
    lender.name = "Oberbank AG, pobočka Česká republika"
    lender.save()
    assert catalogue.load() == 0


def test_load_adds_a_newly_shipped_row_to_an_office_in_use(tmp_path, monkeypatch):
    catalogue.load()
    ship(tmp_path, monkeypatch, "lender", name="Banka Nová", aliases=[])
    assert catalogue.load() == 1
    assert Lender.objects.filter(name="Banka Nová").exists()


def test_a_newly_shipped_row_does_not_overwrite_the_office_s_own_sixteenth_step(tmp_path, monkeypatch):
    catalogue.load()
    own = Step.objects.create(number=16, code="oslava", name_cs="Oslava", name_en="Party", default_days=112)
    ship(tmp_path, monkeypatch, "step", number=16, code="kontrola", name_cs="K", name_en="C", default_days=1)
    assert catalogue.load() == 1
    own.refresh_from_db()
    assert own.code == "oslava"
    assert Step.objects.filter(code="kontrola").exclude(pk=own.pk).exists()


@pytest.mark.parametrize("fill", [catalogue.load, loaddata])
def test_a_row_can_be_added_after_the_shipped_ones(fill):
    fill()
    step = Step.objects.create(number=16, code="oslava", name_cs="Oslava", name_en="Party", default_days=112)
    assert step.pk not in range(1, 16)


def test_loaddata_of_all_shipped_files_twice_is_the_same_as_once():
    loaddata()
    before = rows()
    loaddata()
    assert rows() == before


def test_loaddata_after_load_meets_the_same_rows():
    catalogue.load()
    before = rows()
    loaddata()
    assert rows() == before


def test_shipped_files_hold_no_client_and_no_case():
    loaddata()
    assert not Client.objects.exists()
    assert not Case.objects.exists()


@pytest.mark.parametrize("text", SAMPLE_LENDERS)
def test_lenders_of_the_samples_are_known(text):
    catalogue.load()
    assert lender_key(text) in Lender.objects.all().by_key()


def test_spellings_of_one_bank_are_one_lender():
    catalogue.load()
    known = Lender.objects.all().by_key()
    assert {known[lender_key(text)].name for text in ("KB", "kb", "K.B.", "Komerční banka")} == {"Komerční banka"}


def test_no_spelling_belongs_to_two_lenders():
    catalogue.load()
    keys = [lender_key(name) for lender in Lender.objects.all() for name in {lender.name, *lender.aliases}]
    assert len(keys) == len(set(keys))


def test_an_invented_bank_is_unknown():
    catalogue.load()
    assert lender_key("Banka Na Rohu") not in Lender.objects.all().by_key()


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2022-03-31", set()),
        ("2022-04-01", {("ltv", "all"), ("ltv", "under_36"), ("dti", "all"), ("dti", "under_36"), ("dsti", "all"), ("dsti", "under_36")}),
        ("2023-07-01", {("ltv", "all"), ("ltv", "under_36"), ("dti", "all"), ("dti", "under_36")}),
        ("2026-03-31", {("ltv", "all"), ("ltv", "under_36")}),
        ("2026-04-01", {("ltv", "all"), ("ltv", "under_36"), ("ltv", "investment"), ("dti", "investment")}),
    ],
)  # fmt: skip
def test_limits_are_valid_in_their_time(day, expected):
    catalogue.load()
    assert set(RegulatoryLimit.objects.all().valid_on(day).values_list("metric", "audience")) == expected


def test_command_says_how_many_rows_it_added(capsys):
    call_command("load_catalogue")
    call_command("load_catalogue")
    assert "0" in capsys.readouterr().out.splitlines()[-1]
