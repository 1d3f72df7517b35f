"""Quotes as programs write them, as Excel and LibreOffice copy them, and as people leave them."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm.imports.cutting import Cutter
from crm.imports.problems import UnusableFile
from crm.imports.reading import read

PASTED = "pasted rows"


def pasted(*lines: str) -> list[list[str]]:
    sheet = read("\r\n".join(lines).encode(), PASTED)
    assert sheet.notices == []
    return [row.cells for row in sheet.rows]


def cut(text: str, delimiter: str = "\t", *, is_clipboard: bool) -> list[list[str]]:
    return list(Cutter(io.StringIO(text, newline=""), delimiter, is_clipboard=is_clipboard))


@pytest.mark.parametrize(
    "cell",
    [
        '"Alfa" s.r.o.', '"Alfa" "Beta"', 'Byt 3+kk "u lesa"', '15"', '"', '""', '"Alfa', 'Alfa"', '"Alfa"', '"Alfa, Beta"',
        '"a" "', "Alfa; Beta, Gama | Delta",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_copied_cell_with_quotes_in_it_is_read_as_it_stands(cell, place):
    cells = ["Jana", "Brno", "1.2.2026"]
    cells[place] = cell
    rows = pasted("jmeno\tmesto\tdatum", "\t".join(cells), "Eva\tPraha\t2.2.2026", "")
    assert rows == [cells, ["Eva", "Praha", "2.2.2026"]]


@pytest.mark.parametrize("cell", ['"Alfa" s.r.o.', 'Byt "u lesa"', '15"', '"Alfa', '"Alfa"', "Alfa; Beta"])
def test_one_copied_column_is_read_as_it_stands(cell):
    assert pasted("jmeno", cell, "Eva", "") == [[cell], ["Eva"]]


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_a_copied_cell_with_a_line_break_or_a_tab_is_one_cell(end):
    rows = ["jmeno\tmesto", f'"Jana ""Bílá""{end}Nová"\tBrno', '"Eva\tMalá"\t"Pra\tha"', f'Ivo\t"a{end}b"']
    assert [row.cells for row in read(end.join(rows).encode(), PASTED).rows] == [
        [f'Jana "Bílá"{end}Nová', "Brno"], ["Eva\tMalá", "Pra\tha"], ["Ivo", f"a{end}b"],
    ]  # fmt: skip


def test_two_lone_quotes_swallow_no_copied_rows():
    rows = ['"Alfa\tBrno\t1', "Beta\tPraha\t2", 'Televize 15"\tPlzeň\t3', '"Gama\tJihlava"\t4']
    assert pasted("jmeno\tmesto\tdatum", *rows) == [row.split("\t") for row in rows]


def test_a_lone_quote_before_more_text_than_a_cell_holds_swallows_nothing():
    rows = ['"Alfa\t1', *["Beta\t2"] * 20_000, 'Gama"\t3']
    assert pasted("jmeno\tdatum", *rows) == [row.split("\t") for row in rows]


def test_text_with_quotes_around_every_cell_may_be_pasted_too():
    assert pasted('"jmeno"\t"mesto"', '"Jana"\t"Brno"', '"Eva ""Malá"""\t""') == [["Jana", "Brno"], ['Eva "Malá"', ""]]
    assert pasted("jmeno;mesto", '"Jana";"Brno; střed"') == [["Jana", "Brno; střed"]]


# --- Files ---


@pytest.mark.parametrize("delimiter", [";", ",", "|", "\t"])
@pytest.mark.parametrize("cell", ['"Alfa" s.r.o.', '"Alfa', '"a" "', '"Alfa" "Beta"'])
def test_a_cell_of_a_file_that_its_quotes_do_not_enclose_is_read_as_it_stands_and_told(delimiter, cell):
    rows = [
        ["Jana", "Brno", "x"],
        [cell, "", "x"],
        ["Eva", "Praha", cell],
        [],
        ["Ivo", "a b", "x"],
    ]
    text = "\r\n".join(map(delimiter.join, [["jmeno", "mesto", "datum"], *rows, []]))
    sheet = read(text.encode(), "x.csv")
    assert [row.cells for row in sheet.rows] == rows
    assert [notice for notice in sheet.notices if "in row 3;" in notice] == sheet.notices != []


def test_quotes_in_the_middle_of_a_files_cell_are_nothing_to_tell():
    sheet = read(b'jmeno;datum\r\nByt 3+kk "u lesa";15"\r\n', "x.csv")
    assert ([row.cells for row in sheet.rows], sheet.notices) == ([['Byt 3+kk "u lesa"', '15"']], [])


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
@pytest.mark.parametrize(
    "rows",
    [
        ['Eva;"Malá'],
        ['Eva;"Malá;1', "and more", "Jana;Bílá;2"],
        ['Eva;"said', 'all "about" it";2'],
        ['Eva;"Malá;1', "Jana;Bílá"],
    ],
)
def test_a_quote_of_a_file_that_opens_a_cell_without_an_end_is_refused_with_its_place(rows, end):
    with pytest.raises(UnusableFile, match="row 3, column “prijmeni”, is not closed"):
        read(end.join(["jmeno;prijmeni;datum", 'Ivo;"a;b";1', *rows, ""]).encode(), "x.csv")


def test_a_cell_that_is_too_long_is_refused_with_its_place():
    for cell in ("x" * 100_001, '"' + "x;" * 50_001 + '"', '"' + "x\r\n" * 50_001 + '"'):
        with pytest.raises(UnusableFile, match="row 2, column “datum”"):
            read(f"jmeno;datum\r\nJana;{cell}\r\n".encode(), "x.csv")
    assert len(read(f"jmeno;datum\r\nJana;{'x' * 100_000}\r\n".encode(), "x.csv").rows[0].cells[1]) == 100_000


# --- Whatever stands in the cells ---

_LETTERS = "ab\" ;,|'"
_LINE = st.text(_LETTERS, max_size=6)
# Cells of one table have tabs in them or line breaks: with both in a row, nobody can say what belongs together.
_BROKEN = [_LINE | st.text(_LETTERS + char, max_size=6) for char in "\t\n"]
# Excel copies quotes as they are: where some open, and a cell begins with what needs quotes, there are two ways to read it.
_LONG = [_LINE | st.builds("a{}{}{}".format, _LINE, st.just(char), _LINE) for char in "\t\n"]


def tables(cells, least=1):
    widths = st.integers(least, 4)
    return widths.flatmap(lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), max_size=6))


def is_doubled(cell: str) -> bool:
    """Whether Excel copies it as LibreOffice copies another one."""
    return (
        len(cell) > 2 and cell[0] == cell[-1] == '"' and '"' in cell[1:-1] and '"' not in cell[1:-1].replace('""', "")
    )


def copied(rows: list[list[str]], needs_quotes: str) -> str:
    lines = [[f"h{index}" for index in range(len(rows[0]) if rows else 1)], *rows]
    return "".join("\t".join(_copied(cell, needs_quotes) for cell in line) + "\r\n" for line in lines)


def _copied(cell: str, needs_quotes: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(char in cell for char in needs_quotes) else cell


@given(st.one_of(tables(cells.filter(lambda cell: not is_doubled(cell)), least=2) for cells in _LONG))
def test_what_excel_copies_comes_back(rows):
    assert cut(copied(rows, "\t\n"), is_clipboard=True)[1:] == rows


@given(st.one_of(tables(cells) for cells in _BROKEN))
def test_what_libreoffice_copies_comes_back(rows):
    found = cut(copied(rows, '\t\n"'), is_clipboard=True)[1:]
    assert [row or [""] for row in found] == rows


@given(
    tables(st.text(_LETTERS + "\t\n\r", max_size=6)), st.sampled_from(";,|\t"), st.sampled_from(["\r\n", "\n", "\r"])
)
def test_what_a_program_writes_is_read_as_another_reads_it(rows, delimiter, end):
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
        target = io.StringIO(newline="")
        csv.writer(target, delimiter=delimiter, quoting=quoting, lineterminator=end).writerows(rows)
        assert cut(target.getvalue(), delimiter, is_clipboard=False) == rows


@given(st.text(_LETTERS + "\t\n", max_size=60), st.booleans(), st.sampled_from("\t;"))
def test_whatever_the_quotes_no_letter_is_lost(text, is_clipboard, delimiter):
    try:
        rows = cut(text, delimiter, is_clipboard=is_clipboard)
    except UnusableFile:
        assert not is_clipboard
    else:
        kept = sorted("".join(cell for row in rows for cell in row))
        assert [char for char in kept if char in "ab"] == sorted(char for char in text if char in "ab")
