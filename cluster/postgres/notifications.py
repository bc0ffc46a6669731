"""Notifications in the database. What is queued and the cursor over the log move in one commit, so an event is neither lost nor
queued twice."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.domain.base.errors import Conflict, NotFound
from cluster.domain.base.json_writing import json_writer
from cluster.domain.base.log import LogRecord, LogRow
from cluster.domain.notifications.channel import MOST_CHANNELS, Channel, ChannelKind
from cluster.domain.notifications.delivery import DeliveryStatus, Notification, Queued
from cluster.domain.notifications.events import KINDS, Severity
from cluster.domain.notifications.pushes import StateChange, changes_wire
from cluster.domain.notifications.quiet import QuietHours
from cluster.domain.notifications.rules import MOST_RULES, RepeatBy, Rule
from cluster.ports.erasure import Position
from cluster.ports.notifications import NotificationFilter, Told
from cluster.postgres.log import Epoch, log_row, log_rows
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("notifications")
_dump = json_writer(allow_nan=False)
#: Rows of the log that one look goes through, of whatever kind.
SEARCHED = 50_000
TOO_MANY_CHANNELS = f"The workspace has {MOST_CHANNELS} channels; delete one first."
TOO_MANY_RULES = f"The workspace has {MOST_RULES} rules of notifications; delete one first."


class PostgresNotifications:
    def __init__(self, pool: Pool, epoch: Epoch) -> None:
        self._pool = pool
        self._epoch = epoch

    async def channels(self, workspace: str) -> list[Channel]:
        return [_channel(row, row["name"]) for row in await self._pool.rows(_SQL["list_channels"], workspace)]

    async def rules(self, workspace: str) -> list[Rule]:
        return list((await self.rules_of([workspace])).get(workspace, ()))

    async def rules_of(self, workspaces: Sequence[str]) -> Mapping[str, Sequence[Rule]]:
        found: dict[str, list[Rule]] = {}
        for row in await self._pool.rows(_SQL["rules_of"], list(workspaces)):
            found.setdefault(row["workspace"], []).append(_rule(row))
        return found

    async def put_channel(self, channel: Channel, record: LogRecord) -> None:
        row = {
            "workspace": channel.workspace,
            "name": channel.name,
            "kind": channel.kind.value,
            "principal": channel.principal,
            "changed_at": channel.changed_at,
            "credential": channel.credential,
            "target": channel.target(),
        }
        if await self._commit("put_channel", MOST_CHANNELS, _dump(row), self._rows(record)) == "too_many":
            raise Conflict(TOO_MANY_CHANNELS, "too_many_channels")

    async def remove_channel(self, record: LogRecord) -> bool:
        outcome = await self._commit("remove_channel", self._rows(record))
        if outcome == "used":
            raise Conflict(f"Rules name the channel {record.entity}; change or delete them first.", "channel_in_use")
        return bool(outcome == "done")

    async def put_rule(self, rule: Rule, record: LogRecord) -> None:
        row = {
            "workspace": rule.workspace,
            "name": rule.name,
            "events": rule.events,
            "least": rule.least.value,
            "channels": rule.channels,
            "principal": rule.principal,
            "changed_at": rule.changed_at,
            "repeat_after_s": rule.repeat_after_s,
            "repeat_by": rule.repeat_by.value,
            "since": rule.since,
            "digest_s": rule.digest_s or None,
            "quiet": rule.quiet and rule.quiet.to_json(),
        }
        outcome = await self._commit("put_rule", MOST_RULES, _dump(row), self._rows(record))
        if outcome == "too_many":
            raise Conflict(TOO_MANY_RULES, "too_many_rules")
        if outcome == "missing":
            raise NotFound("The rule names a channel that is not there; make the channel first.", "channel_not_found")

    async def remove_rule(self, record: LogRecord) -> bool:
        return bool(await self._commit("remove_rule", self._rows(record)))

    async def test(self, queued: Queued, record: LogRecord) -> bool:
        return bool(await self._commit("test_channel", _dump(_queued(queued)), self._rows(record)))

    async def get(self, workspace: str, notification_id: str) -> Notification | None:
        rows = await self._pool.rows(_SQL["get_notifications"], workspace, [notification_id])
        return _notification(rows[0]) if rows else None

    async def page(
        self, workspace: str, filter: NotificationFilter, limit: int, after: Position | None
    ) -> tuple[list[Notification], int]:
        chosen = (workspace, filter.status and filter.status.value, filter.channel, filter.event)
        rows = await self._pool.rows(_SQL["page_notifications"], *chosen, limit, *(after or (None, None)))
        total = await self._pool.value(_SQL["count_notifications"], *chosen)
        return [_notification(row) for row in rows], int(total)

    async def told(self, workspace: str) -> list[Told]:
        found: dict[str, dict[DeliveryStatus, int]] = {}
        for row in await self._pool.rows(_SQL["told"], workspace):
            found.setdefault(row["channel"], {})[DeliveryStatus(row["status"])] = row["count"]
        return [Told(channel=channel, counts=counts) for channel, counts in found.items()]

    async def replay(self, record: LogRecord) -> bool:
        return bool(await self._commit("replay_notification", self._rows(record)))

    async def begin(self) -> int:
        return int(await self._commit("begin_notifying"))

    async def rows(self, after: int, limit: int) -> tuple[list[LogRow], int]:
        found = await self._pool.rows(_SQL["event_rows"], after, limit, list(KINDS), SEARCHED)
        rows = [log_row(row) for row in found if row["kind"] is not None]
        (head,) = [row["seq"] for row in found if row["kind"] is None]
        return rows, rows[-1].seq if len(rows) == limit else max(after, head)

    async def queue(
        self, cursor: tuple[int, int], queued: Sequence[Queued], changes: Sequence[StateChange], now: float
    ) -> None:
        told = _dump([_queued(item) for item in queued])
        await self._commit("queue_notifications", *cursor, told, _dump(changes_wire(changes)), now)

    async def claim(
        self, now: float, until: float, limit: int, busy: Sequence[tuple[str, str]]
    ) -> list[tuple[Notification, Channel]]:
        channels = ([workspace for workspace, _ in busy], [channel for _, channel in busy])
        ids = await self._commit("claim_notifications", now, until, limit, *channels)
        rows = await self._pool.rows(_SQL["get_notifications"], None, ids) if ids else []
        # One whose channel was deleted since has been given up by that commit.
        return [(_notification(row), _channel(row, row["channel"])) for row in rows if row["kind"] is not None]

    async def settle(self, notifications: Sequence[Notification]) -> Sequence[None]:
        rows = [
            {
                "id": notification.id,
                "status": notification.status.value,
                "attempts": notification.attempts,
                "next_at": notification.next_at,
                "ended_at": notification.ended_at,
                "error": notification.error,
            }
            for notification in notifications
        ]
        await self._pool.execute(_SQL["settle_notifications"], _dump(rows))
        return [None] * len(notifications)

    async def forget(self, ended_before: float, limit: int) -> int:
        return int(await self._pool.value(_SQL["forget_notifications"], ended_before, limit))

    def _rows(self, record: LogRecord) -> tuple[Any, ...]:
        return log_rows([record], self._epoch)

    async def _commit(self, statement: str, *arguments: Any) -> Any:
        return await self._pool.value(_SQL[statement], self._epoch.region, self._epoch.value, *arguments)


def _queued(queued: Queued) -> dict[str, Any]:
    """The columns of a new notification, as JSON, and for how long it stands for its repeats."""
    return {
        "id": queued.id,
        "workspace": queued.workspace,
        "channel": queued.channel,
        "rule": queued.rule,
        "event": queued.event,
        "severity": queued.severity.value,
        "entity": queued.entity,
        "seq": queued.seq,
        "at": queued.at,
        "data": queued.data,
        "repeat_key": queued.repeat_key,
        "repeat_after_s": queued.repeat_after_s,
        "created_at": queued.created_at,
        "status": DeliveryStatus.PENDING.value,
        "attempts": 0,
        "repeats": 0,
        "next_at": queued.due_at,
    }


def _channel(row: Any, name: str) -> Channel:
    return Channel.from_target(
        json.loads(row["target_text"]),
        workspace=row["workspace"],
        name=name,
        kind=ChannelKind(row["kind"]),
        principal=row["principal"],
        changed_at=row["changed_at"],
        credential=row["credential"],
    )


def _rule(row: Any) -> Rule:
    return Rule(
        workspace=row["workspace"],
        name=row["name"],
        events=tuple(json.loads(row["events_text"])),
        least=Severity(row["least"]),
        channels=tuple(json.loads(row["channels_text"])),
        principal=row["principal"],
        changed_at=row["changed_at"],
        repeat_after_s=row["repeat_after_s"],
        repeat_by=RepeatBy(row["repeat_by"]),
        since=row["since"],
        digest_s=row["digest_s"] or 0.0,
        quiet=None if row["quiet_text"] is None else QuietHours.from_json(json.loads(row["quiet_text"])),
    )


def _notification(row: Any) -> Notification:
    return Notification(
        id=row["id"],
        workspace=row["workspace"],
        channel=row["channel"],
        rule=row["rule"],
        event=row["event"],
        severity=Severity(row["severity"]),
        entity=row["entity"],
        seq=row["seq"],
        at=row["at"],
        data=json.loads(row["data_text"]),
        created_at=row["created_at"],
        status=DeliveryStatus(row["status"]),
        attempts=row["attempts"],
        repeats=row["repeats"],
        next_at=row["next_at"],
        ended_at=row["ended_at"],
        error=row["error"],
    )
