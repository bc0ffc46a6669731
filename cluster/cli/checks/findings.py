"""What a check finds, and how checks are run: at the same time, each within a bound, and none that fails keeps the others
from their findings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aragora_worker.errors import ApiError
from cluster.domain.base.errors import ControlPlaneError, Forbidden, Unauthenticated

OK, WARNING, PROBLEM = "ok", "warning", "problem"
#: How long checks that run at the same time may take. The doctor runs two such groups, one after the other.
GROUP_S: Final = 4.0
#: Found of what cannot be looked at without the database. That is one cause, and the database's row has the advice.
NOT_TRIED: Final = "not tried: the database does not answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    check: str
    level: str
    detail: str
    advice: str = ""


Check = Callable[[], Awaitable[Sequence[Finding]]]


def problem(check: str, detail: str, advice: str, level: str = PROBLEM) -> Finding:
    return Finding(check=check, level=level, detail=detail, advice=advice)


def fine(check: str, detail: str) -> Finding:
    return Finding(check=check, level=OK, detail=detail)


async def run_all(checks: Mapping[str, Check], within_s: float = GROUP_S) -> list[Finding]:
    """The findings of all checks, in their order. A check that fails or is late becomes a finding."""
    tasks = {name: asyncio.ensure_future(check()) for name, check in checks.items()}
    await asyncio.wait(tasks.values(), timeout=within_s)
    found: list[Finding] = []
    for name, task in tasks.items():
        if task.done():
            found += _findings(name, task)
        else:
            # Not awaited: what hangs may not heed it.
            task.cancel()
            found.append(problem(name, f"no answer within {within_s:g} s: it hangs", "Look at it, and at the network."))
    return found


def _findings(name: str, task: asyncio.Future[Sequence[Finding]]) -> Sequence[Finding]:
    error = task.exception()
    if error is None:
        return task.result()
    words = str(error) if isinstance(error, ControlPlaneError) else f"{type(error).__name__}: {error}"
    # What is to be done about a refused key is in the refusal; the log of the API has no more.
    refused = isinstance(error, ApiError) and error.status in (Unauthenticated.status, Forbidden.status)
    return [problem(name, words, "" if refused else "See the log of the API.")]
