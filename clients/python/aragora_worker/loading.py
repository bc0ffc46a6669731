"""What the command lines run: the function, the handlers or the `Worker` that ``module:name`` names."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from aragora_worker.base.errors import InvalidRequest
from aragora_worker.worker import Worker

CODE = "invalid_target"


def load(path: str) -> Any:
    """The function, the object of functions by task type, or the ``Worker`` at ``module:name``; modules of the current directory
    are found too.

    Raises: `InvalidRequest` if ``path`` has another form, cannot be imported, or is nothing that can be run."""
    module, _, name = path.partition(":")
    if not module or not name:
        raise InvalidRequest(f"{path} does not name a function; write it as module:name.", CODE)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, InvalidRequest) as error:  # InvalidRequest: a Worker with odd options
        raise InvalidRequest(f"{path} cannot be loaded: {error}", CODE) from None
    if not isinstance(found, Worker) and not _is_handlers(found) and not callable(found):
        raise InvalidRequest(
            f"{path} is a {type(found).__name__}; name a function that takes a Job, a dict of such functions by task type, or a "
            "Worker.",
            CODE,
        )
    return found


def register(worker: Worker, found: Any, task_types: Sequence[str]) -> None:
    """Makes what `load` has found the handlers of a worker: a function of these task types (none: of all).

    Raises: `InvalidRequest` if there are task types and ``found`` names its own."""
    if not isinstance(found, Mapping):
        worker.handles(*task_types)(found)
        return
    if task_types:
        raise InvalidRequest("The handlers have task types of their own; leave --task-types out.", "invalid_option")
    for task_type, handler in found.items():
        worker.handles(task_type)(handler)


def _is_handlers(found: object) -> bool:
    return (
        isinstance(found, Mapping)
        and bool(found)
        and all(isinstance(task_type, str) and callable(handler) for task_type, handler in found.items())
    )
