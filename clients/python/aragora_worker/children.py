"""Children of jobs. A job that waits for children ends: its task waits without a worker, and comes again with their outcomes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aragora_worker.base.errors import InvalidRequest
from aragora_worker.base.json_values import check_json, plain_json
from aragora_worker.base.progress import checked_progress
from aragora_worker.errors import ApiError, OutcomeUnknown

#: Children that one job may wait for.
MOST_CHILDREN = 1000
#: The code of a submit whose key was used with other tasks.
_OTHER_TASKS = "idempotency_conflict"


class Child:
    """A task that a job submits, to wait for it. ``fields``: what `POST /tasks` takes, such as ``required_capabilities``."""

    __slots__ = ("task",)

    def __init__(self, task_type: str, payload: Any = None, **fields: Any) -> None:
        """Raises: `InvalidRequest` if a value is no JSON."""
        task = {"task_type": task_type, "payload": {} if payload is None else payload, **fields}
        check_json(task, "The child")
        self.task: Mapping[str, Any] = plain_json(task)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildOutcome:
    """How a child has ended. ``status``: ``completed``, ``failed``, ``cancelled`` or ``timeout``. ``left_out`` has "result" if
    the claim had no room for it: read the task."""

    task_id: str
    task_type: str
    status: str
    status_detail: str
    result: Any
    error: str | None
    left_out: Sequence[str] = field(default=())

    @property
    def completed(self) -> bool:
        return self.status == "completed"


class Parks(BaseException):
    """Ends a job that waits for children. Not an `Exception`, which handlers catch for other reasons. ``park`` is what is
    reported, with tasks that are still to be submitted instead of their ids."""

    def __init__(self, park: Mapping[str, Any]) -> None:
        super().__init__("the job waits for its children")
        self.park = park


def park_of(children: Sequence[Child | str], checkpoint: Any) -> Mapping[str, Any]:
    """Raises: `InvalidRequest` if a value cannot be stored, or there are no children, or too many."""
    if isinstance(children, str) or not 1 <= len(children) <= MOST_CHILDREN:
        raise InvalidRequest(f"A job waits for 1 to {MOST_CHILDREN} children; give a list of them.")
    checked_progress(checkpoint=checkpoint)
    named = [child.task if isinstance(child, Child) else child for child in children]
    park: Mapping[str, Any] = plain_json({"children": named, "checkpoint": checkpoint})
    return park


def outcomes_in(task: Mapping[str, Any]) -> tuple[ChildOutcome, ...] | None:
    """The outcomes that a claimed task comes with; None if it has waited for nothing."""
    children = task.get("children")
    if not isinstance(children, list):
        return None
    return tuple(
        ChildOutcome(
            task_id=child["task_id"],
            task_type=child["task_type"],
            status=child["status"],
            status_detail=child["status_detail"],
            result=child.get("result"),
            error=child.get("error"),
            left_out=tuple(child.get("left_out", ())),
        )
        for child in children
    )


def parked_before(task: Mapping[str, Any]) -> int:
    """The attempt that waited for children last; 0 if none did."""
    parked = task.get("parked")
    return int(parked["attempt"]) if isinstance(parked, dict) else 0


async def with_ids(
    park: Mapping[str, Any],
    submit: Callable[[Sequence[Mapping[str, Any]], str], Awaitable[Sequence[str]]],
    task_id: str,
    waited_in: int,
    attempt: int,
) -> Mapping[str, Any]:
    """The report, with ids alone. ``submit`` takes tasks and a key, and returns their ids.

    The key is that of the task and of how far it is, so that an attempt that takes the place of a lost one finds the children of
    that one. If those are other tasks (a plan by a model is never the same twice), it submits its own.

    Raises: what ``submit`` raises."""
    children = park["children"]
    new = [{**child, "parent_task_id": task_id} for child in children if not isinstance(child, str)]
    if not new:
        return park
    key = f"children:{task_id}:{waited_in}"
    try:
        ids = await submit(new, key)
    except ApiError as error:
        if error.code != _OTHER_TASKS:
            raise
        ids = await submit(new, f"{key}:{attempt}")
    if len(ids) != len(new):
        raise OutcomeUnknown("What answered the submit of children is not the control plane.")
    left = iter(ids)
    return {**park, "children": [child if isinstance(child, str) else next(left) for child in children]}
