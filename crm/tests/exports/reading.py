"""Exported files as other programs read them."""

import csv
import io

import openpyxl

from crm import exports


def export(queryset, file_format, user=None, reason="a test", **kwargs) -> bytes:
    target = io.BytesIO()
    exports.write(queryset, target, file_format=file_format, user=user, reason=reason, **kwargs)
    return target.getvalue()


def sheet(content: bytes):
    return openpyxl.load_workbook(io.BytesIO(content)).active


def xlsx_rows(content: bytes) -> list[dict]:
    header, *rows = sheet(content).iter_rows(values_only=True)
    return [dict(zip(header, row, strict=True)) for row in rows]


def csv_rows(content: bytes) -> list[dict]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=";"))


def plain_rows(content: bytes) -> list[dict]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))
