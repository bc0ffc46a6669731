"""Channels over real HTTP and SMTP servers: what arrives, and what each failure means."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult

from cluster.domain.agents.credentials import Credential
from cluster.domain.notifications.channel import Channel, ChannelKind, MailServer, MailTls
from cluster.domain.notifications.delivery import NotTaken, Outcome, Taken
from cluster.notifiers import mail
from cluster.notifiers.sending import ChannelNotifier
from tests.support.authorities import Issuer
from tests.support.listening import listening, port_of
from tests.support.notifications import KEY, LOOPBACK, MailBox, new_channel, receiver
from tests.support.samples import NOW
from tests.unit.domain.notifications.test_rules import notification

PASSWORD = "planted-password"


async def attempt(channel: Channel, secret: str = "", **parts: Any) -> Outcome:
    """One attempt, with a secret of any origin or of ``origins``."""
    origins = parts.pop("origins", ())
    facts = {"created_at": NOW, "created_by": "u", "changed_at": NOW, "changed_by": "u"}
    credential = Credential(workspace="w", name="key", secrets=(secret,), origins=origins, **facts)

    async def read(names: Any) -> Any:
        return [credential for _ in names]

    notifier = ChannelNotifier(**{"allowed_networks": LOOPBACK, "read": read, "now": lambda: NOW, **parts})
    try:
        return await notifier.send(notification(), channel)
    finally:
        await notifier.close()


def of_url(kind: ChannelKind) -> Channel:
    return new_channel(kind=kind, url=None)


@pytest.mark.parametrize("kind", [ChannelKind.SLACK, ChannelKind.TEAMS])
async def test_slack_and_teams_get_their_form_at_their_url(kind: ChannelKind) -> None:
    async with receiver() as it:
        assert await attempt(of_url(kind), f"{it.url}/T000/planted\n") == Taken()
    ((path, headers, body),) = it.got
    assert (path, headers["content-type"]) == ("/T000/planted", "application/json")
    found = json.loads(body)
    if kind is ChannelKind.SLACK:
        assert found["text"] == "*Task task_1 failed* (error)"
    else:
        (card,) = found["attachments"]
        assert card["content"]["body"][0]["text"] == "Task task_1 failed"


@pytest.mark.parametrize(
    ("status", "headers", "meant"),
    [
        (202, {}, Taken()),
        (302, {"location": "http://127.0.0.1/"}, (False, None)),
        (400, {}, (False, None)),
        (410, {}, (True, None)),
        (429, {"retry-after": "30"}, (False, 30.0)),
        (503, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, (False, None)),
    ],
    ids=str,
)
async def test_an_answer_says_whether_it_is_tried_again(status: int, headers: dict[str, str], meant: Any) -> None:
    async with receiver() as it:
        it.status, it.headers = status, headers
        outcome = await attempt(of_url(ChannelKind.SLACK), f"{it.url}/planted")
        assert len(it.got) == 1
    if isinstance(outcome, NotTaken):
        assert (outcome.is_final, outcome.retry_after_s) == meant
        assert outcome.error == f"{it.url} answers {status}."
    else:
        assert outcome == meant


async def test_a_forbidden_address_is_not_called() -> None:
    async with receiver() as it:
        for channel, secret in ((of_url(ChannelKind.SLACK), it.url), (new_channel(url=it.url), KEY)):
            outcome = await attempt(channel, secret, allowed_networks=())
            assert isinstance(outcome, NotTaken)
            assert outcome.is_final
            assert "ARAGORA_ALLOWED_NETWORKS" in outcome.error
        outcome = await attempt(mail_channel(int(it.url.rpartition(":")[2])), allowed_networks=())
        assert isinstance(outcome, NotTaken)
        assert outcome.is_final
    assert it.got == []


async def test_a_server_that_is_away_or_speaks_no_http_is_tried_again() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\r\n\r\n")

    async with listening(talk) as server:
        port = port_of(server)
        outcome = await attempt(of_url(ChannelKind.SLACK), f"http://127.0.0.1:{port}/planted")
        assert isinstance(outcome, NotTaken)
        assert not outcome.is_final
    outcome = await attempt(of_url(ChannelKind.SLACK), f"http://127.0.0.1:{port}/planted")
    assert isinstance(outcome, NotTaken)
    assert (outcome.is_final, "planted" in outcome.error) == (False, False)


@pytest.mark.parametrize("secret", ["no url", "ftp://127.0.0.1/", "https://", "http://127.0.0.1:99999/"])
async def test_a_secret_that_is_no_url_is_not_quoted(secret: str) -> None:
    outcome = await attempt(of_url(ChannelKind.TEAMS), secret)
    assert outcome == NotTaken("The credential key is no http or https URL; set it to that of the channel.")


# --- mail ----------------------------------------------------------------------------------------------------------------


def mail_channel(port: int, **parts: Any) -> Channel:
    given = {"host": "127.0.0.1", "sender": "cp@example.com", "recipients": ("ops@example.com", "ann@example.com")}
    server = MailServer(**{**given, "port": port, "tls": MailTls.NONE, **parts})
    return new_channel("mail", kind=ChannelKind.EMAIL, url=None, mail=server, credential="key" if server.user else None)


@asynccontextmanager
async def mailing(
    box: MailBox, tls: ssl.SSLContext | None = None, implicit: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[int]:
    """A real SMTP server; yields its port."""

    def login(server: SMTP, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        box.logins.append((data.login, data.password))
        return AuthResult(success=data.password == PASSWORD.encode(), handled=False)

    protocols: list[SMTP] = []

    def made() -> SMTP:
        options_of = {"hostname": "mail.test", "authenticator": login, "enable_SMTPUTF8": True, **options}
        protocols.append(SMTP(box, tls_context=tls, loop=asyncio.get_running_loop(), **options_of))
        return protocols[-1]

    server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0, ssl=implicit)
    try:
        yield port_of(server)
    finally:
        server.close()
        for protocol in protocols:
            if protocol.transport is not None:
                protocol.transport.abort()
        await server.wait_closed()


@pytest.fixture
def trust(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(the context of a server for 127.0.0.1, the one that trusts it)."""
    authority = Issuer()
    issued = authority.issue()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*issued.write(tmp_path, "server"))
    return server, ssl.create_default_context(cafile=authority.file(tmp_path))


async def test_mail_is_handed_in_with_the_same_id_at_each_attempt() -> None:
    box = MailBox()
    async with mailing(box) as port:
        for _ in range(2):
            assert await attempt(mail_channel(port)) == Taken()
    (sender, recipients, message), (_, _, again) = box.got
    assert (sender, recipients) == ("cp@example.com", ["ops@example.com", "ann@example.com"])
    assert message["Subject"] == "[error] Task task_1 failed"
    assert message["Message-ID"] == again["Message-ID"] == "<ntf_1@example.com>"
    assert "task.failed" in str(message.get_payload())


@pytest.mark.parametrize("form", ["starttls", "tls"])
async def test_a_password_travels_over_trusted_tls(trust: tuple[ssl.SSLContext, ssl.SSLContext], form: str) -> None:
    server, client = trust
    box = MailBox()
    options: dict[str, Any] = {"implicit": server} if form == "tls" else {"tls": server, "require_starttls": True}
    if form == "tls":
        options["auth_require_tls"] = False  # the library does not know of TLS from the first byte on
    async with mailing(box, **options) as port:
        channel = mail_channel(port, tls=MailTls(form), user="cp")
        assert await attempt(channel, PASSWORD, tls=client) == Taken()
        wrong = await attempt(channel, "another-password", tls=client)
        assert isinstance(wrong, NotTaken)
        assert (wrong.is_final, wrong.error) == (False, "127.0.0.1 refuses the user or the password (535).")
        stranger = await attempt(channel, PASSWORD)
        assert isinstance(stranger, NotTaken)
        assert stranger.error.startswith("The certificate of 127.0.0.1 is not trusted: ")
        elsewhere = await attempt(channel, PASSWORD, tls=client, origins=("smtp://mail.example.com:587",))
        assert isinstance(elsewhere, NotTaken)
        assert "its origins are others" in elsewhere.error
        assert await attempt(channel, PASSWORD, tls=client, origins=(f"smtp://127.0.0.1:{port}",)) == Taken()
    # The client offers a password by each way of logging in that the server has.
    assert {password for _, password in box.logins} == {PASSWORD.encode(), b"another-password"}
    assert len(box.got) == 2


async def test_without_starttls_nothing_is_sent() -> None:
    box = MailBox()
    async with mailing(box, auth_require_tls=False) as port:
        outcome = await attempt(mail_channel(port, tls=MailTls.STARTTLS, user="cp"), PASSWORD)
    assert isinstance(outcome, NotTaken)
    assert "offers no STARTTLS" in outcome.error
    assert (box.got, box.logins) == ([], [])


@pytest.mark.parametrize(("answer", "final"), [("451 later", False), ("550 never", True)])
async def test_a_refusal_of_mail_is_for_now_or_for_good(answer: str, final: bool) -> None:
    box = MailBox(answer=answer)
    async with mailing(box) as port:
        outcome = await attempt(mail_channel(port))
    assert outcome == NotTaken(f"127.0.0.1 answers {answer[:3]}.", is_final=final)


def _says(*lines: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for line in lines:
            writer.write(line)
            await reader.readline()
        writer.close()

    return talk


@pytest.mark.parametrize(
    ("lines", "error", "final"),
    [
        ((b"HTTP/1.1 400 Bad Request\r\n",), "127.0.0.1 does not speak SMTP.", False),
        ((), "127.0.0.1 closed the connection.", False),
        ((b"554 no\r\n",), "127.0.0.1 answers 554.", True),
        ((b"999 what\r\n",), "127.0.0.1 answers 999.", False),
        ((b"220-" + b"x" * 10_000 + b"\r\n",), "127.0.0.1 does not speak SMTP.", False),
        ((b"220 hi\r\n", b"250 ok\r\n", b"421 busy\r\n"), "127.0.0.1 answers 421.", False),
        (
            (b"220 hi\r\n", b"250 ok\r\n", b"250 ok\r\n", b"450 a\r\n", b"550 b\r\n", b"250 ok\r\n"),
            "127.0.0.1 refuses all recipients (450, 550).",
            False,
        ),
    ],
    ids=["http", "closed", "554", "999", "long", "421", "recipients"],
)
async def test_a_server_that_breaks_off_is_named(lines: tuple[bytes, ...], error: str, final: bool) -> None:
    async with listening(_says(*lines)) as server:
        assert await attempt(mail_channel(port_of(server))) == NotTaken(error, is_final=final)


async def test_a_server_that_hangs_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "ANSWER_S", 0.2)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with listening(talk) as server:
        outcome = await attempt(mail_channel(port_of(server)))
        assert outcome == NotTaken("127.0.0.1 did not answer within 0 s.")


async def test_no_more_is_read_of_a_server_than_it_may_say() -> None:
    """It goes on with one answer, line after line, which the standard library would keep all."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while True:
                writer.write(b"220-and on\r\n" * 1000)
                await writer.drain()
        writer.close()

    async with listening(talk) as server:
        assert await attempt(mail_channel(port_of(server))) == NotTaken("127.0.0.1 does not speak SMTP.")


async def test_a_server_that_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte is within the bound of an answer, and the whole is not within that of an attempt."""
    monkeypatch.setattr(mail, "ATTEMPT_S", 0.3)
    ended = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            writer.write(b"2")
            try:
                async with asyncio.timeout(0.05):
                    await reader.read(1)
            except TimeoutError:
                continue
        ended.set()

    async with listening(talk) as server:
        outcome = await attempt(mail_channel(port_of(server)))
        assert outcome == NotTaken("127.0.0.1 did not take the mail within 0 s.")
        async with asyncio.timeout(30):
            await ended.wait()
