"""No file from before an erasure brings anybody back."""

import io
import json

import pytest
from django.utils import timezone

from crm import exports, imports, privacy
from crm.imports import older_crm, runs
from crm.imports.conflicts import EVERY
from crm.imports.decisions import CASE_ONLY
from crm.models import Case, Client, ImportRun, Note
from crm.tests import factories
from crm.tests.imports.workbooks import csv
from crm.tests.privacy.traces import MARK, make_client, traces

pytestmark = pytest.mark.django_db


def erase(client) -> None:
    privacy.erase(client, by=None, now=timezone.now(), reason="Asked by letter.")


def left() -> list[str]:
    """Not what the record of the import keeps of a file that came since."""
    return [each for each in traces() if not each.startswith(("crm_importrun.", "crm_importpiece."))]


def load(content: bytes, user=None):
    plan = imports.check(content, "x.csv", user, on=factories.TODAY, taken=EVERY, empty_deletes=True)
    imports.write(plan, user)
    return plan


@pytest.mark.parametrize("model", [Client, Case])
def test_a_file_of_an_export_with_versions_writes_nothing(model):
    client = make_client()
    target = io.BytesIO()
    exports.write(model.objects.all(), target, file_format="csv", reason="x")
    erase(client)
    before = list(Client.objects.filter(pk=client.pk).values()), list(client.cases.values())
    plan = load(target.getvalue())
    assert (plan.created, plan.updated) == (0, 0) and plan.errors
    assert (list(Client.objects.filter(pk=client.pk).values()), list(client.cases.values())) == before
    assert left() == []


def test_he_is_given_no_new_case():
    client = make_client()
    erase(client)
    content = csv(["", client.reference, MARK], header=["reference", "client", "what is financed"])
    assert (load(content).errors, client.cases.count()) == (1, 1)
    assert left() == []


@pytest.mark.parametrize("choice", ["", CASE_ONLY])
def test_a_row_that_a_person_says_is_about_him_is_refused(manager, choice):
    client = factories.make_client(f"{MARK} Nuty")
    erase(client)
    run = imports.begin(csv([f"{MARK} Nuty", "1.2.2026"], header=["jmeno", "datum"]), "x.csv", manager)
    runs.correct(run, manager, {}, {2: f"{choice}{client.reference}"})
    runs.confirm(ImportRun.objects.get(pk=run.pk), manager)
    assert (client.cases.count(), left()) == (0, [])


def test_the_older_crms_dump_leaves_him_out():
    case = factories.make_case(make_client(), status="declined", legacy_id="101", decided_on=factories.TODAY)
    Client.objects.filter(pk=case.client_id).update(legacy_id="101")
    Client.objects.filter(pk=case.client_id).update(restricted_at=timezone.now(), anonymised_at=timezone.now())
    record = {"model": "klienti.klient", "pk": 101, "fields": {"jmeno": f"{MARK}again"}}
    note = {"model": "klienti.poznamka", "pk": 7, "fields": {"klient": 101, "text": f"{MARK}note", "created": None}}
    plan = older_crm.check(json.dumps([record, note]).encode(), "dump.json", on=factories.TODAY)
    older_crm.write(plan)
    assert not Note.objects.filter(legacy_id="poznamka-7").exists()
    assert (plan.created, plan.updated, plan.skipped) == (0, 0, 1)
    assert "restricted" in plan.problems[-1].reason
