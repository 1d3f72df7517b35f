import datetime

import pytest

from crm.imports import shelf as module
from crm.imports.drafts import Draft, NewItem
from crm.imports.shelf import Shelf
from crm.imports.workbook import CellError
from crm.models import Case, Client


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 3)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 6, 7])
def test_records_come_back_in_any_order_wherever_a_block_ends(count):
    shelf = Shelf()
    assert [shelf.add([number, "č"]) for number in range(count)] == list(range(count))
    assert len(shelf) == count
    for number in [*range(count), *reversed(range(count))]:
        assert shelf[number] == [number, "č"]


def test_a_cell_keeps_its_type():
    shelf = Shelf()
    cells = [CellError("#REF!"), 1.5, True, None, datetime.date(2026, 3, 2), ""]
    for _each in range(3):
        shelf.add(cells)
    assert shelf[0] == cells
    assert [type(cell) for cell in shelf[0]] == [type(cell) for cell in cells]


def test_an_item_gives_its_drafts_back_after_its_block_was_packed():
    shelf = Shelf()
    day = datetime.date(2026, 3, 2)
    items = [
        NewItem(
            row, shelf, client=Draft(Client, {"full_name": f"Alice {row}"}), case=Draft(Case, {"opened_on": day}),
            lender_text="KB",
        )
        for row in range(4)
    ]  # fmt: skip
    alice = items[0]
    assert (alice.client.full_name, alice.client.pk, alice.case.opened_on, alice.lender_text) == (
        "Alice 0", None, day, "KB"
    )  # fmt: skip
    # What was not given is what a new record begins with.
    assert (alice.client.note, alice.client.birth_date, alice.case.status, alice.case.adviser_id) == (
        "", None, "open", None
    )  # fmt: skip
    bob = NewItem(5, shelf, client=Draft(Client, {"full_name": "Bob"}, 7))
    assert (bob.client.pk, bob.case) == (7, None)
