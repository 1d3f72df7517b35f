"""The older CRM's notes, changes and step log -> notes in the timeline of the case, with their day and author."""

import datetime

from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from crm.choices import NoteKind
from crm.exceptions import CiphertextRefused, ClientRestricted
from crm.imports import parsers
from crm.imports.older_clients import LONGEST_NUMBER, STEP_CODES, cell_of, storable
from crm.imports.plans import Outcome
from crm.imports.problems import ERROR, WARNING, UnreadableValue
from crm.imports.writing import batches
from crm.models import Case, Note, Step, User
from crm.models.steps import APPROVAL_IN_PRINCIPLE

AUTHOR_LENGTH = 200
LEGACY_ID_LENGTH = Note._meta.get_field("legacy_id").max_length
# Model -> kind of note, column of the text, column of the moment.
SOURCES = {
    "poznamka": (NoteKind.NOTE, "text", "created"),
    "zmena": (NoteKind.CHANGE, "popis", "created"),
    "hypotekaworkflow": (NoteKind.STEP_LOG, "poznamka", "datum"),
}
# The 16-step version began with this one, so that its other numbers are one too high.
FIRST_OF_SIXTEEN = "Jméno klienta"
_TAKEN = {"klient", "author", "autor", "user", "krok", "text", "popis", "poznamka", "created", "datum"}


def plan_notes(
    plan, records: dict[str, list[dict]], clients: dict, cases: dict[str, Case], accounts: dict, restricted: set[str]
) -> None:
    """Takes its models out of `records`. Notes that are here already, by the older CRM's id, are left out, so a later
    dump brings the new ones only. Of clients who are `restricted` none is brought."""
    found = [(name, record) for name in SOURCES for record in records.pop(name, [])]
    known = set()
    for batch in batches([_legacy_id(name, record) for name, record in found]):
        known.update(Note.objects.filter(legacy_id__in=batch).values_list("legacy_id", flat=True))
    planner = _Planner(
        plan, clients, accounts, [record["fields"] for name, record in found if "krok" in record["fields"]]
    )
    for name, record in found:
        key = storable(record["fields"].get("klient"))
        legacy_id = _legacy_id(name, record)
        if legacy_id in known:
            continue
        if reason := planner.refusal(legacy_id):
            refused = f"{legacy_id} #{len(plan.outcomes)}"
            plan.outcomes[refused] = Outcome.ERROR
            planner.tell(key, name, record, reason, ERROR, refused)
        elif key in restricted:
            planner.tell(key, name, record, str(ClientRestricted()), WARNING)
        elif key in cases:
            plan.notes.append(planner.note(name, record, key, cases[key]))
            if plan.outcomes.get(key) == Outcome.SKIP:
                plan.outcomes[key] = Outcome.UPDATE
        elif plan.outcomes.get(key) == Outcome.SKIP:
            planner.tell(key, name, record, _("Its case is not here, so it was left out."), WARNING)
        elif key in clients:
            planner.tell(key, name, record, _("It waits until its client can be imported."), WARNING)
        else:
            plan.outcomes[legacy_id] = Outcome.ERROR
            planner.tell(key, name, record, _("Its client is not in the dump."), ERROR, legacy_id)
    for author in sorted(planner.strangers):
        plan.notices.append(_("Author %(name)s has no user here; the name is kept as text.") % {"name": author})


def _legacy_id(name: str, record: dict) -> str:
    return f"{name}-{record['pk']}"


class _Planner:
    def __init__(self, plan, clients: dict, accounts: dict, log: list[dict]):
        self.plan, self.clients, self.accounts = plan, clients, accounts
        self.users = {user.username: user for user in User.objects.only("username", "first_name", "last_name")}
        self.sixteen = {storable(each.get("klient")) for each in log if str(each.get("krok")) == "16"}
        self.step_names = dict(Step.objects.filter(code__in=STEP_CODES).values_list("code", "name_cs"))
        self.strangers: set[str] = set()
        self.taken: set[str] = set()

    def tell(self, key: str, name: str, record: dict, reason: str, severity: str = WARNING, refused: str = "") -> None:
        self.plan.tell(key, name, record["pk"], reason, severity, record=refused)

    def refusal(self, legacy_id: str) -> str:
        """Why no note can have this id; empty if one can, which then is taken."""
        if len(legacy_id) > LEGACY_ID_LENGTH:
            return _("The id is too long.")
        if legacy_id in self.taken:
            return _("Another record of the dump has the same id.")
        self.taken.add(legacy_id)
        return ""

    def note(self, name: str, record: dict, key: str, case: Case) -> Note:
        kind, text_column, day_column = SOURCES[name]
        fields = record["fields"]
        note = Note(case=case, kind=kind, legacy_id=_legacy_id(name, record))
        try:
            parts = [parsers.text(cell_of(fields.get(text_column)))]
        except UnreadableValue as error:
            # A token says nothing; any other text is kept but for what no column holds.
            is_token = parsers.is_token(fields.get(text_column))
            parts = [] if is_token else [storable(fields.get(text_column))]
            reason = str(error) if is_token else _("The text has control characters; it is kept without the worst.")
            self.tell(key, name, record, reason)
        if kind == NoteKind.STEP_LOG:
            parts = [": ".join(filter(None, [self.step(key, fields), *parts]))]
        moment = _moment(fields.get(day_column))
        if moment:
            note.created_at = moment
        else:
            self.tell(key, name, record, _("Its day cannot be read; it has the day of the import."))
        others = {column: value for column, value in fields.items() if column not in _TAKEN and parsers.shown(value)}
        if not moment and parsers.shown(fields.get(day_column)):
            others[day_column] = fields[day_column]
        note.text = "\n".join([*parts, *(f"{column}: {storable(value)}" for column, value in others.items())])
        if parsers.is_token(note.text):
            self.tell(key, name, record, str(CiphertextRefused.message))
            note.text = ""
        self.sign(note, next((fields[column] for column in ("author", "autor", "user") if fields.get(column)), ""))
        return note

    def sign(self, note: Note, author: object) -> None:
        written = storable(author)
        written = self.accounts.get(written, written)
        note.author = self.users.get(written)
        note.author_name = (note.author.get_display_name() if note.author else written)[:AUTHOR_LENGTH]
        if written and not note.author:
            self.strangers.add(written)

    def step(self, key: str, fields: dict) -> str:
        """Number and name of the step as they are here, from whichever numbering the client's log has."""
        written = storable(fields.get("krok"))
        if not written.isdecimal() or len(written) > LONGEST_NUMBER:
            return written
        number = int(written)
        client = self.clients.get(key, {})
        if key in self.sixteen:
            number -= 1
        elif number >= STEP_CODES.index(APPROVAL_IN_PRINCIPLE) + 1 and not _has_fourth_step(client):
            number += 1
        if number == 0:
            return FIRST_OF_SIXTEEN
        if number > len(STEP_CODES):
            return written
        return f"{number}. {self.step_names.get(STEP_CODES[number - 1], STEP_CODES[number - 1])}"


def _has_fourth_step(client: dict) -> bool:
    return any(f"{part}_{APPROVAL_IN_PRINCIPLE}" in client for part in ("deadline", "splneno"))


def _moment(value: object) -> datetime.datetime | None:
    """A moment without an offset is local time, a day alone its midnight."""
    if not isinstance(value, str):
        return None
    try:
        found = parse_datetime(value.strip())
        if found is None:
            found = datetime.datetime.combine(parsers.date(value), datetime.time())
        parsers.in_range(found.date())
    except (ValueError, TypeError, UnreadableValue):
        return None
    return timezone.make_aware(found) if timezone.is_naive(found) else found
