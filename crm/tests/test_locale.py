"""The Czech of the product: nothing missing, nothing broken, and it really reaches the page. English stays English."""

import datetime
import re
from decimal import Decimal

import polib
import pytest
from django import forms
from django.apps import apps
from django.contrib import admin
from django.core.management import call_command
from django.urls import reverse
from django.utils import formats, translation
from django.utils.functional import Promise

from crm import choices, translations
from crm.admin.forms import LocalDateField, NumberField
from crm.exceptions import CrmError

# Words that are the same in both languages.
# fmt: off
SAME = {
    "API", "Audit", "Auditor", "Cluster", "Cron", "DATETIME_FORMAT", "Data", "DSTI", "DSTI (%)", "DTI", "E-mail", "ETag", "Export",
    "HTML", "Import", "Info", "LTV", "LTV (%)", "Leasing", "MB", "Marketing", "Role", "SHA-256", "Text", "claim key", "e-mail", "export", "filter", "format", "import",
    "limit", "role", "text",
}
# fmt: on
NAMED = re.compile(r"%\(\w+\)[sd]")
POSITIONAL = re.compile(r"(?<!%)%[sdr]")
BRACES = re.compile(r"{\w*}")
TAGS = re.compile(r"</?\w+[^>]*>")


@pytest.fixture(scope="module")
def catalogue():
    return translations.read()


def texts(entry) -> list[str]:
    """What is translated so far; the test of the whole says what is missing."""
    return [text for text in (entry.msgstr_plural.values() if entry.msgid_plural else [entry.msgstr]) if text]


def test_the_catalogue_has_every_string_and_no_other_and_mo_is_of_the_same_age():
    assert translations.problems() == []


def test_check_says_what_is_missing_fuzzy_dead_and_behind_and_writes_nothing(monkeypatch, tmp_path, catalogue, capsys):
    path = tmp_path / "django.po"
    monkeypatch.setattr(translations, "catalogue_path", lambda: path)
    entries = {entry.msgid: entry for entry in translations.read() or catalogue}
    broken = polib.POFile(wrapwidth=100)
    broken.metadata = catalogue.metadata
    for msgid, entry in entries.items():
        if msgid != "Client":
            flags = ["fuzzy"] if msgid == "Step" else entry.flags
            broken.append(polib.POEntry(**{**vars(entry), "flags": flags, "encoding": "utf-8"}))
    broken.append(polib.POEntry(msgid="Nobody says this", msgstr="Tohle nikdo neříká"))
    path.write_text(str(broken), "utf-8")
    with pytest.raises(SystemExit):
        call_command("update_messages", "--check")
    said = capsys.readouterr().out
    assert "missing: 'Client'" in said
    assert "fuzzy: 'Step'" in said
    assert "dead: 'Nobody says this'" in said
    assert "django.mo is behind" in said
    assert path.read_text("utf-8") == str(broken)


def test_without_babel_the_command_says_what_to_install(monkeypatch):
    def no_module(name):
        raise ImportError(name)

    monkeypatch.setattr(translations, "import_module", no_module)
    with pytest.raises(CrmError, match="babel is not installed"):
        translations.refuse_without_tools()


@pytest.mark.parametrize("pattern", [NAMED, POSITIONAL, BRACES, TAGS])
def test_placeholders_and_tags_are_the_same_in_both_languages(catalogue, pattern):
    for entry in catalogue:
        for text in texts(entry):
            assert sorted(pattern.findall(entry.msgid)) == sorted(pattern.findall(text)), entry.msgid


def test_sentences_end_alike_and_no_text_begins_or_ends_with_a_stray_space(catalogue):
    for entry in catalogue:
        for text in texts(entry):
            ends = (".", "…", "?")
            assert entry.msgid.rstrip().endswith(ends) == text.rstrip().endswith(ends), entry.msgid
            assert entry.msgid.startswith((" ", "\n")) == text.startswith((" ", "\n")), entry.msgid
            assert entry.msgid.endswith((" ", "\n")) == text.endswith((" ", "\n")), entry.msgid


def test_no_czech_text_is_the_english_one(catalogue):
    assert {entry.msgid for entry in catalogue if entry.msgid in texts(entry)} - SAME == set()


@pytest.mark.parametrize(
    ("number", "text"), [(1, "1 záznam"), (2, "2 záznamy"), (4, "4 záznamy"), (5, "5 záznamů"), (0, "0 záznamů")]
)
def test_czech_counts_in_three_ways(number, text):
    with translation.override("cs"):
        said = translation.ngettext("%(counter)s result", "%(counter)s results", number) % {"counter": number}
    assert said == text


def own_models():
    for model in apps.get_app_config("crm").get_models():
        if not model.__name__.startswith("Historical") and not model._meta.auto_created:
            yield model


def in_both(text) -> tuple[str, str]:
    words = []
    for language in ("en", "cs"):
        with translation.override(language):
            words.append(str(text))
    return tuple(words)


def test_every_field_that_a_form_could_show_has_both_names():
    models = [model for model in own_models() if isinstance(model._meta.verbose_name, Promise)]
    fields = [field for model in models for field in model._meta.fields if not field.auto_created]
    named = {str(field): in_both(field.verbose_name) for field in fields if isinstance(field.verbose_name, Promise)}
    assert len(named) > 150
    assert {name for name, (english, czech) in named.items() if english == czech and english not in SAME} == set()
    assert {str(field.verbose_name) for field in fields if field.editable and str(field) not in named} - SAME == set()


def test_every_model_of_the_admin_has_both_names():
    models = [model for model in own_models() if admin.site.is_registered(model)]
    assert len(models) > 2
    for model in models:
        for name in (model._meta.verbose_name, model._meta.verbose_name_plural):
            english, czech = in_both(name)
            assert english != czech or english in SAME, model


def test_every_choice_is_named_in_both_languages():
    classes = [kind for kind in vars(choices).values() if isinstance(kind, type) and hasattr(kind, "choices")]
    pairs = [in_both(member.label) for kind in classes for member in kind if kind is not choices.Language]
    assert len(pairs) > 50
    assert {english for english, czech in pairs if english == czech} - SAME == set()


@pytest.mark.parametrize(
    ("language", "shown", "hidden"),
    [("cs", "Použít filtry", "Apply Filters"), ("en", "Apply Filters", "Použít filtry")],
)
def test_the_client_list_speaks_the_users_language_in_words_of_unfold(client, manager, language, shown, hidden):
    manager.language = language
    manager.save()
    client.force_login(manager)
    page = client.get(reverse("admin:crm_client_changelist")).content.decode()
    assert shown in page
    assert hidden not in page


@pytest.mark.parametrize(("language", "shown"), [("cs", "Přihlásit se"), ("en", "Log in")])
@pytest.mark.django_db
def test_the_login_page_speaks_the_browsers_language(client, language, shown):
    page = client.get(reverse("admin:login"), headers={"accept-language": language}).content.decode()
    assert shown in page
    assert f'<html lang="{language}"' in re.sub(r"\s+", " ", page)


@pytest.mark.parametrize("field", [forms.DateField, LocalDateField])
@pytest.mark.parametrize("typed", ["31.12.2025", "31. 12. 2025", "2025-12-31"])
def test_a_czech_form_takes_the_dates_that_czechs_write(field, typed):
    with translation.override("cs"):
        assert field().clean(typed) == datetime.date(2025, 12, 31)


@pytest.mark.parametrize("typed", ["1234567,50", "1 234 567,50", "1\xa0234\xa0567,50", "1 234 567,50 Kč"])
def test_a_czech_form_takes_the_amounts_that_czechs_write(typed):
    with translation.override("cs"):
        assert NumberField().clean(typed) == Decimal("1234567.50")


def test_dates_and_numbers_are_shown_as_the_reader_writes_them():
    day = datetime.date(2025, 12, 31)
    with translation.override("cs"):
        assert formats.date_format(day) == "31. prosince 2025"
        assert formats.number_format(Decimal("1234567.50"), force_grouping=True) == "1\xa0234\xa0567,50"
    with translation.override("en"):
        assert formats.number_format(Decimal("1234567.50"), force_grouping=True) == "1,234,567.50"
