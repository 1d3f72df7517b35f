"""What stands on the pages, read back by another program."""

import io

import pypdf
import pytest
from django.utils import translation

from crm.exports import pdf_file
from crm.exports.pdf_file import Column, Table

LETTERS = "Příliš žluťoučký kůň úpěl ďábelské ódy PŘÍLIŠ ŽLUŤOUČKÝ KŮŇ ÚPĚL ĎÁBELSKÉ ÓDY ľščťžňŕ – … − 1\u00a0234,50\u00a0Kč €"
TWO = [Column("Reference"), Column("Adviser")]


def read(*tables, title="Weekly report 2026-W10") -> pypdf.PdfReader:
    return pypdf.PdfReader(io.BytesIO(pdf_file.write(title, "2. 3. 2026 – 8. 3. 2026", tables)))


def text_of(reader) -> str:
    return " ".join(" ".join(page.extract_text() for page in reader.pages).split())


def test_czech_letters_are_written_and_read_back():
    assert " ".join(LETTERS.split()) in text_of(read(Table("Letters", [Column("Letters")], [[LETTERS]])))


def test_the_fonts_are_embedded_and_only_what_is_used_of_them():
    reader = read(Table("Letters", [Column("Letters")], [[LETTERS]]))
    fonts = [font.get_object() for font in reader.pages[0]["/Resources"]["/Font"].get_object().values()]
    inner = [font["/DescendantFonts"][0].get_object()["/FontDescriptor"].get_object() for font in fonts]
    assert len(fonts) == 2 and all("Inter" in font["/BaseFont"] for font in fonts)
    assert all(0 < len(each["/FontFile2"].get_object().get_data()) < 60_000 for each in inner)


def test_a_table_repeats_its_header_on_each_page_and_pages_are_numbered():
    rows = [[f"H-{number:06d}", "Anna Řeháková"] for number in range(120)]
    pages = [page.extract_text() for page in read(Table("New cases", TWO, rows)).pages]
    assert len(pages) > 2
    for number, page in enumerate(pages, 1):
        assert "Reference Adviser" in page and f"Page {number} of {len(pages)}" in page
    assert sum(page.count("H-000") for page in pages) == 120


def test_a_long_name_wraps_and_loses_nothing():
    name = "Společnost pro velmi dlouhá jména a příjmení " * 5 + "x" * 90
    found = text_of(read(Table("New cases", [Column("A"), Column("B"), Column("C")], [["H-000001", name, "end"]])))
    assert name.replace(" ", "") in found.replace(" ", "") and "end" in found


def test_a_heading_is_not_left_alone_at_the_end_of_a_page():
    for rows in (36, 37, 38, 39):
        tables = [Table("First", TWO, [["a", "b"]] * rows), Table("Second heading", TWO, [["first row", "b"]])]
        [page] = [page for page in read(*tables).pages if "Second heading" in page.extract_text()]
        assert "first row" in page.extract_text(), rows


def test_a_total_a_note_and_an_empty_table():
    found = text_of(read(Table("By lender", TWO, [], total=["Total", "3"], note="12 more stand in the spreadsheet.")))
    assert "Reference Adviser Total 3 12 more stand in the spreadsheet." in found


@pytest.mark.parametrize("language", ["cs", "en"])
def test_it_is_a4_and_says_what_it_is_and_in_which_language(language):
    with translation.override(language):
        reader = read(Table("Případy", TWO, []), title="Týdenní přehled 2026-W10")
    assert [round(float(each) / 72 * 25.4) for each in reader.pages[0].mediabox[2:]] == [210, 297]
    assert (reader.metadata.title, reader.metadata.author) == ("Týdenní přehled 2026-W10", "Hypodesk")
    assert reader.trailer["/Root"]["/Lang"] == language
    assert [each.title for each in reader.outline] == ["Případy"]


def test_what_is_no_letter_breaks_nothing():
    odd = ["😀 Alice", "a\nb", "**bold**", "", "\x07"]
    assert "end" in text_of(read(Table("New cases", TWO, [*([text, "x"] for text in odd), ["**bold**", "end"]])))
