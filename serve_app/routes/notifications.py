"""Routes of notifications: channels, rules, and what was told to whom.

A replica writes definitions itself. What is to be told is queued and sent where the zone's primary is
(``actors.notifications``)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request

from actors.composition.resources import allowed_networks
from cluster.domain.access.permissions import Permission
from cluster.domain.agents.credentials import Credential
from cluster.domain.base.errors import Conflict, EndpointForbidden, InvalidRequest, NotFound
from cluster.domain.base.ids import check_id
from cluster.domain.base.log import LogRecord, Origin, record_for
from cluster.domain.base.urls import without_userinfo
from cluster.domain.notifications.channel import Channel, ChannelKind, check_fields, check_mail, signing_key
from cluster.domain.notifications.delivery import KEPT_S, DeliveryStatus, Notification, Queued
from cluster.domain.notifications.events import TEST, Severity
from cluster.domain.notifications.rules import check_events
from cluster.http.addresses import check_endpoint
from cluster.http.origins import origin_of
from cluster.ports.notifications import NotificationFilter
from cluster.ports.wake_ups import WakeTopic
from serve_app.auth.admission import Asker, admit, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, gateway
from serve_app.http.idempotency import Idempotency, answered_once
from serve_app.http.paging import Cursor, Filter, decode_cursor, next_cursor
from serve_app.schemas.notifications import (
    ChannelFields,
    RuleFields,
    channel_wire,
    notification_wire,
    rule_wire,
    stats_wire,
)

router = GuardedRouter(tags=["notifications"])

DAY_S = 86_400.0


@router.get("/notifications")
@requires(Permission.NOTIFICATIONS_READ)
async def list_notifications(
    request: Request,
    asker: Asker,
    status: DeliveryStatus | None = None,
    channel: Filter = None,
    event: Filter = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """What was told or is to be told, the newest first, for 30 days after its end. ``status`` ``dead``: what was given up."""
    chosen = NotificationFilter(status=status, channel=channel, event=event)
    page, total = await gateway(request).notifications.page(asker.workspace, chosen, limit, decode_cursor(cursor))
    return {
        "notifications": [notification_wire(notification) for notification in page],
        "total": total,
        "limit": limit,
        "next_cursor": next_cursor(page, limit, lambda last: (last.created_at, last.id)),
    }


@router.get("/notifications/stats")
@requires(Permission.NOTIFICATIONS_READ)
async def notification_stats(request: Request, asker: Asker) -> dict[str, Any]:
    """How many notifications were delivered and given up, in all and by channel, and how many wait: of those that are kept."""
    store = gateway(request).notifications
    channels = await store.channels(asker.workspace)
    return stats_wire(await store.told(asker.workspace), len(channels), KEPT_S / DAY_S)


@router.get("/notifications/channels")
@requires(Permission.NOTIFICATIONS_READ)
async def list_channels(request: Request, asker: Asker) -> dict[str, Any]:
    """The channels of the workspace, by name."""
    found = await gateway(request).notifications.channels(asker.workspace)
    return {"channels": [channel_wire(channel) for channel in found], "total": len(found)}


@router.post("/notifications/channels", status_code=201)
@requires(Permission.NOTIFICATIONS_WRITE)
async def set_channel(request: Request, body: ChannelFields, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Makes a channel, or replaces the one of this name. One that names a credential also takes the permission to use
    credentials. 400 (`InvalidRequest`, `EndpointForbidden`) if its fields do not fit its kind, there is no such credential, or
    its address is forbidden, 409 (`Conflict`) if the workspace has 100 channels or the key was used with another body."""
    gate = gateway(request)
    check_id(body.name, "name")
    if body.credential is not None:
        await admit(request, Permission.CREDENTIALS_USE)
    check_fields(body.kind, body.given())
    channel = body.channel(asker, gate.clock.now())
    _check_address(gate, channel)
    await _check_credential(gate, channel)

    async def put() -> dict[str, Any]:
        record = _record(asker, gate.clock.now(), "notification.channel_set", channel.name, channel=channel.name)
        await gate.notifications.put_channel(channel, record)
        return channel_wire(channel)

    return await answered_once(gate, asker, f"notifications/channel/{body.name}", key, body.for_digest(), put)


@router.delete("/notifications/channels/{channel_name}")
@requires(Permission.NOTIFICATIONS_WRITE)
async def delete_channel(request: Request, channel_name: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Deletes a channel; what waits for it is given up. 404 (`NotFound`) if there is no such channel, 409 (`Conflict`) if a rule
    names it."""
    gate = gateway(request)
    name = check_id(channel_name, "channel_name")

    async def delete() -> dict[str, Any]:
        record = _record(asker, gate.clock.now(), "notification.channel_deleted", name, channel=name)
        if not await gate.notifications.remove_channel(record):
            raise _no_channel(name)
        return {"deleted": True}

    return await answered_once(gate, asker, f"notifications/channel/delete/{name}", key, None, delete)


@router.post("/notifications/channels/{channel_name}/test")
@requires(Permission.NOTIFICATIONS_WRITE)
async def send_test(request: Request, channel_name: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Queues a test of a channel, which is sent within seconds; what comes of it is in the notification. 404 (`NotFound`) if
    there is no such channel."""
    gate = gateway(request)
    name = check_id(channel_name, "channel_name")

    async def test() -> dict[str, Any]:
        now = gate.clock.now()
        queued = Queued(
            id=gate.new_id("ntf"),
            workspace=asker.workspace,
            channel=name,
            rule=None,
            event=TEST,
            severity=Severity.INFO,
            entity=name,
            seq=0,
            at=now,
            data={},
            created_at=now,
            due_at=now,
        )
        record = _record(asker, now, "notification.tested", queued.id, notification_id=queued.id, channel=name)
        if not await gate.notifications.test(queued, record):
            raise _no_channel(name)
        gate.notify(WakeTopic.NOTIFICATIONS)
        return notification_wire(await _known(gate, asker, queued.id))

    return await answered_once(gate, asker, f"notifications/channel/test/{name}", key, None, test)


@router.get("/notifications/rules")
@requires(Permission.NOTIFICATIONS_READ)
async def list_rules(request: Request, asker: Asker) -> dict[str, Any]:
    """The rules of the workspace, by name."""
    found = await gateway(request).notifications.rules(asker.workspace)
    return {"rules": [rule_wire(rule) for rule in found], "total": len(found)}


@router.post("/notifications/rules", status_code=201)
@requires(Permission.NOTIFICATIONS_WRITE)
async def set_rule(request: Request, body: RuleFields, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Makes a rule, or replaces the one of this name: which events go to which channels, from now on. 400 (`InvalidRequest`) if
    there is no such event or time zone, or repeats and a digest are asked for, 404 (`NotFound`) if there is no such channel, 409
    (`Conflict`) if the workspace has 100 rules or the key was used with another body."""
    gate = gateway(request)
    check_id(body.name, "name")
    check_events(body.events)
    rule = body.rule(asker, gate.clock.now())

    async def put() -> dict[str, Any]:
        record = _record(asker, gate.clock.now(), "notification.rule_set", rule.name, rule=rule.name)
        await gate.notifications.put_rule(rule, record)
        return rule_wire(rule)

    return await answered_once(gate, asker, f"notifications/rule/{body.name}", key, body.for_digest(), put)


@router.delete("/notifications/rules/{rule_name}")
@requires(Permission.NOTIFICATIONS_WRITE)
async def delete_rule(request: Request, rule_name: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Deletes a rule; what is queued already is sent. 404 (`NotFound`) if there is no such rule."""
    gate = gateway(request)
    name = check_id(rule_name, "rule_name")

    async def delete() -> dict[str, Any]:
        record = _record(asker, gate.clock.now(), "notification.rule_deleted", name, rule=name)
        if not await gate.notifications.remove_rule(record):
            raise NotFound(f"There is no rule {name}.", "rule_not_found")
        return {"deleted": True}

    return await answered_once(gate, asker, f"notifications/rule/delete/{name}", key, None, delete)


@router.get("/notifications/{notification_id}")
@requires(Permission.NOTIFICATIONS_READ)
async def get_notification(request: Request, notification_id: str, asker: Asker) -> dict[str, Any]:
    """One notification. 404 (`NotFound`) if there is no such notification, or it ended more than 30 days ago."""
    return notification_wire(await _known(gateway(request), asker, notification_id))


@router.post("/notifications/{notification_id}/replay")
@requires(Permission.NOTIFICATIONS_WRITE)
async def replay_notification(request: Request, notification_id: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Sends a notification that was given up anew, under the same id. 404 (`NotFound`) if there is no such notification, 409
    (`Conflict`) if it is not dead, or its channel is deleted."""
    gate = gateway(request)

    async def replay() -> dict[str, Any]:
        notification = await _known(gate, asker, notification_id)
        data = {"notification_id": notification.id, "channel": notification.channel}
        record = _record(asker, gate.clock.now(), "notification.replayed", notification.id, **data)
        if not await gate.notifications.replay(record):
            raise Conflict(
                f"Notification {notification.id} is not dead, or its channel is deleted; only what was given up is replayed.",
                "not_dead",
            )
        gate.notify(WakeTopic.NOTIFICATIONS)
        return notification_wire(await _known(gate, asker, notification_id))

    return await answered_once(gate, asker, f"notifications/replay/{notification_id}", key, None, replay)


async def _known(gate: Gateway, asker: Origin, notification_id: str) -> Notification:
    found = await gate.notifications.get(asker.workspace, check_id(notification_id, "notification_id"))
    if found is None:
        raise NotFound(f"There is no notification {notification_id}.", "notification_not_found")
    return found


def _no_channel(name: str) -> NotFound:
    return NotFound(f"There is no channel {name}.", "channel_not_found")


def _record(asker: Origin, now: float, kind: str, entity: str, **data: Any) -> LogRecord:
    return record_for(asker, now, kind, entity, data)


def _check_address(gate: Gateway, channel: Channel) -> None:
    """Raises: `InvalidRequest`, `EndpointForbidden` if nothing could be sent there."""
    url, what = channel.url, "url"
    if channel.mail is not None:
        check_mail(channel.mail)
        host = channel.mail.host
        url, what = f"http://{f'[{host}]' if ':' in host else host}:{channel.mail.port}", "host"
    if url is None:
        return
    if without_userinfo(url) != url:
        raise InvalidRequest(f"{what} must have no user and password.", "invalid_channel")
    try:
        check_endpoint(url, allowed_networks(gate.settings))
    except (InvalidRequest, EndpointForbidden) as error:
        raise type(error)(error.message.replace("endpoint", what, 1), error.code) from None


async def _check_credential(gate: Gateway, channel: Channel) -> None:
    """Raises: `InvalidRequest` if there is no such credential, or it is none for this kind of channel; `Conflict` if it cannot be
    opened."""
    if channel.credential is None:
        return
    check_id(channel.credential, "credential")
    found: Credential | None = await gate.credentials.get(channel.workspace, channel.credential)
    if found is None:
        raise InvalidRequest(
            f"There is no credential {channel.credential}; set it first (aragora-cp credentials set {channel.credential}).",
            "credential_missing",
        )
    if channel.kind is ChannelKind.WEBHOOK:
        signing_key(found.secrets[0])
    elif channel.kind is not ChannelKind.EMAIL:
        secret = found.secrets[0].strip()
        if origin_of(secret) is None:
            raise InvalidRequest(
                f"The credential {channel.credential} must be the URL that {channel.kind} has given you.",
                "invalid_credential",
            )
        try:
            check_endpoint(secret, allowed_networks(gate.settings))
        except InvalidRequest:  # its words may quote what is secret
            raise InvalidRequest(f"The credential {channel.credential} is no URL.", "invalid_credential") from None
