"""One client of the older CRM's dump -> client, case and the 15 steps. Nothing of it is dropped: what no field takes is
a line of the client's note."""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from django.utils.translation import gettext as _

from crm import workflow
from crm.choices import CaseStatus, StepState
from crm.imports import parsers, values
from crm.imports.columns import CASE, CLIENT, OLDER_NAMES, Column
from crm.imports.problems import ERROR, WARNING, UnreadableValue
from crm.models import Case, CaseStep, Client, Step, User
from crm.models.steps import LENDER_SELECTION, UNDERWRITING
from crm.spreadsheet import escape_cell

STEP_CODES = (
    "co_financuje", "navrh_financovani", "vyber_banky", "schvalene_financovani", "priprava_zadosti",
    "kompletace_podkladu", "podani_zadosti", "odhad", "schvalovani", "priprava_uverove_dokumentace",
    "podpis_uverove_dokumentace", "priprava_cerpani", "cerpani", "zahajeni_splaceni", "podminky_pro_splaceni",
)  # fmt: skip
# From here on a column named as the step holds its note; the first four are fields of the case.
FIRST_WITH_NOTE = 5
# Step 15 had another name in one version; the first step of the 16-step version has none here.
RENAMED = {"podminky_pro_vycerpani": "podminky_pro_splaceni"}
NAME_LENGTH = 200
# Digits; whatever is longer is no number of a row or of a step.
LONGEST_NUMBER = 10
_NUMBERS = {name for name, ours in OLDER_NAMES.items() if ours.endswith(("_czk", "_percent"))}


@dataclass(slots=True)
class OlderItem:
    client: Client
    case: Case
    steps: list[CaseStep] = field(default_factory=list)


class OlderReader:
    """Two queries for the lookups and two more, whatever the number of clients. `tell` is a plan's."""

    def __init__(self, tell: Callable, accounts: dict[str, str], on):
        self.tell, self.accounts, self.on = tell, accounts, on
        self.lookups = values.Lookups()
        self.catalogue = {step.code: step for step in Step.objects.filter(code__in=STEP_CODES)}
        self.portal_users = {
            user.username: user for user in User.objects.filter(is_staff=False, portal_client__isnull=True)
        }

    def item(self, key: str, fields: dict) -> OlderItem | None:
        return _Row(self, key, fields).item()


class _Row:
    def __init__(self, reader: OlderReader, key: str, fields: dict):
        self.reader, self.key = reader, key
        self.left = {_renamed(name): value for name, value in fields.items()}
        self.client, self.case = Client(legacy_id=key), Case(legacy_id=key)
        self.kept: list[str] = []
        self.lender_text = ""

    def item(self) -> OlderItem | None:
        if not self.take_name():
            return None
        for name, ours in OLDER_NAMES.items():
            if ours != "full_name":
                self.take(self.case, Column(0, name, CASE, ours))
        self.take(self.client, Column(0, "email", CLIENT, "email"))
        self.take_portal_user()
        if self.case.opened_on is None:
            self.case.opened_on = self.reader.on
            self.warn("datum", None, _("No date: the case is opened today."))
        steps = self.take_steps()
        self.keep_the_rest(steps)
        self.case.client = self.client
        self.set_status(steps)
        return OlderItem(self.client, self.case, steps)

    def warn(self, column: str, value: object, reason: str, severity: str = WARNING) -> None:
        self.reader.tell(self.key, column, parsers.shown(value), str(reason), severity)

    def keep(self, column: str, value: object, reason: str) -> None:
        """Tells of a value that no field takes, and keeps it as a line of the client's note."""
        if parsers.is_token(value) or parsers.is_token(column):
            self.warn(column, value, reason)
            return
        self.warn(column, value, _("%(reason)s The client's note keeps it.") % {"reason": reason})
        self.kept.append(f"{column}: {storable(value)}")

    def take_name(self) -> bool:
        """`jmeno_index` was the older CRM's plain copy: it stands in where the name itself cannot be read."""
        written = {column: self.left.pop(column, None) for column in ("jmeno", "jmeno_index")}
        column, name, refusal = self.readable_name(written)
        if not name:
            self.warn("jmeno", written["jmeno"], refusal or _("The client's name is missing."), ERROR)
            return False
        self.client.full_name = name[:NAME_LENGTH]
        if name != self.client.full_name:
            self.keep(column, name, _("The name was cut to 200 characters."))
        if column == "jmeno_index":
            self.warn("jmeno", written["jmeno"], _("The name was taken from the column jmeno_index."))
        elif parsers.shown(written["jmeno_index"]).split() not in ([], name.split()):
            self.keep("jmeno_index", written["jmeno_index"], _("It differs from the name."))
        return True

    def readable_name(self, written: dict[str, object]) -> tuple[str, str, str]:
        """Column, name, and why an unreadable one is refused."""
        refusal = ""
        for column, value in written.items():
            try:
                if name := parsers.line(cell_of(value)):
                    return column, name, ""
            except UnreadableValue as error:
                refusal = str(error)
        return "", "", refusal

    def take(self, target: Client | Case, column: Column) -> None:
        value = self.left.pop(column.header, None)
        if not parsers.shown(value):
            return
        try:
            cell = _machine_number(value) if column.header in _NUMBERS else cell_of(value)
            taken = values.read(
                column, cell, self.reader.lookups, lambda reason: self.warn(column.header, value, reason)
            )
        except values.UnknownLender as unknown:
            self.lender_text = parsers.line(cell)
            self.warn(column.header, value, str(unknown))
        except UnreadableValue as error:
            self.keep(column.header, value, str(error))
        else:
            if taken is None or taken == 0:
                self.warn(column.header, value, _("0 means unknown and is left empty."))
            else:
                setattr(target, column.name, taken)

    def take_portal_user(self) -> None:
        account = self.left.pop("user", None)
        if account is None:
            return
        # Taken out, since a user is the login of one client only.
        self.client.portal_user = self.reader.portal_users.pop(self.reader.accounts.get(str(account)), None)
        if not self.client.portal_user:
            self.keep("user", account, _("The client's login is not here."))

    def take_steps(self) -> list[CaseStep]:
        steps = []
        for number, code in enumerate(STEP_CODES, start=1):
            names = [f"deadline_{code}", f"splneno_{code}", *([code] if number >= FIRST_WITH_NOTE else [])]
            if code not in self.reader.catalogue:
                continue  # the office removed this kind of step: keep_the_rest has its columns
            step = CaseStep(case=self.case, step=self.reader.catalogue[code])
            if not any(name in self.left for name in names):
                # The 14-step version has no fourth step at all.
                step.state = StepState.NOT_APPLICABLE
            step.deadline = self.day(names[0])
            step.completed_on = self.day(names[1])
            if step.completed_on:
                step.state = StepState.DONE
            step.note = self.note(names[2]) if names[2:] else ""
            steps.append(step)
        last_done = max((index for index, step in enumerate(steps) if step.completed_on), default=0)
        for step in steps[:last_done]:
            if step.state == StepState.PENDING:
                step.state = StepState.NOT_APPLICABLE
                self.warn(f"splneno_{step.step.code}", None, _("A later step is done, so this one is not applicable."))
        return steps

    def day(self, column: str):
        value = self.left.pop(column, None)
        try:
            return parsers.date(value)
        except UnreadableValue as error:
            self.keep(column, value, str(error))
            return None

    def note(self, column: str) -> str:
        value = self.left.pop(column, None)
        try:
            return parsers.text(cell_of(value))
        except UnreadableValue as error:
            self.keep(column, value, str(error))
            return ""

    def keep_the_rest(self, steps: list[CaseStep]) -> None:
        home = next((step for step in steps if step.step.code == LENDER_SELECTION), None)
        if home:
            home.note = self.lender_text
        elif self.lender_text:
            self.kept.append(f"{LENDER_SELECTION}: {self.lender_text}")
        for column, value in self.left.items():
            if parsers.shown(value):
                self.keep(column, value, _("The column has no field here."))
        self.client.note = "\n".join(self.kept)

    def set_status(self, steps: list[CaseStep]) -> None:
        """Declined, else completed, else approved, else open; the workflow itself finds the completed ones."""
        underwriting = next((step for step in steps if step.step.code == UNDERWRITING), None)
        self.case.decided_on = underwriting.completed_on if underwriting else None
        if self.case.rejection_reason:
            self.case.status = CaseStatus.DECLINED
        elif self.case.decided_on:
            self.case.status = CaseStatus.APPROVED
        workflow.settle(self.case, steps)


def _renamed(column: str) -> str:
    for older, ours in RENAMED.items():
        if column in (older, f"deadline_{older}", f"splneno_{older}"):
            return column.replace(older, ours)
    return column


def _machine_number(value: object) -> object:
    """A dump writes 1.234 for one and a bit, never for a thousand."""
    try:
        number = Decimal(value) if isinstance(value, str) else None
    except InvalidOperation:
        return value
    return float(number) if number is not None and number.is_finite() else value


def cell_of(value: object) -> object:
    """A dump's text was never escaped, so what looks like our export's quote is the text's own."""
    return escape_cell(value) if isinstance(value, str) else value


def storable(value: object) -> str:
    """Text that every column can hold: without NUL and halves of characters, all else as it is."""
    return parsers.shown(value).replace("\0", " ")


def row_number(key: str) -> int:
    """A client's id as the row of a problem; 0 where it is none."""
    return int(key) if key.isdecimal() and len(key) < LONGEST_NUMBER else 0
