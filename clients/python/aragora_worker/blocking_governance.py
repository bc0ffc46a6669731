"""The calls about policies, budgets, quotas, hooks and notifications for code without an event loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from aragora_worker.api import ControlPlaneClient

T = TypeVar("T")


class BlockingGovernanceCalls(ABC):
    """Those of `BlockingClient`."""

    _client: ControlPlaneClient

    @abstractmethod
    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        """Runs a call to its end."""

    def policies(self) -> Sequence[Mapping[str, Any]]:
        """`ControlPlaneClient.policies`. Raises: the same."""
        return self._run(self._client.policies())

    def create_policy(self, name: str, *, idempotency_key: str | None = None, **fields: Any) -> Mapping[str, Any]:
        """`ControlPlaneClient.create_policy`. Raises: the same."""
        return self._run(self._client.create_policy(name, idempotency_key=idempotency_key, **fields))

    def update_policy(self, policy_id: str, *, idempotency_key: str | None = None, **fields: Any) -> Mapping[str, Any]:
        """`ControlPlaneClient.update_policy`. Raises: the same."""
        return self._run(self._client.update_policy(policy_id, idempotency_key=idempotency_key, **fields))

    def dry_run_policy(self, **fields: Any) -> Mapping[str, Any]:
        """`ControlPlaneClient.dry_run_policy`. Raises: the same."""
        return self._run(self._client.dry_run_policy(**fields))

    def policy_versions(self, policy_id: str) -> Sequence[Mapping[str, Any]]:
        """`ControlPlaneClient.policy_versions`. Raises: the same."""
        return self._run(self._client.policy_versions(policy_id))

    def roll_back_policy(
        self, policy_id: str, version: int, *, idempotency_key: str | None = None
    ) -> Mapping[str, Any]:
        """`ControlPlaneClient.roll_back_policy`. Raises: the same."""
        return self._run(self._client.roll_back_policy(policy_id, version, idempotency_key=idempotency_key))

    def delete_policy(self, policy_id: str) -> None:
        """`ControlPlaneClient.delete_policy`. Raises: the same."""
        self._run(self._client.delete_policy(policy_id))

    def violations(self, **filters: Any) -> Mapping[str, Any]:
        """`ControlPlaneClient.violations`. Raises: the same."""
        return self._run(self._client.violations(**filters))

    def update_violation(
        self, violation_id: str, status: str, *, notes: str | None = None, idempotency_key: str | None = None
    ) -> Mapping[str, Any]:
        """`ControlPlaneClient.update_violation`. Raises: the same."""
        return self._run(
            self._client.update_violation(violation_id, status, notes=notes, idempotency_key=idempotency_key)
        )

    def budgets(self) -> Sequence[Mapping[str, Any]]:
        """`ControlPlaneClient.budgets`. Raises: the same."""
        return self._run(self._client.budgets())

    def create_budget(
        self, name: str, limit_usd: str, estimate_usd: str, *, idempotency_key: str | None = None, **fields: Any
    ) -> Mapping[str, Any]:
        """`ControlPlaneClient.create_budget`. Raises: the same."""
        return self._run(
            self._client.create_budget(name, limit_usd, estimate_usd, idempotency_key=idempotency_key, **fields)
        )

    def update_budget(self, budget_id: str, *, idempotency_key: str | None = None, **fields: Any) -> Mapping[str, Any]:
        """`ControlPlaneClient.update_budget`. Raises: the same."""
        return self._run(self._client.update_budget(budget_id, idempotency_key=idempotency_key, **fields))

    def delete_budget(self, budget_id: str) -> None:
        """`ControlPlaneClient.delete_budget`. Raises: the same."""
        self._run(self._client.delete_budget(budget_id))

    def spending(self, start: str | None = None, end: str | None = None) -> Mapping[str, Any]:
        """`ControlPlaneClient.spending`. Raises: the same."""
        return self._run(self._client.spending(start, end))

    def quotas(self) -> Mapping[str, Any]:
        """`ControlPlaneClient.quotas`. Raises: the same."""
        return self._run(self._client.quotas())

    def set_quotas(self, *, idempotency_key: str | None = None, **limits: int | None) -> Mapping[str, Any]:
        """`ControlPlaneClient.set_quotas`. Raises: the same."""
        return self._run(self._client.set_quotas(idempotency_key=idempotency_key, **limits))

    def hooks(self) -> Sequence[Mapping[str, Any]]:
        """`ControlPlaneClient.hooks`. Raises: the same."""
        return self._run(self._client.hooks())

    def create_hook(self, name: str, *, idempotency_key: str | None = None, **fields: Any) -> Mapping[str, Any]:
        """`ControlPlaneClient.create_hook`. Raises: the same."""
        return self._run(self._client.create_hook(name, idempotency_key=idempotency_key, **fields))

    def update_hook(self, name: str, *, idempotency_key: str | None = None, **fields: Any) -> Mapping[str, Any]:
        """`ControlPlaneClient.update_hook`. Raises: the same."""
        return self._run(self._client.update_hook(name, idempotency_key=idempotency_key, **fields))

    def rotate_hook(
        self, name: str, *, overlap_s: float = 86_400.0, idempotency_key: str | None = None
    ) -> Mapping[str, Any]:
        """`ControlPlaneClient.rotate_hook`. Raises: the same."""
        return self._run(self._client.rotate_hook(name, overlap_s=overlap_s, idempotency_key=idempotency_key))

    def pause_hook(self, name: str) -> Mapping[str, Any]:
        """`ControlPlaneClient.pause_hook`. Raises: the same."""
        return self._run(self._client.pause_hook(name))

    def resume_hook(self, name: str) -> Mapping[str, Any]:
        """`ControlPlaneClient.resume_hook`. Raises: the same."""
        return self._run(self._client.resume_hook(name))

    def delete_hook(self, name: str) -> None:
        """`ControlPlaneClient.delete_hook`. Raises: the same."""
        self._run(self._client.delete_hook(name))

    def channels(self) -> Sequence[Mapping[str, Any]]:
        """`ControlPlaneClient.channels`. Raises: the same."""
        return self._run(self._client.channels())

    def set_channel(
        self, name: str, kind: str, *, idempotency_key: str | None = None, **fields: Any
    ) -> Mapping[str, Any]:
        """`ControlPlaneClient.set_channel`. Raises: the same."""
        return self._run(self._client.set_channel(name, kind, idempotency_key=idempotency_key, **fields))

    def test_channel(self, name: str) -> Mapping[str, Any]:
        """`ControlPlaneClient.test_channel`. Raises: the same."""
        return self._run(self._client.test_channel(name))

    def delete_channel(self, name: str) -> None:
        """`ControlPlaneClient.delete_channel`. Raises: the same."""
        self._run(self._client.delete_channel(name))

    def notification_rules(self) -> Sequence[Mapping[str, Any]]:
        """`ControlPlaneClient.notification_rules`. Raises: the same."""
        return self._run(self._client.notification_rules())

    def set_notification_rule(
        self,
        name: str,
        events: Sequence[str],
        channels: Sequence[str],
        *,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> Mapping[str, Any]:
        """`ControlPlaneClient.set_notification_rule`. Raises: the same."""
        return self._run(
            self._client.set_notification_rule(name, events, channels, idempotency_key=idempotency_key, **fields)
        )

    def delete_notification_rule(self, name: str) -> None:
        """`ControlPlaneClient.delete_notification_rule`. Raises: the same."""
        self._run(self._client.delete_notification_rule(name))

    def notifications(self, **filters: Any) -> Mapping[str, Any]:
        """`ControlPlaneClient.notifications`. Raises: the same."""
        return self._run(self._client.notifications(**filters))

    def replay_notification(self, notification_id: str, *, idempotency_key: str | None = None) -> Mapping[str, Any]:
        """`ControlPlaneClient.replay_notification`. Raises: the same."""
        return self._run(self._client.replay_notification(notification_id, idempotency_key=idempotency_key))
