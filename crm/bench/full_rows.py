"""Full rows: each with a client, a case, fifteen steps, their history and the tokens that find the client. An import of
them beside its floor (the same rows of the database, encrypted and written by COPY, nothing else) and beside the stock
resource of django-import-export, in one run; the memory of one import, and SQLite."""

import csv
import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import xlsxwriter
from django.contrib.auth import get_user_model
from django.db import connection, transaction

from crm.bench.measuring import Measured, forget_peak, memory_mb, rows_per_second, together_mb

MOST, MOST_OF_STOCK, TEMPLATES, CHUNK = 50_000, 300, 100, 5_000
FROM_SIZE_ON_SQLITE, ROWS_ON_SQLITE = 10_000, 5_000
COLUMNS = 56
FIRST = ("Alena", "Barbora", "Cyril", "Dana", "Eva", "František", "Gabriela", "Hana", "Ivan", "Jana", "Karel", "Lenka",
         "Martin", "Naděžda", "Oldřich", "Petra", "Radim", "Simona", "Tomáš", "Uršula", "Václav", "Walter", "Xenie",
         "Yveta", "Zdeněk")  # fmt: skip
SYLLABLES = ("no", "vá", "hor", "ma", "li", "ká", "dvo", "řá", "sta", "ne", "pro", "chá", "zí", "ko", "če", "ru", "be",
             "tý", "ša", "fi")  # fmt: skip
LENDER = "Banka pro měření"


def full_row(number: int, price: int) -> dict[str, str]:
    """Every field that an import knows, but for reasons of rejection; of the encrypted ones fourteen are filled."""
    first, rest = FIRST[number % 25], number // 25
    surname = "".join(SYLLABLES[rest // 20**place % 20] for place in range(3)).capitalize()
    year, month, day = 1950 + number % 50, number % 12 + 1, number % 28 + 1
    return {
        "full_name": f"{first} {surname}",
        "email": f"klient{number}@example.com",
        "phone": f"+420 6{number:08}",
        "birth_number": _birth_number(year, month, day, number),
        "birth_date": f"{day}.{month}.{year}",
        "birth_place": "",
        "street": f"Dlouhá {number % 900}/{number % 7}",
        "city": "Hradec Králové",
        "postal_code": "500 02",
        "mailing_address": "",
        "id_document_number": f"{200_000_000 + number}",
        "id_document_issuer": "",
        "bank_account": "19-2000145399/0800",
        "employer": f"Výroba a služby {number % 5000}, s.r.o.",
        "business_id": "27074358",
        "note": "",
        "citizenship": "CZ",
        "id_document_valid_until": f"{day}.{month}.2031",
        "retention_until": "31.12.2045",
        "adviser": "adviser",
        "stand_in": "assistant",
        "opened_on": f"{number % 28 + 1}.{number % 12 + 1}.2025",
        "status": "open",
        "purpose_kind": "purchase",
        "loan_purpose": "Byt 3+kk s balkonem a sklepem",
        "property_price_czk": f"{price},00",
        "loan_amount_czk": f"{price * 8 // 10},00",
        "own_funds_czk": f"{price * 2 // 10} Kč",
        "ltv_percent": "80 %",
        "proposed_terms": "anuita 30 let, fixace 5 let",
        "lender": LENDER,
        "approved_terms": "",
        "approved_amount_czk": f"{price * 8 // 10}",
        "approved_own_funds_czk": f"{price * 2 // 10}",
        "approved_ltv_percent": "80",
        "rejection_reason": "",
        "decided_on": "15.1.2026",
        "interest_rate_percent": "4,59 %",
        "term_months": "360",
        "fixation_years": "5",
        "fixation_until": "1.1.2031",
        "monthly_payment_czk": f"{price // 200},50",
        "contract_number": f"SML/{number:07}",
        "dti": "7,8",
        "dsti_percent": "41 %",
    }


def _birth_number(year: int, month: int, day: int, number: int) -> str:
    serials = (f"{year % 100:02}{month:02}{day:02}{serial % 1000:03}" for serial in itertools.count(number // 50 % 900))
    head = next(each for each in serials if int(each) % 11 < 10)
    check = "" if year < 1954 else int(head) % 11  # the older ones have nine digits
    return f"{head[:6]}/{head[6:]}{check}"


def rows(count: int) -> Iterator[list[str]]:
    """The header first. Beside the known columns such as an office keeps for itself, up to 56."""
    known = list(full_row(0, 0))
    others = COLUMNS - len(known)
    yield known + [f"naše {number}" for number in range(others)]
    for number in range(count):
        yield [*full_row(number, 2_000_000 + number % 3000 * 1000).values(), *("x" for _ in range(others))]


def csv_file(count: int) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=";").writerows(rows(count))
    return text.getvalue().encode("utf-8-sig")


def xlsx_file(count: int) -> bytes:
    target = io.BytesIO()
    book = xlsxwriter.Workbook(target, {"constant_memory": True})
    sheet = book.add_worksheet()
    for index, row in enumerate(rows(count)):
        sheet.write_row(index, 0, row)
    book.close()
    return target.getvalue()


def run(size: int) -> Iterator[Measured]:
    count = min(MOST, size)
    add_lender()
    floor = _floor(count)
    yield rows_per_second("import of full rows, the floor: the same rows encrypted and written by COPY", count, floor)
    tried = min(MOST_OF_STOCK, count // 10)
    stock = _stock(tried) / tried * count
    yield rows_per_second("import of full rows, the stock resource", tried, stock * tried / count)
    for name, content in (("csv", csv_file(count)), ("xlsx", xlsx_file(count))):
        checked, taken = import_once(content, f"bench.{name}")
        text = f"{checked:.1f} s, {checked / taken:.2f} of the import"
        yield Measured(f"check of full rows, {name}", checked, text, "under the import")
        text = f"{count / taken:,.0f} rows/s ({count:,} in {taken:.1f} s), {floor / taken:.2f}x of the floor, "
        text += f"{stock / taken:.1f}x of stock"
        yield Measured(f"import of full rows, {name}", count / taken, text, "0.5x of the floor, 10x of stock")
    for times in (1, 4) if count == MOST else (1,):
        found = _another_process("memory", csv_file(times * count)).decode().splitlines()
        for job, line in zip(("check", "write"), found, strict=True):
            peak, together, busy = map(float, line.split())
            text = f"{peak:.0f} MB of {times * count:,}, {together:.0f} MB with the process that reads, "
            text += f"{busy:.1f} s of processor time of both"
            yield Measured(f"{job} of full rows by a job, peak memory, {times} times", together, text, "400 MB, flat")
    if size >= FROM_SIZE_ON_SQLITE:
        yield _on_sqlite()


def _on_sqlite() -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        address = f"sqlite:////{folder.lstrip('/')}/bench.sqlite3"
        taken, stock = map(float, _another_process("sqlite", DATABASE_URL=address).split())
    text = f"{ROWS_ON_SQLITE / taken:,.0f} rows/s ({ROWS_ON_SQLITE:,} in {taken:.1f} s), {stock / taken:.1f}x of stock"
    return Measured("import of full rows, csv, SQLite", ROWS_ON_SQLITE / taken, text, "5x of stock")


def add_lender() -> None:
    from crm.models import Lender

    Lender.objects.get_or_create(name=LENDER)


def import_once(content: bytes, name: str) -> tuple[float, float]:
    """Seconds of the check, and of check and write with the database's deferred checks; rolled back."""
    from crm import imports

    manager = get_user_model().objects.get(username="manager")
    with transaction.atomic():
        start = time.perf_counter()
        plan = imports.check(content, name, manager)
        checked = time.perf_counter() - start
        imports.write(plan, manager)
        _commit_checks()
        taken = time.perf_counter() - start
        transaction.set_rollback(True)
    if plan.errors or not plan.created:
        raise RuntimeError(plan.summary_line() + "\n" + "\n".join(map(str, plan.problems[:5])))
    _clean()
    return checked, taken


def _commit_checks() -> None:
    """What a commit would check: nothing here commits."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        else:
            cursor.execute("PRAGMA foreign_key_check")


def _clean() -> None:
    """What was rolled back is still in the files."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM")


# --- The floor ---


def _floor(count: int) -> float:
    """Seconds of encrypting and inserting alone. The rows are those of a small import, again and again under other keys;
    making them up is not counted."""
    from crm import imports
    from crm.models import Case, CaseStep, Client, SearchToken

    manager = get_user_model().objects.get(username="manager")
    many = min(TEMPLATES, count)
    taken = 0.0
    with transaction.atomic():
        imports.write(imports.check(csv_file(many), "bench.csv", manager), manager)
        clients = list(Client.objects.order_by("-pk").values_list("pk", flat=True)[:many])
        cases = list(Case.objects.filter(client__in=clients).values_list("pk", flat=True))
        tables = [
            _Table(Client, {"id__in": clients}),
            _Table(Case, {"id__in": cases}),
            _Table(CaseStep, {"case__in": cases}),
            _Table(SearchToken, {"client__in": clients}),
        ]
        transaction.set_rollback(True)
    _clean()
    with transaction.atomic():
        for start in range(0, count // many, CHUNK // many):
            copies = range(start, min(count // many, start + CHUNK // many))
            for table in tables:
                plain = table.again(copies)
                begun = time.perf_counter()
                table.insert(plain)
                taken += time.perf_counter() - begun
        begun = time.perf_counter()
        _commit_checks()
        taken += time.perf_counter() - begun
        transaction.set_rollback(True)
    _clean()
    return taken


class _Table:
    """Plain rows of a model and of its history, to be written under other keys."""

    SHIFTED = ("id", "client_id", "case_id", "history_id")

    def __init__(self, model, found: dict):
        from crm.encryption import is_encrypted

        fields = model._meta.concrete_fields
        self.model, self.names = model, [field.attname for field in fields]
        self.encrypted = [index for index, field in enumerate(fields) if is_encrypted(field)]
        self.shifted = [index for index, name in enumerate(self.names) if name in self.SHIFTED]
        self.unique = [index for index, name in enumerate(self.names) if name in ("reference", "digest")]
        self.rows = list(model.objects.filter(**found).order_by("pk").values_list(*self.names))
        self.history = model.history.model if hasattr(model, "history") else None
        if self.history:
            keys = [row[0] for row in self.rows]
            self.extra_names = [name for field in self.history._meta.concrete_fields
                                if (name := field.attname) not in self.names and name != "history_id"]  # fmt: skip
            self.extra = self.history.objects.filter(id__in=keys).values_list(*self.extra_names)[0]

    def again(self, copies: range) -> list[list]:
        found = []
        for copy in copies:
            for row in self.rows:
                row = list(row)
                for index in self.shifted:
                    row[index] += (copy + 1) * 1_000_000
                for index in self.unique:
                    row[index] = os.urandom(16) if isinstance(row[index], bytes) else f"B{copy}-{row[index]}"
                found.append(row)
        return found

    def insert(self, rows: list[list]) -> None:
        from crm.encryption import encrypt_texts
        from crm.models.bulk import insert_rows

        for index in self.encrypted:
            filled = [row for row in rows if row[index]]
            for row, token in zip(filled, encrypt_texts(str(row[index]) for row in filled), strict=True):
                row[index] = token
        insert_rows(self.model, self.names, rows)
        if self.history:
            insert_rows(self.history, self.names + self.extra_names, ((*row, *self.extra) for row in rows))


# --- The stock resource ---


def _stock(count: int) -> float:
    """Seconds of django-import-export as it comes, over the product's models with their history: a resource of clients
    whose rows make a case and its steps too."""
    from import_export import fields, resources, widgets

    from crm import workflow
    from crm.imports.columns import CASE_FIELDS, CLIENT_FIELDS
    from crm.models import Case, Client, Lender, User

    class CaseResource(resources.ModelResource):
        lender = fields.Field("lender", "lender", widgets.ForeignKeyWidget(Lender, "name"))
        adviser = fields.Field("adviser", "adviser", widgets.ForeignKeyWidget(User, "username"))
        stand_in = fields.Field("stand_in", "stand_in", widgets.ForeignKeyWidget(User, "username"))

        class Meta:
            model = Case
            import_id_fields = ()
            fields = CASE_FIELDS

    class ClientResource(resources.ModelResource):
        cases = CaseResource()

        class Meta:
            model = Client
            import_id_fields = ()
            fields = CLIENT_FIELDS

        def after_save_instance(self, instance, row, **kwargs):
            case = Case(client=instance)
            self.cases.import_instance(case, row)
            workflow.start_case(case, by=None)

    import tablib

    plain = (_as_stock_reads(full_row(number, 3_000_000)) for number in range(count))
    data = tablib.Dataset()
    data.dict = list(plain)
    with transaction.atomic():
        start = time.perf_counter()
        found = ClientResource().import_data(data, raise_errors=True, use_transactions=False)
        _commit_checks()
        taken = time.perf_counter() - start
        transaction.set_rollback(True)
    if found.totals["new"] != count:
        raise RuntimeError(str(found.totals))
    _clean()
    return taken


def _as_stock_reads(row: dict[str, str]) -> dict[str, str]:
    """Dates and numbers as its widgets take them."""
    found = {}
    for name, value in row.items():
        if name.endswith(("_on", "_until", "_date")) and value:
            day, month, year = value.split(".")
            value = f"{year}-{int(month):02}-{int(day):02}"
        elif name.endswith(("_czk", "_percent", "dti")):
            value = value.rstrip(" %Kč").replace(",", ".")
        found[name] = value
    return found


# --- What needs a process of its own ---


def _another_process(what: str, content: bytes = b"", **environment: str) -> bytes:
    return subprocess.run(
        [sys.executable, "-m", "crm.bench.full_rows", what],
        input=content,
        stdout=subprocess.PIPE,
        env=os.environ | environment,
        check=True,
    ).stdout


class _Unwatched:
    """The progress of a job that nobody follows."""

    def __init__(self, run):
        self.arguments = {"run": run.pk}

    def __call__(self, done: int, total: int = 0) -> None:
        pass

    def is_mine(self) -> bool:
        return True


def _peaks(content: list[bytes]) -> Iterator[tuple[float, float, float]]:
    """Of the check and of the write of an import: the most megabytes of the worker's process, of it together with the one
    that reads the file, and the processor's seconds of both."""
    from crm.choices import ImportPart, ImportState
    from crm.imports import pieces, runs
    from crm.imports.columns import folded
    from crm.models import ImportRun

    manager = get_user_model().objects.get(username="manager")
    others = {folded(header): "" for header in next(rows(0)) if header not in full_row(0, 0)}
    with transaction.atomic():
        run = ImportRun.objects.create(
            user=manager, file_name="bench.csv", state=ImportState.CHECKING, mapping=json.dumps(others)
        )
        pieces.store_bytes(run, ImportPart.FILE, content.pop())
        yield _watched(lambda: runs.check_by_job(_Unwatched(run)))
        ImportRun.objects.filter(pk=run.pk).update(
            state=ImportState.RUNNING,
            options={"all_or_nothing": False, "create": True, "update": True, "duplicates": True},
        )
        yield _watched(lambda: runs.write_by_job(_Unwatched(run)))
        run.refresh_from_db()
        transaction.set_rollback(True)
    if not run.created_count:
        raise RuntimeError(run.message)


def _watched(act: Callable[[], object]) -> tuple[float, float, float]:
    forget_peak()
    together, is_over, before = [0.0], threading.Event(), sum(os.times()[:4])
    watch = threading.Thread(target=_watch, args=(together, is_over))
    watch.start()
    act()
    is_over.set()
    watch.join()
    return memory_mb("self", "VmHWM"), together[0], sum(os.times()[:4]) - before


def _watch(together: list[float], is_over: threading.Event) -> None:
    while not is_over.wait(0.01):
        together[0] = max(together[0], together_mb("self"))


def _ours_and_stock() -> tuple[float, float]:
    """Seconds on the database of this process, which is made first."""
    from crm.bench import office

    office.build()
    add_lender()
    _checked, taken = import_once(csv_file(ROWS_ON_SQLITE), "bench.csv")
    tried = ROWS_ON_SQLITE // 50
    return taken, _stock(tried) * ROWS_ON_SQLITE / tried


if __name__ == "__main__":
    import django

    django.setup()
    if sys.argv[1] == "memory":
        for found in _peaks([sys.stdin.buffer.read()]):
            print(*found)
    else:
        print(*_ours_and_stock())
