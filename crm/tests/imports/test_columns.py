"""What columns hold that nobody knows."""

from crm.imports.columns import recognise
from crm.imports.reading import Rows, Sheet


class Counted(list):
    """Rows of cells that know how often they were asked for."""

    asked = 0

    def __getitem__(self, at):
        self.asked += 1
        return super().__getitem__(at)


def test_rows_are_asked_for_as_often_for_many_unknown_columns_as_for_one():
    asked = []
    for columns in (1, 900):
        header = ["jmeno", *(f"Sloupec {number}" for number in range(columns)), ""]
        cells = Counted([header, *[["Jana", *[""] * (columns + 1)]] * 20])
        layout, _problems = recognise(Sheet(header, Rows(cells, range(2, 22))))
        assert len(layout.unknown) == columns + 1
        asked.append(cells.asked)
    assert asked[0] == asked[1]


def test_values_of_unknown_columns_are_looked_for_in_every_row():
    header = ["jmeno", "Obec", "Barva", "Prázdný", ""]
    rows = [["Jana", "", "modrá"], *[["Jana", None, "modrá", " "]] * 60, ["Jana", "Brno", "bílá", "", "x"]]
    layout, problems = recognise(Sheet(header, Rows([header, *rows], range(2, 64))))
    assert layout.asked == [(1, "Obec", ["Brno"]), (2, "Barva", ["modrá"])]
    assert [problem.column for problem in problems] == ["Obec", "Barva", "Prázdný", ""]
