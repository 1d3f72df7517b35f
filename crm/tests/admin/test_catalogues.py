"""An office changes its catalogues without code: a 16th step, another order, aliases, limits."""

import pytest
from django.urls import reverse

from crm import models, workflow
from crm.tests import factories
from crm.tests.admin.rows import as_now

pytestmark = pytest.mark.django_db


@pytest.fixture
def steps(db):
    return factories.make_catalogue()


def typed(step, **fields) -> dict:
    shown = {
        "number": step.number,
        "name_cs": step.name_cs,
        "name_en": step.name_en,
        "default_days": step.default_days,
        "is_active": "on",
    }
    return {**shown, **as_now(step), **fields}


def change(row) -> str:
    return reverse(f"admin:crm_{row._meta.model_name}_change", args=[row.pk])


def order() -> list[str]:
    return list(models.Step.objects.order_by("number").values_list("code", flat=True))


def test_a_16th_step_comes_last_and_into_new_cases(steps, manager, client):
    client.force_login(manager)
    initial = client.get("/admin/crm/step/add/").context["adminform"].form.initial
    assert (initial["number"], initial["default_days"]) == (16, 112)
    data = {"number": 16, "code": "vyroci", "name_cs": "Výročí", "name_en": "Anniversary", "default_days": 112}
    assert client.post("/admin/crm/step/add/", {**data, "is_active": "on"}).status_code == 302
    case = factories.make_case()
    assert case.steps.count() == 16


def test_a_new_step_in_the_middle_moves_the_later_ones(steps, manager, client):
    client.force_login(manager)
    data = {"number": 2, "code": "extra", "name_cs": "Navíc", "name_en": "Extra", "default_days": 10, "is_active": "on"}
    client.post("/admin/crm/step/add/", data)
    assert order()[:3] == [steps[0].code, "extra", steps[1].code]
    assert list(models.Step.objects.order_by("number").values_list("number", flat=True)) == list(range(1, 17))


def test_another_order_reaches_open_cases(steps, manager, client):
    case = factories.make_case()
    client.force_login(manager)
    assert client.post(change(steps[2]), typed(steps[2], number=1)).status_code == 302
    assert order()[:3] == [steps[2].code, steps[0].code, steps[1].code]
    case.refresh_from_db()
    assert case.current_step == steps[2]
    assert list(workflow.mismatches()) == []


def test_a_code_stays_for_ever(steps, manager, client):
    client.force_login(manager)
    client.post(change(steps[0]), typed(steps[0], code="other", default_days=9))
    steps[0].refresh_from_db()
    assert (steps[0].code, steps[0].default_days) == ("co_financuje", 9)


def test_a_step_is_added_to_open_cases_by_post_only(steps, manager, client):
    case = factories.make_case()
    new = models.Step.objects.create(number=16, code="extra", name_cs="Navíc", name_en="Extra", default_days=10)
    client.force_login(manager)
    path = reverse("admin:crm_step_add_to_open_cases", args=[new.pk])
    assert client.get(path).status_code == 200
    assert case.steps.count() == 15
    assert client.post(path).status_code == 302
    assert case.steps.count() == 16
    assert list(workflow.mismatches()) == []


def test_an_adviser_looks_at_the_catalogue_only(steps, adviser, client):
    client.force_login(adviser)
    assert client.get(change(steps[0])).status_code == 200
    assert client.post(change(steps[0]), typed(steps[0], default_days=9)).status_code == 403
    assert client.post(reverse("admin:crm_step_add_to_open_cases", args=[steps[0].pk])).status_code == 403
    assert client.get("/admin/crm/step/add/").status_code == 403


def test_a_step_in_use_is_not_deleted(steps, manager, client):
    factories.make_case()
    client.force_login(manager)
    path = reverse("admin:crm_step_delete", args=[steps[0].pk])
    assert client.post(path, {"post": "yes"}).status_code == 200
    assert models.Step.objects.filter(pk=steps[0].pk).exists()


def test_aliases_are_written_one_a_line(manager, client):
    lender = factories.make_lender("Banka Pod Lipou")
    client.force_login(manager)
    data = {"name": lender.name, "aliases": "BPL\r\n\r\n b.p. lipou \r\n", "is_active": "on", **as_now(lender)}
    assert client.post(change(lender), data).status_code == 302
    lender.refresh_from_db()
    assert lender.aliases == ["BPL", "b.p. lipou"]
    assert "BPL\nb.p. lipou" in client.get(change(lender)).content.decode()


@pytest.mark.parametrize("taken", ["bpl", "B.P.L.", "banka pod lipou"])
def test_an_alias_means_one_lender(taken, manager, client):
    factories.make_lender("Banka Pod Lipou", aliases=["BPL"])
    other = factories.make_lender("Jiná banka")
    client.force_login(manager)
    answer = client.post(change(other), {"name": other.name, "aliases": taken, "is_active": "on", **as_now(other)})
    assert set(answer.context["adminform"].form.errors) == {"aliases"}


def test_a_token_is_no_alias(manager, client):
    lender = factories.make_lender("Banka Pod Lipou")
    client.force_login(manager)
    data = {"name": lender.name, "aliases": "BPL\ngAAAAABk" + "A" * 92, "is_active": "on"}
    assert set(client.post(change(lender), data).context["adminform"].form.errors) == {"aliases"}


def test_a_limit_is_typed_the_czech_way(manager, client):
    client.force_login(manager)
    data = {
        "metric": "ltv",
        "audience": "all",
        "value": "79,5 %",
        "is_binding": "on",
        "valid_from": "1. 4. 2030",
        "legal_source": "ČNB",
    }
    assert client.post("/admin/crm/regulatorylimit/add/", data).status_code == 302
    assert str(models.RegulatoryLimit.objects.get().value) == "79.50"
