"""Notifications: channels, rules, and the queue of what is to be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.domain.base.log import LogRecord, LogRow
from cluster.domain.notifications.channel import Channel
from cluster.domain.notifications.delivery import DeliveryStatus, Notification, Outcome, Queued
from cluster.domain.notifications.pushes import Push, StateChange
from cluster.domain.notifications.rules import Rule
from cluster.ports.erasure import Position


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationFilter:
    """None matches everything."""

    status: DeliveryStatus | None = None
    channel: str | None = None
    event: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How many notifications of a channel are in which state."""

    channel: str
    counts: Mapping[DeliveryStatus, int]


class WorkspaceNotifications(Protocol):
    """What request handlers get: every method works in one workspace, which it is given or which its object names.

    Every method raises `StoreUnavailable`; those that write also `Fenced`."""

    async def channels(self, workspace: str) -> list[Channel]:
        """By name."""

    async def rules(self, workspace: str) -> list[Rule]:
        """By name."""

    async def put_channel(self, channel: Channel, record: LogRecord) -> None:
        """Makes a channel, or replaces the one of this name.

        Raises: `Conflict` (``too_many_channels``)."""

    async def remove_channel(self, record: LogRecord) -> bool:
        """Deletes the channel that the record names, and gives up what waits for it; returns whether there was one.

        Raises: `Conflict` (``channel_in_use``) if a rule names it."""

    async def put_rule(self, rule: Rule, record: LogRecord) -> None:
        """Makes a rule, or replaces the one of this name.

        Raises: `Conflict` (``too_many_rules``); `NotFound` (``channel_not_found``) if one of its channels is not there."""

    async def remove_rule(self, record: LogRecord) -> bool:
        """Deletes the rule that the record names; returns whether there was one."""

    async def test(self, queued: Queued, record: LogRecord) -> bool:
        """Queues a test of a channel; returns whether there is the channel."""

    async def get(self, workspace: str, notification_id: str) -> Notification | None: ...

    async def page(
        self, workspace: str, filter: NotificationFilter, limit: int, after: Position | None
    ) -> tuple[list[Notification], int]:
        """(page, the newest first, and how many match)."""

    async def told(self, workspace: str) -> list[Told]:
        """By channel, of what is kept; also channels that are deleted."""

    async def replay(self, record: LogRecord) -> bool:
        """Queues a dead notification, which the record names, anew; returns whether it was dead."""


class Notifications(WorkspaceNotifications, Protocol):
    """What queues and sends them gets, of all workspaces."""

    async def begin(self) -> int:
        """Up to which row of the log this region has read."""

    async def rows(self, after: int, limit: int) -> tuple[list[LogRow], int]:
        """The next rows that may be events of workspaces with rules, and up to where the log was searched."""

    async def rules_of(self, workspaces: Sequence[str]) -> Mapping[str, Sequence[Rule]]: ...

    async def queue(
        self, cursor: tuple[int, int], queued: Sequence[Queued], changes: Sequence[StateChange], now: float
    ) -> None:
        """Stores notifications, lets pushes tell of changes from ``now`` on, and moves the cursor from the first to the second
        row, in one commit.

        Raises: `Fenced` if another process has moved it."""

    async def claim(
        self, now: float, until: float, limit: int, busy: Sequence[tuple[str, str]]
    ) -> list[tuple[Notification, Channel]]:
        """Notifications that are due, but for those of ``busy`` (workspace, channel), each with an attempt begun. They are due
        again at ``until`` if nobody settles them."""

    async def settle(self, notifications: Sequence[Notification]) -> Sequence[None]:
        """Stores what came of attempts; of one that was replayed or claimed again meanwhile nothing."""

    async def forget(self, ended_before: float, limit: int) -> int:
        """Deletes some that ended before (epoch seconds), and returns how many that were."""


class Notifier(Protocol):
    async def push(self, push: Push) -> Outcome:
        """One attempt."""

    async def send(self, notification: Notification, channel: Channel) -> Outcome:
        """One attempt. Raises: `StoreUnavailable` if the credential cannot be read now: that is no attempt's fault."""
