"""Hands mail to an SMTP server, whose address is checked like that of any agent.

The standard library's client in a thread: it is handed a connected socket, so the name is resolved once and the address that was
checked is the one that is used. aiosmtplib was rejected: it logs in without TLS where the server offers none.
"""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any, BinaryIO, Final

from aragora_worker.reasons import reason
from cluster.domain.base.errors import EndpointForbidden, PeerError
from cluster.domain.notifications.channel import MailServer, MailTls
from cluster.domain.notifications.delivery import NotTaken, Outcome, Taken
from cluster.http.addresses import PinnedBackend

#: For the whole of one attempt, and for one answer of the server.
ATTEMPT_S: Final = 30.0
ANSWER_S: Final = 10.0
PERMANENT: Final = range(500, 600)
MOST_ADDRESSES: Final = 2
#: Bytes that a server may say in one attempt. smtplib keeps all lines of an answer, however many there are.
MOST_BYTES: Final = 65_536


class _TooMuchSent(Exception):
    """No `OSError`, which smtplib would take for the end of the connection."""


class _Answers:
    """What a server says, up to a bound. ``before``: bytes that it has said already."""

    def __init__(self, file: BinaryIO, before: int) -> None:
        self._file = file
        self.received = before

    def readline(self, size: int) -> bytes:
        """Raises: `_TooMuchSent`."""
        line = self._file.readline(size)
        self.received += len(line)
        if self.received > MOST_BYTES:
            raise _TooMuchSent
        return line

    def close(self) -> None:
        self._file.close()


class _Client(smtplib.SMTP):
    """A client over a socket that is connected. ``host`` is the name that its certificate must have."""

    def __init__(self, host: str, connected: socket.socket) -> None:
        self._connected = connected
        self._answers: _Answers | None = None
        super().__init__(host, 0, local_hostname=socket.gethostname(), timeout=ANSWER_S)

    def connect(self, host: str = "localhost", port: int = 0, source_address: Any = None) -> tuple[int, bytes]:
        self.sock = self._connected
        self.file = None
        return self.getreply()

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None:  # at first, and when TLS has begun
            assert self.sock is not None
            self._answers = _Answers(self.sock.makefile("rb"), self._answers.received if self._answers else 0)
            self.file = self._answers
        return super().getreply()


class _Cut(OSError):
    """The time of the attempt is over."""


@dataclass(slots=True)
class _Attempt:
    """What one attempt holds. ``line``: a second handle of its connection, which stays as TLS replaces the first one."""

    server: MailServer
    message: EmailMessage
    password: str | None
    line: socket.socket | None = None
    is_cut: bool = False

    def cut(self) -> None:
        """Ends whatever the thread waits for, now or later: a server that sends a byte now and then would hold it for ever."""
        self.is_cut = True
        if self.line is not None:
            with contextlib.suppress(OSError):
                self.line.shutdown(socket.SHUT_RDWR)

    def opened(self, connected: socket.socket) -> None:
        """Raises: `_Cut` if the time is over already."""
        self.line = connected.dup()
        if self.is_cut:
            raise _Cut

    def close(self) -> None:
        if self.line is not None:
            self.line.close()


class MailSender:
    """``backend`` checks addresses; ``tls`` is what is trusted."""

    def __init__(self, backend: PinnedBackend, tls: ssl.SSLContext) -> None:
        self._backend = backend
        self._tls = tls

    async def send(self, server: MailServer, message: EmailMessage, password: str | None) -> Outcome:
        """One attempt to hand the message in."""
        try:
            addresses = await self._backend.checked(server.host, server.port)
        except EndpointForbidden as error:
            return NotTaken(error.message, is_final=True)
        except PeerError as error:
            return NotTaken(error.message)
        attempt = _Attempt(server, message, password)
        found = [str(address) for address in addresses[:MOST_ADDRESSES]]
        thread = asyncio.ensure_future(asyncio.to_thread(self._hand_in, attempt, found))
        try:
            async with asyncio.timeout(ATTEMPT_S):
                return await asyncio.shield(thread)
        except TimeoutError:
            return NotTaken(f"{server.host} did not take the mail within {ATTEMPT_S:.0f} s.")
        finally:
            attempt.cut()

    def _hand_in(self, attempt: _Attempt, addresses: Sequence[str]) -> Outcome:
        host = attempt.server.host
        try:
            with contextlib.closing(_connected(addresses, attempt.server.port)) as connected:
                attempt.opened(connected)
                if attempt.server.tls is not MailTls.TLS:
                    return self._spoken(attempt, connected)
                with self._tls.wrap_socket(connected, server_hostname=host) as over_tls:
                    return self._spoken(attempt, over_tls)
        except (OSError, _TooMuchSent) as error:  # all of smtplib's are of the former
            return _not_taken(host, error)
        finally:
            attempt.close()

    def _spoken(self, attempt: _Attempt, connected: socket.socket) -> Outcome:
        client = _Client(attempt.server.host, connected)
        try:
            return self._handed_in(attempt, client)
        finally:
            client.close()

    def _handed_in(self, attempt: _Attempt, client: _Client) -> Outcome:
        server = attempt.server
        client.ehlo_or_helo_if_needed()
        if server.tls is MailTls.STARTTLS:
            if not client.has_extn("starttls"):
                return NotTaken(
                    f"{server.host} offers no STARTTLS, and nothing is sent without TLS unless the channel has tls none."
                )
            client.starttls(context=self._tls)
        if server.user is not None and attempt.password is not None:
            try:
                client.login(server.user, attempt.password)
            except smtplib.SMTPNotSupportedError:
                return NotTaken(f"{server.host} offers no login that is known here.")
        refused = client.send_message(attempt.message, server.sender, list(server.recipients))
        with contextlib.suppress(smtplib.SMTPException, OSError):  # it has the mail
            client.quit()
        if refused:
            return NotTaken(
                f"{server.host} has taken the mail, but for {len(refused)} of its recipients.", is_final=True
            )
        return Taken()


def _not_taken(host: str, error: OSError | _TooMuchSent) -> NotTaken:
    """What went wrong, without a word of the server's."""
    match error:
        case smtplib.SMTPAuthenticationError():
            return NotTaken(f"{host} refuses the user or the password ({error.smtp_code}).")
        case smtplib.SMTPResponseException(smtp_code=code, smtp_error=bytes()) if code >= 0:
            return NotTaken(f"{host} answers {code}.", is_final=code in PERMANENT)
        case smtplib.SMTPResponseException() | _TooMuchSent():  # no line began with a number, or one was too long
            return NotTaken(f"{host} does not speak SMTP.")
        case smtplib.SMTPRecipientsRefused():
            codes = sorted({code for code, _ in error.recipients.values()})
            shown = ", ".join(map(str, codes))
            return NotTaken(
                f"{host} refuses all recipients ({shown}).", is_final=all(code in PERMANENT for code in codes)
            )
        case ssl.SSLCertVerificationError():
            return NotTaken(f"The certificate of {host} is not trusted: {error.verify_message}.")
        case smtplib.SMTPServerDisconnected() if isinstance(error.__context__, TimeoutError):
            return NotTaken(f"{host} did not answer within {ANSWER_S:.0f} s.")
        case smtplib.SMTPServerDisconnected():
            return NotTaken(f"{host} closed the connection.")
        case _:
            return NotTaken(f"{host} cannot be reached, or does not speak SMTP: {reason(error)}.")


def _connected(addresses: Sequence[str], port: int) -> socket.socket:
    """A connection to the first address that answers. Raises: `OSError` if none does."""
    for index, address in enumerate(addresses):
        try:
            return socket.create_connection((address, port), timeout=ANSWER_S)
        except OSError:
            if index == len(addresses) - 1:
                raise
    raise AssertionError("a name that was checked has an address")
