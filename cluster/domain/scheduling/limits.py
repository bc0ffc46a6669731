"""What operators set for a queue, a task type or a tenant, and the slots and tokens that follow from it.

A setting is a row; its log row carries the whole of it, so that applying one twice, or an older one after it was read
from the store, does no harm. Slots of a concurrency key are counted from the leases that exist, so none can leak.
Tokens of a rate are counted in memory: a bucket is empty when a shard starts, so that over any stretch of time, shard
restarts included, a queue starts at most ``burst + rate * seconds`` tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.log import IDENTITY, LogTexts


class ControlKind(StrEnum):
    QUEUE = "queue"
    TASK_TYPE = "task_type"
    TENANT = "tenant"


LOG_TEXTS: LogTexts = {"kind": frozenset(ControlKind), "name": IDENTITY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """``rate_per_s`` and ``burst`` belong to queues, ``weight`` (share of dispatches) to tenants. ``seq`` is the log
    row that says so."""

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
    """InvalidRequest for a setting that its kind does not have."""
    if control.rate_per_s is not None and control.kind is not ControlKind.QUEUE:
        raise InvalidRequest("rate_per_second is a setting of queues.", "invalid_control")
    if control.weight != 1.0 and control.kind is not ControlKind.TENANT:
        raise InvalidRequest("weight is a setting of tenants.", "invalid_control")
    return control


@dataclass(slots=True)
class DispatchBucket:
    """Starts empty. A token is a start; ``rate_per_s`` come in, up to ``burst``."""

    rate_per_s: float
    burst: int
    at: float
    tokens: float = 0.0

    def refill(self, now: float) -> None:
        self.tokens = min(float(self.burst), self.tokens + max(0.0, now - self.at) * self.rate_per_s)
        self.at = max(self.at, now)

    def ready(self, now: float) -> bool:
        self.refill(now)
        return self.tokens >= 1.0 - 1e-9

    def spend(self) -> None:
        self.tokens -= 1.0

    def ready_at(self, now: float) -> float:
        self.refill(now)
        return now + max(0.0, 1.0 - self.tokens) / self.rate_per_s


class Limits:
    """The settings in force and what they count. ``now`` in epoch seconds."""

    def __init__(self) -> None:
        self._controls: dict[tuple[str, ControlKind, str], Control] = {}
        self._buckets: dict[tuple[str, str], DispatchBucket] = {}
        self._slot_holders: dict[tuple[str, str], dict[str, None]] = {}

    def put(self, control: Control, now: float) -> bool:
        """False if it was known already, or something newer."""
        known = self._controls.get(control.key)
        if known is not None and known.seq >= control.seq:
            return False
        self._controls[control.key] = control
        if control.kind is ControlKind.QUEUE:
            self._set_rate((control.workspace, control.name), control, now)
        return True

    def _set_rate(self, key: tuple[str, str], control: Control, now: float) -> None:
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
        return bool(self._controls) and (workspace, ControlKind.TASK_TYPE, task_type) in self._controls

    def bucket(self, workspace: str, queue: str) -> DispatchBucket | None:
        return self._buckets.get((workspace, queue))

    def acquire(self, workspace: str, key: str, task_id: str) -> None:
        self._slot_holders.setdefault((workspace, key), {})[task_id] = None

    def release(self, workspace: str, key: str, task_id: str) -> bool:
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
