"""Runs functions as workers of an Aragora control plane, and calls its API.

    from aragora_worker import Job, Worker

The names below are loaded when they are first used: the control plane itself needs only ``aragora_worker.base``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aragora_worker.api import ControlPlaneClient
    from aragora_worker.asking import Answer
    from aragora_worker.blocking import BlockingClient
    from aragora_worker.children import Child, ChildOutcome
    from aragora_worker.errors import ApiError, OutcomeUnknown, TaskNotCompleted, Unavailable
    from aragora_worker.jobs import Job, Reject
    from aragora_worker.repeating import Patience
    from aragora_worker.tls import ClientTls
    from aragora_worker.worker import Worker

__all__ = [
    "Answer",
    "ApiError",
    "BlockingClient",
    "Child",
    "ChildOutcome",
    "ClientTls",
    "ControlPlaneClient",
    "Job",
    "OutcomeUnknown",
    "Patience",
    "Reject",
    "TaskNotCompleted",
    "Unavailable",
    "Worker",
]

#: The module of each name; errors are in ``errors``.
_HOMES = {
    "Answer": "asking",
    "BlockingClient": "blocking",
    "Child": "children",
    "ChildOutcome": "children",
    "ClientTls": "tls",
    "ControlPlaneClient": "api",
    "Job": "jobs",
    "Patience": "repeating",
    "Reject": "jobs",
    "Worker": "worker",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
