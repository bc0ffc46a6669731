"""Hooks of workspaces, and their secrets: sealed at rest, shown to nobody, and replicated to nobody."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Protocol

from cluster.domain.base.log import LogRecord
from cluster.domain.hooks.hook import Hook, Secret
from cluster.ports.tasks import SubmitItem


class WorkspaceHooks(Protocol):
    """What request handlers get.

    Every method raises `StoreUnavailable`; those that write also `Fenced`."""

    async def get(self, workspace: str, name: str) -> Hook | None: ...

    async def secrets(self, workspace: str, name: str) -> tuple[Hook, tuple[Secret, ...]] | None:
        """A hook with its secrets, of which there are none where they are not in this region.

        Raises: `Conflict` if no key here opens them; `NoSealingKey` if there is none at all."""

    async def list(self, workspace: str) -> list[Hook]:
        """The workspace's hooks, by name."""

    async def put(self, hook: Hook, record: LogRecord, secrets: Sequence[Secret] | None = None) -> bool:
        """Stores a hook, and its secrets if they are given, unless another change has come before; returns whether it did.

        Raises: `Conflict` if the workspace has as many as it may have; `NoSealingKey`."""

    async def submit(self, item: SubmitItem) -> None:
        """Submits the task of a webhook.

        Raises: `Conflict` (``already_started``) if there is a task of its id, or was until retention removed it."""

    async def remove(self, workspace: str, records: Sequence[LogRecord]) -> builtins.list[str]:
        """Deletes the hooks that the records name with their secrets for good, and returns those that there were."""

    async def of_subject(self, workspace: str, subject: str | None, limit: int) -> builtins.list[str]:
        """Some hooks that start work of a subject or (None) of anybody, by name."""
