"""What an exported file shows of each list: one definition for the admin, the command and both formats. A header is the
field's label in the reader's language; crm.imports.columns knows it again in either language."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.db import models
from django.db.models import TextChoices
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from crm.imports.columns import CASE, CASE_FIELDS, CLIENT, CLIENT_FIELDS, READ_ONLY
from crm.imports.values import SHARES
from crm.models import AuditEntry, Case, Client, DocumentType, Lender, RegulatoryLimit, Step, User


class Kind(TextChoices):
    TEXT = "text"
    CODE = "code"  # text whose leading zeros matter
    AMOUNT = "amount"
    SHARE = "share"  # percent of a value
    RATE = "rate"  # percent a year
    NUMBER = "number"
    INTEGER = "integer"
    DATE = "date"
    MOMENT = "moment"


_CODES = (
    "reference", "phone", "birth_number", "postal_code", "id_document_number", "bank_account", "business_id",
    "contract_number", "legacy_id", "bank_code", "code",
)  # fmt: skip
_WIDTHS = {
    "full_name": 28, "email": 30, "mailing_address": 36, "street": 28, "note": 40, "loan_purpose": 32,
    "proposed_terms": 32, "approved_terms": 32, "rejection_reason": 32, "reference": 11, "client": 11, "aliases": 36,
    "contact": 32, "source": 40, "detail": 48, "user_name": 28, "operation_id": 38, "name": 28, "name_cs": 34, "name_en": 34, "current_step": 30, "bank_account": 24,
}  # fmt: skip
_KIND_WIDTHS = {Kind.TEXT: 20, Kind.CODE: 16, Kind.AMOUNT: 16, Kind.DATE: 12, Kind.MOMENT: 17}
_OTHER_WIDTH = 11


@dataclass(frozen=True)
class Column:
    name: str
    field: models.Field
    kind: Kind
    # What the database is asked for, and how those values become the one that is shown.
    paths: tuple[str, ...]
    show: Callable[..., Any]
    # The rows are known again by it on import, so no choice of columns leaves it out.
    is_key: bool = False

    @property
    def label(self) -> str:
        return capfirst(str(self.field.verbose_name))

    @property
    def width(self) -> int:
        # A header of one line stays readable up to here; longer ones are cut by the spreadsheet.
        least = _WIDTHS.get(self.name, _KIND_WIDTHS.get(self.kind, _OTHER_WIDTH))
        return max(least, min(len(self.label) + 3, 30))


def _same(value):
    return value


def _local(value):
    return timezone.localtime(value) if value else None


def _listed(values):
    return ", ".join(values or [])


def _yes_or_no(value):
    return str(_("Yes") if value else _("No"))


def _step(number, name_cs, name_en):
    return str(Step(number=number, name_cs=name_cs, name_en=name_en)) if number is not None else ""


def _kind(field: models.Field) -> Kind:
    if field.name in _CODES:
        return Kind.CODE
    if isinstance(field, models.DateTimeField):
        return Kind.MOMENT
    if isinstance(field, models.DateField):
        return Kind.DATE
    if isinstance(field, models.DecimalField):
        if field.name.endswith("_czk"):
            return Kind.AMOUNT
        if field.name in SHARES:
            return Kind.SHARE
        return Kind.RATE if field.name == "interest_rate_percent" else Kind.NUMBER
    if isinstance(field, models.IntegerField) and not field.choices:
        return Kind.INTEGER
    return Kind.TEXT


def column(model: type[models.Model], name: str, *, through: str = "", is_key: bool = False) -> Column:
    field = model._meta.get_field(name)
    path = through + name
    kind = _kind(field)
    if field.choices:
        labels = dict(field.flatchoices)
        return Column(name, field, kind, (path,), lambda value: str(labels.get(value, value or "")), is_key)
    if field.related_model is User:
        return Column(name, field, kind, (f"{path}_id",), _same, is_key)  # see crm.exports.tables.people
    if field.related_model is Step:
        return Column(name, field, kind, (f"{path}__number", f"{path}__name_cs", f"{path}__name_en"), _step, is_key)
    if field.related_model in (Client, Lender):
        shown = "reference" if field.related_model is Client else "name"
        return Column(name, field, Kind.CODE if shown == "reference" else kind, (f"{path}__{shown}",), _same, is_key)
    if isinstance(field, models.DateTimeField):
        return Column(name, field, kind, (path,), _local, is_key)
    if isinstance(field, models.JSONField):
        return Column(name, field, kind, (path,), _listed, is_key)
    if isinstance(field, models.BooleanField):
        return Column(name, field, kind, (path,), _yes_or_no, is_key)
    return Column(name, field, kind, (path,), _same, is_key)


@cache
def columns_of(model: type[models.Model]) -> tuple[Column, ...]:
    """Every column of a list; no choice of the reader's adds one."""
    if model is Client:
        names = (*CLIENT_FIELDS, *READ_ONLY[CLIENT], "legacy_id")
        return (column(Client, "reference", is_key=True), *(column(Client, name) for name in names))
    if model is Case:
        names = (*CASE_FIELDS, *READ_ONLY[CASE], "legacy_id")
        return (
            column(Case, "reference", is_key=True),
            column(Case, "client", is_key=True),
            column(Client, "full_name", through="client__"),
            *(column(Case, name) for name in names if name != "full_name"),
        )
    if model in (Lender, DocumentType, RegulatoryLimit, Step):
        return tuple(column(model, field.name) for field in model._meta.concrete_fields if not field.primary_key)
    if model is AuditEntry:  # `detail` tells what the list's column "What" does: see crm.exports.trail
        names = ("user_name", "kind", "detail", "source", "reason", "operation_id")
        return (column(AuditEntry, "at", is_key=True), *(column(AuditEntry, name) for name in names))
    raise LookupError(model)


def chosen(model: type[models.Model], names) -> list[Column]:
    """The named columns, in the file's order and always with its keys; all of them for no names."""
    wanted = set(names or ())
    return [each for each in columns_of(model) if not wanted or each.is_key or each.name in wanted]
