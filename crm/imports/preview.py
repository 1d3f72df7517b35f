"""What a check found, as the pages show it: a line for each row of the file. Stored with the run, so that a page of fifty
rows costs what fifty rows cost; a line is plain JSON in the language of whoever brought the file."""

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter

from django.db import models
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from crm import search
from crm.audit.changes import readable
from crm.choices import ImportPart
from crm.imports import parsers, pieces
from crm.imports.conflicts import Conflict
from crm.imports.decisions import SKIP, choices
from crm.imports.duplicates import is_about_a_case
from crm.imports.older_crm import OlderPlan
from crm.imports.plans import Item, Outcome, Plan, Table, csv_file, padded, problem_table, with_reasons
from crm.imports.problems import DUPLICATE, RowProblem, unlisted
from crm.imports.reading import Row, Rows
from crm.imports.shelf import plain_cell, typed_cell
from crm.models import Case, Client, ImportRun

BLOCK = 100
_LETTERS = {Outcome.CREATE: "c", Outcome.UPDATE: "u", Outcome.SKIP: "s", Outcome.ERROR: "e"}
# Of a row that creates something and changes what is stored as well.
_BOTH = "b"
DUPLICATES, CONFLICTS, NOTED = "duplicate", "conflict", "noted"
# The kind of the older CRM's dump, whose rows are its clients.
DUMP = "dump"
# Of a record's own name in a dump, and of what a dump has to say as a whole.
LONGEST_KEY, MOST_NOTICES = 60, 200
FILTERS = {
    "": _("All rows"),
    Outcome.CREATE.value: _("New"),
    Outcome.UPDATE.value: _("Changed"),
    Outcome.SKIP.value: _("Unchanged"),
    DUPLICATES: _("Probable duplicates"),
    CONFLICTS: _("Conflicts"),
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
    conflicts: list[int] = field(default_factory=list)
    # How the file was read, in words.
    source: str = ""

    def positions(self, chosen: str) -> list[int]:
        if chosen == DUPLICATES:
            return self.duplicates
        if chosen == CONFLICTS:
            return self.conflicts
        if chosen == NOTED:
            return self.noted
        if chosen in Outcome.values:
            letters = _letters_of(chosen)
            return [at for at, each in enumerate(self.letters) if each in letters]
        return list(range(len(self.letters)))

    def count(self, chosen: str) -> int:
        if chosen in Outcome.values:
            return sum(map(self.letters.count, _letters_of(chosen)))
        return len(self.positions(chosen))


def _letters_of(chosen: str) -> str:
    letter = _LETTERS[Outcome(chosen)]
    return letter + _BOTH if chosen in (Outcome.CREATE, Outcome.UPDATE) else letter


def store(run: ImportRun, plan: Plan | OlderPlan, *, only: Outcome | None = None) -> Index:
    """All rows, or those of one outcome, without the conflicts: they quote what is stored. In the caller's transaction."""
    index, lines = (_of_dump if isinstance(plan, OlderPlan) else _of_sheet)(run, plan, only)
    pieces.store_json(run, ImportPart.ROWS, itertools.batched(lines, BLOCK))
    pieces.store_json(run, ImportPart.INDEX, [[getattr(index, name) for name in Index.__slots__]])
    return index


def _of_sheet(run: ImportRun, plan: Plan, only: Outcome | None) -> tuple[Index, Iterator[dict]]:
    problems = _by_row(plan.problems)
    conflicts = _by_row(plan.conflicts if only is None else [])
    rows = plan.sheet.rows if only is None else plan.sheet.rows.where(lambda row: plan.outcomes[row.number] == only)
    noted = {number: at for number in problems if (at := rows.position(number)) is not None}
    refused = [at for at, number in enumerate(rows.numbers) if plan.outcomes[number] == Outcome.ERROR]
    both = plan.changed_too()
    index = Index(
        plan.layout.kind,
        plan.sheet.header,
        plan.sheet.notices,
        [_problem(each) for each in plan.problems if each.row not in noted],
        "".join(_BOTH if number in both else _LETTERS[plan.outcomes[number]] for number in rows.numbers),
        [at for row, at in noted.items() if any(each.kind == DUPLICATE for each in problems[row])],
        sorted({*noted.values(), *refused}),
        plan.layout.said,
        [rows.position(row) for row in conflicts],
        plan.sheet.source,
    )
    return index, _lines(plan, rows, problems, conflicts, run.decisions)


def _of_dump(run: ImportRun, plan: OlderPlan, only: Outcome | None) -> tuple[Index, Iterator[dict]]:
    problems = defaultdict(list)
    for problem in plan.problems:
        problems[problem.record].append(problem)
    keys = [key for key, outcome in plan.outcomes.items() if only is None or outcome == only]
    notices = plan.notices[:MOST_NOTICES]
    if left := len(plan.notices) - len(notices):
        notices.append(gettext("… and %(count)s more.") % {"count": left})
    letters = "".join(_LETTERS[plan.outcomes[key]] for key in keys)
    noted = [at for at, key in enumerate(keys) if key in problems]
    return Index(DUMP, [], notices, [], letters, noted=noted), _older_lines(plan, keys, problems)


def _older_lines(plan: OlderPlan, keys: list[str], problems: dict[str, list[RowProblem]]) -> Iterator[dict]:
    names = {item.client.legacy_id: item.client.full_name for item in plan.items}
    notes = Counter(note.case.legacy_id for note in plan.notes)
    for key in keys:
        says = [gettext("A client with a case and its steps")] if key in names else []
        if count := notes[key]:
            says.append(ngettext("%(count)s new note", "%(count)s new notes", count) % {"count": count})
        yield {
            "row": key[:LONGEST_KEY],
            "outcome": plan.outcomes[key].value,
            "who": names.get(key) or plan.known.get(key, ""),
            "changes": [],
            "says": says,
            "problems": [_problem(each) for each in problems.get(key, ())],
            "bad": {},
        }


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
    return csv_file(*refused(run))


def refused(run: ImportRun) -> Table:
    """The refused rows as they came, with what is wrong in a last column; of a dump, which has none, every problem."""
    blocks = pieces.load_json(run, ImportPart.ROWS)
    index = index_of(run)
    if index.kind == DUMP:
        return problem_table(problem_of(line, each) for block in blocks for line in block for each in line["problems"])
    bad = (line for block in blocks for line in block if line["outcome"] == Outcome.ERROR)
    return with_reasons(index.header, ((list(map(_typed, line["cells"])), _errors(line)) for line in bad))


def _typed(cell: object) -> object:
    return typed_cell(cell) if isinstance(cell, dict) else cell


def _errors(line: dict) -> list[RowProblem]:
    return [problem for each in line["problems"] if (problem := problem_of(line, each)).is_error]


def fingerprint(plan: Plan | OlderPlan) -> str:
    """Of what the plan would write and whom it proposes as somebody known, keyed: two plans of one file differ where the
    office changed what matters to it meanwhile, and in nothing that hangs on a language."""
    digest = hashlib.sha256()
    outcomes = plan.outcomes.items()
    for row, outcome in sorted(outcomes) if isinstance(plan, OlderPlan) else outcomes:
        digest.update(f"{row}{_LETTERS[outcome]}".encode())
    for mark in _marks(plan):
        digest.update(mark.encode())
    return search.digest("import", digest.hexdigest()).hex()


def _marks(plan: Plan | OlderPlan) -> Iterator[str]:
    """What the outcomes do not say."""
    if isinstance(plan, OlderPlan):
        yield from (note.legacy_id for note in plan.notes)
        return
    yield repr([(column.index, column.owner, column.name) for column in plan.layout.columns])
    for item in plan.items:
        yield repr((item.row, item.lender_text, *(_made(item) if item.is_new else _changed(item))))
    yield from (repr((each.row, each.code)) for each in plan.problems if each.kind == DUPLICATE)


def _made(item: Item) -> Iterator[tuple]:
    yield item.client.pk, sorted(item.client.given.items())
    if item.case is not None:
        yield None, sorted(item.case.given.items())


def _changed(item: Item) -> Iterator[tuple]:
    record = _record(item)
    for name in item.changed:
        yield record.pk, name, str(item.before[name]), getattr(record, record._meta.get_field(name).attname)


def problem_of(line: dict, stored: list) -> RowProblem:
    return RowProblem(line["row"], *stored)


def _problem(problem: RowProblem) -> list:
    return [problem.column, problem.value, str(problem.reason), problem.severity, problem.kind, problem.about]


def _by_row(some: Iterable) -> dict[int, list]:
    found = defaultdict(list)
    for each in sorted(some, key=lambda each: each.row):
        found[each.row].append(each)
    return found


def _lines(
    plan: Plan,
    rows: Rows,
    problems: dict[int, list[RowProblem]],
    conflicts: dict[int, list[Conflict]],
    decisions: dict[int, str],
) -> Iterator[dict]:
    column = plan.layout.column("full_name") or plan.layout.column("reference")
    at_header = {each.header: each.index for each in plan.layout.columns}
    width = len(plan.sheet.header)
    for row, own in _with_items(rows, plan.items):
        outcome, told = plan.outcomes[row.number], problems.get(row.number, [])
        if outcome == Outcome.ERROR and not any(each.is_error for each in told):
            told = [*told, unlisted(row.number)]
        line = {
            "row": row.number,
            "outcome": outcome.value,
            "who": _who(own) or (parsers.shown(row.cell(column.index)) if column else ""),
            "is_stored": any(not item.is_new or item.client.pk for item in own),
            "changes": [change for item in own for change in _changes(item)],
            "problems": [_problem(each) for each in told],
        }
        if row.number in conflicts:
            line["conflicts"] = [_conflict(each) for each in conflicts[row.number]]
        if any(each.kind == DUPLICATE for each in told):
            about = next((each.about for each in told if each.about), "")
            line["choices"] = [SKIP, *(choices(plan, row, about) if about else ())]
            line["choice"] = decisions.get(row.number, "")
            line["is_about_case"] = not about and any(map(is_about_a_case, told))
            if any(item.is_new and item.client.pk for item in own):
                line["says"] = [gettext("A new case of a client who is known")]
        if outcome == Outcome.ERROR:
            line["bad"] = {
                at_header[each.column]: each.value for each in told if each.is_error and each.column in at_header
            }
            line["cells"] = [plain_cell(cell) for cell in padded(row, width)]
        yield line


def _with_items(rows: Rows, items: list[Item]) -> Iterator[tuple[Row, list[Item]]]:
    left = iter(sorted(items, key=attrgetter("row")))
    item = next(left, None)
    for row in rows:
        own = []
        while item is not None and item.row <= row.number:
            if item.row == row.number:
                own.append(item)
            item = next(left, None)
        yield row, own


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


def _conflict(conflict: Conflict) -> dict:
    column = conflict.column
    was, now, value = (_shown(column.field, each) for each in (conflict.was, conflict.now, conflict.value))
    return {
        "name": f"{column.owner}.{column.name}", "index": column.index, "was": was, "now": now, "file": value,
        "is_known": conflict.is_known, "is_taken": conflict.is_taken, "mark": conflict.mark, "refusal": conflict.refusal,
    }  # fmt: skip


def _shown(model_field: models.Field, value: object) -> str:
    if model_field.is_relation:
        return str(value or "")
    return readable(value, model_field)
