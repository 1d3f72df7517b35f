"""No value of an encrypted field stands anywhere in the database in the clear: marked values go through every path that
writes, and the database as it lies on the disk is searched for them, in every spelling one would hide behind."""

import base64
import datetime
import hashlib
import io
import os
import pathlib
import re
import subprocess
from urllib.parse import quote

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import connection
from django.db.models import ProtectedError
from django.urls import reverse
from django_q.tasks import async_task
from simple_history.utils import bulk_create_with_history

from crm import exports, imports, models, roles, workflow
from crm.choices import Source
from crm.encryption import encrypted_names
from crm.models import Case, CaseStep, Client, Note, operation
from crm.search import fold
from crm.tests import factories
from crm.tests.raw import IS_POSTGRES

TODAY = factories.TODAY
# Nothing of the catalogue, of Django or of a timestamp contains one of them.
MARKS = {
    "full_name": "Qzxřmarková",
    "email": "qzxmark.mail@example.com",
    "phone": "731946285",
    "birth_number": "875319/1238",
    "birth_date": "1987-03-19",
    "birth_place": "Qzxmísto",
    "street": "Qzxulice 77",
    "city": "Qzxměsto",
    "postal_code": "791 38",
    "mailing_address": "Qzxadresa",
    "id_document_number": "QX918273645",
    "id_document_issuer": "Qzxúřad",
    "bank_account": "19-2000145399/0800",
    "employer": "Qzxzaměstnavatel",
    "business_id": "25596641",
    "note": "Qzxpoznámka",
}
REASON = "Qzxdůvod"
TEXT = "Qzxtext"
CONTRACT = "QZXSMLOUVA/2026/1"
EVERY_MARK = [*MARKS.values(), REASON, TEXT, CONTRACT]
HEADER = "jmeno;email;cena;navrh_financovani_castka;datum;poznamka"


def client_fields(**changes) -> dict:
    return {**MARKS, "birth_date": datetime.date(1987, 3, 19), **changes}


def spellings(mark: str) -> dict[str, bytes]:
    """How a value could stand in a file: as text of any case or encoding, folded, without its punctuation, digested."""
    bare = re.sub(r"[^\w]", "", mark)
    texts = {
        "as it is": mark,
        "capitals": mark.upper(),
        "small": mark.lower(),
        "folded": fold(mark),
        "folded capitals": fold(mark).upper(),
        "bare": bare,
        "backwards": mark[::-1],
        "folded backwards": fold(mark)[::-1],
        "quoted": quote(mark),
        "escaped": mark.encode("unicode_escape").decode(),
        "base64": base64.b64encode(mark.encode()).decode().rstrip("="),
        "hexadecimal": mark.encode().hex(),
    }
    found = {name: text.encode() for name, text in texts.items()}
    found |= {"UTF-16": mark.encode("utf-16-le"), "UTF-16 the other way": mark.encode("utf-16-be")}
    found["cp1250"] = mark.encode("cp1250", "replace")
    # In base64 of a longer text the value begins at any of three places.
    for before in (1, 2):
        middle = base64.b64encode(b"\0" * before + mark.encode()).decode()
        found[f"base64 after {before}"] = middle[4 : len(middle.rstrip("=")) - 1].encode()
    for value in {mark, mark.lower(), fold(mark), bare, fold(bare)}:
        for method in ("md5", "sha1", "sha256"):
            digest = hashlib.new(method, value.encode())
            found[f"{method} of {value}"] = digest.hexdigest().encode()
            found[f"bytes of the {method} of {value}"] = digest.digest()[:16]
    return {name: value for name, value in found.items() if len(value) >= 6}


def database_bytes() -> bytes:
    """The whole database: SQLite's file and its write-ahead log; what pg_dump writes, with BYTEA as hexadecimal, and
    those bytes as they are too."""
    if not IS_POSTGRES:
        file = connection.settings_dict["NAME"]
        files = [f"{file}{end}" for end in ("", "-wal", "-journal") if pathlib.Path(f"{file}{end}").exists()]
        # By another process: closing a file takes all of this one's locks on it away, those of SQLite too, and the next
        # one that closes the database believes to be the last and deletes the log under us.
        return subprocess.run(["cat", *files], capture_output=True, check=True).stdout
    known = connection.settings_dict
    command = ["pg_dump", "--inserts", "--no-owner", "--dbname", known["NAME"], "--username", known["USER"]]
    command += ["--host", known["HOST"] or "127.0.0.1", "--port", str(known["PORT"] or 5432)]
    env = {**os.environ, "PGPASSWORD": known["PASSWORD"] or ""}
    dump = subprocess.run(command, env=env, capture_output=True, check=True).stdout
    raw = b"".join(bytes.fromhex(found.decode()) for found in re.findall(rb"\\x((?:[0-9a-f]{2})+)", dump))
    return dump + raw


def leaks(marks=EVERY_MARK) -> list[str]:
    content = database_bytes()
    return [f"{mark} {how}" for mark in marks for how, value in spellings(mark).items() if value in content]


@pytest.fixture(autouse=True)
def _swept(transactional_db):
    """SQLite keeps what other tests wrote in free pages and in the log until it is told to let go of it."""
    if not IS_POSTGRES:
        with connection.cursor() as cursor:
            cursor.execute("VACUUM")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.fixture
def office(transactional_db):
    """Written to the disk as it goes: no transaction around."""
    factories.make_catalogue()
    manager = factories.make_user(roles.MANAGER, language="en")
    with operation(Source.COMMAND, user=manager, reason=REASON):
        yield manager


def make_case(client: Client, manager) -> Case:
    case = Case(client=client, adviser=manager, opened_on=TODAY, loan_purpose=TEXT, contract_number=CONTRACT)
    return workflow.start_case(case, by=manager)


# --- The search itself ---


@pytest.mark.parametrize(
    "how", ["as it is", "folded", "backwards", "base64", "base64 after 1", "hexadecimal", "UTF-16"]
)
def test_the_search_finds_a_mark_that_is_there(transactional_db, how):
    value = spellings("Qzxřmarková")[how]
    assert not leaks(["Qzxřmarková"])
    text = value.decode(errors="ignore")
    if "UTF-16" in how:
        models.SearchToken.objects.create(client=Client.objects.create(full_name="x"), kind="n", digest=value)
    else:
        models.Lender.objects.create(name=f"..{text}..", contact=text)
    assert leaks(["Qzxřmarková"])


def test_the_marks_are_those_of_every_encrypted_field():
    assert MARKS.keys() == encrypted_names(Client)


# --- The paths ---


def test_models_bulk_history_and_runs(office):
    client = Client.objects.create(**client_fields())
    client.save()
    Client.objects.bulk_create([Client(**client_fields())])
    Client.objects.bulk_create([Client(**client_fields())])
    bulk_create_with_history([Client(**client_fields())], Client)
    Client.objects.filter(pk=client.pk).update(**client_fields())
    Client.objects.bulk_update([client], list(MARKS))
    Client.objects.bulk_update([client], list(MARKS))
    Client.objects.search(MARKS["full_name"]).update(note=TEXT)
    models.SearchToken.objects.rebuild(Client.objects.all())
    case = make_case(client, office)
    Note.objects.create(case=case, text=TEXT, author=office)
    models.Property.objects.create(case=case, address=TEXT, cadastral_reference=CONTRACT)
    models.FinanceItem.objects.create(client=client, kind="rent", note=TEXT)
    models.Document.objects.create(case=case, type=models.DocumentType.objects.first(), note=TEXT)
    models.MessageLog.objects.create(
        claim_key="x", kind="x", case=case, recipient=MARKS["email"], subject=case.reference, body=TEXT
    )
    models.ImportRun.objects.create(
        file_name="x.csv", mapping=TEXT, corrections=TEXT, problems=f"{MARKS['full_name']} {TEXT}"
    )
    Client.objects.filter(cases=None).first().delete()
    assert leaks() == []
    assert Client.objects.search(MARKS["full_name"]).exists()


def test_every_transition_of_a_case_with_its_reason(office):
    client = Client.objects.create(**client_fields())
    first, second, third, fourth = (make_case(client, office) for _ in range(4))
    steps = list(first.steps.order_by("step__number"))
    CaseStep.objects.filter(pk=steps[1].pk).update(note=TEXT)
    workflow.complete_step(steps[0], by=office, on=TODAY)
    workflow.complete_step(steps[4], by=office, on=TODAY, override_reason=REASON)
    workflow.reopen_step(steps[4], by=office, reason=REASON)
    workflow.mark_not_applicable(steps[2], by=office, reason=REASON)
    workflow.reject(first, by=office, on=TODAY, reason=REASON)
    workflow.reopen_case(first, by=office, reason=REASON)
    workflow.withdraw(second, by=office, on=TODAY, reason=REASON)
    workflow.hand_over(third, by=office, to=factories.make_user(), reason=REASON)
    workflow.approve(
        fourth, by=office, on=TODAY, lender=factories.make_lender(), amount_czk=1_000_000, override_reason=REASON
    )
    assert first.history.filter(status="declined").get().rejection_reason == REASON
    assert leaks() == []


def test_the_admins_forms_lists_log_and_sessions(office, client):
    client.force_login(office)
    typed = {name: str(value) for name, value in MARKS.items()}
    add, listed = reverse("admin:crm_client_add"), reverse("admin:crm_client_changelist")
    answer = client.post(add, typed)
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    person = Client.objects.get()
    change = reverse("admin:crm_client_change", args=[person.pk])
    page = client.get(change).context
    forms = [page["adminform"].form]
    for inline in page["inline_admin_formsets"]:
        forms += [inline.formset.management_form, *inline.formset.forms]
    shown = {field.html_name: "" if field.value() is None else field.value() for form in forms for field in form}
    shown["_versions"] = page["versions"]
    answer = client.post(change, {**shown, **typed, "note": TEXT})
    assert answer.status_code == 302, answer.context["errors"]
    assert client.post(change, {**shown, **typed, "email": "not an address"}).status_code == 200
    answer = client.get(listed, {"q": MARKS["full_name"]})
    assert person.reference in answer.content.decode()
    client.get(reverse("admin:crm_client_history", args=[person.pk]))
    client.get(reverse("admin:search"), {"s": MARKS["full_name"]})
    client.get(listed, {"q": MARKS["birth_number"]})
    data = {"client": person.pk, "opened_on": "2026-03-02", "loan_purpose": TEXT, "contract_number": CONTRACT}
    client.post(reverse("admin:crm_case_add"), data)
    columns = [column.name for column in exports.columns_of(Client) if not column.is_key]
    exported = client.post(
        f"{reverse('admin:crm_client_export')}?q={quote(MARKS['full_name'])}",
        {"format": "csv", "columns": columns, "reason": MARKS["full_name"]},
    )
    assert MARKS["full_name"] in exported.content.decode("utf-8-sig")
    preset = {"format": "csv", "columns": columns, "preset_name": "All", "_save_new_preset": ""}
    answer = client.post(f"{reverse('admin:crm_client_export')}?q={quote(MARKS['full_name'])}", preset)
    assert "/export/" in answer["Location"]
    other = Client.objects.create(**client_fields())
    page = reverse("admin:crm_client_delete", args=[other.pk])
    client.post(page, {"post": "yes", "seen": client.get(page).context["seen"]})
    assert not Client.objects.filter(pk=other.pk).exists()
    assert LogEntry.objects.exists()
    assert Session.objects.exists()
    assert leaks() == []


def test_a_login_that_was_mistyped(transactional_db, client):
    """A password in the field of the name, a name in an unknown field: what django-axes keeps of an attempt."""
    client.post("/admin/login/", {"username": "x", "password": TEXT, "note": MARKS["note"]})
    assert leaks([TEXT]) == []


def test_no_entry_of_the_audit_trail_has_in_the_clear_what_was_typed(transactional_db, client):
    factories.make_catalogue()
    manager = factories.make_user(roles.MANAGER, language="en")
    client.post("/admin/login/", {"username": MARKS["full_name"], "password": "x"})
    client.force_login(factories.make_user())
    assert client.get(f"/admin/crm/step/{MARKS['city']}/delete/").status_code == 403
    imports.write(imports.check(FILE, f"{MARKS['employer']}.csv", manager), manager)
    exports.write(Client.objects.all(), io.BytesIO(), file_format=exports.CSV, user=manager, reason="x")
    kinds = set(models.AuditEntry.objects.values_list("kind", flat=True))
    assert {"login_failed", "refused", "import", "export"} <= kinds
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM crm_auditentry")
        rows = str(cursor.fetchall()).encode()
    found = [f"{mark} {how}" for mark in EVERY_MARK for how, value in spellings(mark).items() if value in rows]
    assert found == []


ROWS = [
    f"{MARKS['full_name']} Jana;{MARKS['email']};5 000 000;4 000 000;1.2.2026;{TEXT}",
    f"{MARKS['full_name']} Petr;;asi {MARKS['full_name']};1;1.2.2026;{TEXT}",
]
FILE = "\r\n".join([HEADER, *ROWS, ""]).encode()


def test_an_import_through_the_admin_with_its_preview_and_its_problems(office, client):
    client.force_login(office)
    answer = client.post(reverse("admin:crm_client_import"), {"file": SimpleUploadedFile("x.csv", FILE)})
    assert answer.status_code == 302, answer.context["form"].errors
    assert MARKS["full_name"] in client.get(answer["Location"]).content.decode()
    assert leaks() == []
    run = models.ImportRun.objects.get()
    imports.confirm(run, office)
    assert Client.objects.search(MARKS["full_name"]).count() == 1
    run.refresh_from_db()
    client.get(reverse("admin:crm_importrun_changelist"))
    assert leaks() == []


def test_an_import_and_an_export_by_command(office, tmp_path):
    file = tmp_path / "x.csv"
    file.write_bytes(FILE)
    with pytest.raises(SystemExit):
        call_command("import_clients", str(file), stdout=io.StringIO())
    assert Client.objects.search(MARKS["full_name"]).exists()
    Client.objects.create(**client_fields())
    target = io.BytesIO()
    exports.write(Client.objects.all(), target, file_format=exports.XLSX, user=office, reason="x")
    content = io.BytesIO()
    exports.write(Client.objects.all(), content, file_format=exports.CSV, user=office, reason="x")
    again = content.getvalue().replace(MARKS["city"].encode(), f"{MARKS['city']} 2".encode())
    plan = imports.check(again, "again.csv", office)
    imports.write(plan)
    assert Client.objects.count() >= 2
    assert leaks() == []


def test_dumpdata_loaddata_and_the_rebuilt_index(office, tmp_path):
    Client.objects.create(**client_fields())
    file = tmp_path / "clients.json"
    call_command("dumpdata", "crm.client", output=str(file))
    assert MARKS["city"] in file.read_text()
    Client.objects.all().delete()
    call_command("loaddata", str(file), verbosity=0)
    call_command("reindex_search", stdout=io.StringIO())
    assert Client.objects.search(MARKS["full_name"]).exists()
    assert leaks() == []


def test_a_queued_task_carries_ids_only(office):
    client = Client.objects.create(**client_fields())
    async_task("crm.tasks.x", client.pk)
    assert leaks() == []


def test_an_error_that_names_its_record_names_no_person(office, caplog):
    client = Client.objects.create(**client_fields())
    make_case(client, office)
    with pytest.raises(ProtectedError) as refused:
        client.delete()
    assert not any(mark in f"{refused.value}{caplog.text}" for mark in EVERY_MARK)
