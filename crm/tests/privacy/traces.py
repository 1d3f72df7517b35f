"""A client of whom every field says something that nothing else says, and the looking for it everywhere."""

import datetime

from django.apps import apps
from django.db import models as django

from crm import models, outbox
from crm.choices import MessageKind
from crm.encryption import encrypt_bytes
from crm.models import Case, Client, MessageLog, User, operation
from crm.privacy.fields import RECORDS
from crm.tests import factories

MARK = "Qzx"
ENDED = datetime.date(2010, 5, 4)  # more than ten years before any test runs
NOTED = "A reason that names Qzxclient."


def marked(model, number: int = 0) -> dict[str, object]:
    """Of every text that an erasure empties."""
    found = {}
    for name in {*RECORDS[model].blank, *RECORDS[model].replaced}:
        field = model._meta.get_field(name)
        if isinstance(field, django.EmailField):
            found[name] = f"{MARK}{number}@example.com"
        elif isinstance(field, django.CharField | django.TextField) and not field.choices:
            found[name] = f"{MARK}{name}{number}"[: field.max_length]
        elif isinstance(field, django.DecimalField):
            found[name] = 987654
        elif isinstance(field, django.DateField):
            found[name] = datetime.date(1999, 12, 31)
        elif isinstance(field, django.BooleanField):
            found[name] = True
    return found


def make_client(*, ended=ENDED, status: str = "declined") -> Client:
    """With a row of every model that hangs on him, two versions of each, and a message."""
    client = factories.make_client(**marked(Client))
    case = factories.make_case(client, opened_on=ended, **marked(Case))
    rows = [
        models.CaseParty.objects.create(case=case, client=factories.make_client("Bob Malý")),
        models.Property.objects.create(case=case, **marked(models.Property)),
        models.Document.objects.create(
            case=case, type=models.DocumentType.objects.first(), **marked(models.Document)
        ),
        models.Note.objects.create(case=case, **marked(models.Note)),
        models.Commission.objects.create(case=case, expected_czk=100, paid_czk=90),
        models.FinanceItem.objects.create(client=client, kind="employment", **marked(models.FinanceItem)),
        models.Consent.objects.create(client=client, purpose="messages", text_version="1", given_on=ended),
        models.Identification.objects.create(
            client=client, method="in_person", done_on=ended, **marked(models.Identification) | {"risk": "high"}
        ),
    ]  # fmt: skip
    with operation(reason=NOTED):
        for row in (client, case, case.steps.first(), *rows):
            again = type(row).objects.get(pk=row.pk)
            for name, value in marked(type(row), 1).items():
                setattr(again, name, value)
            again.save()
    Case.objects.filter(pk=case.pk).update(status=status, decided_on=ended)
    outbox.put([message(client, case)])
    return Client.objects.get(pk=client.pk)


def message(client: Client, case: Case) -> MessageLog:
    return outbox.message(
        MessageKind.CLIENT_NOTICES, to=client.email, subject=case.reference, body=f"Dear {client.full_name}",
        html=f"<p>{client.full_name}</p>", about=[case.pk], language="en", case_id=case.pk,
    )  # fmt: skip


def make_account(client: Client) -> User:
    user = User.objects.create_user(username=f"{MARK}account", email=f"{MARK}@example.com", first_name=f"{MARK}name")
    client.portal_user = user
    client.save()
    return user


def traces(mark: str = MARK) -> list[str]:
    """Table and column of every value that holds the mark, of every row of the office, decrypted."""
    found = []
    for model in apps.get_app_config("crm").get_models(include_auto_created=True):
        names = [field.attname for field in model._meta.concrete_fields]
        for row in model._base_manager.order_by().values(*names):
            found += [
                f"{model._meta.db_table}.{name}" for name, value in row.items() if mark.lower() in str(value).lower()
            ]
    return found


def keep_file(run, piece, **fields) -> None:
    piece.objects.create(run=run, number=0, content=encrypt_bytes(f"{MARK}file".encode()), **fields)
