"""The methods, each by calls of the API's routes in the name of the caller."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from a2a.types import TaskPushNotificationConfig
from a2a.utils.errors import (
    InvalidParamsError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from starlette.requests import Request

from cluster.domain.base.errors import InvalidRequest, TryLater
from cluster.domain.base.ids import check_id
from cluster.domain.base.json_values import shown_text
from cluster.process.waits import LONGEST_WAIT_S
from serve_app.a2a.listing import list_tasks
from serve_app.a2a.mapping import ENDED, INPUT_REQUIRED, Record, new_task, task_wire
from serve_app.a2a.messages import answer_of, check_message, key_of_message, work_of
from serve_app.a2a.pushes import check_push, delete_push, get_push, list_pushes, put_push, tell_now
from serve_app.a2a.rpc import Call
from serve_app.a2a.updates import Following, following
from serve_app.gateway import gateway
from serve_app.http.hang_ups import hung_up
from serve_app.http.route_calls import Refused, Routes
from serve_app.streams.endings import until_ended

#: Looks at the question of a deliberation that is about to ask, and seconds between two.
QUESTION_LOOKS: Final = 20
QUESTION_APART_S: Final = 0.1
#: The words by which the routes say that there is no such task, as far as this caller may know.
_MISSING: Final = ("task_not_found", "deliberation_not_found")


@dataclass(frozen=True, slots=True)
class Asking:
    """A call and its caller. ``workspace``: the one that the caller acts in."""

    request: Request
    routes: Routes
    workspace: str
    call: Call

    def check_tenant(self) -> None:
        """Raises: `InvalidParamsError` if the call is for another workspace than its caller acts in."""
        tenant = getattr(self.call.params, "tenant", "")
        if tenant and tenant != self.workspace:
            raise InvalidParamsError(
                f"tenant must be {self.workspace}, the workspace of this key, or be left out; the header X-Aragora-Workspace "
                "chooses among several."
            )

    async def record(self, task_id: str) -> Record:
        """The task or deliberation of an id.

        Raises: `TaskNotFoundError` if there is none, `Refused` if it cannot be read."""
        try:
            check_id(task_id, "id")
        except InvalidRequest:
            raise TaskNotFoundError(f"There is no task {shown_text(task_id, 128)}.") from None
        try:
            return await self.task(task_id)
        except Refused as error:
            if error.error["code"] not in _MISSING:
                raise
        try:
            return await self.deliberation(task_id)
        except Refused as error:
            if error.error["code"] not in _MISSING:
                raise
            raise TaskNotFoundError(f"There is no task {task_id}.") from None

    async def task(self, task_id: str) -> Record:
        """Raises: `Refused`."""
        return Record(id=task_id, is_task=True, found=await self.routes.get(f"/tasks/{task_id}"))

    async def deliberation(self, request_id: str) -> Record:
        """With the question that it puts to a person, if it does. Raises: `Refused`."""
        found = await self.routes.get(f"/deliberations/{request_id}")
        asks = found.get("question_task_id")
        person = None if asks is None else await self._question(asks)
        return Record(id=request_id, is_task=False, found=found, person=person)

    async def _question(self, task_id: str) -> Mapping[str, Any] | None:
        """The task that asks; None if the caller may not read it, or nobody has submitted it yet. A deliberation says that it
        asks a moment before it does, so this looks again."""
        for wait_s in (*(QUESTION_APART_S,) * QUESTION_LOOKS, None):
            try:
                found: Mapping[str, Any] = await self.routes.get(f"/tasks/{task_id}")
                return found
            except Refused as error:
                if error.status >= 500:
                    raise
                if error.status != 404 or wait_s is None:
                    return None
            await asyncio.sleep(wait_s)
        return None

    async def again(self, record: Record) -> Record:
        """What a record is now. Raises: `Refused`."""
        return await (self.task(record.id) if record.is_task else self.deliberation(record.id))


async def begun(asking: Asking) -> Record | dict[str, Any]:
    """Does what a message asks for: the task that it has begun or answered, as it is now. If it was begun and cannot be read,
    a task that says no more than its id.

    Raises: an error of the protocol, `Refused`."""
    check_message(asking.call)
    message = asking.call.params.message
    if message.task_id:
        record = await _target(asking)
        await _check_asked_push(asking, is_task=record.is_task)
        return await _pushed(asking, await _answered(asking, record))
    work = work_of(asking.call)
    await _check_asked_push(asking, is_task=work.is_task)
    admitted = await asking.routes.post(work.path, work.body, work.key)
    task_id = admitted["task_id"]
    if (config := _asked_push(asking)) is not None:
        await put_push(asking.request, task_id, config, in_context=bool(work.context_id))
    try:
        record = await (asking.task(task_id) if work.is_task else asking.deliberation(task_id))
    except Refused:
        # It has begun, and whoever asked has to learn its id. Asking for it shows what is the matter.
        return new_task(task_id, work.context_id or task_id)
    if config is not None:
        await tell_now(asking.request, record, config)
    return record


def _asked_push(asking: Asking) -> TaskPushNotificationConfig | None:
    """The push that a message asks for."""
    configuration = asking.call.params.configuration
    return (
        configuration.task_push_notification_config if configuration.HasField("task_push_notification_config") else None
    )


async def _check_asked_push(asking: Asking, *, is_task: bool) -> None:
    """Before anything begins. Raises: what `check_push` raises."""
    if (config := _asked_push(asking)) is not None:
        await check_push(asking.request, config, is_task=is_task)


async def _pushed(asking: Asking, record: Record) -> Record:
    """The record, when the push that the message asks for is there."""
    if (config := _asked_push(asking)) is None:
        return record
    await put_push(asking.request, record.id, config, in_context=record.is_named)
    record = await asking.again(record)
    await tell_now(asking.request, record, config)
    return record


async def _target(asking: Asking) -> Record:
    """The task that a message is for.

    Raises: an error of the protocol if it is none of this conversation, `Refused`."""
    message = asking.call.params.message
    record = await asking.record(message.task_id)
    if message.context_id and message.context_id != record.context_id:
        raise InvalidParamsError(
            "message.contextId is not that of the task; leave it out, or send the one of the task."
        )
    return record


async def _answered(asking: Asking, record: Record) -> Record:
    """Answers the question of a task by a message to it."""
    message = asking.call.params.message
    asks = record.question_task_id
    if asks is None:
        raise _takes_none(record)
    try:
        await asking.routes.post(f"/tasks/{asks}/answer", answer_of(asking.call), key_of_message(message.message_id))
    except Refused as error:
        # Only the answer that it has got may be sent again.
        if record.state in ENDED and error.status in (400, 409):
            raise _takes_none(record) from None
        raise
    return await asking.again(record)


def _takes_none(record: Record) -> UnsupportedOperationError:
    why = "has ended" if record.state in ENDED else "asks nothing"
    return UnsupportedOperationError(f"Task {record.id} {why}; send a message without taskId to begin another one.")


async def send_message(asking: Asking) -> dict[str, Any]:
    """Unless the client wants its answer at once, this waits until the task has ended or asks something, for 25 seconds at
    most."""
    record = await begun(asking)
    if isinstance(record, dict):
        return {"task": record}
    if not asking.call.params.configuration.return_immediately:
        try:
            record = await _settled(asking, record)
        except TryLater:
            pass  # it has begun all the same, as in `begun`
        except Refused as error:
            if error.status < 500:
                raise
    return {"task": task_wire(record)}


async def _settled(asking: Asking, record: Record) -> Record:
    gate, request = gateway(asking.request), asking.request
    if is_settled(record):
        return record
    follow = await following(request, asking.workspace, record, lambda: asking.again(record))
    hang_up = asyncio.ensure_future(hung_up(request.receive))
    left = asyncio.Event()
    hang_up.add_done_callback(lambda _: left.set())
    try:
        with gate.open_calls.of(request, follow.permission) as opened:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_WAIT_S):
                    await until_ended(_until_settled(follow), opened.ended, left)
            gate.open_calls.check(opened)
    finally:
        hang_up.cancel()
    return await asking.again(record)


async def _until_settled(follow: Following) -> None:
    if is_settled(follow.first):
        return
    async with contextlib.aclosing(follow.changes()) as changes:
        async for _, record in changes:
            if is_settled(record):
                return


def is_settled(record: Record) -> bool:
    """Whether nothing happens to it until somebody does something."""
    return record.state in ENDED or record.state == INPUT_REQUIRED


async def get_task(asking: Asking) -> dict[str, Any]:
    return task_wire(await asking.record(asking.call.params.id))


async def cancel_task(asking: Asking) -> dict[str, Any]:
    """A task that runs is asked to stop, and is working until it has."""
    record = await asking.record(asking.call.params.id)
    kind = "tasks" if record.is_task else "deliberations"
    await asking.routes.post(f"/{kind}/{record.id}/cancel")
    return task_wire(await asking.again(record))


async def _list_tasks(asking: Asking) -> dict[str, Any]:
    return await list_tasks(asking.routes, asking.call.params)


async def _set_push(asking: Asking) -> dict[str, Any]:
    config = asking.call.params
    record = await asking.record(config.task_id)
    await check_push(asking.request, config, is_task=record.is_task)
    wire = await put_push(asking.request, record.id, config, in_context=record.is_named)
    await tell_now(asking.request, await asking.again(record), config)
    return wire


async def _get_push(asking: Asking) -> dict[str, Any]:
    record = await asking.record(asking.call.params.task_id)
    return await get_push(asking.request, record.id, asking.call.params.id)


async def _list_pushes(asking: Asking) -> dict[str, Any]:
    record = await asking.record(asking.call.params.task_id)
    return await list_pushes(asking.request, record.id)


async def _delete_push(asking: Asking) -> dict[str, Any]:
    record = await asking.record(asking.call.params.task_id)
    return await delete_push(asking.request, record, asking.call.params.id)


async def _no_extended_card(asking: Asking) -> dict[str, Any]:
    raise UnsupportedOperationError("There is no extended card; the public one says everything.")


#: Methods with one answer; the others are streams (`serve_app.a2a.updates`).
HANDLERS: Final[Mapping[str, Callable[[Asking], Awaitable[dict[str, Any]]]]] = {
    "SendMessage": send_message,
    "GetTask": get_task,
    "ListTasks": _list_tasks,
    "CancelTask": cancel_task,
    "CreateTaskPushNotificationConfig": _set_push,
    "GetTaskPushNotificationConfig": _get_push,
    "ListTaskPushNotificationConfigs": _list_pushes,
    "DeleteTaskPushNotificationConfig": _delete_push,
    "GetExtendedAgentCard": _no_extended_card,
}
