"""Spreadsheets into clients and cases. Reading (bytes to rows), columns, values and plans come first and write nothing;
`write` does, in one transaction. The admin, the commands and the jobs call only what is named here.

    plan = imports.check(content, "clients.xlsx", user)    # every problem of every row; raises UnusableFile
    run = imports.write(plan, user)                        # the good rows, or none of them with all_or_nothing=True

The pages work with records instead (`runs`): `imports.begin(content, "clients.xlsx", user)` checks the file, or lets a job do
it, and stores what the preview shows; `imports.confirm(run, user)` checks the kept file once more and writes it. The plan
itself is never stored, so it is never stale.
"""

import importlib

_HOMES = {
    "check": "checking", "read": "reading", "begin": "runs", "confirm": "runs", "kept": "runs", "write": "writing",
    "Outcome": "plans", "Plan": "plans", "RowProblem": "problems", "UnusableFile": "problems",
}  # fmt: skip


def __getattr__(name: str):
    """Loaded when asked for: the process that reads a file (`apart`) has neither models nor keys."""
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"crm.imports.{_HOMES[name]}"), name)
