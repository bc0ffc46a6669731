"""Children of a task: tasks that its holder submits, and that it may wait for without a lease.

A child names its parent when it is submitted, and the parent existed before, so that families have no cycles. A holder that parks
its task gives its lease back; the task can be claimed again when all the children that it named have ended, however they did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.domain.base.errors import Conflict, InvalidRequest
from cluster.domain.base.log import IDENTITY, LogTexts
from cluster.domain.tasks.rules import TaskRules

#: Children that one task may wait for at a time.
MAX_CHILDREN = 1000
#: Generations below a task that has no parent.
MAX_DEPTH = 16

#: The texts that the rows of parked tasks have in their data.
LOG_TEXTS: LogTexts = {"children": IDENTITY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """For which children ``attempt`` of a task waited, and since when (epoch seconds)."""

    attempt: int
    at: float
    children: tuple[str, ...]


def depth_below(parent_id: str, parent: TaskRules | None) -> int:
    """The generation of a child of this task. Raises: `InvalidRequest` (``limit_exceeded``) if it would be too deep."""
    depth = 1 + (0 if parent is None else parent.depth)
    if depth > MAX_DEPTH:
        raise InvalidRequest(
            f"Task {parent_id} is {MAX_DEPTH} generations deep and can have no children; do its work in its own task.",
            "limit_exceeded",
        )
    return depth


def check_children(task_id: str, children: Sequence[str], rules: Mapping[str, TaskRules | None]) -> None:
    """``rules``: of those of the children that are in the workspace.

    Raises: `InvalidRequest` if one is named twice or is not there (``unknown_child``); `Conflict` if one is not the task's."""
    if len(set(children)) != len(children):
        raise InvalidRequest("children names a task twice; name each child once.", "invalid_children")
    for child in children:
        if child not in rules:
            raise InvalidRequest(f"children names a task that does not exist: {child}.", "unknown_child")
        of_child = rules[child]
        if of_child is None or of_child.parent != task_id:
            raise Conflict(
                f"Task {child} is not a child of task {task_id}; submit children with parent_task_id.", "not_a_child"
            )
