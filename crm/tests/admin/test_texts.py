"""The office words its mails, and cannot break them."""

import html

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse

from crm import roles, texts
from crm.models import MessageLog, MessageText
from crm.tests import factories
from crm.tests.admin.rows import as_now

pytestmark = pytest.mark.django_db
SUBJECT, BODY = "News: {{ count_text }}", "{% for line in lines %}{{ line.reference }} {{ line.what }}{% endfor %}"


@pytest.fixture
def row(db):
    texts.sync()
    return MessageText.objects.get(kind="notices", language="en")


@pytest.fixture
def boss(client):
    user = factories.make_user(roles.MANAGER, language="en", email="boss@example.com")
    client.force_login(user)
    return user


def page(row, name="change") -> str:
    return reverse(f"admin:crm_messagetext_{name}", args=[row.pk])


def typed(row, **fields) -> dict:
    """As a browser sends what the page shows."""
    words = texts.in_force(row.kind, row.language)
    shown = {name: getattr(words, name).replace("\n", "\r\n") for name in texts.FIELDS}
    return {**shown, **as_now(row), **fields}


def errors(response) -> dict:
    return response.context["adminform"].form.errors


# --- What is shown and saved ---


def test_the_page_shows_the_words_in_force_and_their_variables(boss, client, row):
    MessageText.objects.filter(pk=row.pk).update(subject=SUBJECT)
    shown = html.unescape(client.get(page(row)).content.decode())
    assert SUBJECT in shown and "{% for line in lines %}\n- {{ line.moment }}" in shown
    assert "<code>{% for line in lines %}</code>" in shown and "<code>{{ line.reference }}</code>" in shown
    listed = client.get(reverse("admin:crm_messagetext_changelist")).content.decode()
    assert "The office&#x27;s own" in listed and listed.count("As shipped") == 15


def test_only_what_differs_from_the_shipped_text_is_stored(boss, client, row):
    assert client.post(page(row), typed(row)).status_code == 302
    row.refresh_from_db()
    assert (row.subject, row.body, row.html) == ("", "", "") and row.history.count() == 1
    client.post(page(row), typed(row, subject=SUBJECT))
    row.refresh_from_db()
    assert (row.subject, row.body, row.html) == (SUBJECT, "", "")
    assert row.history.first().history_user_id == boss.pk
    client.post(page(row), typed(row, subject=texts.shipped("notices", "en").subject))
    row.refresh_from_db()
    assert row.subject == "" and row.history.count() == 3


def test_what_one_types_and_another_typed_meanwhile_both_stay(boss, client, row):
    opened = typed(row)
    other = MessageText.objects.get(pk=row.pk)
    other.subject = SUBJECT
    other.save()
    assert client.post(page(row), {**opened, "body": BODY}).status_code == 302
    row.refresh_from_db()
    assert (row.subject, row.body) == (SUBJECT, BODY)
    asked = client.post(page(row), {**opened, "subject": "Mine: {{ count }}"})
    assert "changed this on" in str(errors(asked)["subject"])


@pytest.mark.parametrize(
    ("field", "source", "said"),
    [
        ("subject", "{{ nam }}", "nam is not known here. Known are: count"),
        ("subject", "{% for line in lines %}", "{% for %} is never closed"),
        ("body", "one\r\n{% include 'x' %}", "Line 2: {% include %} is not possible"),
        ("body", "{{ settings.SECRET_KEY }}", "settings is not known"),
        ("html", "<p>{{ count|safe }}</p>", "The filter |safe is not possible"),
        ("html", "{% for a in lines %}{% for b in lines %}x{% endfor %}{% endfor %}", "A loop inside a loop"),
    ],
)  # fmt: skip
def test_a_broken_text_is_an_error_on_its_field_and_not_saved(boss, client, row, field, source, said):
    answer = client.post(page(row), typed(row, **{field: source}))
    assert answer.status_code == 200 and said in html.unescape(str(errors(answer)[field]))
    assert source in html.unescape(answer.content.decode())
    row.refresh_from_db()
    assert (row.subject, row.body, row.html) == ("", "", "")


def test_the_way_back_asks_first_and_keeps_the_words_in_the_history(boss, client, row):
    row.subject, row.body = SUBJECT, BODY
    row.save()
    back = f"/admin/crm/messagetext/{row.pk}/as-shipped"
    address = client.get(back, follow=True).request["PATH_INFO"]
    row.refresh_from_db()
    assert row.subject == SUBJECT
    assert client.post(address).status_code == 302
    row.refresh_from_db()
    assert (row.subject, row.body) == ("", "") and row.history.first().prev_record.body == BODY


# --- Preview ---


def test_a_preview_shows_what_is_typed_on_a_made_up_case_and_saves_nothing(boss, client, row):
    shown = client.post(page(row, "preview"), typed(row, subject="Hi: {{ count }}", html="<b>{{ lines.0.what }}</b>"))
    said = shown.context["said"]
    assert said.subject == "Hi: 2" and "<b>Step completed</b>" in said.html
    assert "srcdoc=" in shown.content.decode() and "sandbox" in shown.content.decode()
    row.refresh_from_db()
    assert row.subject == "" and row.history.count() == 1 and not MessageLog.objects.exists()


def test_a_preview_on_a_real_case(boss, client, row):
    case = factories.make_case()
    said = client.post(page(row, "preview"), typed(row, reference=case.reference.lower())).context["said"]
    assert case.reference in said.body and f"/case/{case.pk}/change/" in said.html


@pytest.mark.parametrize("reference", ["H-999999", "nonsense"])
def test_a_preview_on_a_case_that_there_is_not_says_so(boss, client, row, reference):
    shown = client.post(page(row, "preview"), typed(row, reference=reference))
    assert shown.context["said"] is None and b"There is no such case, or you may not see it." in shown.content


def test_a_preview_of_another_s_case_says_no_more_than_of_none(settings, client, row):
    settings.ADVISER_SCOPE = "own"
    anna = factories.make_user(roles.ADVISER, language="en")
    anna.user_permissions.add(*Permission.objects.filter(content_type__model="messagetext"))
    client.force_login(anna)
    mine, other = factories.make_case(adviser=anna), factories.make_case()
    assert client.post(page(row, "preview"), typed(row, reference=mine.reference)).context["said"]
    shown = client.post(page(row, "preview"), typed(row, reference=other.reference))
    assert shown.context["said"] is None and b"There is no such case" in shown.content


def test_a_preview_of_a_broken_text_says_what_is_wrong(boss, client, row):
    shown = client.post(page(row, "preview"), typed(row, body="{% debug %}"))
    assert shown.context["said"] is None
    assert "Text: Line 1: {% debug %} is not possible here." in html.unescape(shown.content.decode())


def test_html_that_somebody_typed_cannot_leave_its_frame(boss, client, row):
    shown = client.post(page(row, "preview"), typed(row, html='"></iframe><script>alert(1)</script>')).content.decode()
    assert "<script>alert" not in shown and "&lt;script&gt;alert" in shown


# --- Test ---


def test_a_test_is_one_message_to_oneself_and_no_mail_leaves(boss, client, row, mailoutbox):
    for _ in range(2):
        client.post(page(row, "test"), typed(row, subject="Hi: {{ count }}"))
    [message] = MessageLog.objects.all()
    assert (message.recipient, message.user, message.subject) == ("boss@example.com", boss, "Test: Hi: 2")
    assert message.body and message.html and message.case_id is None and not mailoutbox
    client.post(page(row, "test"), typed(row, subject="Ho: {{ count }}"))
    assert MessageLog.objects.count() == 2


def test_the_list_of_messages_names_a_test_in_the_readers_language(boss, client, row):
    client.post(page(row, "test"), typed(row))
    boss.language = "cs"
    boss.save()
    for url in (
        reverse("admin:crm_messagelog_changelist"),
        reverse("admin:crm_messagelog_change", args=[MessageLog.objects.get().pk]),
    ):
        assert "Zkouška textu" in client.get(url).content.decode()


def test_who_has_no_address_is_told_so(boss, client, row):
    boss.email = ""
    boss.save()
    shown = client.post(page(row, "test"), typed(row))
    assert b"no e-mail address" in shown.content and not MessageLog.objects.exists()


def test_a_test_of_a_welcome_gives_no_link_away_and_counts_for_none(administrator, client):
    client.force_login(administrator)
    texts.sync()
    row = MessageText.objects.get(kind="welcome", language="en")
    client.post(page(row, "test"), typed(row))
    [message] = MessageLog.objects.all()
    assert "https://hypodesk.example/set-password" in message.body and message.kind == "test"


# --- Who may ---


@pytest.mark.parametrize(
    ("role", "opens", "changes"),
    [(roles.ADMINISTRATOR, 200, 302), (roles.MANAGER, 200, 302), (roles.AUDITOR, 200, 403), (roles.ADVISER, 403, 403),
     (roles.ASSISTANT, 403, 403)],
)  # fmt: skip
def test_managers_write_and_auditors_read(client, row, role, opens, changes):
    client.force_login(factories.make_user(role, language="en", email="a@example.com"))
    assert client.get(reverse("admin:crm_messagetext_changelist")).status_code == opens
    assert client.get(page(row)).status_code == opens
    assert client.post(page(row), typed(row, subject=SUBJECT)).status_code == changes
    tried = 200 if changes == 302 else 403
    for name in ("preview", "test"):
        assert client.post(page(row, name), typed(row)).status_code == tried
    assert MessageLog.objects.exists() is (tried == 200)
    assert client.get(f"/admin/crm/messagetext/{row.pk}/as-shipped", follow=True).status_code == tried
    assert client.get("/admin/crm/messagetext/add/").status_code == 403
    assert client.post(f"/admin/crm/messagetext/{row.pk}/delete/", {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("kind", ["welcome", "password_reset"])
@pytest.mark.parametrize(("role", "answer"), [(roles.ADMINISTRATOR, 302), (roles.MANAGER, 403)])
def test_a_mail_with_a_link_for_the_password_is_worded_by_administrators(client, row, kind, role, answer):
    """An image whose address holds the link would tell it to whoever serves the image."""
    row = MessageText.objects.get(kind=kind, language="en")
    client.force_login(factories.make_user(role, language="en"))
    assert client.get(page(row)).status_code == 200
    assert client.post(page(row), typed(row, subject="Hello")).status_code == answer
    if answer == 403:
        assert client.post(page(row, "test"), typed(row)).status_code == 403
        assert client.post(f"/admin/crm/messagetext/{row.pk}/as-shipped", follow=True).status_code == 403


def test_an_auditor_reads_the_words_in_force(auditor, client, row):
    client.force_login(auditor)
    shown = html.unescape(client.get(page(row)).content.decode())
    assert "{% for line in lines %}" in shown and "<textarea" not in shown


@pytest.mark.parametrize("name", ["preview", "test"])
def test_trying_is_a_post_of_a_row_that_there_is(boss, client, row, name):
    assert client.get(page(row, name)).status_code == 405
    assert client.post(page(row, name).replace(str(row.pk), "999999"), {}).status_code == 404
