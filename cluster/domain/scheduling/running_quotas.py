"""How many tasks of each workspace run, and how many may."""

from __future__ import annotations

from cluster.domain.quotas.quotas import Quotas


class RunningQuotas:
    """The quotas on running tasks. All workspaces are counted, so that a quota that is set later counts what runs already."""

    def __init__(self) -> None:
        # Workspace → the newest quotas, by their version. ``put`` adds and replaces.
        self._quotas: dict[str, Quotas] = {}
        # Workspace → how many of its tasks hold a lease. ``started`` and ``ended`` count; no zeros.
        self._running: dict[str, int] = {}
        # Workspaces in which a claim found no room since its tasks were last offered again. ``admits`` adds, ``_has_room``
        # removes.
        self._full: set[str] = set()
        # Those of them that have room by now.
        self._free: set[str] = set()

    def put(self, quotas: Quotas) -> bool:
        """Puts quotas in force; False if this version or a newer one is."""
        known = self._quotas.get(quotas.workspace)
        if known is not None and known.version >= quotas.version:
            return False
        self._quotas[quotas.workspace] = quotas
        self._has_room(quotas.workspace)
        return True

    def started(self, workspace: str) -> None:
        """Counts a task that runs now, also one beyond the quota: which may start is decided before."""
        self._running[workspace] = self._running.get(workspace, 0) + 1

    def ended(self, workspace: str) -> None:
        """Counts that a task does not run any more."""
        left = self._running[workspace] - 1
        if left:
            self._running[workspace] = left
        else:
            del self._running[workspace]
        if workspace in self._full:
            self._has_room(workspace)

    def running(self, workspace: str) -> int:
        return self._running.get(workspace, 0)

    def limit(self, workspace: str) -> int | None:
        """How many tasks of a workspace may run; None if any number may."""
        quotas = self._quotas.get(workspace)
        return None if quotas is None else quotas.running_tasks

    def is_full(self, workspace: str) -> bool:
        """Whether nothing more may start in a workspace."""
        limit = self.limit(workspace)
        return limit is not None and self.running(workspace) >= limit

    def admits(self, workspace: str) -> bool:
        """Whether another task may start. If not, ``take_free`` names the workspace once one may."""
        if not self.is_full(workspace):
            return True
        self._full.add(workspace)
        return False

    def _has_room(self, workspace: str) -> None:
        if workspace in self._full and not self.is_full(workspace):
            self._full.discard(workspace)
            self._free.add(workspace)

    def take_free(self) -> set[str]:
        """Workspaces in which something may start again that found no room."""
        if not self._free:
            return self._free
        free, self._free = self._free, set()
        return free
