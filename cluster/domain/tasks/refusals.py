"""How an event that a task's phase does not allow is refused."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.domain.base.errors import Conflict, ControlPlaneError, ImpossibleTransition
from cluster.domain.tasks.events import Event
from cluster.domain.tasks.phases import phase_of
from cluster.domain.tasks.task import TaskHead


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What the caller gets. ``code`` is None if no caller can cause it: it is our own bug (``ImpossibleTransition``)."""

    code: str | None = None
    message: str = ""

    def error(self, head: TaskHead, event: Event) -> ControlPlaneError:
        """The error to raise: ``Conflict``, or ``ImpossibleTransition`` without a code."""
        if self.code is None:
            by = f" (cause: {event.cause})" if event.cause else ""
            return ImpossibleTransition(
                f"Task {head.id} is {phase_of(head)}; {type(event).__name__} cannot happen to it{by}."
            )
        return Conflict(self.message.format(id=head.id, status=head.status.value), self.code)


LEASE_LOST = Refusal(
    code="lease_lost",
    message="You do not hold the lease on task {id}, which is {status}; drop this attempt and claim again.",
)
ALREADY_TERMINAL = Refusal(
    code="already_terminal", message="Task {id} has ended as {status} and cannot change any more."
)
NOT_PENDING = Refusal(code="not_pending", message="Task {id} is {status}; only a waiting task can be prioritised.")
NOT_ASKING = Refusal(
    code="no_open_question", message="Task {id} is {status} and has no open question; look at the task."
)
IMPOSSIBLE = Refusal()
