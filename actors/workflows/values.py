"""The values that steps refer to: what a run was given, and results of its steps, read from the store and kept for a while.

A fan-out reads its list once for each page of its tasks, and a value of a run never changes once it is there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any, Final

from cluster.domain.base.json_writing import canonical_json
from cluster.domain.workflows.document import FailureCode
from cluster.domain.workflows.machine import Run, source_of
from cluster.domain.workflows.stored import StoredRun, result_ids, task_id
from cluster.domain.workflows.values import FAILURE, INPUT, Unresolved
from cluster.ports.workflows import WorkspaceWorkflows

#: Characters of JSON of one value, and of all that are kept.
MOST_CHARS: Final = 4_000_000
KEPT_CHARS: Final = 8_000_000


class Values:
    def __init__(self, workflows: WorkspaceWorkflows) -> None:
        self._workflows = workflows
        #: (run, source) → value and its characters, the longest unused first.
        self._kept: dict[tuple[str, str], tuple[Any, int]] = {}
        self._chars = 0

    async def of(
        self, stored: StoredRun, run: Run, sources: Collection[str], *, handles: str | None = None
    ) -> dict[str, Any]:
        """The values of the sources that have one. ``handles``: the step whose failure `FAILURE` is.

        Raises: `Unresolved` (``input_too_large``) if one is longer than ``MOST_CHARS``; `StoreUnavailable`."""
        found: dict[str, Any] = {}
        for source in sources:
            if source == FAILURE:
                assert handles is not None, "only a step that handles a failure refers to one"
                found[source] = failure_of(stored, run, handles)
                continue
            holder = INPUT if source == INPUT else source_of(run, source)
            if holder is not None:
                found[source] = await self.once(stored.id, holder, partial(self._read, stored, run, holder))
        return found

    async def signals(self, stored: StoredRun) -> dict[str, Any]:
        """The signals that a run was sent, by name. Raises: `StoreUnavailable`."""
        return await self._workflows.signals(stored.workspace, stored.id)

    def forget(self, run_id: str) -> None:
        """Drops the values of a run."""
        for key in [key for key in self._kept if key[0] == run_id]:
            self._drop(key)

    async def once(self, run_id: str, source: str, read: Callable[[], Awaitable[tuple[Any, int]]]) -> Any:
        """A value of a run, and its characters of JSON, which are read if it is not kept.

        Raises: `Unresolved` (``input_too_large``), and what ``read`` raises."""
        key = (run_id, source)
        if key not in self._kept:
            value, chars = await read()
            if chars > MOST_CHARS:
                raise Unresolved(
                    f"{source} has more than {MOST_CHARS:,} characters of JSON; let steps return less, or a reference.",
                    FailureCode.INPUT_TOO_LARGE,
                )
            self._kept[key] = value, chars
            self._chars += chars
            while self._chars > KEPT_CHARS:
                self._drop(next(iter(self._kept)))
            return value
        self._kept[key] = self._kept.pop(key)
        return self._kept[key][0]

    async def _read(self, stored: StoredRun, run: Run, source: str) -> tuple[Any, int]:
        if source == INPUT:
            return await self._workflows.run_input(stored.workspace, stored.id)
        state = run.steps[source]
        if state.total is None:
            value = state.result if state.signal is None else (await self.signals(stored))[state.signal]
            return value, len(canonical_json(value))
        ids = result_ids(stored.id, source, state)
        asked = [id_ for id_ in ids if id_ is not None]
        results, (chars,) = await self._workflows.results(stored.workspace, [asked], MOST_CHARS)
        if chars <= MOST_CHARS and len(results) < len(asked):
            raise Unresolved(
                f"The result of {source} was removed; replay the run from that step.", FailureCode.RESULT_REMOVED
            )
        values = [None if id_ is None else results.get(id_) for id_ in ids]
        return (values if state.fan_out else values[0]), chars

    def _drop(self, key: tuple[str, str]) -> None:
        self._chars -= self._kept.pop(key)[1]


def failure_of(stored: StoredRun, run: Run, step_id: str) -> dict[str, Any]:
    """Why a step failed, for the step that handles it. ``task_id`` or ``deliberation_id``: what failed, None if none had
    started."""
    state = run.steps[step_id]
    failed = task_id(state.run or stored.id, step_id, state.failed[-1]) if state.failed else None
    return {
        "step": step_id,
        "code": None if state.code is None else state.code.value,
        "message": state.reason,
        "task_id": None if state.deliberates else failed,
        "deliberation_id": failed if state.deliberates else None,
    }
