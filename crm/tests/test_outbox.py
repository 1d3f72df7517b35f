"""Messages and a real mail server: down, slow, greylisting, refusing, hanging up; and who is killed in between."""

import datetime
import smtplib
import ssl
import threading
import time
from email.header import decode_header, make_header
from email.utils import parseaddr
from types import SimpleNamespace

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from crm import health, jobs, mail_server, outbox, roles, schedules, tasks
from crm.models import Case, Client, Consent, MessageLog, User
from crm.tests import factories
from crm.tests.raw import stored
from crm.tests.smtp import post_office
from project import env

pytestmark = pytest.mark.django_db
MINUTE = datetime.timedelta(minutes=1)


@pytest.fixture
def post(settings):
    with post_office(settings) as found:
        yield found


def write(to: str = "alice@example.com", about=("2026-03-02",), kind="deadlines", **values) -> MessageLog | None:
    texts = {"subject": "H-000001", "body": "Dobrý den, příští krok.", "language": "cs"}
    if "case_id" not in values:
        values.setdefault("user", User.objects.filter(email=to).first() or factories.make_user(email=to))
    found = outbox.message(kind, to=to, about=about, **texts | values)
    return MessageLog.objects.get(claim_key=found.claim_key) if outbox.put([found]) else None


def send(after: datetime.timedelta = 0 * MINUTE) -> dict:
    with time_machine.travel(timezone.now() + after, tick=True):
        return outbox.send_due(timezone.now())


def states() -> list[str]:
    return list(MessageLog.objects.order_by("pk").values_list("state", flat=True))


def test_a_message_is_written_once_and_sent_once(post):
    message = write(html="<p>Dobrý den</p>")
    assert write() is None and write(to=" ALICE@example.com ") is None
    assert write(about=("2026-03-03",)) and write(to="bob@example.com")
    assert send() == {"sent": 3}
    assert send() == {}
    [first, *_rest] = post.taken
    assert (first["To"], first["Message-ID"]) == ("alice@example.com", outbox.message_id(message))
    assert [part.get_content_type() for part in first.walk()][1:] == ["text/plain", "text/html"]
    assert "Dobrý den, příští krok." in first.get_payload(0).get_payload(decode=True).decode()
    message.refresh_from_db()
    assert message.state == "sent" and message.sent_at and message.next_try_at is None


def test_what_waited_too_long_is_never_sent_but_by_hand(post, settings):
    settings.EMAIL_IS_SET = False
    message = write(kind="deadlines")
    write(kind="weekly_report")
    assert send(after=outbox.LIFETIMES["deadlines"] - MINUTE) == {"waiting": 2}
    assert send(after=outbox.LIFETIMES["deadlines"] + MINUTE) == {"expired": 1, "waiting": 1}
    assert states() == ["expired", "waiting"]
    settings.EMAIL_IS_SET = True
    assert send(after=outbox.LIFETIMES["deadlines"] + 2 * MINUTE) == {"sent": 1}
    assert outbox.resend(message) and send() == {"sent": 1}
    assert post.ids[1] == outbox.message_id(message)


def test_a_month_of_mornings_does_not_come_at_once(post, settings):
    settings.EMAIL_IS_SET = False
    start = timezone.now()
    for day in range(30):
        with time_machine.travel(start + day * outbox.DAY, tick=True):
            write(about=(day,))
            outbox.send_due(timezone.now())
    settings.EMAIL_IS_SET = True
    send(after=30 * outbox.DAY)
    assert len(post.taken) == 2


def test_what_is_on_its_way_does_not_expire(post):
    message = write()
    outbox._claim(message.pk, timezone.now())
    with time_machine.travel(message.expires_at + MINUTE, tick=False):
        MessageLog.objects.update(next_try_at=timezone.now() + MINUTE)
        assert outbox.send_due(timezone.now()) == {}
    assert states() == ["waiting"]


@pytest.mark.parametrize(
    ("changed", "error"),
    [({"is_active": False}, "user"), ({"is_staff": False}, "user"), ({"email": "a@x.cz"}, "address")],
)
def test_who_left_meanwhile_or_has_another_address_is_not_written_to(post, changed, error):
    message = write()
    write(to="bob@example.com")
    User.objects.filter(pk=message.user_id).update(**changed)
    assert send() == {"withheld": 1, "sent": 1}
    assert (post.recipients, MessageLog.objects.get(pk=message.pk).error) == (["bob@example.com"], error)


@pytest.mark.parametrize("kind", ["weekly_report", "deadlines", "radar", "notices"])
def test_a_manager_who_may_see_his_own_cases_alone_by_now_does_not_get_what_he_was_told_of_all(post, settings, kind):
    settings.ADVISER_SCOPE = "own"
    manager, adviser = factories.make_user(roles.MANAGER), factories.make_user(roles.ADVISER)
    for user in (manager, adviser):
        write(to=user.email, user=user, kind=kind)
    roles.assign(manager, roles.ADVISER)
    assert send() == {"withheld": 1, "sent": 1}
    assert (post.recipients, MessageLog.objects.get(user=manager).error) == ([adviser.email], "rights")


@pytest.mark.parametrize("kind", ["weekly_report", "deadlines", "radar", "notices"])
def test_who_may_see_no_cases_any_more_gets_nothing_of_them(post, kind):
    write(kind=kind).user.groups.clear()
    assert send() == {"withheld": 1} and post.taken == []


def test_who_lost_his_role_still_gets_his_link(post):
    write(kind="password_reset").user.groups.clear()
    assert send() == {"sent": 1}


def test_who_is_gone_is_not_written_to(post):
    write().user.delete()
    assert send() == {"withheld": 1} and post.taken == []


def test_a_client_is_asked_about_again_when_a_message_leaves(post):
    def letter(**fields):
        case = factories.make_case(factories.make_client(email="Client@Example.com", **fields))
        return case.client, write(to="client@example.com", kind="client_deadlines", case_id=case.pk, about=(case.pk,))

    day = timezone.localdate()
    _fine, first = letter()
    for change in (
        lambda client: Consent.objects.create(client=client, purpose="messages", given_on=day, withdrawn_on=day),
        lambda client: Client.objects.filter(pk=client.pk).update(restricted_at=timezone.now()),
        lambda client: Client.objects.filter(pk=client.pk).update(email="other@example.com"),
    ):
        change(letter()[0])
    case = letter()[0].cases.get()
    case.delete()
    assert send() == {"sent": 1, "withheld": 4}
    errors = MessageLog.objects.filter(state="withheld").order_by("pk").values_list("error", flat=True)
    assert list(errors) == ["client", "client", "address", "case"]
    assert post.ids == [outbox.message_id(first)]


@pytest.mark.parametrize("kind", ["client_deadlines", "client_notices"])
def test_a_clients_message_is_sent_again_to_todays_address(post, kind):
    case = factories.make_case(factories.make_client(email="alcie@example.com"))
    message = write(to="alcie@example.com", kind=kind, case_id=case.pk)
    post.refuse = {"alcie@example.com"}
    assert send() == {"refused": 1}
    case.client.email = "alice@example.com"
    case.client.save()
    assert outbox.resend(message) and send() == {"sent": 1}
    assert post.recipients == ["alice@example.com"]
    assert post.ids == [outbox.message_id(message)]


def test_a_client_who_declined_gets_nothing_sent_again(post):
    case = factories.make_case(factories.make_client(email="alcie@example.com"))
    message = write(to="alcie@example.com", kind="client_notices", case_id=case.pk)
    post.refuse = {"alcie@example.com"}
    send()
    day = timezone.localdate()
    Client.objects.update(email="alice@example.com")
    Consent.objects.create(client=case.client, purpose="messages", given_on=day, withdrawn_on=day)
    assert outbox.resend(message) and send() == {"withheld": 1}
    message.refresh_from_db()
    assert (message.recipient, message.error, post.taken) == ("alcie@example.com", "client", [])


@pytest.mark.parametrize(("kind", "became"), [("client_deadlines", "withheld"), ("client_notices", "sent")])
def test_a_client_is_not_reminded_of_a_case_that_is_over_and_still_told_that_it_is(post, kind, became):
    case = factories.make_case(factories.make_client(email="client@example.com"))
    write(to="client@example.com", kind=kind, case_id=case.pk)
    Case.objects.filter(pk=case.pk).update(status="declined")
    assert send() == {became: 1}


@pytest.mark.parametrize("kind", ["welcome", "password_reset"])
def test_a_link_is_made_when_the_mail_leaves_and_stands_in_no_table(post, client, kind):
    post.defer = {"alice@example.com"}
    message = write(kind=kind, body=f"Zde: {outbox.LINK} .", html=f'<a href="{outbox.LINK}">Zde</a>')
    send()
    assert send(after=2 * MINUTE)["sent"] == 1
    [mail] = post.taken
    text = mail.get_payload(0).get_payload(decode=True).decode()
    link = text.split()[1]
    assert link.startswith("https://testserver/password/") and f'href="{link}"' in str(
        mail.get_payload(1).get_payload(decode=True).decode()
    )
    assert client.get(link.removeprefix("https://testserver"), follow=True).context["validlink"]
    stored_now = MessageLog.objects.get(pk=message.pk)
    assert "/password/" not in stored_now.body + stored_now.html


def test_no_other_kind_of_message_gets_a_link(post):
    write(body=outbox.LINK)
    send()
    assert post.taken[0].get_payload(decode=True).decode().strip() == outbox.LINK


@pytest.mark.parametrize("to", ["a@b..c", "a@x\u2028y.cz", f"a@{'č' * 60}.cz"])
def test_a_message_that_no_mail_can_be_made_of_stops_no_other(post, to):
    write(to=to)
    write()
    assert send() == {"sent": 1, "refused": 1} or states() == ["sent", "sent"]
    assert states()[1] == "sent" and MessageLog.objects.filter(next_try_at__isnull=False).count() == 0


def test_what_no_key_opens_is_not_sent(post):
    message = write()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE crm_messagelog SET body = %s", [f"{stored(message, 'body')[:-12]}AAAAAAAAAAA="])
    assert send()["failed"] == 1 and post.taken == []
    assert (states(), MessageLog.objects.get().error) == (["failed"], "Unreadable")


def test_a_message_too_large_for_the_server_is_refused_and_others_go(post):
    post.too_large = {"alice@example.com"}
    write()
    write(to="bob@example.com")
    assert send() == {"sent": 1, "refused": 1}


def test_recipient_and_text_are_encrypted_in_the_table(post):
    message = write()
    for name in ("recipient", "body", "html"):
        assert "alice" not in stored(message, name) and "krok" not in stored(message, name)


def test_a_refused_recipient_is_final_others_get_theirs_and_no_address_is_kept(post):
    post.refuse = {"nobody@example.com"}
    write(to="nobody@example.com")
    write()
    assert send() == {"sent": 1, "refused": 1}
    assert states() == ["refused", "sent"]
    assert MessageLog.objects.get(state="refused").error == "550 5.1.1"
    assert send(after=60 * 24 * MINUTE) == {}


def test_a_message_that_the_server_takes_from_no_such_sender_keeps_no_other_waiting(post):
    post.refuse_senders = 1
    first = write()
    write(to="bob@example.com")
    assert send() == {"failed": 1, "sent": 1}
    first.refresh_from_db()
    assert (first.attempts, first.error) == (1, "SMTPSenderRefused 553")
    assert send(after=2 * MINUTE) == {"sent": 1}


def test_after_a_server_closed_the_line_the_next_message_pays_for_nothing(post):
    post.closing = {"alice@example.com"}
    write()
    bob = write(to="bob@example.com")
    assert send() == {"failed": 1, "sent": 1}
    bob.refresh_from_db()
    assert bob.attempts == 1


def test_an_address_that_the_server_cannot_read_is_refused_and_others_go(post, monkeypatch):
    real = smtplib.SMTP.sendmail

    def sendmail(self, sender, to, *args, **kwargs):
        if to == ["alice@example.com"]:
            raise smtplib.SMTPNotSupportedError
        return real(self, sender, to, *args, **kwargs)

    monkeypatch.setattr(smtplib.SMTP, "sendmail", sendmail)
    write()
    write(to="bob@example.com")
    assert send() == {"refused": 1, "sent": 1}


def test_greylisting_is_waited_out(post):
    post.defer = {"alice@example.com"}
    write()
    assert send()["failed"] == 1
    assert MessageLog.objects.get().error == "451 4.7.1"
    assert send() == {}
    assert send(after=2 * MINUTE)["sent"] == 1
    assert states() == ["sent"]


def test_a_server_that_hangs_up_after_the_message_may_get_it_twice_under_one_id(post):
    post.drop = 1
    write()
    write(to="bob@example.com")
    assert send() == {"sent": 1, "failed": 1}
    assert send(after=9 * MINUTE) == {}
    assert send(after=11 * MINUTE)["sent"] == 1
    assert states() == ["sent", "sent"]
    assert post.recipients == ["alice@example.com", "bob@example.com", "alice@example.com"]
    assert post.ids[0] == post.ids[2] != post.ids[1]


def test_a_slow_yes_is_waited_for_and_the_run_moves_meanwhile(post, settings, monkeypatch):
    monkeypatch.setattr(mail_server, "LOOK_EVERY_S", 0.1)
    settings.EMAIL_TIMEOUT, settings.EMAIL_ANSWER_TIMEOUT, post.slow_s = 2, 60, 3
    write()
    moved = []
    assert outbox.send_due(timezone.now(), moved.append) == {"sent": 1}
    assert len(post.taken) == 1 and len(moved) > 3


def test_who_cancels_while_a_server_thinks_loses_no_message(post, monkeypatch):
    monkeypatch.setattr(mail_server, "LOOK_EVERY_S", 0.1)
    post.slow_s = 0.5
    write()
    write(to="bob@example.com")
    told = []

    def progress(number):
        told.append(number)
        if len(told) > 1:
            raise jobs.Cancelled

    with pytest.raises(jobs.Cancelled):
        outbox.send_due(timezone.now(), progress)
    assert states() == ["sent", "waiting"] and len(post.taken) == 1


def test_a_worker_that_stops_does_not_wait_for_a_yes(post, settings, monkeypatch):
    monkeypatch.setattr(mail_server, "LOOK_EVERY_S", 0.1)
    settings.EMAIL_ANSWER_TIMEOUT, post.slow_s = 120, 60
    write()

    def stop(number, seen=[]):  # noqa: B006
        seen.append(number)
        if len(seen) > 1:
            raise jobs.Interrupted

    began = time.monotonic()
    with pytest.raises(jobs.Interrupted):
        outbox.send_due(timezone.now(), stop)
    assert time.monotonic() - began < 40


def test_a_server_that_never_says_yes_gets_few_copies_far_apart(post, settings):
    settings.EMAIL_ANSWER_TIMEOUT, post.slow_s = 0.2, 60
    message = write()
    start = timezone.now()
    for hour in range(0, 60, 2):
        send(after=start + hour * 60 * MINUTE - timezone.now())
    assert len(post.taken) == 4 and len(set(post.ids)) == 1
    message.refresh_from_db()
    assert (message.state, message.next_try_at, message.error) == ("failed", None, "unanswered")
    assert outbox.may_resend(message)


def test_a_server_that_does_not_answer_before_the_text_is_left_in_time(post, settings):
    settings.EMAIL_TIMEOUT, post.slow_recipient_s = 2, 60
    message = write()
    assert send()["failed"] == 1
    message.refresh_from_db()
    assert post.taken == [] and (message.attempts, message.error) == (1, "SMTPServerDisconnected")


def test_nobody_else_tries_a_message_while_its_answer_is_waited_for(settings):
    longest = 2 * settings.EMAIL_ANSWER_TIMEOUT + 8 * settings.EMAIL_TIMEOUT
    assert datetime.timedelta(seconds=longest) < outbox.LEASE


SENDERS = ["Novák Finance, s.r.o. <info@novak.cz>", "Hypotéky: Novák <info@novak.cz>"]


@pytest.mark.parametrize("sender", SENDERS)
def test_what_no_mail_can_be_sent_from_is_no_messages_fault(post, settings, sender):
    message = write()
    write(to="bob@example.com")
    settings.DEFAULT_FROM_EMAIL = sender
    assert send() == {"failed": 1}
    message.refresh_from_db()
    assert message.attempts == 0 and message.next_try_at
    settings.DEFAULT_FROM_EMAIL = "office@example.com"
    assert send(after=2 * MINUTE) == {"sent": 2}


def test_a_sender_with_commas_reaches_the_server(post, settings, monkeypatch):
    monkeypatch.setenv("DEFAULT_FROM_EMAIL", SENDERS[0])
    settings.DEFAULT_FROM_EMAIL = env.mail_sender("DEFAULT_FROM_EMAIL", "")
    write()
    assert send() == {"sent": 1}
    name, address = parseaddr(post.taken[0]["From"])
    assert (str(make_header(decode_header(name))), address) == ("Novák Finance, s.r.o.", "info@novak.cz")


def test_a_password_that_no_server_reads_is_no_messages_fault(post, settings):
    post.password = "right"
    settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "office", "česky"
    write()
    assert send() == {"failed": 1}
    assert MessageLog.objects.get().attempts == 0


def test_a_slow_servers_queue_flows_over_several_sweeps(post, monkeypatch):
    """300 advisers at 2 s a mail take ten minutes; a sweep leaves the rest to the next one, a minute later."""
    monkeypatch.setattr(outbox, "time", SimpleNamespace(monotonic=lambda: 20 * len(post.taken)))
    for number in range(6):
        write(about=(number,))
    assert send() == {"sent": 3}
    assert send(after=MINUTE) == {"sent": 3}
    assert states() == ["sent"] * 6 and len(set(post.ids)) == 6


def test_of_three_recipients_the_one_that_is_refused_holds_up_no_other(post):
    post.refuse = {"bob@example.com"}
    for name in ("alice", "bob", "cyril"):
        write(to=f"{name}@example.com")
    assert send() == {"sent": 2, "refused": 1}
    assert post.recipients == ["alice@example.com", "cyril@example.com"]


def test_five_hundred_messages_through_two_hours_without_a_server(settings):
    with post_office(settings):
        pass  # it is gone again
    for number in range(500):
        write(about=(number,))
    start = timezone.now()
    for minute in range(120):
        send(after=minute * MINUTE)
    assert not MessageLog.objects.filter(state="sent").exists()
    assert set(MessageLog.objects.values_list("attempts", flat=True)) == {0}  # the server's fault, not theirs
    with post_office(settings) as post:
        for minute in range(120, 190, 5):
            send(after=start + minute * MINUTE - timezone.now())
        assert MessageLog.objects.filter(state="sent").count() == 500
        assert len(post.taken) == len(set(post.ids)) == 500


def test_a_worker_killed_between_the_servers_yes_and_its_own_sends_the_same_message_again(post, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*args, **kwargs):
        raise Killed

    write()
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "_became", die)
        with pytest.raises(Killed):
            send()
    assert send() == {}  # perhaps somebody is still at it
    assert send(after=outbox.LEASE + MINUTE)["sent"] == 1
    assert len(post.taken) == 2 and len(set(post.ids)) == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_workers_one_sends_each_message(post):
    for number in range(20):
        write(about=(number,))
    barrier = threading.Barrier(2)

    def work():
        barrier.wait()
        outbox.send_due(timezone.now())
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(post.taken) == len(set(post.ids)) == 20


def test_a_bad_certificate_is_not_talked_to(settings, tmp_path):
    context = self_signed(tmp_path)
    with post_office(settings, ssl_context=context) as post:
        settings.EMAIL_USE_SSL = True
        write()
        assert send()["failed"] == 1
        assert post.taken == [] and "SSL" in MessageLog.objects.get().error


@pytest.mark.parametrize("option", ["EMAIL_USE_SSL", "EMAIL_USE_TLS"])
def test_a_slow_yes_is_waited_for_on_an_encrypted_line(settings, tmp_path, monkeypatch, option):
    monkeypatch.setattr(mail_server.EmailBackend, "ssl_context", ssl._create_unverified_context())
    context = self_signed(tmp_path)
    with post_office(settings, **{"ssl_context" if option == "EMAIL_USE_SSL" else "tls_context": context}) as post:
        setattr(settings, option, True)
        settings.EMAIL_TIMEOUT, settings.EMAIL_ANSWER_TIMEOUT, post.slow_s = 2, 60, 3
        write()
        assert send() == {"sent": 1}
        assert len(post.taken) == 1


def self_signed(folder) -> ssl.SSLContext:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    day = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), day - MINUTE, day + 60 * MINUTE
        )
    ).sign(key, hashes.SHA256())
    file = folder / "server.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def test_what_was_given_up_is_sent_again_by_hand(post, client):
    post.refuse = {"alice@example.com"}
    message = write()
    send()
    manager = factories.make_user(roles.MANAGER, language="en")
    resend = reverse("admin:crm_messagelog_resend", args=[message.pk])
    client.force_login(factories.make_user(roles.AUDITOR))
    assert client.post(resend).status_code == 403
    client.force_login(manager)
    assert "Send again" in client.get(reverse("admin:crm_messagelog_changelist")).content.decode()
    assert client.get(resend).status_code == 405
    post.refuse.clear()
    client.post(resend)
    assert send()["sent"] == 1
    assert post.ids == [outbox.message_id(message)]
    assert "has arrived" in client.post(resend, follow=True).content.decode()


def test_what_is_sent_again_goes_to_todays_address(post):
    message = write()
    message.user.email = "Alice@new.example"
    message.user.save()
    assert send() == {"withheld": 1}
    assert outbox.resend(message) and send() == {"sent": 1}
    message.refresh_from_db()
    assert post.recipients == [message.recipient] == ["Alice@new.example"]
    found = outbox.message("deadlines", to="alice@new.example", subject="", body="", about=[1], language="cs")
    assert bytes(message.recipient_digest) == found.recipient_digest


def test_nobody_sends_a_link_for_a_new_password_again(post, client):
    message = write(kind="password_reset")
    MessageLog.objects.update(state="expired", next_try_at=None)
    client.force_login(factories.make_user(roles.MANAGER, language="en"))
    assert "Send again" not in client.get(reverse("admin:crm_messagelog_changelist")).content.decode()
    client.post(reverse("admin:crm_messagelog_resend", args=[message.pk]))
    assert send() == {} and states() == ["expired"]


def test_why_a_message_is_withheld_is_said_in_words(client):
    message = write()
    User.objects.filter(pk=message.user_id).update(is_active=False)
    MessageLog.objects.filter(pk=message.pk).update(state="withheld", error="user", next_try_at=None)
    client.force_login(factories.make_user(roles.MANAGER, language="en"))
    for page in (reverse("admin:crm_messagelog_changelist"), reverse("admin:crm_messagelog_change", args=[message.pk])):
        assert "is gone or may not log in" in client.get(page).content.decode()


def test_a_messages_text_is_shown_line_by_line_and_as_text(client):
    message = write(body="Hello,\n\n<b>one</b>\ntwo")
    client.force_login(factories.make_user(roles.MANAGER, language="en"))
    page = client.get(reverse("admin:crm_messagelog_change", args=[message.pk])).content.decode()
    assert "Hello,<br><br>&lt;b&gt;one&lt;/b&gt;<br>two" in page


def test_a_message_is_found_by_its_recipients_whole_address(client):
    message = write()
    client.force_login(factories.make_user(roles.MANAGER))
    page = reverse("admin:crm_messagelog_changelist")
    assert message.subject in client.get(page, {"q": "Alice@Example.com"}).content.decode()
    assert message.subject not in client.get(page, {"q": "bob@example.com"}).content.decode()


def test_without_a_server_messages_wait_and_everybody_is_told(settings, client):
    settings.EMAIL_IS_SET = False
    assert health.mail_trouble() == ""
    write()
    assert outbox.send_due(timezone.now()) == {"waiting": 1}
    assert states() == ["waiting"]
    assert "EMAIL_URL" in health.mail_trouble()
    tasks.beat()
    client.force_login(factories.make_user(language="en"))
    assert "EMAIL_URL" in client.get(reverse("admin:index")).content.decode()


def test_the_job_sends_what_waits(post):
    schedules.sync()
    write()
    tasks.run_job(schedules.run_now("send_mail", by=None).pk)
    assert states() == ["sent"]


def test_the_test_message_says_what_the_server_answered(post, settings, capsys):
    call_command("send_test_email", "boss@example.com")
    said = capsys.readouterr().out
    assert "to boss@example.com: 250 OK" in said and "message: 250 OK queued" in said
    post.refuse = {"boss@example.com"}
    with pytest.raises(CommandError):
        call_command("send_test_email", "boss@example.com")
    assert "550 5.1.1 <boss@example.com> is nobody here" in capsys.readouterr().out
    settings.EMAIL_IS_SET = False
    with pytest.raises(CommandError, match="EMAIL_URL"):
        call_command("send_test_email", "boss@example.com")


def trouble() -> str:
    with pytest.raises(CommandError) as told:
        call_command("send_test_email", "boss@example.com")
    return str(told.value)


def test_the_test_message_says_that_the_server_wants_to_be_asked_again(post, capsys):
    post.defer = {"boss@example.com"}
    assert "tried again" in trouble()
    assert "451 4.7.1 Greylisted" in capsys.readouterr().out


def test_the_test_message_says_that_the_text_is_refused(post, capsys):
    post.too_large = {"boss@example.com"}
    assert "refused" in trouble()
    assert "message: 552 5.3.4 Too large" in capsys.readouterr().out


def test_the_test_message_says_that_the_password_is_wrong(post, settings):
    post.password = "right"
    settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "office", "wrong"
    assert "535 5.7.8 Authentication credentials invalid" in (said := trouble())
    assert "user or password" in said and "wrong" not in said.partition("535")[0]
    settings.EMAIL_HOST_PASSWORD = "right"
    call_command("send_test_email", "boss@example.com")
    assert len(post.taken) == 1


def test_the_test_message_says_that_the_server_thinks_too_long(post, settings):
    settings.EMAIL_ANSWER_TIMEOUT, post.slow_s = 0.2, 60
    assert "no answer to the message within 0.2 s" in trouble()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("DEFAULT_FROM_EMAIL", SENDERS[0], "DEFAULT_FROM_EMAIL"), ("EMAIL_HOST_PASSWORD", "česky", "password")],
)
def test_the_test_message_says_what_no_mail_can_be_made_with(post, settings, name, value, said):
    settings.EMAIL_HOST_USER = post.password = "office"
    settings.EMAIL_HOST_PASSWORD = "office"
    setattr(settings, name, value)
    assert said in trouble() and post.taken == []


def test_the_test_message_goes_out_from_an_office_with_its_own_letters(post, settings):
    settings.DEFAULT_FROM_EMAIL = '"Novák, s.r.o." <info@novák.cz>'
    call_command("send_test_email", "boss@example.com")
    assert post.senders == ["info@xn--novk-7na.cz"]


def test_the_test_message_says_that_the_server_hung_up(post):
    post.drop = 1
    assert "hung up" in trouble()


def test_the_test_message_says_that_the_certificate_is_bad(settings, tmp_path):
    with post_office(settings, ssl_context=self_signed(tmp_path)):
        settings.EMAIL_USE_SSL = True
        assert "certificate" in trouble()


def test_the_test_message_says_that_tls_is_missing(post, settings):
    settings.EMAIL_USE_TLS = True
    assert "STARTTLS" in trouble()


def test_the_test_message_says_that_nobody_listens(settings):
    with post_office(settings):
        pass
    assert f"127.0.0.1:{settings.EMAIL_PORT}" in (said := trouble()) and "refused" in said


def test_the_test_message_says_that_the_host_is_unknown(post, settings):
    settings.EMAIL_HOST = "mail.invalid"
    assert "no such host" in trouble()
