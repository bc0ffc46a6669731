"""The W3C trace context of a lease: it is sent with every call about the task, so that a trace has the worker's part too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: As the standard has it, of this version or a later one. Anything else would be no header, or mean nothing.
_FORM = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[0-9A-Za-z_-]{1,200})?")


def traceparent_of(task: Mapping[str, Any]) -> str | None:
    """That of a claimed task; None if the control plane does not trace."""
    given = task.get("traceparent")
    return given if isinstance(given, str) and _FORM.fullmatch(given) is not None else None
