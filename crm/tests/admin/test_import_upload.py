"""How a file or pasted rows come in, and what is refused at once."""

from urllib.parse import urlencode

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client as Browser
from django.test import override_settings
from django.urls import reverse

from crm.models import Case, Client, ImportRun, User
from crm.tests import factories
from crm.tests.admin.importing import GOOD, HEADER, UPLOAD, csv_file, paste, upload


@override_settings(UPLOAD_LIMIT_MB=0)
def test_a_file_that_is_too_large_is_refused(browse, manager):
    response = browse(manager).post(UPLOAD, {"file": csv_file(GOOD)})
    assert "The file is too large" in response.content.decode()


@override_settings(FILE_UPLOAD_MAX_MEMORY_SIZE=10)
def test_a_file_that_django_does_not_take_into_memory_is_too_large(browse, manager):
    response = browse(manager).post(UPLOAD, {"file": csv_file(GOOD)})
    assert "The file is too large" in response.content.decode()


LONG_PASTE = "jmeno\n" + "Jan\n" * 1_000_000


@pytest.fixture
def strict(manager):
    """A browser whose forms need their token, as a person's do."""
    User.objects.filter(pk=manager.pk).update(language="en")
    browser = Browser(enforce_csrf_checks=True)
    browser.force_login(manager)
    return browser


def token(browser) -> str:
    return browser.get(UPLOAD).context["csrf_token"]


@pytest.mark.parametrize("kind", [{}, {"content_type": "application/x-www-form-urlencoded"}])
def test_more_than_a_form_takes_is_told_on_the_form_with_the_cure(strict, kind):
    sent = {"csrfmiddlewaretoken": token(strict), "empty_deletes": "", "text": LONG_PASTE}
    response = strict.post(UPLOAD, urlencode(sent) if kind else sent, **kind)
    assert response.status_code == 200
    assert response.context["form"].errors == {
        "text": ["At most 2.5 MB can be pasted. Save the rows as XLSX or CSV, and choose that file."]
    }
    assert not ImportRun.objects.exists() and token(strict)


def test_as_much_as_a_form_takes_is_taken(strict):
    text = "jmeno\n" + "Jan\n" * 10 + "\n" * 2_600_000
    assert strict.post(UPLOAD, {"csrfmiddlewaretoken": token(strict), "text": text}).status_code == 302


def test_an_upload_without_the_forms_token_is_refused(strict):
    assert strict.post(UPLOAD, {"file": csv_file(GOOD)}).status_code == 403
    assert strict.post(UPLOAD, {"csrfmiddlewaretoken": token(strict), "file": csv_file(GOOD)}).status_code == 302


def test_a_long_paste_of_a_stranger_is_not_read(client, assistant):
    assert client.post(UPLOAD, {"text": LONG_PASTE})["Location"].startswith(reverse("admin:login"))
    client.force_login(assistant)
    assert client.post(UPLOAD, {"text": LONG_PASTE}).status_code == 403


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04nothing", b"<html>", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"])
def test_a_file_that_is_no_spreadsheet_is_an_error_on_the_form(browse, manager, content):
    response = browse(manager).post(UPLOAD, {"file": SimpleUploadedFile("x.csv", content)})
    assert response.status_code == 200
    assert response.context["form"].errors["file"]
    assert not ImportRun.objects.exists()


def test_the_browsers_file_name_is_a_label_only(browse, manager):
    browser = browse(manager)
    page = browser.get(upload(browser, GOOD, name="../../<b>evil</b>.csv"))
    assert "<b>evil</b>" not in page.content.decode()


@pytest.mark.parametrize("delimiter", ["\t", ";"])
def test_rows_are_pasted_from_a_spreadsheet(browse, manager, delimiter):
    factories.make_catalogue()
    browser = browse(manager)
    text = "\r\n".join(row.replace(";", delimiter) for row in (HEADER, GOOD))
    preview, run = paste(browser, text)
    assert run.file_name == "pasted rows"
    browser.post(preview, {"mode": "good"})
    assert Client.objects.get().full_name == "Jana Bílá"


def test_quotes_of_pasted_cells_are_part_of_their_text(browse, manager):
    factories.make_catalogue()
    browser = browse(manager)
    preview, _run = paste(
        browser, 'jmeno\tdatum\tco_financuje\r\n"Alfa" s.r.o.\t1.2.2026\tByt 3+kk "u lesa"\r\nBeta 15"\t1.2.2026\t\r\n'
    )
    browser.post(preview, {"mode": "good"})
    assert list(Client.objects.order_by("pk").values_list("full_name", flat=True)) == ['"Alfa" s.r.o.', 'Beta 15"']
    assert Case.objects.order_by("pk").first().loan_purpose == 'Byt 3+kk "u lesa"'


@pytest.mark.parametrize("data", [{}, {"text": "  \r\n"}])
def test_neither_file_nor_rows_is_an_error(browse, manager, data):
    assert browse(manager).post(UPLOAD, data).context["form"].errors["file"]


def test_a_file_and_rows_are_an_error(browse, manager):
    page = browse(manager).post(UPLOAD, {"file": csv_file(GOOD), "text": "x"})
    assert page.context["form"].errors["text"]
