"""All clients with their cases into files, as `crm.exports` writes them for a manager: beside two floors (the same rows read by
COPY, decrypted and put into a CSV, nothing else; one decrypts by the field library one by one, the other together as we
do) and beside the stock resource of django-import-export, in one run.
`python -m crm.bench.exports FORMAT` measures one export's memory alone."""

import csv
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from crm.bench.measuring import Measured, memory_mb, rows_per_second

MOST, STOCK, COLUMNS = 50_000, 1_000, 56
# Nobody's client has them; without them there are as many columns as the goal is about.
WITHOUT = ("portal_user", "restricted_at", "anonymised_at", "case.rejection_reason")
GOALS = {
    "xlsx": "0.6x of the library's floor, 6x of stock",
    "csv": "0.8x of the library's floor",
    "plain_csv": "0.8x of the library's floor",
}


def run(size: int) -> Iterator[Measured]:
    from crm.encryption import decrypt_str, decrypt_texts

    floors = {}
    for name, decrypt in {
        "the library's": lambda tokens: [token and decrypt_str(token) for token in tokens],
        "the strict": decrypt_texts,
    }.items():
        began = time.process_time()
        floor_rows, floor, per_row = _floor(decrypt)
        floors[name] = (floor, time.process_time() - began)
        label = f"exports, {name} floor: COPY, {per_row:.1f} values decrypted a row, CSV"
        yield rows_per_second(label, floor_rows, floor)
    stock_rows, stock = _stock(min(STOCK, size))
    yield rows_per_second("exports, the stock resource, xlsx", stock_rows, stock)
    for file_format, goal in GOALS.items():
        began = time.process_time()
        rows, taken = _ours(file_format)
        own = time.process_time() - began
        text = f"{rows / taken:,.0f} rows/s ({rows:,} in {taken:.1f} s), "
        for name, (floor, floor_own) in floors.items():
            text += f"{floor / taken:.2f}x of {name} floor ({floor_own / own:.2f}x by the processor's time), "
        text += f"{rows / taken / (stock_rows / stock):.1f}x of stock"
        yield Measured(f"export clients, {file_format}", rows / taken, text, goal)
    peak = _another_process("xlsx")
    yield Measured("exports, peak memory, xlsx", peak, f"{peak:.0f} MB", "150 MB")


def _names() -> list[str]:
    from crm.exports.columns import columns_of
    from crm.models import Client

    return [each.name for each in columns_of(Client) if each.name not in WITHOUT]


def _ours(file_format: str) -> tuple[int, float]:
    from django.contrib.auth import get_user_model

    from crm import exports
    from crm.exports import selection

    manager = get_user_model().objects.get(username="manager")
    names = _names()
    rows, _told = selection.rows([], manager, names)
    with tempfile.TemporaryFile() as target:
        start = time.perf_counter()
        run = exports.write(
            rows[:MOST], target, file_format=file_format, user=manager, columns=names, reason="bench"
        )  # fmt: skip
        taken = time.perf_counter() - start
    if len(run.columns) != COLUMNS:
        raise RuntimeError(f"{len(run.columns)} columns, not {COLUMNS}")
    return run.rows, taken


def _floor(decrypt: Callable[[list[str]], list]) -> tuple[int, float, float]:
    """Rows, seconds, and how many values of a row were decrypted."""
    from django.db import connection

    from crm.encryption import is_encrypted
    from crm.exports.columns import columns_of
    from crm.models import Case, Client

    picked = [each for each in columns_of(Client) if each.name in _names() and each.kind != "version"]
    tables = {Client: "crm_client", Case: "crm_case"}
    fields = ", ".join(f'{tables[each.owner]}."{each.field.column}"' for each in picked)
    encrypted = [at for at, each in enumerate(picked) if is_encrypted(each.field)]
    sql = (
        f"COPY (SELECT {fields} FROM crm_client LEFT JOIN crm_case ON client_id = crm_client.id LIMIT {MOST}) TO STDOUT"
    )
    count = decrypted = 0
    start = time.perf_counter()
    with tempfile.TemporaryFile() as target, connection.cursor() as cursor, cursor.copy(sql) as copied:
        text = io.TextIOWrapper(target, encoding="utf-8", newline="")
        writer = csv.writer(text)
        waiting = []

        def write() -> int:
            columns = [list(column) for column in zip(*waiting, strict=True)]
            for at in encrypted:
                columns[at] = decrypt(["" if value == "\\N" else value for value in columns[at]])
            writer.writerows(zip(*columns, strict=True))
            return sum(map(bool, (value for at in encrypted for value in columns[at])))

        for line in _lines(copied):
            waiting.append(line.split("\t"))
            count += 1
            if len(waiting) == 2_000:
                decrypted += write()
                waiting = []
        if waiting:
            decrypted += write()
        text.flush()
        taken = time.perf_counter() - start
    return count, taken, decrypted / max(count, 1)


def _lines(copied) -> Iterator[str]:
    rest = b""
    for data in copied:
        *lines, rest = (rest + bytes(data)).split(b"\n")
        yield from (line.decode() for line in lines)


def _stock(count: int) -> tuple[int, float]:
    from import_export import resources
    from import_export.formats.base_formats import XLSX

    from crm.models import Case, Client

    class ClientResource(resources.ModelResource):
        class Meta:
            model = Client

    class CaseResource(resources.ModelResource):
        class Meta:
            model = Case

    start = time.perf_counter()
    rows = 0
    for each in (ClientResource, CaseResource):
        data = each().export(each._meta.model.objects.order_by("pk")[:count])
        XLSX().export_data(data)
        rows = max(rows, len(data))
    return rows, time.perf_counter() - start


def _another_process(file_format: str) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "crm.bench.exports", file_format],
        capture_output=True, text=True, check=True, env=os.environ,
    )  # fmt: skip
    return float(done.stdout)


if __name__ == "__main__":
    import django

    django.setup()
    _ours(sys.argv[1])
    print(memory_mb("self", "VmHWM"))
