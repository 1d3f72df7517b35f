"""Messages and a real mail server: down, slow, greylisting, refusing, hanging up; and who is killed in between."""

import datetime
import ssl
import threading

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from crm import health, outbox, roles, schedules, tasks
from crm.models import MessageLog
from crm.tests import factories
from crm.tests.raw import stored
from crm.tests.smtp import post_office

pytestmark = pytest.mark.django_db
MINUTE = datetime.timedelta(minutes=1)


@pytest.fixture
def post(settings):
    with post_office(settings) as found:
        yield found


def write(to: str = "alice@example.com", about=("2026-03-02",), **values) -> MessageLog | None:
    texts = {"subject": "H-000001", "body": "Dobrý den, příští krok.", "language": "cs"}
    found = outbox.message("deadlines", to=to, about=about, **texts | values)
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
    assert send() == {"sent": 3, "failed": 0, "refused": 0}
    assert send() == {"sent": 0, "failed": 0, "refused": 0}
    [first, *_rest] = post.taken
    assert (first["To"], first["Message-ID"]) == ("alice@example.com", outbox.message_id(message))
    assert [part.get_content_type() for part in first.walk()][1:] == ["text/plain", "text/html"]
    assert "Dobrý den, příští krok." in first.get_payload(0).get_payload(decode=True).decode()
    message.refresh_from_db()
    assert message.state == "sent" and message.sent_at and message.next_try_at is None


@pytest.mark.parametrize("to", ["a@b..c", "a@x\u2028y.cz", f"a@{'č' * 60}.cz"])
def test_a_message_that_no_mail_can_be_made_of_stops_no_other(post, to):
    write(to=to)
    write()
    assert send() == {"sent": 1, "failed": 0, "refused": 1} or states() == ["sent", "sent"]
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
    assert send() == {"sent": 1, "failed": 0, "refused": 1}


def test_recipient_and_text_are_encrypted_in_the_table(post):
    message = write()
    for name in ("recipient", "body", "html"):
        assert "alice" not in stored(message, name) and "krok" not in stored(message, name)


def test_a_refused_recipient_is_final_others_get_theirs_and_no_address_is_kept(post):
    post.refuse = {"nobody@example.com"}
    write(to="nobody@example.com")
    write()
    assert send() == {"sent": 1, "failed": 0, "refused": 1}
    assert states() == ["refused", "sent"]
    assert MessageLog.objects.get(state="refused").error == "550 5.1.1"
    assert send(after=60 * 24 * MINUTE)["sent"] == 0


def test_greylisting_is_waited_out(post):
    post.defer = {"alice@example.com"}
    write()
    assert send()["failed"] == 1
    assert MessageLog.objects.get().error == "451 4.7.1"
    assert send() == {"sent": 0, "failed": 0, "refused": 0}
    assert send(after=2 * MINUTE)["sent"] == 1
    assert states() == ["sent"]


def test_a_server_that_hangs_up_after_the_message_may_get_it_twice_under_one_id(post):
    post.drop = 1
    write()
    write(to="bob@example.com")
    assert send() == {"sent": 1, "failed": 1, "refused": 0}
    assert send(after=2 * MINUTE)["sent"] == 1
    assert states() == ["sent", "sent"]
    assert post.recipients == ["alice@example.com", "bob@example.com", "alice@example.com"]
    assert post.ids[0] == post.ids[2] != post.ids[1]


def test_a_slow_server_is_left_in_time(post, settings):
    settings.EMAIL_TIMEOUT = 1
    post.slow_s = 3
    write()
    assert send()["failed"] == 1


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
    assert send() == {"sent": 0, "failed": 0, "refused": 0}  # perhaps somebody is still at it
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
