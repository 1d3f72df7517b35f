"""What an import has to say about a file, a row or a cell. Values of cells are shown to the person who brought the file;
they stay out of the exceptions' text, which may reach a log."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from crm.exceptions import CrmError


class UnusableFile(CrmError):
    """No row can be taken. The text says why and what to do."""

    message = _("This file cannot be read.")


@contextlib.contextmanager
def refused_with(said: str) -> Iterator[None]:
    """A refusal says this too; nothing where it is empty."""
    try:
        yield
    except UnusableFile as error:
        if not said:
            raise
        raise UnusableFile(f"{error} {said}") from error


class UnreadableValue(CrmError):
    """One cell says nothing that its column could hold."""

    message = _("This value cannot be read.")


class NegativeAmount(UnreadableValue):
    message = _("An amount cannot be negative.")


ERROR = "error"
WARNING = "warning"
# The kind of a warning that the row is probably about somebody known.
DUPLICATE = "duplicate"
# That the office wrote a cell too since the file was made.
CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class RowProblem:
    """`row` is the spreadsheet's own number (the header is row 1; 0 stands for the file), `column` its own header."""

    row: int
    column: str
    value: str
    reason: str
    severity: str = ERROR
    kind: str = ""
    # The reference of the record that is proposed.
    about: str = ""
    # What was found, whatever language the reason is in.
    code: str = ""
    # Of a dump, which has no rows: the record by its own name.
    record: str = ""

    @property
    def is_error(self) -> bool:
        return self.severity == ERROR

    def __str__(self) -> str:
        """One line, as the commands print it and the errors file has it."""
        where = gettext("row %(row)s") % {"row": self.row} + (f", {self.column}" if self.column else "")
        shown = " " + gettext("“%(value)s”") % {"value": " ".join(self.value.split())} if self.value else ""
        return f"{where}{shown}: {self.reason}"


def unlisted(row: int) -> RowProblem:
    """Why a row was refused whose problems come after the most that are listed."""
    return RowProblem(row, "", "", gettext("Its problems are not listed: the rows above have too many already."))
