"""Controls: what operators set for a queue, a task type or a tenant; and the tokens and slots that bound what may start.

A control is a row, and its log row holds all of it. So applying a log row twice does no harm, nor does applying one that is
older than what was read from the store. Slots of a concurrency key are counted from the leases that exist, so none can leak.
Tokens of a rate are counted in memory. A bucket is empty when a shard starts, so that over any time, restarts of the shard
included, a queue starts at most ``burst + rate * seconds`` tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cluster.domain.access.workspaces import WorkspaceState
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.log import IDENTITY, LogTexts


class ControlKind(StrEnum):
    QUEUE = "queue"
    TASK_TYPE = "task_type"
    TENANT = "tenant"


LOG_TEXTS: LogTexts = {"kind": frozenset(ControlKind), "name": IDENTITY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """``rate_per_s`` and ``burst`` are settings of queues, ``weight`` (of a tenant's share of dispatches) of tenants. ``seq`` is
    the number of the log row that set it."""

    workspace: str
    kind: ControlKind
    name: str
    paused: bool = False
    rate_per_s: float | None = None
    burst: int = 1
    weight: float = 1.0
    seq: int = 0
    changed_at: float = 0.0
    principal: str = ""

    @property
    def key(self) -> tuple[str, ControlKind, str]:
        return (self.workspace, self.kind, self.name)

    @property
    def entity(self) -> str:
        return f"{self.kind.value}:{self.name}"

    def to_log(self) -> dict[str, Any]:
        return {
            "kind": self.kind.value,
            "name": self.name,
            "paused": self.paused,
            "rate_per_second": self.rate_per_s,
            "burst": self.burst,
            "weight": self.weight,
        }

    @classmethod
    def from_log(cls, workspace: str, seq: int, at: float, principal: str, data: Mapping[str, Any]) -> Control:
        return cls(
            workspace=workspace,
            kind=ControlKind(data["kind"]),
            name=data["name"],
            paused=data["paused"],
            rate_per_s=data["rate_per_second"],
            burst=data["burst"],
            weight=data["weight"],
            seq=seq,
            changed_at=at,
            principal=principal,
        )


def check_control(control: Control) -> Control:
    """Returns the control. Raises: `InvalidRequest` if it has a setting that its kind does not have."""
    if control.rate_per_s is not None and control.kind is not ControlKind.QUEUE:
        raise InvalidRequest("rate_per_second can be set for queues only.", "invalid_control")
    if control.weight != 1.0 and control.kind is not ControlKind.TENANT:
        raise InvalidRequest("weight can be set for tenants only.", "invalid_control")
    return control


@dataclass(slots=True)
class DispatchBucket:
    """The rate of a queue: a dispatch takes a token, and ``rate_per_s`` tokens come in, up to ``burst``.

    Changed in place, by one owner and for every dispatch. The bucket of an agent's calls
    (``cluster.domain.agents.token_bucket``) is a value, and makes calls wait where this one makes a claim skip the queue."""

    rate_per_s: float
    burst: int
    # Until when ``tokens`` was computed (epoch seconds). Never goes back.
    at: float
    # Tokens at that time. It starts at 0, so that restarts of the shard do not add up to more than the rate.
    tokens: float = 0.0

    def refill(self, now: float) -> None:
        """Adds the tokens that have come in since ``at``."""
        self.tokens = min(float(self.burst), self.tokens + max(0.0, now - self.at) * self.rate_per_s)
        self.at = max(self.at, now)

    def ready(self, now: float) -> bool:
        """Whether there is a token."""
        self.refill(now)
        return (
            self.tokens >= 1.0 - 1e-9
        )  # at the time that ``ready_at`` gave, rounding may leave a little less than one

    def spend(self) -> None:
        """Takes a token; call it only if ``ready``."""
        self.tokens -= 1.0

    def ready_at(self, now: float) -> float:
        """When there will be a token, in epoch seconds; ``now`` if there is one."""
        self.refill(now)
        return now + max(0.0, 1.0 - self.tokens) / self.rate_per_s


class Limits:
    """The controls in force, the tokens of rates and the slots of concurrency keys. ``now`` is in epoch seconds."""

    def __init__(self) -> None:
        # (workspace, kind, name) → the newest control, by its ``seq``. ``put`` adds and replaces. A control that an operator
        # takes back stays, as one that sets nothing.
        self._controls: dict[tuple[str, ControlKind, str], Control] = {}
        # Workspaces in which nothing starts: they are suspended or were deleted. ``set_state`` adds and removes.
        self._closed: set[str] = set()
        # (workspace, queue) → bucket of each queue whose control has a rate. ``_set_rate`` adds, replaces and removes.
        self._buckets: dict[tuple[str, str], DispatchBucket] = {}
        # (workspace, concurrency key) → ids of the running tasks that name it (an ordered set). ``acquire``
        # adds and ``release`` removes, together with the task's lease. No set is empty.
        self._slot_holders: dict[tuple[str, str], dict[str, None]] = {}

    def set_state(self, workspace: str, state: WorkspaceState) -> None:
        """Notes what a workspace admits now."""
        if state is WorkspaceState.ACTIVE:
            self._closed.discard(workspace)
        else:
            self._closed.add(workspace)

    def is_closed(self, workspace: str) -> bool:
        """Whether nothing may start in a workspace."""
        return workspace in self._closed

    def put(self, control: Control, now: float) -> bool:
        """Puts a control in force; False if this one or a newer one is in force."""
        known = self._controls.get(control.key)
        if known is not None and known.seq >= control.seq:
            return False
        self._controls[control.key] = control
        if control.kind is ControlKind.QUEUE:
            self._set_rate((control.workspace, control.name), control, now)
        return True

    def _set_rate(self, key: tuple[str, str], control: Control, now: float) -> None:
        """A queue whose rate changes keeps its tokens, up to the new burst: a change gives no extra start."""
        if control.rate_per_s is None:
            self._buckets.pop(key, None)
            return
        known = self._buckets.get(key)
        tokens = 0.0
        if known is not None:
            known.refill(now)
            tokens = min(known.tokens, float(control.burst))
        self._buckets[key] = DispatchBucket(control.rate_per_s, control.burst, now, tokens)

    @property
    def has_rates(self) -> bool:
        return bool(self._buckets)

    def get(self, workspace: str, kind: ControlKind, name: str) -> Control | None:
        return self._controls.get((workspace, kind, name))

    def paused(self, workspace: str, kind: ControlKind, name: str) -> bool:
        control = self._controls.get((workspace, kind, name))
        return control is not None and control.paused

    def has_type(self, workspace: str, task_type: str) -> bool:
        """Whether the task type has a control. Asked for every task, so it costs nothing while there are no controls."""
        return bool(self._controls) and (workspace, ControlKind.TASK_TYPE, task_type) in self._controls

    def bucket(self, workspace: str, queue: str) -> DispatchBucket | None:
        return self._buckets.get((workspace, queue))

    def acquire(self, workspace: str, key: str, task_id: str) -> None:
        """Takes a slot for a task that runs, also beyond the limit: which task may start is decided before."""
        self._slot_holders.setdefault((workspace, key), {})[task_id] = None

    def release(self, workspace: str, key: str, task_id: str) -> bool:
        """Frees a task's slot; False if it had none."""
        slot_holders = self._slot_holders.get((workspace, key))
        if slot_holders is None or task_id not in slot_holders:
            return False
        del slot_holders[task_id]
        if not slot_holders:
            del self._slot_holders[workspace, key]
        return True

    def slot_holders(self, workspace: str, key: str) -> tuple[str, ...]:
        """Ids of the running tasks that name the key, oldest first."""
        return tuple(self._slot_holders.get((workspace, key), ()))

    def is_full(self, workspace: str, key: str, limit: int) -> bool:
        return len(self._slot_holders.get((workspace, key), ())) >= limit
