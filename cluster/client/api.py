"""The HTTP client under the name that it had in this package; it is ``aragora_worker.api`` now, a distribution of its own."""

from aragora_worker.api import ControlPlaneClient, OutputEvent, StreamEvent
from aragora_worker.errors import ApiError, OutcomeUnknown, TaskNotCompleted, Unavailable
from aragora_worker.repeating import Patience

__all__ = [
    "ApiError",
    "ControlPlaneClient",
    "OutcomeUnknown",
    "OutputEvent",
    "Patience",
    "StreamEvent",
    "TaskNotCompleted",
    "Unavailable",
]
