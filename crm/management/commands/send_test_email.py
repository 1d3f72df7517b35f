import smtplib
import socket
import ssl
from email.errors import MessageError
from email.utils import parseaddr

from django.conf import settings
from django.core import mail
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.translation import gettext as _

from crm import mail_server


class Command(BaseCommand):
    help = "Sends a message to ADDRESS and says what the server answered, word for word."

    def add_arguments(self, parser):
        parser.add_argument("address")

    def handle(self, *args, address, **options):
        if not settings.EMAIL_IS_SET:
            raise CommandError("EMAIL_URL is not set, for example smtp+tls://user:password@mail.example.com:587.")
        server = mail.get_connection()
        text = _("Hypodesk can send mail. %(at)s") % {"at": timezone.localtime().isoformat(timespec="seconds")}
        message = mail.EmailMessage("Hypodesk", text, to=[address], connection=server)
        try:
            if not hasattr(server, "use_tls"):
                message.send()
                self.stdout.write(f"Written to {getattr(server, 'file_path', settings.EMAIL_BACKEND)}.")
                return
            server.open()
            server.connection.ehlo_or_helo_if_needed()
            self._speak(server.connection, message, address)
            server.close()
        except (OSError, smtplib.SMTPException) as error:
            raise CommandError(f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}: {_why(error)}.") from error
        except (ValueError, MessageError) as error:
            raise CommandError(f"No mail can be made: {_unmade(address)}.") from error

    def _speak(self, smtp, message, address) -> None:
        mail = message.message()
        sender = parseaddr(mail["From"])[1]
        for said, ask in (
            (f"from {sender}", lambda: smtp.mail(sender)),
            (f"to {address}", lambda: smtp.rcpt(address)),
            ("message", lambda: smtp.data(mail.as_bytes(linesep="\r\n"))),
        ):
            code, answer = ask()
            self.stdout.write(f"{said}: {code} {answer.decode(errors='replace')}")
            if code >= 500:
                raise CommandError("The server refused it.")
            if code >= 400:
                raise CommandError(
                    "The server wants to be asked later (greylisting?). The office's messages are tried again."
                )


def _unmade(address: str) -> str:
    if not mail_server.has_sender():
        return "DEFAULT_FROM_EMAIL is no address"
    if not (address.isascii() and "@" in address):
        return f"{address} is no address"
    return "the user or password in EMAIL_URL has letters that no mail server reads"


def _why(error: Exception) -> str:
    match error:
        case mail_server.Unanswered(__cause__=TimeoutError()):
            return f"no answer to the message within {settings.EMAIL_ANSWER_TIMEOUT} s"
        case smtplib.SMTPAuthenticationError():
            return f"{_answer(error)} (it does not take the user or password in EMAIL_URL)"
        case smtplib.SMTPResponseException():
            return _answer(error)
        case smtplib.SMTPServerDisconnected(__context__=TimeoutError()) | TimeoutError():
            return f"no answer within {settings.EMAIL_TIMEOUT} s"
        case smtplib.SMTPServerDisconnected():
            return "it hung up"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not to be trusted: {error.verify_message}"
        case socket.gaierror():
            return "there is no such host"
    return getattr(error, "strerror", None) or str(error)


def _answer(error: smtplib.SMTPResponseException) -> str:
    return f"{error.smtp_code} {error.smtp_error.decode(errors='replace')}"
