"""Workflows: their documents, their runs, and the commits that advance runs together with the tasks that they start."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cluster.domain.audit.retention import Stub
from cluster.domain.base.log import LogRecord
from cluster.domain.deliberation.stored import NewDeliberation
from cluster.domain.tasks.task import IdempotencyKey
from cluster.domain.workflows.document import RunStatus
from cluster.domain.workflows.stored import SignalAnswer, StoredRun, StoredWorkflow
from cluster.ports.tasks import SubmitItem
from cluster.ports.totals import Total


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A row of the log about a run: its own, the end of one of its tasks, or the deletion of a workflow."""

    seq: int
    kind: str
    entity: str
    workspace: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run that starts, with what it is given (any JSON), the row that says so, and the key that it is started under."""

    run: StoredRun
    input: Any
    record: LogRecord
    key: IdempotencyKey | None = None


class WorkspaceWorkflows(Protocol):
    """What request handlers get: every method works in one workspace, which it is given or which the record names.

    Every method raises `StoreUnavailable`; those that write also `Fenced`."""

    async def apply(self, workflow: StoredWorkflow, record: LogRecord) -> bool:
        """Stores the next version; False if another one has been stored meanwhile.

        Raises: `Conflict` (``too_many_workflows``) if the workspace has ``MOST_WORKFLOWS``."""

    async def get(self, workspace: str, name: str, version: int | None = None) -> StoredWorkflow | None:
        """One version, the newest if none is given."""

    async def list(self, workspace: str, limit: int, offset: int) -> tuple[list[StoredWorkflow], Total]:
        """(page by name, each in its newest version; how many there are)."""

    async def start(self, run: StoredRun, input: Any, record: LogRecord, key: IdempotencyKey | None) -> str:
        """Stores a new run, and returns its id, which is that of the first call if the key was used before. One that replays
        another has the input of that one, and the signals that its steps have.

        Raises: `Conflict` (``idempotency_conflict``) if the key was used with another body, or (``run_changed``) if the run
        that it replays is no longer there."""

    async def runs(self, workspace: str, ids: Sequence[str]) -> dict[str, StoredRun]:
        """Those of the runs that there are."""

    async def stub(self, workspace: str, run_id: str) -> Stub | None:
        """What is left of a run that retention has removed."""

    async def run_input(self, workspace: str, run_id: str) -> tuple[Any, int]:
        """What a run was given, None if there is no such run; and its characters of JSON."""

    async def list_runs(
        self, workspace: str, name: str | None, status: RunStatus | None, limit: int, offset: int
    ) -> tuple[builtins.list[StoredRun], Total]:
        """(page, the newest first; how many match)."""

    async def ask(self, *records: LogRecord) -> None:
        """Writes rows that ask something of runs, for whoever advances them."""

    async def signal(self, record: LogRecord, name: str, value: Any, steps: Sequence[str]) -> SignalAnswer:
        """Stores the value of a signal of the record's run for ``steps``, unless all of them have ended."""

    async def waiting(self, workspace: str, run_id: str, signal: str) -> tuple[bool, builtins.list[str] | None]:
        """(whether there is the run, its steps that wait for a signal, which are not known if its workflow was deleted)."""

    async def signals(self, workspace: str, run_id: str) -> dict[str, Any]:
        """The values of the signals that a run was sent, by name."""

    async def results(
        self, workspace: str, steps: Sequence[Sequence[str]], most_chars: int
    ) -> tuple[dict[str, Any], builtins.list[int]]:
        """The results by id of those of the tasks and deliberations that are kept (None: without one), and for each step the
        characters of JSON of its own. A step is left out if there is no room for it beside those before it, of ``most_chars``
        in all."""

    async def kept(self, workspace: str, ids: Sequence[str]) -> builtins.list[str]:
        """Those of the tasks and deliberations that retention has not removed."""

    async def remove(self, records: Sequence[LogRecord]) -> builtins.list[str]:
        """Deletes the workflows and the ended runs that the records name, and returns those that there were. A workflow of
        which a run is open stays."""

    async def of_subject(self, workspace: str, subject: str | None, limit: int) -> builtins.list[str]:
        """Names of workflows whose tasks would be of a subject or (None) of anybody."""

    async def runs_of_subject(self, workspace: str, subject: str | None, limit: int) -> builtins.list[tuple[str, bool]]:
        """(id, whether it is open) of runs of a subject or (None) of anybody, the open ones first."""


class Workflows(WorkspaceWorkflows, Protocol):
    """What advances runs gets, of all workspaces."""

    async def begin(self) -> int:
        """The row of the log from which to go on."""

    async def rows(self, after: int, limit: int) -> tuple[builtins.list[RunRow], int]:
        """(the next rows about runs, up to which row the log was searched)."""

    async def due(self, now: float, limit: int, but: Sequence[str]) -> builtins.list[StoredRun]:
        """Runs with a step whose time has come, the longest due first, without those named."""

    async def advance(
        self,
        cursor: tuple[int, int],
        runs: Sequence[StoredRun],
        records: Sequence[LogRecord],
        tasks: Sequence[SubmitItem],
        deliberations: Sequence[NewDeliberation] = (),
    ) -> None:
        """Moves the cursor from its first value to its second, and stores the runs, their rows, their tasks and their
        deliberations, all in one commit or nothing.

        Raises: `Fenced` if another process has moved the cursor; `Conflict` (``run_changed``) if one of the runs is no longer
        there, or was sent a signal that it has given up."""
