"""Spreadsheets into clients and cases. Reading (bytes to rows), columns, values and plans come first and write nothing;
`write` does, in one transaction. The admin, the commands and the jobs call only what is named here.

    plan = imports.check(content, "clients.xlsx", user)    # every problem of every row; raises UnusableFile
    run = imports.write(plan, user)                        # the good rows, or none of them with all_or_nothing=True

The pages work with records instead (`runs`): `imports.begin(content, "clients.xlsx", user)` checks the file, or lets a job do
it, and stores what the preview shows; `imports.confirm(run, user)` checks the kept file once more and writes it. The plan
itself is never stored, so it is never stale.
"""

from crm.imports.checking import check
from crm.imports.plans import Outcome, Plan
from crm.imports.problems import RowProblem, UnusableFile
from crm.imports.reading import read
from crm.imports.runs import begin, confirm, kept
from crm.imports.writing import write

__all__ = ["Outcome", "Plan", "RowProblem", "UnusableFile", "begin", "check", "confirm", "kept", "read", "write"]
