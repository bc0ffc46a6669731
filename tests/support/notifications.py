"""Notifications for tests: channels and rules on real stores, what sends them, and servers that take them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from typing import Any

import httpx
from aiosmtpd.smtp import SMTP, Envelope
from starlette.requests import Request
from starlette.responses import Response

from actors.notifications import NotificationKeeper
from cluster.domain.access.sealing import KEY_BYTES
from cluster.domain.agents.credentials import Credential
from cluster.domain.base.log import Origin, record_for
from cluster.domain.notifications.channel import Channel, ChannelKind
from cluster.domain.notifications.delivery import Notification
from cluster.domain.notifications.events import Severity
from cluster.domain.notifications.rules import Rule
from cluster.notifiers.sending import ChannelNotifier
from cluster.ports.notifications import NotificationFilter
from cluster.postgres.stores import Stores
from cluster.process.clock import ManualClock
from tests.support.endpoints import serving
from tests.support.probes import eventually
from tests.support.samples import NOW
from tests.support.schedules import SilentBell

ORIGIN = Origin(workspace="w", principal="user:tester", cause="trace-1")
KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LOOPBACK = ("127.0.0.0/8", "::1/128")


def new_channel(name: str = "hook", **parts: Any) -> Channel:
    kind = {"kind": ChannelKind.WEBHOOK, "url": "http://127.0.0.1:1/", "credential": "key"}
    return Channel(
        **{"workspace": "w", "name": name, "principal": ORIGIN.principal, "changed_at": NOW, **kind, **parts}
    )


def new_rule(name: str = "all", *channels: str, **parts: Any) -> Rule:
    chosen = {"events": ("*",), "least": Severity.INFO, "channels": channels or ("hook",)}
    return Rule(**{"workspace": "w", "name": name, "principal": ORIGIN.principal, "changed_at": NOW, **chosen, **parts})


async def put_channel(stores: Stores, channel: Channel) -> None:
    data = {"channel": channel.name}
    record = record_for(_of(channel.workspace), NOW, "notification.channel_set", channel.name, data)
    await stores.notifications.put_channel(channel, record)


async def put_rule(stores: Stores, rule: Rule) -> None:
    record = record_for(_of(rule.workspace), NOW, "notification.rule_set", rule.name, {"rule": rule.name})
    await stores.notifications.put_rule(rule, record)


async def happens(stores: Stores, entity: str = "task_1", kind: str = "task.failed", **parts: Any) -> None:
    """An event: a row of the log."""
    at = parts.pop("at", NOW)
    await stores.workflows.ask(record_for(_of(parts.pop("workspace", "w")), at, kind, entity, parts))


def _of(workspace: str) -> Origin:
    return Origin(workspace=workspace, principal=ORIGIN.principal, cause=ORIGIN.cause)


SEALING: Sequence[bytes] = (b"k" * KEY_BYTES,)


async def set_credential(stores: Stores, secret: str, name: str = "key", workspace: str = "w") -> None:
    parts = {"created_at": NOW, "created_by": "user:tester", "changed_at": NOW, "changed_by": "user:tester"}
    credential = Credential(workspace=workspace, name=name, secrets=(secret,), **parts)
    record = record_for(_of(workspace), NOW, "credential.set", name, {"credential": name})
    assert await stores.credentials(SEALING).put(credential, record)


def channel_notifier(stores: Stores, now: Callable[[], float] = lambda: NOW, **parts: Any) -> ChannelNotifier:
    read = stores.credentials(SEALING).read
    return ChannelNotifier(**{"allowed_networks": LOOPBACK, "read": read, "now": now, **parts})


@contextlib.asynccontextmanager
async def keeping(stores: Stores, clock: ManualClock | None = None, **parts: Any) -> AsyncIterator[NotificationKeeper]:
    """What queues and sends notifications, with the real ways out; its loops are not started."""
    clock = clock or ManualClock(NOW)
    notifier = channel_notifier(stores, clock.now)
    keeper = NotificationKeeper(
        **{
            "notifications": stores.notifications,
            "pushes": stores.pushes(SEALING),
            "region": stores.region,
            "notifier": notifier,
            "doorbell": SilentBell(),
            "clock": clock,
            "chance": lambda: 0.5,
            **parts,
        }
    )
    try:
        yield keeper
    finally:
        await keeper.stop()
        await notifier.close()


async def queue_all(keeper: NotificationKeeper) -> None:
    while await keeper.follow():
        pass


async def send_all(keeper: NotificationKeeper) -> None:
    """Returns when all that is due has been tried once more and settled."""
    while await keeper.send_due():
        await eventually(lambda: not keeper.is_sending)


async def told(stores: Stores, workspace: str = "w", **chosen: Any) -> list[Notification]:
    """The oldest first."""
    page, _ = await stores.notifications.page(workspace, NotificationFilter(**chosen), 1000, None)
    return sorted(page, key=lambda notification: notification.seq)


@dataclass(slots=True)
class Receiver:
    """An HTTP server that keeps what it gets: (path, headers, body)."""

    url: str
    got: list[tuple[str, httpx.Headers, bytes]]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    async def heard(self, count: int) -> None:
        """Returns when so many calls have come."""
        await eventually(lambda: len(self.got) >= count)


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    it = Receiver("", [])

    async def answer(request: Request) -> Response:
        it.got.append((request.url.path, httpx.Headers(request.headers.raw), await request.body()))
        return Response(status_code=it.status, headers=it.headers)

    async with serving(answer) as url:
        it.url = url
        yield it


@dataclass(slots=True)
class MailBox:
    """The handler of a real SMTP server: what it gets, and what it answers to it."""

    host: str = "127.0.0.1"
    port: int = 0
    got: list[tuple[str, list[str], Message]] = field(default_factory=list)
    answer: str = "250 OK"
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        assert envelope.mail_from is not None
        self.got.append((envelope.mail_from, [*envelope.rcpt_tos], message_from_bytes(content)))
        return self.answer
