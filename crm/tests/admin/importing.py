"""What tests of the import pages send and open."""

from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.urls import reverse

from crm import jobs, tasks
from crm.models import ImportRun

UPLOAD = reverse("admin:crm_client_import")
HEADER = "jmeno;email;cena;navrh_financovani_castka;datum"
GOOD = "Jana Bílá;jana@example.com;5 000 000;4 000 000;1.2.2026"
BAD = "Petr Zlý;petr@example.com;asi milion;1;1.2.2026"
UNKNOWN = "jmeno;Mail klienta;Poznámky navíc\r\nJana Bílá;jana@example.com;x\r\n"


def csv_file(*rows, name="clients.csv") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, "\r\n".join([HEADER, *rows, ""]).encode())


def upload(browser, *rows, **kwargs):
    """The preview's address."""
    response = browser.post(UPLOAD, {"file": csv_file(*rows, **kwargs)})
    assert response.status_code == 302, response.context["form"].errors
    return response["Location"]


def paste(browser, text=UNKNOWN):
    response = browser.post(UPLOAD, {"text": text})
    assert response.status_code == 302, response.context["form"].errors
    return response["Location"], ImportRun.objects.latest("pk")


def url(page: str, run: ImportRun) -> str:
    return reverse(f"admin:crm_client_{page}", args=[run.token])


def work(run: ImportRun) -> ImportRun:
    jobs.carry_out(ImportRun.objects.get(pk=run.pk).job_id, tasks.JOBS)
    return ImportRun.objects.get(pk=run.pk)


def database_dump() -> str:
    """Every row of every table, as the database gives them."""
    with connection.cursor() as cursor:
        found = []
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            found += map(repr, cursor.fetchall())
    return "\n".join(found)
