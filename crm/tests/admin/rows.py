"""One row of every model that people or machines write, for tests that go through all of them."""

import datetime
import itertools
import json

from axes.models import AccessAttempt
from django.contrib.auth.models import Group
from django.utils import timezone
from django_q.models import Failure, OrmQ, Success

from crm import models
from crm.admin.merging import VERSIONS
from crm.choices import Language, MessageKind
from crm.tests import factories

TODAY = factories.TODAY
# Of a person, kept by pages of their own.
NO_PAGES = {models.NoticeChoice, models.ExportPreset}


def as_now(row) -> dict:
    """What a form of this row says of the version that it shows."""
    return {VERSIONS: json.dumps({f"{row._meta.model_name}:{row.pk}": row.history.first().history_id})}


_numbers = itertools.count(1)


def _message_text():
    """Of a kind that there is, as long as there is one left."""
    taken = set(models.MessageText.objects.values_list("kind", "language"))
    known = (pair for pair in itertools.product(MessageKind.values, Language.values) if pair not in taken)
    kind, language = next(known, (f"kind {next(_numbers)}", "en"))
    return models.MessageText.objects.create(kind=kind, language=language)


def _case():
    case = factories.make_case(
        factories.make_client(f"Alice Nováková {next(_numbers)}"), adviser=None, lender=factories.make_lender()
    )
    case.adviser = factories.make_user()
    case.save()
    return case


def _preset():
    return models.ExportPreset.objects.create(
        user=factories.make_user(),
        name=f"preset {next(_numbers)}",
        model="client",
        format="xlsx",
        columns=["full_name"],
    )


def _schedule():
    preset = _preset()
    return models.ExportSchedule.objects.create(user=preset.user, preset=preset)


def _task(success):
    now = timezone.now()
    number = next(_numbers)
    model = Success if success else Failure
    return model.objects.create(
        id=f"task{number}", name=f"task{number}", func="crm.tasks.x", started=now, stopped=now, success=success
    )


def _audit_entry():
    lender = factories.make_lender(f"Banka {next(_numbers)}")
    return models.AuditEntry.objects.get(operation_id=lender.history.get().operation_id)


MAKERS = {
    models.Client: lambda: factories.make_client(f"Alice Nováková {next(_numbers)}"),
    models.Case: _case,
    models.CaseStep: lambda: _case().steps.first(),
    models.CaseParty: lambda: models.CaseParty.objects.create(case=_case(), client=factories.make_client()),
    models.FinanceItem: lambda: models.FinanceItem.objects.create(client=_case().client, kind="employment"),
    models.Property: lambda: models.Property.objects.create(case=_case()),
    models.Document: lambda: models.Document.objects.create(case=_case(), type=models.DocumentType.objects.first()),
    models.Note: lambda: models.Note.objects.create(case=_case(), text="Called.", author=factories.make_user()),
    models.Commission: lambda: models.Commission.objects.create(case=_case()),
    models.Consent: lambda: models.Consent.objects.create(
        client=_case().client, purpose="processing", text_version="1", given_on=TODAY
    ),
    models.Identification: lambda: models.Identification.objects.create(
        client=_case().client, method="in_person", done_on=TODAY, done_by=factories.make_user()
    ),
    models.Step: lambda: models.Step.objects.create(
        number=99, code=f"step_{next(_numbers)}", name_cs="Krok", name_en="Step", default_days=7
    ),
    models.Lender: lambda: factories.make_lender(f"Banka {next(_numbers)}"),
    models.DocumentType: lambda: models.DocumentType.objects.create(
        code=f"type_{next(_numbers)}", name_cs="Typ", name_en="Type"
    ),
    models.RegulatoryLimit: lambda: models.RegulatoryLimit.objects.create(
        metric="ltv", value=80, valid_from=TODAY + datetime.timedelta(days=next(_numbers)), legal_source="CNB"
    ),
    models.ImportRun: lambda: models.ImportRun.objects.create(file_name="a.csv", user=factories.make_user()),
    models.ExportRun: lambda: models.ExportRun.objects.create(model="client", format="xlsx"),
    models.ExportPreset: _preset,
    models.ExportSchedule: _schedule,
    models.MessageText: _message_text,
    models.NoticeRule: lambda: models.NoticeRule.objects.create(kind=f"kind {next(_numbers)}"),
    models.NoticeChoice: lambda: models.NoticeChoice.objects.create(
        user=factories.make_user(), kind=f"kind {next(_numbers)}"
    ),
    models.CalendarFeed: lambda: models.CalendarFeed.objects.create(
        user=factories.make_user(), digest=str(next(_numbers))
    ),
    models.JobSchedule: lambda: models.JobSchedule.objects.create(name=f"job {next(_numbers)}"),
    models.JobRun: lambda: models.JobRun.objects.create(name="job", slot=str(next(_numbers))),
    models.BackupRun: lambda: models.BackupRun.objects.create(file_name=f"{next(_numbers)}.hdbk"),
    models.MessageLog: lambda: models.MessageLog.objects.create(
        claim_key=str(next(_numbers)), case=_case(), recipient="alice@example.com", subject="H-000001"
    ),
    models.User: factories.make_user,
    models.AuditEntry: _audit_entry,
    models.Erasure: lambda: models.Erasure.objects.create(
        scope="client", object_id=next(_numbers), made_at=timezone.now(), asked_at=timezone.now()
    ),
    models.AuditSeal: lambda: models.AuditSeal.objects.create(number=next(_numbers), rows=3, mac="0" * 64),
    models.AuditCheck: lambda: models.AuditCheck.objects.create(is_whole=True, seals=1, rows=3),
    Group: lambda: Group.objects.create(name=f"group {next(_numbers)}"),
    Success: lambda: _task(True),
    Failure: lambda: _task(False),
    OrmQ: lambda: OrmQ.objects.create(key="x", payload="x", lock=timezone.now()),
    AccessAttempt: lambda: AccessAttempt.objects.create(
        username=f"bob{next(_numbers)}", ip_address="127.0.0.1", failures_since_start=3, user_agent="x"
    ),
}
