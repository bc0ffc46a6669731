"""What cannot happen to a task, and what its caller deserves to hear."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.domain.base.errors import Conflict, ControlPlaneError, ImpossibleTransition
from cluster.domain.tasks.events import Event
from cluster.domain.tasks.phases import phase_of
from cluster.domain.tasks.task import TaskHead


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """``code`` None: no caller can cause this, it is a bug of ours (ImpossibleTransition)."""

    code: str | None = None
    message: str = ""

    def error(self, head: TaskHead, event: Event) -> ControlPlaneError:
        if self.code is None:
            by = f" (cause: {event.cause})" if event.cause else ""
            return ImpossibleTransition(
                f"Task {head.id} is {phase_of(head)}; {type(event).__name__} cannot happen to it{by}."
            )
        return Conflict(self.message.format(id=head.id, status=head.status.value), self.code)


LEASE_LOST = Refusal(code="lease_lost", message="The lease on task {id} is not yours (any more); the task is {status}.")
ALREADY_TERMINAL = Refusal(code="already_terminal", message="Task {id} is already {status}.")
NOT_PENDING = Refusal(code="not_pending", message="Task {id} is {status}; only a waiting task can be prioritised.")
IMPOSSIBLE = Refusal()
