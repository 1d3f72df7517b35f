"""What an exported file shows of each list: one definition for the admin, the command and every format. A header is the
field's label in the reader's language, or its name where a machine reads; crm.imports.columns knows both again."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from django.db import models
from django.db.models import TextChoices
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from crm.imports.columns import (
    CASE,
    CASE_FIELDS,
    CLIENT,
    CLIENT_FIELDS,
    CODES,
    KEYS,
    READ_ONLY,
    ROW_VERSION,
    row_version,
    whose,
)  # fmt: skip
from crm.imports.values import SHARES
from crm.models import (
    AuditEntry,
    Case,
    CaseParty,
    CaseStep,
    Client,
    Commission,
    Consent,
    Document,
    DocumentType,
    FinanceItem,
    Identification,
    Lender,
    MessageLog,
    Note,
    Property,
    RegulatoryLimit,
    Step,
    User,
)
from crm.models.messages import error_label, kind_label


class Kind(TextChoices):
    TEXT = "text"
    CODE = "code"  # text whose leading zeros matter
    AMOUNT = "amount"
    SHARE = "share"  # percent of a value
    RATE = "rate"  # percent a year
    NUMBER = "number"
    INTEGER = "integer"
    VERSION = "version"
    DATE = "date"
    MOMENT = "moment"
    ANY = "any"  # each cell is what its value is


_CODES = (*KEYS, *CODES, "bank_code", "code", "cadastral_reference")
_WIDTHS = {
    "full_name": 28, "email": 30, "mailing_address": 36, "street": 28, "note": 40, "loan_purpose": 32,
    "proposed_terms": 32, "approved_terms": 32, "rejection_reason": 32, "reference": 11, "client": 11, "aliases": 36,
    "contact": 32, "source": 40, "detail": 48, "user_name": 28, "operation_id": 38, "name": 28, "name_cs": 34, "name_en": 34, "current_step": 30, "bank_account": 24,
    "case": 11, "step": 30, "type": 28, "address": 36, "text": 60, "subject": 36, "body": 60, "recipient": 30, "error": 36,
}  # fmt: skip
_KIND_WIDTHS = {Kind.TEXT: 20, Kind.CODE: 16, Kind.AMOUNT: 16, Kind.DATE: 12, Kind.MOMENT: 17}
_OTHER_WIDTH = 11


# What opens accounts, tells what somebody earns or owes, or how the law against money laundering sees him: to export it
# needs a right of its own, and a reason.
SENSITIVE = (
    "birth_number", "id_document_number", "id_document_issuer", "bank_account", "dti", "dsti_percent", "monthly_czk",
    "balance_czk", "is_pep", "risk",
)  # fmt: skip
# Where a client's list finds the cases of its rows (see crm.exports.tables.with_cases), and a case's list its client.
CASES, CLIENTS = "its_case", "client"
CATALOGUES = (Lender, DocumentType, RegulatoryLimit, Step)
# What hangs on a case or a client, and where its rows have the client whose data they are.
PARTS = {
    **dict.fromkeys((CaseStep, Document, Note, Commission, Property, MessageLog), "case__client"),
    **dict.fromkeys((CaseParty, FinanceItem, Consent, Identification), "client"),
}
# Says nothing to a person, or what another column says: a note's author is there by name.
_INTERNAL = (
    "author", "legacy_id", "claim_key", "recipient_digest", "html", "attachments", "needs_all_cases", "message_id",
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """`name` is the field's; of a client in a list of cases and the other way round `client.email`, `case.status`."""

    name: str
    field: models.Field
    kind: Kind
    # What the database is asked for, and how those values become the one that is shown.
    paths: tuple[str, ...]
    show: Callable[..., Any]
    # The rows are known again by it on import, so no choice of columns leaves it out.
    is_key: bool = False
    owner: type[models.Model] | None = None
    # In both lists: in that of the other it says whose it is.
    is_ambiguous: bool = False
    # The value as it is stored under the field's name, for machines.
    is_plain: bool = False
    plain_paths: tuple[str, ...] = ()
    plain_show: Callable[..., Any] | None = None

    @property
    def label(self) -> str:
        label = capfirst(str(self.field.verbose_name))
        return whose(label, self.owner) if self.is_ambiguous else label

    @property
    def is_sensitive(self) -> bool:
        return self.field.name in SENSITIVE

    @property
    def header(self) -> str:
        return self.name if self.is_plain else self.label

    @property
    def width(self) -> int:
        # A header of one line stays readable up to here; longer ones are cut by the spreadsheet.
        least = _WIDTHS.get(self.field.name, _KIND_WIDTHS.get(self.kind, _OTHER_WIDTH))
        return max(least, min(len(self.label) + 3, 30))

    @property
    def plain(self) -> "Column":
        return replace(self, is_plain=True, paths=self.plain_paths or self.paths, show=self.plain_show or as_it_is)


def as_it_is(value):
    return value


def _local(value):
    return timezone.localtime(value) if value else None


def _listed(values):
    return ", ".join(values or [])


def _as_json(value):
    return json.dumps(value, ensure_ascii=False)


def _yes_or_no(value):
    return str(_("Yes") if value else _("No"))


def _true_or_false(value):
    return "true" if value else "false"


def _step(number, name_cs, name_en):
    return str(Step(number=number, name_cs=name_cs, name_en=name_en)) if number is not None else ""


def _document_type(name_cs, name_en):
    return str(DocumentType(name_cs=name_cs, name_en=name_en))


def _kind(field: models.Field) -> Kind:
    if field.name in _CODES:
        return Kind.CODE
    if field.name == ROW_VERSION:
        return Kind.VERSION
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
    field = row_version if name == ROW_VERSION else model._meta.get_field(name)
    path = through + name if name != ROW_VERSION else f"version_of_{model._meta.model_name}"
    made = Column(name, field, _kind(field), (path,), as_it_is, is_key, model)
    if model is MessageLog and name in ("kind", "error"):
        return replace(made, show=kind_label if name == "kind" else error_label)
    if field.choices:
        labels = dict(field.flatchoices)
        return replace(made, show=lambda value: str(labels.get(value, value or "")))
    if field.related_model is User:
        return replace(made, paths=(f"{path}_id",))  # see crm.exports.tables.people
    if field.related_model is Step:
        names = (f"{path}__number", f"{path}__name_cs", f"{path}__name_en")
        return replace(made, paths=names, show=_step, plain_paths=(f"{path}__code",))
    if field.related_model is DocumentType:
        names = (f"{path}__name_cs", f"{path}__name_en")
        return replace(made, paths=names, show=_document_type, plain_paths=(f"{path}__code",))
    if field.related_model is Lender:
        return replace(made, paths=(f"{path}__name",))
    if field.related_model in (Client, Case):
        return replace(made, kind=Kind.CODE, paths=(f"{path}__reference",))
    if isinstance(field, models.DateTimeField):
        return replace(made, show=_local)
    if isinstance(field, models.JSONField):
        return replace(made, show=_listed, plain_show=_as_json)
    if isinstance(field, models.BooleanField):
        return replace(made, show=_yes_or_no, plain_show=_true_or_false)
    return made


@cache
def columns_of(model: type[models.Model]) -> tuple[Column, ...]:
    """Every column of a list; no choice of the reader's adds one. Those of a client come with his cases', and the other
    way round."""
    if model in (Client, Case):
        other, through = (Case, CASES) if model is Client else (Client, CLIENTS)
        return *_own(model), *_of_other(other, through, {each.name for each in _own(model)})
    if model in PARTS:
        return *_of_part(model), *_around_part(model)
    if model in CATALOGUES:
        return tuple(column(model, field.name) for field in model._meta.concrete_fields if not field.primary_key)
    if model is AuditEntry:  # `detail` tells what the list's column "What" does: see crm.exports.trail
        names = ("user_name", "kind", "detail", "source", "reason", "operation_id")
        return (column(AuditEntry, "at", is_key=True), *(column(AuditEntry, name) for name in names))
    raise LookupError(model)


@cache
def _own(model: type[models.Model]) -> tuple[Column, ...]:
    version = column(model, ROW_VERSION, is_key=True)
    if model is Client:
        names = (*CLIENT_FIELDS, *READ_ONLY[CLIENT], "legacy_id")
        return (column(Client, "reference", is_key=True), *(column(Client, name) for name in names), version)
    names = (*CASE_FIELDS, *READ_ONLY[CASE], "legacy_id")
    return (
        column(Case, "reference", is_key=True),
        column(Case, "client", is_key=True),
        column(Client, "full_name", through="client__"),
        *(column(Case, name) for name in names if name != "full_name"),
        version,
    )


def _of_other(other: type[models.Model], through: str, taken: set[str]) -> Iterable[Column]:
    """The columns of the cases of a client, of the client of a case; not those that the list has itself."""
    passed_over = {"client", "full_name"} if other is Case else {"reference", "full_name"}
    for each in _own(other):
        if each.name not in passed_over:
            made = column(other, each.name, through=f"{through}__", is_key=each.is_key)
            yield replace(made, name=f"{other._meta.model_name}.{each.name}", is_ambiguous=each.name in taken)


@cache
def _of_part(model: type[models.Model]) -> tuple[Column, ...]:
    """Whose a row is comes first and is in every file: an import, which takes no such list, knows it by that."""
    client, names = PARTS[model], [field.name for field in model._meta.concrete_fields if not field.primary_key]
    is_of_case = "case" in names
    lead = [column(model, "case", is_key=True)] if is_of_case else []
    if client == "client":
        lead.append(column(model, "client", is_key=not is_of_case))
    else:
        lead.append(column(Case, "client", through="case__"))
    lead.append(column(Client, "full_name", through=f"{client}__"))
    if is_of_case:
        lead.append(column(Case, "adviser", through="case__"))
    return *lead, *(column(model, name) for name in names if name not in ("case", "client", *_INTERNAL))


def _around_part(model: type[models.Model]) -> Iterable[Column]:
    """Of its client and case. Of the case that somebody is a party of none: they are another client's data."""
    client, own = PARTS[model], {each.name for each in _of_part(model)}
    own |= {"status"} if "state" in own else set()  # one word in Czech
    around = {Client: client} if client == "client" else {Case: "case", Client: client}
    for other, through in around.items():
        taken = own | {each.name for part in around.keys() - {other} for each in _own(part)}
        for each in _of_other(other, through, taken):
            if not (each.is_key or each.field.name in ("adviser", "legacy_id")):
                yield each


def is_own(column: Column) -> bool:
    """Of the list's own rows; also whose they are."""
    return "." not in column.name


def chosen(model: type[models.Model], names: Iterable[str] = ()) -> list[Column]:
    """The named columns in that order, behind those that an import knows the rows by and before the rows' versions; all
    of the list's own for no names."""
    known = {each.name: each for each in columns_of(model)}
    picked = [known[name] for name in dict.fromkeys(names or ()) if name in known]
    picked = picked or [each for each in known.values() if is_own(each)]
    owners = {each.owner for each in picked if not is_own(each)}
    keys = [each for each in known.values() if each.is_key and (is_own(each) or each.owner in owners)]
    lead = [each for each in keys if each not in picked]
    together = [*lead, *picked]
    return sorted(together, key=lambda each: each.kind == Kind.VERSION)
