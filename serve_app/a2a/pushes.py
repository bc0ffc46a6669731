"""Pushes of a task: the URLs at which a client wants to be told of its states. What sends them is `actors.notifications`.

Whoever may change tasks may let the control plane call a URL. A forbidden address is refused here, and again by every call.
"""

from __future__ import annotations

from typing import Any

from a2a.types import TaskPushNotificationConfig
from a2a.utils.errors import TaskNotFoundError
from starlette.requests import Request

from actors.composition.resources import allowed_networks
from cluster.domain.access.permissions import Permission
from cluster.domain.base.errors import EndpointForbidden, InvalidRequest
from cluster.domain.base.ids import check_id
from cluster.domain.base.log import LogRecord, record_for
from cluster.domain.base.urls import without_userinfo
from cluster.domain.notifications.pushes import KnownPush, NewPush, PushSecret, push_id_of
from cluster.http.addresses import check_endpoint
from cluster.http.origins import origin_of
from cluster.ports.wake_ups import WakeTopic
from serve_app.a2a.mapping import SUBMITTED, Record, changed_at, name_of
from serve_app.auth.admission import admit, origin, principal_of
from serve_app.auth.words import may_read_words
from serve_app.gateway import gateway


async def check_push(request: Request, config: TaskPushNotificationConfig, *, is_task: bool) -> None:
    """Returns if the caller may have such a push.

    Raises: `Forbidden`, `InvalidRequest`, `EndpointForbidden`."""
    await admit(request, Permission.TASKS_WRITE if is_task else Permission.DELIBERATIONS_WRITE)
    if config.id:
        check_id(config.id, "id")
    if without_userinfo(config.url) != config.url:
        raise InvalidRequest("url must have no user and password.", "invalid_push")
    try:
        check_endpoint(config.url, allowed_networks(gateway(request).settings))
    except (InvalidRequest, EndpointForbidden) as error:
        raise type(error)(error.message.replace("endpoint", "url", 1), error.code) from None
    _secret(config).check()


async def put_push(
    request: Request, task_id: str, config: TaskPushNotificationConfig, *, in_context: bool
) -> dict[str, Any]:
    """Makes a push that was checked, or replaces the one of its id: the id of the task, if the client names none.
    ``in_context``: the caller knows the conversation of the task, which the push then names.

    Raises: `Conflict`, `TryLater`."""
    gate, asker = gateway(request), await origin(request)
    now = gate.clock.now()
    push = NewPush(
        workspace=asker.workspace,
        task_id=task_id,
        id=config.id or task_id,
        principal=asker.principal,
        created_at=now,
        url=config.url,
        origin=origin_of(config.url) or "",
        in_context=in_context,
        secret=_secret(config),
    )
    await gate.pushes.put(push, await _record(request, now, "notification.push_set", task_id, push.push_id))
    return _wire(task_id, push.id, push.url)


async def tell_now(request: Request, record: Record, config: TaskPushNotificationConfig) -> None:
    """Lets a new push tell of the state in which its task is already. ``record`` was read when the push was there. Raises:
    `TryLater`."""
    if record.state == SUBMITTED:
        return
    gate, asker = gateway(request), await origin(request)
    push_id = push_id_of(asker.workspace, record.id, config.id or record.id)
    await gate.pushes.tell(asker.workspace, push_id, (name_of(record.state), changed_at(record)), gate.clock.now())
    gate.notify(WakeTopic.NOTIFICATIONS)


async def get_push(request: Request, task_id: str, id: str) -> dict[str, Any]:
    """Raises: `TaskNotFoundError` if there is no such push."""
    for push in await _pushes(request, task_id):
        if push.id == id:
            return await _shown(request, task_id, push)
    raise TaskNotFoundError(f"Task {task_id} has no such push; list its pushes.")


async def list_pushes(request: Request, task_id: str) -> dict[str, Any]:
    """All of a task: there are ten at most."""
    return {"configs": [await _shown(request, task_id, push) for push in await _pushes(request, task_id)]}


async def delete_push(request: Request, record: Record, id: str) -> dict[str, Any]:
    """One that is not there is deleted already. Raises: `Forbidden`."""
    await admit(request, Permission.TASKS_WRITE if record.is_task else Permission.DELIBERATIONS_WRITE)
    gate, asker = gateway(request), await origin(request)
    push_id = push_id_of(asker.workspace, record.id, id)
    now = gate.clock.now()
    await gate.pushes.remove(await _record(request, now, "notification.push_deleted", record.id, push_id))
    return {}


async def _pushes(request: Request, task_id: str) -> list[KnownPush]:
    return await gateway(request).pushes.of_task((await origin(request)).workspace, task_id)


async def _record(request: Request, now: float, kind: str, task_id: str, push_id: str) -> LogRecord:
    return record_for(await origin(request), now, kind, push_id, {"push_id": push_id, "task_id": task_id})


def _secret(config: TaskPushNotificationConfig) -> PushSecret:
    given = config.authentication
    return PushSecret(token=config.token, scheme=given.scheme, credentials=given.credentials)


async def _shown(request: Request, task_id: str, push: KnownPush) -> dict[str, Any]:
    """The path and the query of a URL may be its secret: without the permission to read what somebody wrote, only its origin is
    shown, since the protocol requires a URL."""
    whole = may_read_words(await principal_of(request))
    return _wire(task_id, push.id, push.url if whole else origin_of(push.url) or "")


def _wire(task_id: str, id: str, url: str) -> dict[str, Any]:
    """Without its token and credentials: no answer has a secret."""
    return {"taskId": task_id, "id": id, "url": url}
