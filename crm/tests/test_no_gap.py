"""Every model x every way to write it: one history row for each row that changed, none for one that did not."""

import io
from pathlib import Path

import pytest
from django import forms
from django.core import serializers
from django.core.management import call_command
from django.db.models import Value
from django.urls import reverse

from crm import demo, imports, models, roles, workflow
from crm.admin.merging import VERSIONS
from crm.choices import OPERATION_KINDS, AuditKind, Source
from crm.models import AuditEntry, Case, CaseStep, Client, User, operation
from crm.tests import factories
from crm.tests.admin.rows import MAKERS, NO_PAGES
from crm.tests.gaps import TRACKED, gaps

pytestmark = pytest.mark.django_db
SAMPLES = Path(__file__).parent / "imports" / "samples"

# A field of each model that any write may change, and two values of it.
FIELDS = {
    models.Client: ("note", "one", "other"),
    models.Case: ("loan_amount_czk", 100, 200),
    models.CaseStep: ("deadline", factories.TODAY, None),
    models.CaseParty: ("role", "guarantor", "spouse"),
    models.FinanceItem: ("proof", "one", "other"),
    models.Property: ("address", "one", "other"),
    models.Document: ("status", "received", "checked"),
    models.Note: ("visible_to_client", True, False),
    models.Commission: ("expected_czk", 100, 200),
    models.Consent: ("text_version", "2", "3"),
    models.Identification: ("is_pep", True, False),
    models.Step: ("default_days", 8, 9),
    models.Lender: ("aliases", ["one"], ["other"]),
    models.DocumentType: ("valid_days", 8, 9),
    models.RegulatoryLimit: ("value", 70, 60),
    models.MessageText: ("subject", "one", "other"),
    models.NoticeRule: ("to_managers", True, False),
    models.NoticeChoice: ("is_subscribed", True, False),
    models.CalendarFeed: ("digest", "one", "other"),
    models.JobSchedule: ("ping_url", "https://one.example", "https://other.example"),
    models.ExportPreset: ("is_shared", True, False),
    models.ExportSchedule: ("is_paused", True, False),
    models.User: ("first_name", "One", "Other"),
}
WITH_A_FORM = [each for each in FIELDS if each not in (models.User, models.CalendarFeed, *NO_PAGES)]


def _save(rows, name, value):
    for row in rows:
        setattr(row, name, value)
        row.save()


def _save_named(rows, name, value):
    for row in rows:
        setattr(row, name, value)
        row.save(update_fields=[name])


def _save_unloaded(rows, name, value):
    """As what was built with a key and never loaded."""
    for row in rows:
        values = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
        type(row)(**values | {name: value}).save()


def _update(rows, name, value):
    type(rows[0]).objects.filter(pk__in=[row.pk for row in rows]).update(**{name: value})


def _update_by_an_expression(rows, name, value):
    field = type(rows[0])._meta.get_field(name)
    _update(rows, name, Value(value, output_field=field))


def _bulk_update(rows, name, value):
    for row in rows:
        setattr(row, name, value)
    type(rows[0]).objects.bulk_update(rows, [name])


def _update_or_create(rows, name, value):
    for row in rows:
        type(row).objects.update_or_create(pk=row.pk, defaults={name: value})


def _base_manager(rows, name, value):
    type(rows[0])._base_manager.filter(pk__in=[row.pk for row in rows]).update(**{name: value})


def _loaddata(rows, name, value):
    for row in rows:
        setattr(row, name, value)
    for each in serializers.deserialize("json", serializers.serialize("json", rows)):
        each.save()


WRITES = {
    "save": _save, "save of a field": _save_named, "save of what was not loaded": _save_unloaded, "update": _update,
    "update by an expression": _update_by_an_expression, "bulk_update": _bulk_update,
    "update_or_create": _update_or_create, "base manager": _base_manager, "loaddata": _loaddata,
}  # fmt: skip


@pytest.fixture
def catalogue(db):
    return factories.make_catalogue()


def make(model, count: int) -> list:
    return [model.objects.get(pk=MAKERS[model]().pk) for _ in range(count)]


def counts() -> dict[str, int]:
    return {model.__name__: model.history.count() for model in TRACKED}


def test_every_model_is_walked():
    assert set(FIELDS) == set(TRACKED)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("model", FIELDS, ids=lambda model: model.__name__)
def test_a_write_leaves_one_row_for_each_record_and_none_where_nothing_changes(catalogue, model, write):
    name, one, other = FIELDS[model]
    rows = make(model, 2)
    _save(rows, name, one)
    before = counts()
    with operation(Source.JOB, reason="why") as active:
        write(make_again(rows), name, other)
    assert counts() == before | {model.__name__: before[model.__name__] + 2}
    written = model.history.filter(operation_id=active.id)
    assert {(row.history_type, row.source, row.history_change_reason) for row in written} == {("~", "job", "why")}
    assert AuditEntry.objects.get(operation_id=active.id, kind__in=OPERATION_KINDS).source == "job"
    write(make_again(rows), name, other)
    assert counts() == before | {model.__name__: before[model.__name__] + 2}
    assert gaps() == []


def make_again(rows: list) -> list:
    return list(type(rows[0]).objects.filter(pk__in=[row.pk for row in rows]).order_by("pk"))


@pytest.mark.parametrize("model", FIELDS, ids=lambda model: model.__name__)
def test_a_deletion_leaves_one_row_for_each_record_and_the_person_on_it(catalogue, manager, model):
    rows = make(model, 2)
    before = counts()
    with operation(Source.ADMIN, user=manager) as active:
        rows[0].delete()
        model.objects.filter(pk=rows[1].pk).delete()
    assert model.history.count() == before[model.__name__] + 2
    written = model.history.filter(operation_id=active.id)
    assert {(row.history_type, row.history_user_name) for row in written} == {("-", manager.get_display_name())}
    assert gaps() == []


def test_what_goes_with_a_case_leaves_its_rows_too(catalogue):
    case = MAKERS[models.Property]().case
    steps = case.steps.count()
    before = counts()
    case.delete()
    assert counts() == before | {
        "Case": before["Case"] + 1,
        "CaseStep": before["CaseStep"] + steps,
        "Property": before["Property"] + 1,
    }
    assert gaps() == []


def test_what_the_database_lets_go_by_itself_leaves_its_row(catalogue, manager):
    case = factories.make_case()
    workflow.complete_step(case.steps.first(), by=manager, on=factories.TODAY)
    before = CaseStep.history.count()
    User.objects.get(pk=manager.pk).delete()
    assert CaseStep.history.count() == before + 1
    assert CaseStep.history.first().completed_by_id is None
    assert gaps() == []


def test_an_older_object_in_memory_takes_nobodys_change_back(catalogue):
    early, late = (Client.objects.get(pk=pk) for pk in [factories.make_client().pk] * 2)
    late.phone = "777 123 456"
    late.save()
    early.note = "mine"
    early.save()
    row = Client.history.first()
    assert (row.phone, row.note) == ("777 123 456", "mine")
    assert gaps() == []


def test_the_workflows_verbs_leave_no_gap(catalogue, manager):
    case = factories.make_case()
    bob = factories.make_user()
    lender = factories.make_lender()
    first, second, *_rest = case.steps.all()
    workflow.complete_step(first, by=manager, on=factories.TODAY)
    workflow.mark_not_applicable(second, by=manager)
    workflow.reopen_step(first, by=manager)
    workflow.set_deadline(first, factories.TODAY, by=manager)
    workflow.approve(
        case, by=manager, on=factories.TODAY, lender=lender, amount_czk=100, override_reason="the bank was quick"
    )
    workflow.hand_over(case, by=manager, to=bob)
    workflow.reject(case, by=manager, on=factories.TODAY, reason="income")
    workflow.reopen_case(case, by=manager, reason="new income")
    workflow.withdraw(case, by=manager, on=factories.TODAY, reason="no more")
    workflow.renumber_step(models.Step.objects.last(), 1, by=None)
    workflow.add_to_open_cases(
        models.Step.objects.create(number=16, code="own", name_cs="K", name_en="S", default_days=1), by=None
    )
    assert gaps() == []


@pytest.mark.parametrize("name", ["czech_excel.csv", "older_crm_clients.csv"])
def test_an_import_leaves_no_gap_and_one_line_in_the_trail(catalogue, manager, name):
    before = AuditEntry.objects.count()
    plan = imports.check((SAMPLES / name).read_bytes(), name, manager)
    run = imports.write(plan, manager)
    assert AuditEntry.objects.filter(operation_id=run.operation_id).count() == AuditEntry.objects.count() - before == 1
    assert {row.source for row in Client.history.filter(operation_id=run.operation_id)} == {"import"}
    assert gaps() == []


def test_the_older_crms_dump_leaves_no_gap(catalogue):
    with pytest.raises(SystemExit):  # some of its rows are refused
        call_command("import_older_crm", SAMPLES / "older_crm_dump.json", stdout=io.StringIO(), stderr=io.StringIO())
    assert Case.objects.exists()
    assert gaps() == []


def test_the_demo_office_has_no_gap(settings):
    settings.DEBUG = True
    demo.load(20)
    assert gaps() == []
    assert not AuditEntry.objects.filter(kind=AuditKind.CHANGE, user_name="").exclude(source="command").exists()


@pytest.mark.parametrize("model", WITH_A_FORM, ids=lambda each: each.__name__)
def test_a_form_that_is_sent_back_as_it_came_leaves_nothing(client, catalogue, administrator, model):
    row = make(model, 1)[0]
    client.force_login(administrator, backend="django.contrib.auth.backends.ModelBackend")
    page = reverse(f"admin:crm_{model._meta.model_name}_change", args=[row.pk])
    before = counts()
    answer = client.post(page, filled(client.get(page)))
    assert answer.status_code == 302, answer.context and answer.context["errors"]
    assert counts() == before
    assert gaps() == []


@pytest.mark.parametrize("model", WITH_A_FORM, ids=lambda each: each.__name__)
def test_a_form_leaves_one_row_in_the_persons_name(client, catalogue, administrator, model):
    name, one, _other = FIELDS[model]
    row = make(model, 1)[0]
    client.force_login(administrator, backend="django.contrib.auth.backends.ModelBackend")
    page = reverse(f"admin:crm_{model._meta.model_name}_change", args=[row.pk])
    form = filled(client.get(page))
    if name not in form and f"{name}_0" not in form and not isinstance(one, bool):
        pytest.skip(f"{name} is on no form")
    before = counts()
    form[name] = "on" if one is True else "\n".join(one) if isinstance(one, list) else one
    answer = client.post(page, form)
    assert answer.status_code == 302, answer.context and answer.context["errors"]
    after = counts()
    assert after[model.__name__] == before[model.__name__] + 1
    newest = model.history.first()
    assert (newest.history_user_id, newest.source) == (administrator.pk, "admin")
    assert gaps() == []


def test_an_inline_row_leaves_one_row_and_the_record_around_it_none(client, catalogue, administrator):
    item = make(models.FinanceItem, 1)[0]
    client.force_login(administrator, backend="django.contrib.auth.backends.ModelBackend")
    page = reverse("admin:crm_client_change", args=[item.client_id])
    form = filled(client.get(page))
    before = counts()
    assert client.post(page, form | {"finance_items-0-proof": "payslip"}).status_code == 302
    assert counts() == before | {"FinanceItem": before["FinanceItem"] + 1}
    assert gaps() == []


@pytest.mark.parametrize("page_of", ["step", "case"])
def test_a_deadline_and_a_note_typed_together_leave_one_row_of_the_step(client, catalogue, administrator, page_of):
    case = factories.make_case()
    step = case.steps.first()
    client.force_login(administrator, backend="django.contrib.auth.backends.ModelBackend")
    row, prefix = (step, "") if page_of == "step" else (case, "steps-0-")
    page = reverse(f"admin:crm_{row._meta.model_name}_change", args=[row.pk])
    form = filled(client.get(page)) | {f"{prefix}deadline": "2031-05-06", f"{prefix}note": "called"}
    before = step.history.count()
    assert client.post(page, form).status_code == 302
    step.refresh_from_db()
    assert (step.deadline.year, step.note, step.history.count()) == (2031, "called", before + 1)
    assert gaps() == []


def test_a_persons_form_leaves_one_row(client, administrator):
    client.force_login(administrator, backend="django.contrib.auth.backends.ModelBackend")
    new = {"username": "bob", "language": "cs", "role": roles.ADVISER, "usable_password": "true"}
    new |= {"password1": "a long enough password", "password2": "a long enough password"}
    assert client.post(reverse("admin:crm_user_add"), new).status_code == 302
    bob = User.objects.get(username="bob")
    assert bob.history.get().history_type == "+"
    page = reverse("admin:crm_user_change", args=[bob.pk])
    changed = filled(client.get(page)) | {"first_name": "Bob", "role": roles.MANAGER}
    assert client.post(page, changed).status_code == 302
    row = bob.history.first()
    assert bob.history.count() == 2
    assert (row.first_name, [each.group.name for each in row.groups.all()]) == ("Bob", ["Manager"])
    assert gaps() == []


def test_a_tick_leaves_a_row_of_the_step_and_one_of_its_case_under_one_operation(client, catalogue, administrator):
    step = factories.make_case().steps.first()
    client.force_login(administrator, backend="django.contrib.auth.backends.ModelBackend")
    before = counts()
    assert client.post(reverse("admin:crm_casestep_complete", args=[step.pk])).status_code == 302
    assert counts() == before | {"CaseStep": before["CaseStep"] + 1, "Case": before["Case"] + 1}
    assert CaseStep.history.first().operation_id == Case.history.first().operation_id
    assert gaps() == []


def filled(answer) -> dict:
    """What a browser would send back of a page that nobody touched."""
    context = answer.context
    shown = [context["adminform"].form]
    data = {VERSIONS: context["versions"]}
    for inline in context["inline_admin_formsets"]:
        shown += [inline.formset.management_form, *inline.formset.forms]
    for form in shown:
        for field in form:
            widget = field.field.widget
            if isinstance(widget, forms.CheckboxInput):
                data |= {field.html_name: "on"} if field.value() else {}
            else:
                value = getattr(widget, "widget", widget).format_value(field.value())
                data[field.html_name] = (value[0] if value else "") if isinstance(value, list) else value or ""
    return data
