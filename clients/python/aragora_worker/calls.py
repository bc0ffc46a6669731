"""The calls of one worker: what is away is waited for, and what refuses the worker itself ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from aragora_worker.api import ControlPlaneClient
from aragora_worker.base.errors import CallerError, NotFound
from aragora_worker.base.ids import path_segment
from aragora_worker.errors import ApiError, Unavailable
from aragora_worker.outage import PASSING, Outage
from aragora_worker.repeating import Patience, RetryDelays, until_taken

T = TypeVar("T")

#: Kinds of calls (`aragora_worker.outage`).
REGISTRATION, HEARTBEAT, CLAIM = "a registration", "a heartbeat", "a claim"
CHILDREN = "a submit of children"
#: The member of a worker's metadata and of its heartbeats that tells the processes of one agent id apart.
PROCESS = "worker_process"
#: How long a draining worker tries to announce that it drains, and then to learn what its last claim was granted.
ANNOUNCE_S = 5.0


class WorkerCalls:
    """``end_with`` is called with the error by which the control plane refuses the worker itself."""

    #: Set before the first call, by whoever opens it.
    client: ControlPlaneClient

    def __init__(self, patience: Patience, end_with: Callable[[CallerError], None]) -> None:
        self.patience = patience
        self.end_with = end_with
        self.outage = Outage()

    async def post(self, path: str, body: Any = None, **options: Any) -> Any:
        """`ControlPlaneClient.request` with POST. Raises: the same; `Unavailable` while the workspace is suspended."""
        try:
            return await self.client.request("POST", path, body, **options)
        except ApiError as error:
            if error.code in PASSING:
                raise Unavailable(str(error), error.code) from error
            if error.status in (401, 403):
                self.end_with(error)
            raise

    async def submit(
        self,
        task_id: str,
        lease_token: str,
        tasks: Sequence[Mapping[str, Any]],
        key: str,
        traceparent: str | None = None,
    ) -> Sequence[str]:
        """Submits children of a job's task, all or none, and returns their ids. What refuses them does not refuse the worker: a
        policy, a budget, a lease that is lost.

        Raises: as `ControlPlaneClient.request`; `Unavailable` while the workspace is suspended."""
        body: dict[str, Any] = {"tasks": list(tasks)}
        try:
            path = f"/tasks/{path_segment(task_id)}/children"
            return await self._submitted(path, {**body, "lease_token": lease_token}, key, traceparent)
        except NotFound as error:
            # A control plane from before this call. Both calls know the keys of either.
            if error.code != NotFound.default_code:
                raise
        return await self._submitted("/tasks/batch", body, key, traceparent)

    async def _submitted(self, path: str, body: Mapping[str, Any], key: str, traceparent: str | None) -> Sequence[str]:
        options: dict[str, Any] = {"idempotency_key": key, "traceparent": traceparent}
        try:
            answer = await self.client.request("POST", path, body, has={"task_ids": list}, **options)
        except ApiError as error:
            if error.code in PASSING:
                raise Unavailable(str(error), error.code) from error
            raise
        ids: Sequence[str] = answer["task_ids"]
        return ids

    async def patiently(self, kind: str, call: Callable[[], Awaitable[T]]) -> T:
        """Repeats a call until the control plane has taken or refused it.

        Raises: `CallerError` if it is refused."""

        def failed(error: Exception, _: float) -> None:
            self.outage.failed(kind, error)

        try:
            answer = await until_taken(call, RetryDelays(self.patience), failed=failed)
        except CallerError:
            self.outage.answered(kind)
            raise
        self.outage.answered(kind)
        return answer

    async def rest(self, kind: str, delays: RetryDelays, error: Exception) -> None:
        """Waits after a call was refused that is to be made anew."""
        self.outage.failed(kind, error)
        await asyncio.sleep(delays.next_s(error))
