"""One attempt at a notification, by the kind of its channel."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from aragora_worker.reasons import reason
from cluster.domain.access.sealing import NoSealingKey, Unsealable
from cluster.domain.agents.credentials import Credential
from cluster.domain.base.errors import EndpointForbidden, InvalidRequest, PeerError
from cluster.domain.base.urls import safe_url
from cluster.domain.notifications.channel import Channel, ChannelKind, signing_key
from cluster.domain.notifications.delivery import Notification, NotTaken, Outcome, Taken
from cluster.domain.notifications.messages import mail, slack_body, teams_body, webhook_body, webhook_headers
from cluster.domain.notifications.pushes import Push, push_body, push_headers
from cluster.http.addresses import PinnedBackend, Resolve, resolve
from cluster.http.connections import ConnectionPool
from cluster.http.origins import origin_of
from cluster.http.sending import BROKEN, TIMED_OUT, HttpAnswer, send
from cluster.notifiers.mail import MailSender

#: For the whole of one attempt over HTTP.
ATTEMPT_S: Final = 15.0
CONNECTIONS: Final = 8
EXPIRED: Final = 410
JSON: Final = {"content-type": "application/json"}

ReadCredentials = Callable[[Sequence[tuple[str, str]]], Awaitable[Sequence[Credential | Unsealable | None]]]


class _Unusable(Exception):
    """The channel's credential cannot be used as it is; the message says why."""


class ChannelNotifier:
    """``read`` reads credentials by (workspace, name); ``now`` is epoch seconds; ``tls`` is what is trusted."""

    def __init__(
        self,
        *,
        allowed_networks: Sequence[str],
        read: ReadCredentials,
        now: Callable[[], float],
        resolver: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        tls = tls or ssl.create_default_context()
        backend = PinnedBackend(allowed_networks, resolver)
        self._pool = ConnectionPool(size=CONNECTIONS, tls=tls, backend=backend)
        self._mail = MailSender(backend, tls)
        self._read = read
        self._now = now

    async def close(self) -> None:
        """Closes all connections."""
        await self._pool.aclose()

    async def send(self, notification: Notification, channel: Channel) -> Outcome:
        try:
            secrets = await self._secrets(channel)
            match channel.kind:
                case ChannelKind.WEBHOOK:
                    return await self._webhook(notification, channel, secrets)
                case ChannelKind.SLACK:
                    return await self._post(_url(channel, secrets), JSON, slack_body(notification))
                case ChannelKind.TEAMS:
                    return await self._post(_url(channel, secrets), JSON, teams_body(notification))
                case ChannelKind.EMAIL:
                    return await self._by_mail(notification, channel, secrets)
        except (_Unusable, InvalidRequest) as error:
            # Tried again: somebody may set the credential meanwhile.
            return NotTaken(str(error))

    async def push(self, push: Push) -> Outcome:
        if push.problem is not None:
            return NotTaken(push.problem)
        return await self._post(push.url, push_headers(push), push_body(push))

    async def _secrets(self, channel: Channel) -> tuple[str, ...]:
        """The valid secrets of the channel's credential, the current one first. Raises: `_Unusable`, `StoreUnavailable`."""
        if channel.credential is None:
            return ()
        try:
            (found,) = await self._read([(channel.workspace, channel.credential)])
        except NoSealingKey as error:
            raise _Unusable(f"The credential {channel.credential} cannot be opened. {error.message}") from None
        if found is None:
            raise _Unusable(f"There is no credential {channel.credential}; set it, or change the channel.")
        if isinstance(found, Unsealable):
            raise _Unusable(f"The credential {channel.credential} cannot be opened. {found.message}")
        _check_origin(channel, found)
        return found.valid(self._now())

    async def _webhook(self, notification: Notification, channel: Channel, secrets: Sequence[str]) -> Outcome:
        assert channel.url is not None, "checked when the channel was made"
        body = webhook_body(notification)
        keys = [signing_key(secret) for secret in secrets]
        return await self._post(channel.url, webhook_headers(notification.id, body, keys, self._now()), body)

    async def _by_mail(self, notification: Notification, channel: Channel, secrets: Sequence[str]) -> Outcome:
        assert channel.mail is not None, "checked when the channel was made"
        message = mail(notification, channel.mail, self._now())
        return await self._mail.send(channel.mail, message, secrets[0] if secrets else None)

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        # The path of a URL of Slack or Teams is its secret.
        where = origin_of(url) or "the receiver"
        try:
            answer = await asyncio.wait_for(
                send(self._pool, ATTEMPT_S, "POST", url, headers, body, only_head=True), 2 * ATTEMPT_S
            )
        except EndpointForbidden as error:
            return NotTaken(error.message, is_final=True)
        except (TIMED_OUT, TimeoutError):
            return NotTaken(f"{where} did not answer within {ATTEMPT_S:.0f} s.")
        except BROKEN as error:
            return NotTaken(f"{where} cannot be reached: {reason(error)}.")
        except PeerError as error:
            return NotTaken(error.message)
        return _judged(where, answer)


def _judged(where: str, answer: HttpAnswer) -> Outcome:
    """What an answer means: any 2xx that it is taken, 410 that nothing is wanted there any more."""
    if 200 <= answer.status < 300:
        return Taken()
    wait = answer.header("retry-after")
    return NotTaken(
        f"{where} answers {answer.status}.",
        is_final=answer.status == EXPIRED,
        retry_after_s=float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 10 else None,
    )


def _url(channel: Channel, secrets: Sequence[str]) -> str:
    """The URL that is the secret of a channel. Raises: `_Unusable` if it is none."""
    if origin_of(secrets[0].strip()) is None:
        raise _Unusable(f"The credential {channel.credential} is no http or https URL; set it to that of the channel.")
    return secrets[0].strip()


def _check_origin(channel: Channel, credential: Credential) -> None:
    """Raises: `_Unusable` if the credential may not be sent to where the channel is. (A webhook is not sent its key.)"""
    if not credential.origins or channel.kind is ChannelKind.WEBHOOK:
        return
    if channel.mail is not None:
        target: str | None = f"smtp://{channel.mail.host.lower()}:{channel.mail.port}"
    else:
        target = origin_of(credential.secrets[0].strip())
    if target not in credential.origins:
        raise _Unusable(
            f"The credential {credential.name} is not sent to {safe_url(target or 'this address')}; its origins are others."
        )
