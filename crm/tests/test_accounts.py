"""A welcome and a new password: by mail, to who works here, without telling an asker whether he does."""

import datetime
import re
import time

import pytest
import time_machine
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from crm import accounts, outbox, roles
from crm.admin import passwords
from crm.models import AuditEntry, MessageLog, User
from crm.tests import factories
from crm.tests.smtp import post_office

pytestmark = pytest.mark.django_db
ASK = "/password/"
MINUTE = datetime.timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _nobody_asked_yet():
    cache.clear()


@pytest.fixture
def alice():
    return factories.make_user(roles.ADVISER, username="alice", first_name="Alice", email="alice@example.com")


def ask(email: str, client=None, **headers):
    return (client or Client()).post(ASK, {"email": email}, headers={"accept-language": "en", **headers})


def written(**wanted) -> list[str]:
    return [message.recipient for message in MessageLog.objects.filter(**wanted).order_by("pk")]


def sent_link(settings) -> str:
    with post_office(settings) as post:
        outbox.send_due(timezone.now())
    text = post.taken[-1].get_payload(0).get_payload(decode=True).decode()
    return re.search(r"https://testserver(/password/\S+)", text)[1]


def set_password(client, path: str, password: str):
    form = client.get(path, follow=True)
    return client.post(form.request["PATH_INFO"], {"new_password1": password, "new_password2": password})


def test_the_login_page_leads_to_the_question(client):
    assert f'href="{ASK}"' in client.get(reverse("admin:login")).content.decode()
    assert client.get(ASK).status_code == 200


def test_who_forgot_his_password_gets_a_link_that_works_once(alice, client, settings):
    old = Client()
    old.force_login(alice)
    answer = ask("ALICE@example.com", client)
    assert answer.headers["Location"] == "/password/sent/"
    path = sent_link(settings)
    assert MessageLog.objects.get().kind == "password_reset"
    assert set_password(client, path, "correct horse battery").headers["Location"] == "/password/done/"
    assert User.objects.get(pk=alice.pk).check_password("correct horse battery")
    assert old.get("/admin/").status_code == 302  # his other sessions have ended
    assert AuditEntry.objects.filter(kind="password", model="user", object_id=alice.pk).exists()
    again = client.get(path, follow=True).content.decode()
    assert "no longer works" in again or "neplatí" in again


def test_a_link_is_of_use_for_its_days(alice, client, settings):
    ask(alice.email)
    path = sent_link(settings)
    start = time.time()  # Django reads the clock on the wall, which a moment with a time zone would change
    with time_machine.travel(start + settings.PASSWORD_RESET_TIMEOUT - 60):
        assert client.get(path, follow=True).context["validlink"]
    with time_machine.travel(start + settings.PASSWORD_RESET_TIMEOUT + 60):
        assert not Client().get(path, follow=True).context["validlink"]


def test_the_link_leads_to_the_office_whatever_host_was_asked(alice, settings):
    settings.ALLOWED_HOSTS = ["*"]
    ask(alice.email, host="evil.example")
    assert sent_link(settings).startswith("/password/")


def test_a_stored_message_holds_no_link(alice, manager, client):
    ask(alice.email)
    message = MessageLog.objects.get()
    assert outbox.LINK in message.body and outbox.LINK in message.html
    client.force_login(manager)
    page = client.get(reverse("admin:crm_messagelog_change", args=[message.pk])).content.decode()
    assert "testserver/password/" not in page and "[jednorázový odkaz]" in page


def test_an_unknown_asker_learns_nothing_and_costs_the_same(alice):
    answers = []
    for email in (alice.email, "nobody@example.com"):
        with CaptureQueriesContext(connection) as queries:
            answer = ask(email)
        work = [query["sql"].split()[0] for query in queries if "SAVEPOINT" not in query["sql"]]
        answers.append((answer.status_code, answer.headers["Location"], answer.content, work))
    assert answers[0] == answers[1]
    assert written() == [alice.email]


@pytest.mark.parametrize("fields", [{"is_active": False}, {"is_staff": False}, {"email": ""}])
def test_who_does_not_work_here_gets_nothing(alice, fields):
    User.objects.filter(pk=alice.pk).update(**fields)
    assert ask("alice@example.com").status_code == 302
    assert written() == []


def test_who_never_had_a_password_may_ask(alice):
    alice.set_unusable_password()
    alice.save()
    ask(alice.email)
    assert written() == [alice.email]


def test_two_people_with_one_address_get_one_each(alice):
    factories.make_user(roles.ADVISER, username="bob", email="Alice@Example.com")
    ask("alice@example.com")
    assert [message.user.username for message in MessageLog.objects.order_by("pk")] == ["alice", "bob"]


def test_a_link_that_went_to_a_wrong_address_keeps_nobody_waiting(alice):
    assert accounts.send_link(alice, timezone.now())
    assert not accounts.send_link(alice, timezone.now())
    alice.email = "alice@new.example"
    alice.save()
    assert accounts.send_link(alice, timezone.now())
    assert written() == ["alice@example.com", "alice@new.example"]


def test_one_mail_in_ten_minutes_and_a_few_a_day(alice):
    start = timezone.now()
    for minutes in (0, 1, 9):
        with time_machine.travel(start + minutes * MINUTE):
            ask(alice.email)
    assert len(written()) == 1
    with time_machine.travel(start + 11 * MINUTE):
        ask(alice.email)
    assert len(written()) == 2
    for hour in range(1, 23):
        with time_machine.travel(start + hour * 60 * MINUTE):
            cache.clear()
            ask(alice.email)
    assert len(written()) == accounts.MOST_A_DAY
    with time_machine.travel(start + 25 * 60 * MINUTE):
        ask(alice.email)
    assert len(written()) == accounts.MOST_A_DAY + 1


def test_one_place_does_not_ask_for_everybody():
    answers = [ask(f"nobody{number}@example.com").status_code for number in range(passwords.MOST_AN_HOUR + 1)]
    assert set(answers[:-1]) == {302} and answers[-1] == 429


def test_what_is_no_address_is_said_so():
    answer = ask("nobody")
    assert answer.status_code == 200 and answer.context["form"].errors


def test_the_mail_speaks_its_readers_language(alice):
    User.objects.filter(pk=alice.pk).update(language="cs")
    ask(alice.email)
    assert "Nové heslo" in MessageLog.objects.get().subject


def test_without_a_mail_server_the_page_says_whom_to_ask(settings, client):
    settings.EMAIL_IS_SET = False
    assert "sends no mail yet" in client.get(ASK, headers={"accept-language": "en"}).content.decode()


def test_a_link_of_somebody_who_left_meanwhile_does_not_work(alice, client, settings):
    ask(alice.email)
    path = sent_link(settings)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert not client.get(path, follow=True).context["validlink"]


def test_a_new_password_lifts_the_lock_of_too_many_tries(alice, settings):
    settings.AXES_FAILURE_LIMIT = 2
    for _try in range(3):
        Client().post("/admin/login/", {"username": "alice", "password": "wrong"})
    ask(alice.email)
    set_password(Client(), sent_link(settings), "correct horse battery")
    answer = Client().post("/admin/login/", {"username": "alice", "password": "correct horse battery"})
    assert answer.status_code == 302


def test_a_newcomer_is_welcomed_and_who_was_here_gets_a_new_password(alice):
    now = timezone.now()
    assert accounts.send_link(alice, now)
    assert not accounts.send_link(alice, now + 9 * MINUTE)
    User.objects.filter(pk=alice.pk).update(last_login=now)
    alice.refresh_from_db()
    with time_machine.travel(now + 11 * MINUTE):
        assert accounts.send_link(alice, timezone.now())
    assert list(MessageLog.objects.order_by("pk").values_list("kind", flat=True)) == ["welcome", "password_reset"]
    assert "alice" in MessageLog.objects.first().body
