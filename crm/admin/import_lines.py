"""How an import's pages tell a row: what becomes of it, its changes, problems and conflicts. Stored values, and what may be
one by now, are masked for who may not read them."""

import json
from dataclasses import replace

from django.utils.text import capfirst
from django.utils.translation import gettext

from crm.audit.changes import may_read
from crm.imports import preview
from crm.imports.decisions import CASE_ONLY, SKIP
from crm.imports.plans import Outcome
from crm.imports.problems import CONFLICT, RowProblem
from crm.models import Case, Client, ImportRun

HIDDEN = "•••"
_BADGES = {Outcome.CREATE: "ok", Outcome.UPDATE: "soon", Outcome.SKIP: "muted", Outcome.ERROR: "overdue"}


class Line:
    """One row of the file, as its reader may see it: what somebody may not read is not told here either."""

    def __init__(self, line: dict, header: list[str], user):
        outcome = Outcome(line["outcome"])
        readable = {model._meta.model_name: may_read(user, model) for model in (Client, Case)}
        self.number, self.outcome, self.badge = line["row"], outcome.label, _BADGES[outcome]
        self.who = line["who"] if readable["client"] or not line.get("is_stored") else HIDDEN
        self.changes = [_change(*each, readable) for each in line["changes"]]
        self.says = line.get("says", [])
        problems = [preview.problem_of(line, each) for each in line["problems"]]
        self.problems = [each for each in problems if each.kind != CONFLICT]  # those are shown with a choice
        self.conflicts = [_conflict(line, each, readable) for each in line.get("conflicts", ())]
        # What may become of one that is probably about somebody known, or about a case that he has already.
        self.is_about_case = line.get("is_about_case", False)
        label = _case_choice_label if self.is_about_case else _choice_label
        self.choices = [
            {"value": value, "label": label(value), "is_chosen": value == line["choice"]}
            for value in ("", *line["choices"])
        ] if "choices" in line else []  # fmt: skip
        # The bad cells of a refused row, to be put right here.
        self.cells = [
            {"name": cell_name(line, index), "header": header[int(index)], "value": value}
            for index, value in line.get("bad", {}).items()
        ]


def _choice_label(choice: str) -> str:
    if choice == SKIP:
        return gettext("Leave the row out")
    if choice.startswith(CASE_ONLY):
        return gettext("Only give the case to %(client)s") % {"client": choice.removeprefix(CASE_ONLY)}
    return gettext("It is %(client)s: update this client") % {"client": choice} if choice else gettext("Somebody new")


def _case_choice_label(choice: str) -> str:
    return gettext("Leave the case out") if choice == SKIP else gettext("One more case")


def _change(name: str, before: str, now: str, readable: dict[str, bool]) -> dict:
    before, now = _masked(name, readable, before, now)
    return {"name": name, "label": _label(name), "before": before, "now": now}


def _conflict(line: dict, stored: dict, readable: dict[str, bool]) -> dict:
    was, now = _masked(stored["name"], readable, stored["was"], stored["now"])
    name = conflict_name(line, stored)
    return {**stored, "name": name, "label": _label(stored["name"]), "was": was, "now": now}


def cell_name(line: dict, column: str) -> str:
    return f"cell-{line['row']}-{column}"


def choice_name(line: dict) -> str:
    return f"row-{line['row']}"


def conflict_name(line: dict, stored: dict) -> str:
    return f"conflict-{line['row']}-{stored['index']}"


def _masked(name: str, readable: dict[str, bool], *said: str) -> list[str]:
    return [each if readable[name.partition(".")[0]] or not each else HIDDEN for each in said]


def _label(name: str) -> str:
    owner, field = name.split(".")
    model = Client if owner == "client" else Case
    return capfirst(model._meta.get_field(field).verbose_name)


def problems_of(run: ImportRun, user) -> list[RowProblem]:
    """What stood in somebody else's cells may be stored by now: it is shown to whoever may read clients and cases."""
    found = [RowProblem(**problem) for problem in json.loads(run.problems or "[]")]
    if run.user_id == user.pk or all(may_read(user, model) for model in (Client, Case)):
        return found
    return [replace(problem, value=problem.value and HIDDEN) for problem in found]
