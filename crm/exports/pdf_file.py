"""A PDF of titled tables, on A4, in the font of the pages: Unfold brings Inter (SIL Open Font License, all Czech letters) as
WOFF2, which fontTools opens with the brotli that WhiteNoise needs too. Of it only the letters that occur are embedded."""

import dataclasses
from collections.abc import Iterable

from django.contrib.staticfiles import finders
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from fpdf import FPDF, FontFace

FONT = "Inter"
FILES = {"": "unfold/fonts/inter/Inter-Regular.woff2", "B": "unfold/fonts/inter/Inter-SemiBold.woff2"}
MARGIN_MM = 16
# A heading is not left alone at the end of a page.
KEPT_TOGETHER_MM = 28
INK, GREY, LINE, SHADE = (24, 24, 27), (82, 82, 91), (212, 212, 216), (244, 244, 245)


@dataclasses.dataclass(frozen=True)
class Column:
    """`share` is its part of the width, beside the other columns' shares."""

    label: str
    share: int = 1
    is_number: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """Its header is repeated on every page that it runs over; what is too long wraps. `total` is a last row, `note` a line
    below."""

    title: str
    columns: list[Column]
    rows: list[list[str]]
    total: list[str] = dataclasses.field(default_factory=list)
    note: str = ""


class _Page(FPDF):
    footer_text = ""

    def footer(self):
        self.set_y(-MARGIN_MM + 3)
        self.set_font(FONT, size=8)
        self.set_text_color(GREY)
        page = _("Page %(page)s of %(pages)s") % {"page": self.page_no(), "pages": "{nb}"}
        self.cell(text=f"{page} · {self.footer_text}")


def write(title: str, subtitle: str, tables: Iterable[Table]) -> bytes:
    """In the active language. The fonts take half a second and a row some milliseconds: it belongs in a job."""
    pdf = _Page(format="A4")
    pdf.set_title(title)
    pdf.set_author("Hypodesk")
    pdf.set_creator("Hypodesk")
    pdf.set_lang((translation.get_language() or "")[:2])
    pdf.set_creation_date(timezone.localtime())
    pdf.set_margin(MARGIN_MM)
    pdf.set_auto_page_break(True, MARGIN_MM)
    for style, file in FILES.items():
        pdf.add_font(FONT, style, finders.find(file))
    pdf.footer_text = f"Hypodesk · {title}"
    pdf.add_page()
    _line(pdf, title, size=18, style="B")
    _line(pdf, subtitle, size=10, color=GREY)
    for table in tables:
        _write_table(pdf, table)
    return bytes(pdf.output())


def _line(pdf: FPDF, text: str, *, size: int, style: str = "", color=INK) -> None:
    pdf.set_font(FONT, style, size)
    pdf.set_text_color(color)
    pdf.multi_cell(0, size * 0.5, text, align="L", new_x="LMARGIN", new_y="NEXT")


def _write_table(pdf: FPDF, table: Table) -> None:
    pdf.ln(5)
    if pdf.will_page_break(KEPT_TOGETHER_MM):
        pdf.add_page()
    pdf.start_section(table.title)
    _line(pdf, table.title, size=11, style="B")
    pdf.ln(1)
    pdf.set_font(FONT, size=8.5)
    pdf.set_text_color(INK)
    pdf.set_draw_color(LINE)
    heading = FontFace(emphasis="BOLD", color=GREY, fill_color=SHADE)
    with pdf.table(
        borders_layout="HORIZONTAL_LINES",
        col_widths=[column.share for column in table.columns],
        text_align=["RIGHT" if column.is_number else "LEFT" for column in table.columns],
        headings_style=heading,
        line_height=4.2,
        padding=(0.8, 1.2),
        v_align="TOP",
    ) as drawn:
        drawn.row([column.label for column in table.columns])
        for row in table.rows:
            drawn.row(row)
        if table.total:
            drawn.row(table.total, style=FontFace(emphasis="BOLD"))
    if table.note:
        pdf.ln(1)
        _line(pdf, table.note, size=8, color=GREY)
