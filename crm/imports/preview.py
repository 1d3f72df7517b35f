"""What a check found, as the pages show it: a line for each row of the file. Stored with the run, so that a page of fifty
rows costs what fifty rows cost; a line is plain JSON in the language of whoever brought the file."""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from django.db import models
from django.utils.translation import gettext_lazy as _

from crm import search
from crm.audit.changes import readable
from crm.choices import ImportPart
from crm.imports import parsers, pieces
from crm.imports.columns import COMBINED, PEOPLE
from crm.imports.decisions import SKIP
from crm.imports.plans import Item, Outcome, Plan, errors_csv, padded
from crm.imports.problems import DUPLICATE, RowProblem
from crm.imports.reading import Row
from crm.models import Case, Client, ImportRun

BLOCK = 100
# Kinds of rows that make a client with his case; the case may be somebody else's who is known.
WITH_CASES = (PEOPLE, COMBINED)
_LETTERS = {Outcome.CREATE: "c", Outcome.UPDATE: "u", Outcome.SKIP: "s", Outcome.ERROR: "e"}
DUPLICATES, NOTED = "duplicate", "noted"
FILTERS = {
    "": _("All rows"),
    Outcome.CREATE.value: _("New"),
    Outcome.UPDATE.value: _("Changed"),
    Outcome.SKIP.value: _("Unchanged"),
    DUPLICATES: _("Probable duplicates"),
    Outcome.ERROR.value: _("Refused"),
    NOTED: _("With a problem"),
}


@dataclass(slots=True)
class Index:
    """Which rows a filter finds, without reading them."""

    kind: str
    header: list[str]
    notices: list[str]
    # Problems of the file as a whole and of its header.
    of_file: list[list]
    letters: str
    duplicates: list[int] = field(default_factory=list)
    noted: list[int] = field(default_factory=list)
    # What a person said of columns, by header.
    said: dict[str, str] = field(default_factory=dict)

    def positions(self, chosen: str) -> list[int]:
        if chosen == DUPLICATES:
            return self.duplicates
        if chosen == NOTED:
            return self.noted
        if chosen in Outcome.values:
            letter = _LETTERS[Outcome(chosen)]
            return [at for at, each in enumerate(self.letters) if each == letter]
        return list(range(len(self.letters)))

    def count(self, chosen: str) -> int:
        if chosen in Outcome.values:
            return self.letters.count(_LETTERS[Outcome(chosen)])
        return len(self.positions(chosen))


def store(run: ImportRun, plan: Plan, *, only: Outcome | None = None) -> Index:
    """All rows, or those of one outcome. In the caller's transaction."""
    problems = _by_row(plan)
    rows = [row for row in plan.sheet.rows if only is None or plan.outcomes[row.number] == only]
    numbers = [row.number for row in rows]
    positions = {number: at for at, number in enumerate(numbers)}
    index = Index(
        plan.layout.kind,
        plan.sheet.header,
        plan.sheet.notices,
        [_problem(each) for each in plan.problems if each.row not in positions],
        "".join(_LETTERS[plan.outcomes[number]] for number in numbers),
        [positions[row] for row in problems if row in positions and any(p.kind == DUPLICATE for p in problems[row])],
        [positions[row] for row in problems if row in positions],
        plan.layout.said,
    )
    pieces.store_json(run, ImportPart.ROWS, itertools.batched(_lines(plan, rows, problems, run.decisions), BLOCK))
    pieces.store_json(run, ImportPart.INDEX, [[getattr(index, name) for name in Index.__slots__]])
    return index


def index_of(run: ImportRun) -> Index | None:
    found = next(pieces.load_json(run, ImportPart.INDEX), None)
    return Index(*found) if found else None


def lines_at(run: ImportRun, positions: list[int]) -> list[dict]:
    """One query, and a hundred rows unpacked for each block that the positions touch."""
    wanted = set(positions)
    numbers = sorted({position // BLOCK for position in wanted})
    blocks = zip(numbers, pieces.load_json(run, ImportPart.ROWS, numbers), strict=True)
    return [line for number, block in blocks for at, line in enumerate(block, start=number * BLOCK) if at in wanted]


def errors_file(run: ImportRun) -> bytes:
    """The refused rows as they came, with what is wrong in a last column."""
    blocks = pieces.load_json(run, ImportPart.ROWS)
    refused = (line for block in blocks for line in block if line["outcome"] == Outcome.ERROR)
    return errors_csv(index_of(run).header, ((line["cells"], _errors(line)) for line in refused))


def _errors(line: dict) -> list[RowProblem]:
    return [problem for each in line["problems"] if (problem := problem_of(line, each)).is_error]


def fingerprint(plan: Plan) -> str:
    """Of what the plan would do, keyed: two plans of one file differ where the office changed what matters to it meanwhile."""
    digest = hashlib.sha256()
    for row, outcome in sorted(plan.outcomes.items()):
        digest.update(f"{row}{_LETTERS[outcome]}".encode())
    for item in plan.items:
        if not item.is_new:
            record = _record(item)
            digest.update(repr((item.row, record.pk, [(n, str(item.before[n])) for n in item.changed])).encode())
    return search.digest("import", digest.hexdigest()).hex()


def problem_of(line: dict, stored: list) -> RowProblem:
    return RowProblem(line["row"], *stored)


def _problem(problem: RowProblem) -> list:
    return [problem.column, problem.value, str(problem.reason), problem.severity, problem.kind, problem.about]


def _by_row(plan: Plan) -> dict[int, list[RowProblem]]:
    found = defaultdict(list)
    for problem in plan.problems:
        found[problem.row].append(problem)
    return found


def _lines(
    plan: Plan, rows: list[Row], problems: dict[int, list[RowProblem]], decisions: dict[int, str]
) -> Iterator[dict]:
    items = defaultdict(list)
    for at, item in enumerate(plan.items):
        items[item.row].append(at)
    column = plan.layout.column("full_name") or plan.layout.column("reference")
    at_header = {each.header: each.index for each in plan.layout.columns}
    width = len(plan.sheet.header)
    for row in rows:
        outcome = plan.outcomes[row.number]
        own = [plan.items[at] for at in items.get(row.number, ())]
        line = {
            "row": row.number,
            "outcome": outcome.value,
            "who": _who(own) or (parsers.shown(row.cell(column.index)) if column else ""),
            "changes": [change for item in own for change in _changes(item)],
            "problems": [_problem(each) for each in problems.get(row.number, ())],
        }
        if any(each.kind == DUPLICATE for each in problems.get(row.number, ())):
            about = [each.about for each in problems[row.number] if each.about and plan.layout.kind in WITH_CASES]
            line["choices"], line["choice"] = [SKIP, *about], decisions.get(row.number, "")
        if outcome == Outcome.ERROR:
            line["bad"] = {
                at_header[each.column]: each.value
                for each in problems.get(row.number, ())
                if each.is_error and each.column in at_header
            }
            line["cells"] = padded(row, width)
        yield line


def _record(item: Item) -> Client | Case:
    return item.client if item.case is None else item.case


def _who(items: list[Item]) -> str:
    if not items:
        return ""
    item = items[0]
    if item.is_new:
        return str(item.client.full_name)
    record = _record(item)
    return record.display_name if isinstance(record, Client) else record.reference


def _changes(item: Item) -> Iterator[list[str]]:
    """Field, what it says, what it would say."""
    if item.is_new:
        return
    record = _record(item)
    for name in item.changed:
        model_field = record._meta.get_field(name)
        before, now = (_shown(model_field, each) for each in (item.before.get(name), getattr(record, name)))
        yield [f"{record._meta.model_name}.{name}", before, now]


def _shown(model_field: models.Field, value: object) -> str:
    if model_field.is_relation:
        return str(value or "")
    return readable(value, model_field)
