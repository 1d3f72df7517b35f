"""The office's mail server: Django's backend, with the patience that keeps a mail from going out twice. What becomes of a
message is crm.outbox's."""

import functools
import select
import smtplib
import time
from email import policy

from django.conf import settings
from django.core.mail.backends import smtp

LOOK_EVERY_S = 1
TAKES_TEXT = 354


class Unanswered(smtplib.SMTPServerDisconnected):
    """The text was on its way when the line went silent or dead: the server may have taken it."""


class EmailBackend(smtp.EmailBackend):
    """`meanwhile` is called every second while the server thinks about a text; what it raises hangs up."""

    meanwhile = staticmethod(lambda: None)

    @property
    def connection_class(self):
        patient = _PatientSSL if self.use_ssl else _Patient
        return functools.partial(patient, meanwhile=lambda: self.meanwhile())


class _Patient(smtplib.SMTP):
    """RFC 5321, 4.5.3.2: who hangs up before the answer to a text gets it delivered and sends it again."""

    def __init__(self, *args, meanwhile, **options):
        self._meanwhile, self._sends_text = meanwhile, False
        super().__init__(*args, **options)

    def data(self, msg):
        try:
            return super().data(msg)
        except smtplib.SMTPResponseException:
            raise
        except OSError as error:
            if self._sends_text:
                raise Unanswered(str(error)) from error
            raise
        except BaseException:
            self.close()
            raise
        finally:
            self._sends_text = False
            if self.sock:
                self.sock.settimeout(self.timeout)

    def getreply(self):
        if self._sends_text:
            self._wait()
        code, said = super().getreply()
        if code == TAKES_TEXT:
            self._sends_text = True
            self.sock.settimeout(settings.EMAIL_ANSWER_TIMEOUT)
        return code, said

    def _wait(self) -> None:
        ends = time.monotonic() + settings.EMAIL_ANSWER_TIMEOUT
        while not select.select([self.sock], [], [], min(LOOK_EVERY_S, settings.EMAIL_ANSWER_TIMEOUT))[0]:
            self._meanwhile()
            if time.monotonic() > ends:
                self.close()
                raise TimeoutError("no answer to the text")
        self.sock.settimeout(self.timeout)


class _PatientSSL(_Patient, smtplib.SMTP_SSL):
    pass


def has_sender() -> bool:
    """Else no mail at all can be made, whatever it says."""
    sender = policy.SMTP.header_factory("from", settings.DEFAULT_FROM_EMAIL)
    return bool(sender.addresses) and not sender.defects
