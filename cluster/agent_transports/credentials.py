"""Puts an agent's credential on the calls of its endpoint: the headers of each request, or a client certificate.

It is read for every call, together with those of the calls that begin meanwhile, so that a rotation or a deletion counts at once.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from cluster.agent_transports.hiding import hidden_bytes
from cluster.domain.access.sealing import NoSealingKey, Unsealable
from cluster.domain.agents.credential_use import CredentialUse, Sending
from cluster.domain.agents.credentials import Credential, basic, check_fits
from cluster.domain.agents.message_signatures import signature_headers, signing_key
from cluster.domain.base.errors import AgentNotCalled, AgentRefused, InvalidRequest, TryLater
from cluster.http.origins import origin_of
from cluster.process.group_commit import GroupCommit
from cluster.process.large import in_thread_if_large

ReadCredentials = Callable[[Sequence[tuple[str, str]]], Awaitable[Sequence[Credential | Unsealable | None]]]
UNAUTHENTICATED = 401


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One valid secret of a credential, and how it is sent."""

    use: CredentialUse
    secret: str = field(repr=False)

    def headers(
        self, method: str, url: str, content: bytes | None, given: Mapping[str, str], now: float
    ) -> dict[str, str]:
        """The headers that the credential adds to a call; ``given``: those that it has, by their names in lower case.

        Raises: `AgentRefused` if the call does not go to the agent's own origin."""
        target = origin_of(url)
        if target != self.use.origin:
            raise AgentRefused(
                f"The credential {self.use.name} is only sent to {self.use.origin}, and not to {target or 'another address'}; "
                "whoever may use it has to register the agent anew.",
                "credential_origin",
            )
        match self.use.send:
            case Sending.BEARER:
                return {"authorization": f"Bearer {self.secret}"}
            case Sending.HEADER:
                assert self.use.header is not None, "checked when the agent registered"
                return {self.use.header.lower(): self.secret}
            case Sending.BASIC:
                return {"authorization": basic(self.use.user or "", self.secret)}
            case Sending.SIGNATURE:
                parsed = httpx.URL(url)
                path, _, query = parsed.raw_path.decode("ascii").partition("?")
                return signature_headers(
                    signing_key(self.secret),
                    self.use.key_id or self.use.name,
                    int(now),
                    method=method,
                    authority=parsed.netloc.decode("ascii").lower(),
                    path=path,
                    query=query,
                    content=content,
                    content_type=given.get("content-type"),
                )
            case Sending.CERTIFICATE:
                return {}

    def told(self) -> tuple[str, ...]:
        """What the call tells the agent, and answers are kept without: some servers quote it, in errors above all."""
        match self.use.send:
            case Sending.SIGNATURE | Sending.CERTIFICATE:  # what they are made of is not sent
                return ()
            case Sending.BASIC:
                return (self.secret, basic(self.use.user or "", self.secret).partition(" ")[2])
            case _:
                return (self.secret,)


def told_by(proofs: Sequence[Proof]) -> tuple[str, ...]:
    """What any of these tells: an agent that refused one secret may quote it when it takes the other."""
    return tuple(secret for proof in proofs for secret in proof.told())


class AgentCredentials:
    """``read`` reads credentials by (workspace, name)."""

    def __init__(self, read: ReadCredentials, clock: Callable[[], float] = time.time) -> None:
        self.now = clock
        self._reads: GroupCommit[tuple[str, str], Credential | Unsealable | None] = GroupCommit(read)

    async def proofs(self, use: CredentialUse) -> list[Proof]:
        """The secrets that may be sent now, the current one first.

        Raises: `AgentRefused` if there is none, by a sentence that names the credential; `AgentNotCalled` if it cannot be read
        now."""
        try:
            found = await self._reads.put((use.workspace, use.name))
        except TryLater as error:
            raise AgentNotCalled(f"The credential {use.name} cannot be read now: {error.message}", error.code) from None
        except NoSealingKey as error:
            raise AgentRefused(f"The credential {use.name} cannot be opened. {error.message}", error.code) from None
        if found is None:
            raise AgentRefused(
                f"There is no credential {use.name} here; set it (aragora-cp credentials set {use.name}), or register the agent "
                "without it.",
                "credential_missing",
            )
        if isinstance(found, Unsealable):
            raise AgentRefused(f"The credential {use.name} cannot be opened. {found.message}", found.code)
        try:
            check_fits(found, use)
        except InvalidRequest as error:  # it was rotated, or its origins were changed, since the agent registered
            raise AgentRefused(error.message, error.code) from None
        return [Proof(use=use, secret=secret) for secret in found.valid(self.now())]


def client_context(pair: str) -> ssl.SSLContext:
    """What connections with a client certificate trust and show. ``pair``: its chain and its key in PEM.

    Raises: ``ssl.SSLError`` if they do not belong together."""
    context = ssl.create_default_context()
    # The library reads files only. This one is in memory, has no name, and ends with this call.
    number = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    with os.fdopen(number, "wb") as file:
        file.write(pair.encode())
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{number}")
    return context


class ProvingTransport(httpx.AsyncBaseTransport):
    """Calls over ``inner`` with a credential, for libraries that need a client of their own."""

    def __init__(self, inner: httpx.AsyncBaseTransport, proofs: Sequence[Proof], now: Callable[[], float]) -> None:
        self._inner = inner
        self._proofs = proofs
        self._now = now

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request with the current secret, and if that is not known yet, with the one before.

        Raises: `AgentRefused` if it does not go to the agent's own origin; what ``inner`` raises."""
        content = await request.aread()
        for left, proof in zip(reversed(range(len(self._proofs))), self._proofs, strict=True):
            given = {name.lower(): value for name, value in request.headers.items()}
            body = content if request.method not in ("GET", "HEAD") else None
            request.headers.update(proof.headers(request.method, str(request.url), body, given, self._now()))
            response = await self._inner.handle_async_request(request)
            answer = await in_thread_if_large(
                len(await response.aread()), hidden_bytes, response.content, told_by(self._proofs)
            )
            if response.status_code != UNAUTHENTICATED or not left:
                break
        headers = [(name, value) for name, value in response.headers.raw if name.lower() != b"content-length"]
        return httpx.Response(response.status_code, headers=headers, content=answer)
