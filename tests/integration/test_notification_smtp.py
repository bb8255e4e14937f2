"""E-mails to a real mail server, including servers that refuse them or cannot be reached."""

import asyncio
import json
import logging
import shutil
import socket
import ssl
import subprocess
import threading
from email import message_from_bytes, policy
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult

from plugins.notification import Options, start
from plugins.notification import handle as _handle
from runner import Message, Reject, Retry
from tests.keeping import NOTHING

handle = partial(_handle, store=NOTHING)

#: The part of a worker's context that ``start`` uses.
CONTEXT: Any = SimpleNamespace(log=logging.getLogger("test.notification"))


class Mailbox:
    """A mailbox that keeps its e-mails, and whose answers a test can set."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.rcpt_answer = "250 OK"
        self.data_answer = "250 OK"
        self.mail_answer = "250 OK"
        self.quit_answer = "221 Bye"

    async def handle_MAIL(self, server, session, envelope, address, options):  # noqa: N802 - aiosmtpd's name
        envelope.mail_from = address
        return self.mail_answer

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if self.rcpt_answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.rcpt_answer

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, envelope.content))
        return self.data_answer

    async def handle_QUIT(self, server, session, envelope):  # noqa: N802
        return self.quit_answer


class MailServer:
    """aiosmtpd on a free port, in its own event loop."""

    def __init__(self, **settings) -> None:
        self.mailbox = Mailbox()
        self.loop = asyncio.new_event_loop()
        self.settings = settings
        self.thread = threading.Thread(target=self.loop.run_forever)

    async def _listen(self) -> Any:
        def session():
            return SMTP(self.mailbox, loop=self.loop, hostname="localhost", **self.settings)

        return await self.loop.create_server(session, "127.0.0.1", 0)

    async def _close(self) -> None:
        self.server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def __enter__(self) -> Any:
        self.thread.start()
        self.server = asyncio.run_coroutine_threadsafe(self._listen(), self.loop).result(10)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture
def mail_server():
    with MailServer(enable_SMTPUTF8=True) as server:
        yield server


def notifier(port, **smtp) -> Any:
    options = {"transport": "smtp", "sender": "Shop <shop@example.com>", "smtp": {"port": port, "timeout": 5, **smtp}}
    return start(Options.model_validate(options), CONTEXT)


def message(customer_email="alice@example.com") -> Any:
    body = {"order_id": "o-1", "customer_email": customer_email, "amount": "149.99", "currency": "USD"}
    return Message(body=json.dumps(body).encode(), queue="q", type="order.created", id="event-1")


def test_an_e_mail_arrives(mail_server, caplog):
    caplog.set_level(logging.INFO, "test.notification")
    assert handle(message(), notifier(mail_server.port)) is None
    ((sender, recipients, content),) = mail_server.mailbox.mails
    assert (sender, recipients) == ("shop@example.com", ["alice@example.com"])
    mail = message_from_bytes(content, policy=policy.default)
    assert mail["From"] == "Shop <shop@example.com>"
    assert mail["Subject"] == "We have your order o-1"
    assert "149.99 USD" in mail.get_content()
    (line,) = [line for line in caplog.records if line.name == "test.notification"]
    assert line.getMessage() == "e-mail to alice@example.com sent: We have your order o-1"
    assert line.order == "o-1"


def test_a_duplicate_can_be_recognised_by_its_message_id(mail_server):
    resources = notifier(mail_server.port)
    handle(message(), resources)
    handle(message(), resources)
    ids = {message_from_bytes(content)["Message-ID"] for _, _, content in mail_server.mailbox.mails}
    assert ids == {"<event-1@example.com>"}


def test_an_address_with_other_characters_than_ascii_gets_its_e_mail(mail_server):
    handle(message("юля@example.com"), notifier(mail_server.port))
    assert mail_server.mailbox.mails[0][1] == ["юля@example.com"]


def test_an_address_that_the_server_does_not_support_is_dead_lettered():
    with MailServer(enable_SMTPUTF8=False) as server, pytest.raises(Reject, match="cannot send to the address"):
        handle(message("юля@example.com"), notifier(server.port))


def test_an_unknown_mailbox_is_rejected_with_the_servers_reason(mail_server):
    mail_server.mailbox.rcpt_answer = "550 no such mailbox here"
    with pytest.raises(Reject, match=rf"127\.0\.0\.1:{mail_server.port}: .*550 no such mailbox here"):
        handle(message(), notifier(mail_server.port))


def test_an_e_mail_to_a_busy_mailbox_is_retried(mail_server):
    mail_server.mailbox.rcpt_answer = "450 greylisted, come back later"
    with pytest.raises(Retry, match="450 greylisted"):
        handle(message(), notifier(mail_server.port))


@pytest.mark.parametrize(("answer", "outcome"), [("554 this is spam", Reject), ("452 disk is full", Retry)])
@pytest.mark.parametrize("step", ["mail_answer", "data_answer"])
def test_the_servers_code_decides_about_a_retry(mail_server, step, answer, outcome):
    setattr(mail_server.mailbox, step, answer)
    with pytest.raises(outcome, match=answer):
        handle(message(), notifier(mail_server.port))


def test_a_lost_goodbye_does_not_send_the_e_mail_again(mail_server):
    mail_server.mailbox.quit_answer = "421 going down"
    assert handle(message(), notifier(mail_server.port)) is None


def test_an_e_mail_is_retried_if_the_server_is_down():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(Retry, match=rf"127\.0\.0\.1:{port}: cannot send the e-mail: .*refused"):
            handle(message(), notifier(port))


def test_a_silent_server_fails_the_attempt_after_the_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        resources = notifier(silent.getsockname()[1], timeout=0.2)
        with pytest.raises(Retry, match="timed out"):
            handle(message(), resources)


def test_a_refused_login_is_retried_because_the_message_is_good():
    def refuse(*_):
        return AuthResult(success=False, handled=False)

    with MailServer(authenticator=refuse, auth_require_tls=False) as server:
        resources = notifier(server.port, username="shop", password="canary")
        with pytest.raises(Retry, match="535") as caught:
            handle(message(), resources)
        assert "canary" not in str(caught.value)
        assert not server.mailbox.mails


def test_the_login_comes_before_the_e_mail():
    seen = []

    def accept(server, session, envelope, mechanism, login):
        seen.append((login.login, login.password))
        return AuthResult(success=True)

    with MailServer(authenticator=accept, auth_require_tls=False) as server:
        handle(message(), notifier(server.port, username="shop", password="canary"))
        assert seen == [(b"shop", b"canary")]
        assert len(server.mailbox.mails) == 1


def test_an_e_mail_is_not_sent_unencrypted_if_encryption_is_required(mail_server):
    with pytest.raises(Retry, match="STARTTLS"):
        handle(message(), notifier(mail_server.port, starttls=True))
    assert not mail_server.mailbox.mails


@pytest.fixture
def certificate(tmp_path):
    """Create a self-signed certificate for localhost, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    paths = tmp_path / "cert.pem", tmp_path / "key.pem"
    request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    output = ["-out", str(paths[0]), "-keyout", str(paths[1])]
    subprocess.run([openssl, *request, *names, *output], check=True, capture_output=True)
    return paths


@pytest.fixture
def encrypting_server(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with MailServer(tls_context=context, require_starttls=True) as server:
        yield server


def test_a_connection_is_encrypted_if_required(encrypting_server, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    handle(message(), notifier(encrypting_server.port, host="localhost", starttls=True))
    assert len(encrypting_server.mailbox.mails) == 1


def test_a_server_with_an_unknown_certificate_gets_no_e_mail(encrypting_server):
    with pytest.raises(Retry, match="CERTIFICATE_VERIFY_FAILED"):
        handle(message(), notifier(encrypting_server.port, host="localhost", starttls=True))
    assert not encrypting_server.mailbox.mails
