"""Credentials of workspaces: sealed at rest, shown to nobody, and replicated to nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cluster.domain.access.sealing import Unsealable
from cluster.domain.agents.credentials import Credential
from cluster.domain.base.log import LogRecord


class WorkspaceCredentials(Protocol):
    """What request handlers get."""

    async def get(self, workspace: str, name: str) -> Credential | None:
        """The credential of this name. Raises: `Conflict` if no key here opens it; `NoSealingKey` if there is none at all."""
        ...

    async def list(self, workspace: str) -> list[Credential]:
        """The workspace's credentials, by name. Raises: `Conflict`, `NoSealingKey` as above."""
        ...

    async def put(self, credential: Credential, record: LogRecord) -> bool:
        """Stores a credential, unless another change has come before; returns whether it did.

        Raises: `Conflict` if the workspace has as many as it may have; `NoSealingKey`."""
        ...

    async def remove(self, workspace: str, name: str, record: LogRecord) -> bool:
        """Deletes a credential for good; returns whether there was one."""
        ...

    def fingerprint(self, workspace: str, secret: str) -> str:
        """Tells equal secrets from others in what is remembered of a call, and tells nothing else to who has no sealing key.

        Raises: `NoSealingKey`."""
        ...


class Credentials(WorkspaceCredentials, Protocol):
    """What calls agents."""

    async def read(self, names: Sequence[tuple[str, str]]) -> Sequence[Credential | Unsealable | None]:
        """Credentials by (workspace, name), None for each that is not there. Raises: `NoSealingKey`."""
        ...
