import datetime
import pickle

import pytest

from crm.imports import shelf as module
from crm.imports.drafts import Draft, NewItem
from crm.imports.shelf import CellError, CellShelf, FirstMet, Shelf
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


def test_what_was_met_first_stays_however_many_come():
    first, known = FirstMet(), {}
    for number in range(1, 5_001):
        key = (b"name", number * 7919 % 2_500)  # each of them twice
        first.add(key, number)
        known.setdefault(key, number)
    first.add("of the office", -3)
    first.add("of the office", 9)
    assert {key: first.get(key) for key in known} == known
    assert (first.get("of the office"), first.get("never met")) == (-3, 0)


def test_rows_packed_by_another_process_become_cells_and_nothing_else():
    cells = [["Žaneta\ud800", CellError("#REF!"), 1, 1.5, True, None, datetime.datetime(2026, 3, 2, 8), datetime.time(8, 15),
              datetime.date(2026, 3, 2), datetime.timedelta(hours=30, microseconds=5)]]  # fmt: skip
    shelf = CellShelf()
    found = shelf.loads(shelf.dumps(cells))
    assert found == cells and [*map(type, found[0])] == [*map(type, cells[0])]
    with pytest.raises(KeyError):
        shelf.loads(b'[[{"__reduce__": "os.system"}]]')
    with pytest.raises(ValueError):
        shelf.loads(pickle.dumps(cells))
