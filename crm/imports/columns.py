"""Which column of a spreadsheet means which field: the older CRM's nine names, what Czech offices write above their
columns, and the names and labels (Czech and English) of our own fields, as the exports write them."""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

from django.db import models
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from crm.exceptions import CrmError
from crm.imports import parsers
from crm.imports.problems import WARNING, RowProblem, UnusableFile
from crm.imports.reading import Sheet
from crm.models import Case, Client
from crm.models.cases import REFERENCE_PREFIX as CASE_PREFIX
from crm.models.clients import REFERENCE_PREFIX as CLIENT_PREFIX
from crm.search import fold

PEOPLE, CLIENTS, CASES, COMBINED = "people", "clients", "cases", "combined"
CLIENT, CASE = "client", "case"

CLIENT_FIELDS = (
    "full_name", "email", "phone", "birth_number", "birth_date", "birth_place", "street", "city", "postal_code",
    "mailing_address", "id_document_number", "id_document_issuer", "bank_account", "employer", "business_id", "note",
    "citizenship", "id_document_valid_until", "retention_until",
)  # fmt: skip
CASE_FIELDS = (
    "adviser", "stand_in", "opened_on", "status", "purpose_kind", "loan_purpose", "property_price_czk",
    "loan_amount_czk", "own_funds_czk", "ltv_percent", "proposed_terms", "lender", "approved_terms",
    "approved_amount_czk", "approved_own_funds_czk", "approved_ltv_percent", "rejection_reason", "decided_on",
    "interest_rate_percent", "term_months", "fixation_years", "fixation_until", "monthly_payment_czk",
    "contract_number", "dti", "dsti_percent",
)  # fmt: skip
KEYS = ("reference", "legacy_id")
# Texts whose leading zeros matter.
CODES = (
    "phone", "birth_number", "postal_code", "id_document_number", "bank_account", "business_id", "contract_number",
)  # fmt: skip
# The newest history row of the record when it was exported.
ROW_VERSION = "row_version"
row_version = models.BigIntegerField(gettext_lazy("row version"), name=ROW_VERSION)
# Written by exports for the reader; the office's own business to keep, so an import neither takes nor mentions them.
READ_ONLY = {
    CLIENT: ("portal_user", "restricted_at", "anonymised_at", "created_at", "updated_at"),
    CASE: ("current_step", "next_deadline", "created_at", "updated_at"),
}
# Columns of the older CRM that are fields here under another name; the steps' own columns are in older_crm.py.
OLDER_NAMES = {
    "jmeno": "full_name",
    "datum": "opened_on",
    "co_financuje": "loan_purpose",
    "cena": "property_price_czk",
    "navrh_financovani": "proposed_terms",
    "navrh_financovani_castka": "loan_amount_czk",
    "vlastni_zdroj": "own_funds_czk",
    "navrh_financovani_procento": "ltv_percent",
    "vyber_banky": "lender",
    "schvalene_financovani": "approved_terms",
    "schvalena_hypoteka_castka": "approved_amount_czk",
    "schvaleny_vlastni_zdroj": "approved_own_funds_czk",
    "schvaleny_ltv_procento": "approved_ltv_percent",
    "duvod_zamitnuti": "rejection_reason",
}
OTHER_NAMES = {
    "Jméno klienta": "full_name",
    "Jméno a příjmení": "full_name",
    "Klient": "full_name",
    "Client": "full_name",
    "Name": "full_name",
    "Telefon": "phone",
    "Rodné číslo": "birth_number",
    "Banka": "lender",
    "Výběr banky": "lender",
    "Navrhovaná částka": "loan_amount_czk",
    "Výše úvěru": "loan_amount_czk",
    "Důvod zamítnutí": "rejection_reason",
    "Co financuje": "loan_purpose",
    "Návrh financování": "proposed_terms",
    "LTV": "ltv_percent",
    "Cena nemovitosti": "property_price_czk",
    "Vlastní zdroj": "own_funds_czk",
    "Vlastní zdroje": "own_funds_czk",
}
# A name in two pieces, which no single field holds.
_FIRST_NAMES = ("Jméno", "Jméno klienta", "Křestní jméno", "Name", "First name", "Given name")
_SURNAMES = ("Příjmení", "Příjmení klienta", "Surname", "Last name", "Family name")
_REFERENCE = re.compile(rf"({CLIENT_PREFIX}|{CASE_PREFIX})-\d+")
# What an errors file of ours has beside the original columns.
REASON_COLUMN = "problem"
# Of the values of a column that nobody knows, shown to whoever is asked.
SAMPLES, SAMPLE_LENGTH, LOOKED_AT = 3, 60, 50
# Columns that a person is asked about; the others are told of, and left out.
MOST_ASKED = 100
_IGNORED = ("problem", "problém")


@dataclass(frozen=True, slots=True)
class Column:
    index: int
    header: str
    owner: str
    name: str

    @property
    def field(self) -> models.Field:
        return (Client if self.owner == CLIENT else Case)._meta.get_field(self.name)

    @property
    def is_key(self) -> bool:
        return self.name in KEYS


@dataclass(slots=True)
class Layout:
    """`kind` decides what a row is: PEOPLE (a new client with a case), CLIENTS, CASES or COMBINED (rows of our own exports;
    the last of a client and one of his cases)."""

    kind: str
    columns: list[Column]
    unknown: dict[int, str] = field(default_factory=dict)
    # The columns that a person may be asked about: index, header, some values.
    asked: list[tuple[int, str, list[str]]] = field(default_factory=list)
    # The headers that the file has for fields by itself, by `owner.field`.
    held: dict[str, str] = field(default_factory=dict)
    # What a person said of the others, by header.
    said: dict[str, str] = field(default_factory=dict)
    # By owner: the column of his rows' versions.
    versions: dict[str, Column] = field(default_factory=dict)
    # Which other sheets of the workbook were not read.
    sheets: str = ""

    def column(self, name: str, owner: str | None = None) -> Column | None:
        return next((each for each in self.columns if each.name == name and owner in (None, each.owner)), None)


class ColumnsUnknown(CrmError):
    """Somebody has to say what columns mean before the file is checked."""

    message = gettext_lazy("Some columns are not known.")

    def __init__(self, layout: Layout):
        self.layout = layout
        super().__init__()


def folded(header: str) -> str:
    return "".join(char for char in fold(header) if char.isalnum())


@cache
def _labels(owner: str) -> dict[str, str]:
    """Folded name or label -> field name."""
    model, names = (Client, CLIENT_FIELDS) if owner == CLIENT else (Case, ("client", *CASE_FIELDS))
    found = {}
    for name in (ROW_VERSION, *READ_ONLY[owner], *KEYS, *names):
        for label in _written(model, name):
            found[folded(label)] = name
        found[folded(name)] = name
    return found


def _written(model: type[models.Model], name: str, write=str) -> list[str]:
    """The field's label in each language, as `write` makes a header of it."""
    found = []
    for language in ("en", "cs"):
        with translation.override(language):
            named = row_version if name == ROW_VERSION else model._meta.get_field(name)
            found.append(write(str(named.verbose_name)))
    return found


def whose(label: str, model: type[models.Model]) -> str:
    """A header that a client's list and a case's would both have, where one holds columns of the other."""
    return f"{label} ({model._meta.verbose_name})"


@cache
def _combined_labels(first: str) -> dict[str, tuple[str, str]]:
    """Of a list of the `first` with columns of the other: what both have says whose it is in the other's columns."""
    other, model = (CASE, Case) if first == CLIENT else (CLIENT, Client)
    own, others = _labels(first), _labels(other)
    found = {key: (other, name) for key, name in others.items()} | {key: (first, name) for key, name in own.items()}
    for name in set(others.values()):
        for label in _written(model, name, lambda label: whose(label, model)):
            found[folded(label)] = (other, name)
        found[folded(f"{other}.{name}")] = (other, name)
    return found | {key: (CLIENT, "reference") for key, name in own.items() if name == "client"}


@cache
def _people_labels() -> dict[str, tuple[str, str]]:
    client = {key: (CLIENT, name) for key, name in _labels(CLIENT).items()}
    case = {key: (CASE, name) for key, name in _labels(CASE).items() if name != "client"}
    named = {
        folded(header): (CLIENT if name in CLIENT_FIELDS else CASE, name)
        for header, name in (*OLDER_NAMES.items(), *OTHER_NAMES.items())
    }
    return case | client | named


def targets(kind: str) -> list[str]:
    """What a column without a known header may be said to hold, as `owner.field`."""
    found = [f"{CLIENT}.{name}" for name in CLIENT_FIELDS] if kind != CASES else []
    return found + ([f"{CASE}.{name}" for name in CASE_FIELDS] if kind != CLIENTS else [])


def recognise(
    sheet: Sheet, mapping: Mapping[str, str] | None = None, *, asks: bool = False
) -> tuple[Layout, list[RowProblem]]:
    """`mapping` says what other columns mean: by folded header one of `targets`, or nothing for one to be left out. Raises
    UnusableFile when the header does not tell what the rows are; ColumnsUnknown where a person can be asked and was not
    yet, or said one field of two columns. Otherwise unknown columns are warnings."""
    mapping = mapping or {}
    keys = [folded(header) for header in sheet.header]
    kind, meaning = _kind(set(keys))
    if kind == PEOPLE:
        _refuse_other_lists(sheet, keys)
    layout = Layout(kind, [], sheets=sheet.sheets)
    for index, (header, key) in enumerate(zip(sheet.header, keys, strict=True)):
        owner, name = meaning(key)
        if name is None:
            layout.unknown[index] = header
        elif name == ROW_VERSION:
            layout.versions[owner] = Column(index, header, owner, name)
        elif name not in READ_ONLY[owner]:
            if earlier := layout.column(name, owner):
                raise UnusableFile(
                    _("Columns “%(first)s” and “%(second)s” mean the same. Leave one of them."),
                    first=earlier.header,
                    second=header,
                )
            layout.columns.append(Column(index, header, owner, name))
    samples = _samples(sheet, layout.unknown)
    _refuse_split_names(layout, samples)
    layout.unknown = _told_apart(layout.unknown, keys)
    layout.held = {f"{column.owner}.{column.name}": column.header for column in layout.columns}
    may_be_asked = _may_be_asked(layout.unknown, samples)
    same = clashes(kind, [header for _index, header, _samples in may_be_asked], mapping, layout.held)
    layout.asked = _most_asked(may_be_asked, {header for pair in same for header in pair})
    if asks and (same or not {folded(header) for _index, header, _samples in layout.asked} <= mapping.keys()):
        raise ColumnsUnknown(layout)
    problems = _say(layout, samples, mapping)
    if kind == PEOPLE and not layout.column("full_name"):
        raise UnusableFile(
            _(
                "No column holds the clients' names. The first row with text has to be the header, with a column "
                "“jmeno”, “Jméno klienta” or “full name”. Found: %(found)s."
            ),
            found=", ".join(header for header in sheet.header if header)[:300],
        )
    return layout, problems


def _refuse_other_lists(sheet: Sheet, keys: list[str]) -> None:
    """An export of what hangs on cases or clients says whose a row is by a reference, which is nobody's name."""
    whose_it_is = {folded(label) for model in (Case, Client) for label in _labels_of(model)}
    samples = _samples(sheet, [index for index, key in enumerate(keys) if key in whose_it_is])
    for index, texts in samples.items():
        if all(map(_REFERENCE.fullmatch, texts)):
            raise UnusableFile(
                _(
                    "These are not clients or cases, but rows of a list that is exported and not imported: its column "
                    "“%(header)s” says by references whose they are."
                ),
                header=sheet.header[index],
            )


def _refuse_split_names(layout: Layout, samples: dict[int, list[str]]) -> None:
    """Else clients would lose their surnames."""
    name, unknown = layout.column("full_name"), layout.unknown.values()
    of_first, of_last = (set(map(folded, names)) for names in (_FIRST_NAMES, _SURNAMES))
    first = next((header for header in ([name.header] if name else unknown) if folded(header) in of_first), None)
    last = next((index for index, header in layout.unknown.items() if folded(header) in of_last), None)
    if first is not None and last in samples:
        raise UnusableFile(
            _("Columns “%(first)s” and “%(last)s” hold one name in two pieces. Join them in one column “full name”."),
            first=first,
            last=layout.unknown[last],
        )


def _labels_of(model: type[models.Model]) -> Iterator[str]:
    """The record's name as a header, in each language and for machines."""
    yield model._meta.model_name
    for language in ("en", "cs"):
        with translation.override(language):
            yield str(model._meta.verbose_name)


def _told_apart(unknown: dict[int, str], keys: list[str]) -> dict[int, str]:
    """A number after a header that stood in the file before: what is said of a column, and remembered, goes by its header."""
    ignored = {"", *map(folded, _IGNORED)}
    taken, met, found = set(keys), set(), {}
    for index, header in unknown.items():
        key, found[index] = folded(header), header
        if key in met:
            numbered = (f"{header} ({number})" for number in itertools.count(2))
            found[index] = next(each for each in numbered if folded(each) not in taken)
            taken.add(folded(found[index]))
        elif key not in ignored:
            met.add(key)
    return found


def clashes(
    kind: str, headers: Iterable[str], said: Mapping[str, str], held: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Each header whose field another column has, behind the header of that one. `said` is by folded header."""
    allowed, taken, found = set(targets(kind)), dict(held), []
    for header in headers:
        target = said.get(folded(header))
        if target in allowed and taken.setdefault(target, header) != header:
            found.append((taken[target], header))
    return found


def _may_be_asked(unknown: dict[int, str], samples: dict[int, list[str]]) -> list[tuple[int, str, list[str]]]:
    """Index, header and some values of each column that has both."""
    ignored = {"", *map(folded, _IGNORED)}
    found = ((index, header, samples[index]) for index, header in unknown.items() if index in samples)
    return [each for each in found if folded(each[1]) not in ignored]


def _most_asked(columns: list[tuple[int, str, list[str]]], first: Container[str]) -> list[tuple[int, str, list[str]]]:
    """As many as a page has room for, in the file's order; those with the `first` headers in any case."""
    return sorted(sorted(columns, key=lambda each: each[1] not in first)[:MOST_ASKED])


def _samples(sheet: Sheet, indexes: Iterable[int]) -> dict[int, list[str]]:
    """Some values of each of these columns that has any. All rows are walked through once: a sheet may have a thousand
    headers and next to nothing below them."""
    found: dict[int, dict[str, None]] = {}
    looked_at, wanted, done = Counter(), list(indexes), set()
    for row in sheet.rows if wanted else ():
        cells = row.cells
        for index in wanted:
            cell = cells[index] if index < len(cells) else None
            if cell is None or cell == "" or not (text := parsers.shown(cell)):
                continue
            texts = found.setdefault(index, {})
            texts[text[:SAMPLE_LENGTH]] = None
            looked_at[index] += 1
            if len(texts) == SAMPLES or looked_at[index] == LOOKED_AT:
                done.add(index)
        if done:
            wanted = [index for index in wanted if index not in done]
            done.clear()
            if not wanted:
                break
    return {index: list(texts) for index, texts in found.items()}


def _say(layout: Layout, samples: dict[int, list[str]], mapping: Mapping[str, str]) -> list[RowProblem]:
    """Gives the unknown columns the meaning that somebody said, and warns of those without one. Of two for one field the
    first with values has it."""
    allowed, held = set(targets(layout.kind)), dict(layout.held)
    said = {index: mapping.get(folded(header)) if folded(header) else None for index, header in layout.unknown.items()}
    for index in sorted(said, key=lambda index: index not in samples):
        held.setdefault(said[index], layout.unknown[index])
    problems = []
    for index, header in list(layout.unknown.items()):
        target = said[index]
        if target in allowed and held[target] == header:
            owner, _point, name = target.partition(".")
            layout.columns.append(Column(index, header, owner, name))
            layout.said[header] = target
            del layout.unknown[index]
        elif target == "":
            layout.said[header] = ""
        elif target in allowed:
            reason = _("Column “%(first)s” holds the same, so this one was left out.") % {"first": held[target]}
            problems.append(RowProblem(1, header, "", reason, WARNING))
        elif folded(header) not in map(folded, _IGNORED):
            problems.append(_unknown(index, header, is_used=index in samples))
    return [problem for problem in problems if problem]


def _kind(keys: set[str]) -> tuple[str, Callable[[str], tuple[str, str | None]]]:
    """What a row is, and what a folded header means in it."""
    client, case = _labels(CLIENT), _labels(CASE)
    named = {name for key in keys if (name := client.get(key) or case.get(key)) in KEYS}
    if not named:
        return PEOPLE, lambda key: _people_labels().get(key, ("", None))
    first = CASE if any(case.get(key) == "client" for key in keys) else CLIENT
    combined = _combined_labels(first)
    other = (CASE, "reference") if first == CLIENT else (CLIENT, ROW_VERSION)
    if any(combined.get(key) == other for key in keys):
        return COMBINED, lambda key: combined.get(key, ("", None))
    of_client = sum(client.get(key) in CLIENT_FIELDS for key in keys)
    of_case = sum(case.get(key) in CASE_FIELDS for key in keys)
    if first == CASE or of_case > of_client:
        return CASES, _of_case
    return CLIENTS, lambda key: (CLIENT, client.get(key))


def _of_case(key: str) -> tuple[str, str | None]:
    name = _labels(CASE).get(key)
    if name is None and _labels(CLIENT).get(key) == "full_name":
        return CLIENT, "full_name"  # exports of cases show it beside the client's reference
    return CASE, name


def _unknown(index: int, header: str, *, is_used: bool) -> RowProblem | None:
    if header:
        return RowProblem(1, header, "", _("The column is not known and was left out."), WARNING)
    if is_used:
        reason = _("Column %(number)s has no header and was left out.") % {"number": index + 1}
        return RowProblem(1, "", "", reason, WARNING)
    return None
