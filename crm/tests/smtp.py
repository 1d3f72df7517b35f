"""A real mail server in the test's own process, which behaves as it is told."""

import asyncio
import contextlib
import email
from email.message import Message

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

from crm.tests.processes import free_port


class Post:
    """`refuse`, `defer`, `closing` and `too_large` hold recipients' addresses, `refuse_senders` how many messages it wants
    from nobody, `drop` how many it takes and hangs up before its yes, `slow_s` how long it thinks after it took one (`slow_recipient_s`: before
    that), `password` the only one that it lets in (who asks to log in)."""

    def __init__(self):
        self.taken: list[Message] = []
        self.senders: list[str] = []
        self.refuse: set[str] = set()
        self.defer: set[str] = set()
        self.too_large: set[str] = set()
        self.refuse_senders = 0
        self.closing: set[str] = set()
        self.drop = 0
        self.slow_s = self.slow_recipient_s = 0.0
        self.password = ""

    def let_in(self, server, session, envelope, mechanism, data):
        return AuthResult(success=data.password.decode() == self.password, handled=False)

    async def handle_MAIL(self, server, session, envelope, address, options):
        if self.refuse_senders:
            self.refuse_senders -= 1
            return "553 5.1.8 not from here"
        envelope.mail_from = address
        self.senders.append(address)
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        await asyncio.sleep(self.slow_recipient_s)
        if address in self.refuse:
            return f"550 5.1.1 <{address}> is nobody here"
        if address in self.closing:
            return "421 4.3.2 Closing"
        if address in self.defer:
            self.defer.discard(address)
            return "451 4.7.1 Greylisted, come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session, envelope):
        if self.too_large & set(envelope.rcpt_tos):
            return "552 5.3.4 Too large"
        self.taken.append(email.message_from_bytes(envelope.content))
        await asyncio.sleep(self.slow_s)
        if self.drop:
            self.drop -= 1
            server.transport.close()
        return "250 OK queued"

    @property
    def ids(self) -> list[str]:
        return [message["Message-ID"] for message in self.taken]

    @property
    def recipients(self) -> list[str]:
        return [message["To"] for message in self.taken]


@contextlib.contextmanager
def post_office(settings, **options):
    """The settings point to it, also after it has closed."""
    handler = Post()
    options = {"authenticator": handler.let_in, "auth_require_tls": False, **options}
    controller = Controller(handler, hostname="127.0.0.1", port=free_port(), **options)
    controller.start()
    settings.EMAIL_IS_SET = True
    settings.EMAIL_BACKEND = "crm.mail_server.EmailBackend"
    settings.EMAIL_HOST = "127.0.0.1"
    settings.EMAIL_PORT = controller.port
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
    settings.EMAIL_TIMEOUT = settings.EMAIL_ANSWER_TIMEOUT = 5
    try:
        yield handler
    finally:
        controller.stop(no_assert=True)
