"""Files for tests, made by code: workbooks whole and broken."""

import io
import zipfile

import openpyxl

NINE = (
    "jmeno", "datum", "vyber_banky", "navrh_financovani_castka", "duvod_zamitnuti", "co_financuje", "navrh_financovani",
    "navrh_financovani_procento", "cena",
)  # fmt: skip


def xlsx(*rows, sheets=None) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for name, others in (sheets or {}).items():
        sheet = book.create_sheet(name)
        for row in others:
            sheet.append(row)
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


def csv(*rows, header=NINE, delimiter=";", encoding="utf-8") -> bytes:
    return "\r\n".join(delimiter.join(row) for row in [header, *rows]).encode(encoding)


def repacked(content: bytes, change) -> bytes:
    """The workbook with `change(name, bytes)` done to each part; None drops it."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if (part := change(name, old.read(name))) is not None:
                new.writestr(name, part)
    return target.getvalue()


def with_sheet(content: bytes, xml: bytes) -> bytes:
    """The workbook with the first sheet's rows replaced by `xml`."""
    page = (
        b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
        + xml
        + b"</sheetData></worksheet>"
    )
    return repacked(content, lambda name, old: page if name == "xl/worksheets/sheet1.xml" else old)
