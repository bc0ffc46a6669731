"""A worker's claims. Each keeps its id until it is answered: if the answer was lost, it is given again."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aragora_worker.base.errors import CallerError, NotFound
from aragora_worker.base.ids import claim_id_of
from aragora_worker.calls import CLAIM, WorkerCalls
from aragora_worker.errors import INVALID_BODY, ApiError, OutcomeUnknown
from aragora_worker.registration import Registration
from aragora_worker.repeating import RetryDelays, until_taken

BLOCK_MS = 20_000
#: HTTP statuses that say that what was sent is wrong, so that it is refused whenever it is sent.
_WRONG = frozenset({400, 413, 422})
#: Members that each task in the answer to a claim must have; if one is missing, the answer is not the control plane's.
_TASK: Mapping[str, type | tuple[type, ...]] = {
    "id": str,
    "task_type": str,
    "metadata": dict,
    "attempt": int,
    "timeout_seconds": (int, float),
    "lease_token": str,
}
ClaimedTasks = Sequence[Mapping[str, Any]]


class Claims:
    """``narrowed`` gives the members of a claim that say which tasks it takes; ``start_all`` takes what a claim was granted."""

    def __init__(
        self,
        calls: WorkerCalls,
        registration: Registration,
        narrowed: Callable[[], Mapping[str, Any]],
        start_all: Callable[[ClaimedTasks], None],
    ) -> None:
        self._calls = calls
        self._registration = registration
        self._narrowed = narrowed
        self._start_all = start_all
        self._delays = RetryDelays(calls.patience)
        #: The body of the claim that has no answer yet; None between claims. If draining interrupts the claim, it is made
        #: once more with the same id, to learn what it was granted.
        self._unanswered: dict[str, Any] | None = None

    async def claim(self, most: int) -> None:
        """Claims up to ``most`` tasks, waits until there are some, and starts them."""
        body = {
            "agent_id": self._registration.agent_id,
            "max_tasks": most,
            "claim_id": claim_id_of(self._registration.process, uuid.uuid4().hex),
            "block_ms": BLOCK_MS,
            **self._narrowed(),
        }
        self._unanswered = body
        self._take(await self._claimed(body))

    async def claim_last(self) -> None:
        """Repeats the claim that draining interrupted, since nobody would work on its leases until they end."""
        if self._unanswered is not None:
            self._take(await self._call({**self._unanswered, "block_ms": 0}))

    def _take(self, tasks: ClaimedTasks) -> None:
        """Starts the tasks of a claim. Only then does the claim count as answered: draining may cancel this worker's loop
        while it has the answer in hand."""
        self._start_all(tasks)
        self._unanswered = None

    async def _claimed(self, body: dict[str, Any]) -> ClaimedTasks:
        def failed(error: Exception, _: float) -> None:
            self._calls.outage.failed(CLAIM, error)
            body["block_ms"] = 0  # so that its answer says at once that the control plane is back

        while True:
            try:
                tasks = await until_taken(lambda: self._call(body), self._delays, failed=failed)
                self._calls.outage.answered(CLAIM)
                return tasks
            except NotFound as error:  # the control plane is there, and has forgotten the agent
                self._calls.outage.answered(CLAIM)
                if not await self._registration.registered():
                    return ()
                await asyncio.sleep(self._delays.next_s(error))
            except CallerError as error:
                if _is_wrong_for_good(error):
                    self._calls.end_with(error)
                else:
                    await self._calls.rest(CLAIM, self._delays, error)
                return ()  # another claim may be taken

    async def _call(self, body: Mapping[str, Any]) -> ClaimedTasks:
        answer = await self._calls.post("/tasks/claim", body, timeout_s=BLOCK_MS / 1000 + 10, has={"tasks": list})
        tasks: list[Mapping[str, Any]] = answer["tasks"]
        if not all(_is_task(task) for task in tasks):
            raise OutcomeUnknown("What answered the claim is not the control plane.")
        return tasks


def _is_wrong_for_good(error: CallerError) -> bool:
    """Whether a claim was refused for what is in it: every later one has the same task types and agent, so none can be taken. Not
    by the class of the error: 409 passes, and so may what the client itself finds wrong with files that are being replaced."""
    return error.code == INVALID_BODY or (isinstance(error, ApiError) and error.status in _WRONG)


def _is_task(value: object) -> bool:
    return (
        isinstance(value, dict)
        and "payload" in value
        and all(isinstance(value.get(name), kind) for name, kind in _TASK.items())
    )
