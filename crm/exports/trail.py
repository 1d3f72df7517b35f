"""The audit trail as a file: its entries with what they were about, as its list shows them."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from crm.audit.trail import counts_of, summary
from crm.exports.tables import Table, text_cell, text_or

ENTRIES = 500


@dataclass(frozen=True)
class TrailTable(Table):
    """Two queries to every 500 entries: them, and the counts that they did not keep."""

    user: object = None

    def chunks(self) -> Iterator[list[Sequence]]:
        for number, entries in enumerate(itertools.batched(self.rows.iterator(chunk_size=ENTRIES), ENTRIES)):
            self.progress(number * ENTRIES)
            counts = counts_of(entries, self.user)
            yield [[self._cell(column, entry, counts[entry.pk]) for entry in entries] for column in self.columns]

    def _cell(self, column, entry, counts):
        if column.name == "detail":
            return text_cell(summary(entry, counts))
        value = column.show(getattr(entry, column.name))
        return text_cell(str(value)) if column.name == "operation_id" else text_or(value)
