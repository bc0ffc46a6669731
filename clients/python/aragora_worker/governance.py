"""The calls about policies, budgets, quotas, hooks and notifications, which both clients have.

Answers are the API's JSON objects. What a call raises is what `ControlPlaneClient.request` raises, and `InvalidRequest` if a name
or an id is none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from aragora_worker.base.ids import path_segment


class GovernanceCalls(ABC):
    """Those of `ControlPlaneClient`."""

    @abstractmethod
    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        timeout_s: float | None = None,
        has: Mapping[str, type] | None = None,
    ) -> Any:
        """Makes a call and returns its answer."""

    async def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> Mapping[str, Any]:
        return dict(await self.request(method, path, body, params=params, idempotency_key=key))

    async def policies(self) -> Sequence[Mapping[str, Any]]:
        """All policies that are about the workspace (docs/policies.md). Raises: what `request` raises."""
        return list((await self._call("GET", "/policies"))["policies"])

    async def create_policy(self, name: str, *, idempotency_key: str | None = None, **fields: Any) -> Mapping[str, Any]:
        """Makes a policy. ``fields`` are those of ``POST /policies``. Raises: what `request` raises."""
        return await self._call("POST", "/policies", {"name": name, **fields}, key=idempotency_key)

    async def update_policy(
        self, policy_id: str, *, idempotency_key: str | None = None, **fields: Any
    ) -> Mapping[str, Any]:
        """Makes the next version of a policy, with these fields; others stay. Raises: what `request` raises."""
        return await self._call("PUT", f"/policies/{path_segment(policy_id)}", fields, key=idempotency_key)

    async def dry_run_policy(self, **fields: Any) -> Mapping[str, Any]:
        """What a policy would have done to the newest 1,000 tasks. It stores nothing. Raises: what `request` raises."""
        return await self._call("POST", "/policies/dry-run", fields)

    async def policy_versions(self, policy_id: str) -> Sequence[Mapping[str, Any]]:
        """All versions of a policy, also of one that was deleted. Raises: what `request` raises."""
        return list((await self._call("GET", f"/policies/{path_segment(policy_id)}/versions"))["versions"])

    async def roll_back_policy(
        self, policy_id: str, version: int, *, idempotency_key: str | None = None
    ) -> Mapping[str, Any]:
        """Makes the next version of a policy, which says what an earlier one said. Raises: what `request` raises."""
        return await self._call(
            "POST", f"/policies/{path_segment(policy_id)}/rollback", {"version": version}, key=idempotency_key
        )

    async def delete_policy(self, policy_id: str) -> None:
        """Deletes a policy. Raises: what `request` raises."""
        await self._call("DELETE", f"/policies/{path_segment(policy_id)}")

    async def violations(self, **filters: Any) -> Mapping[str, Any]:
        """A page of violations, with the ``total`` of all that match.

        ``filters`` are those of ``GET /policies/violations``. Raises: what `request` raises."""
        return await self._call("GET", "/policies/violations", params=filters)

    async def update_violation(
        self, violation_id: str, status: str, *, notes: str | None = None, idempotency_key: str | None = None
    ) -> Mapping[str, Any]:
        """Says what people made of a violation. Raises: what `request` raises."""
        return await self._call(
            "PATCH",
            f"/policies/violations/{path_segment(violation_id)}",
            {"status": status, "resolution_notes": notes},
            key=idempotency_key,
        )

    async def budgets(self) -> Sequence[Mapping[str, Any]]:
        """All budgets of the workspace, with what is spent and reserved (docs/budgets.md). Raises: what `request` raises."""
        return list((await self._call("GET", "/budgets"))["budgets"])

    async def create_budget(
        self, name: str, limit_usd: str, estimate_usd: str, *, idempotency_key: str | None = None, **fields: Any
    ) -> Mapping[str, Any]:
        """Makes a budget.

        Amounts are texts in US dollars; ``fields`` are those of ``POST /budgets``. Raises: what `request` raises."""
        return await self._call(
            "POST",
            "/budgets",
            {"name": name, "limit_usd": limit_usd, "estimate_usd": estimate_usd, **fields},
            key=idempotency_key,
        )

    async def update_budget(
        self, budget_id: str, *, idempotency_key: str | None = None, **fields: Any
    ) -> Mapping[str, Any]:
        """Changes a budget; what is not named stays. Raises: what `request` raises."""
        return await self._call("PUT", f"/budgets/{path_segment(budget_id)}", fields, key=idempotency_key)

    async def delete_budget(self, budget_id: str) -> None:
        """Deletes a budget; what was spent stays. Raises: what `request` raises."""
        await self._call("DELETE", f"/budgets/{path_segment(budget_id)}")

    async def spending(self, start: str | None = None, end: str | None = None) -> Mapping[str, Any]:
        """What attempts have cost by day, agent and task type: this month, or from one day of UTC until before another.

        Raises: what `request` raises."""
        return await self._call("GET", "/spending", params={"start": start, "end": end})

    async def quotas(self) -> Mapping[str, Any]:
        """The workspace's quotas, and how much of them is used (docs/quotas.md). Raises: what `request` raises."""
        return await self._call("GET", "/quotas")

    async def set_quotas(self, *, idempotency_key: str | None = None, **limits: int | None) -> Mapping[str, Any]:
        """Sets quotas of the workspace: ``agents``, ``queued_tasks``, ``running_tasks``, ``submits_per_minute``.

        None removes one. Raises: what `request` raises."""
        return await self._call("PUT", "/quotas", limits, key=idempotency_key)

    async def hooks(self) -> Sequence[Mapping[str, Any]]:
        """The workspace's hooks, without their secrets (docs/hooks.md). Raises: what `request` raises."""
        return list((await self._call("GET", "/hooks"))["hooks"])

    async def create_hook(self, name: str, *, idempotency_key: str | None = None, **fields: Any) -> Mapping[str, Any]:
        """Makes a hook.

        ``fields`` are those of ``POST /hooks``; the answer has the secret, if the control plane made it. Raises: what
        `request` raises."""
        return await self._call("POST", "/hooks", {"name": name, **fields}, key=idempotency_key)

    async def update_hook(self, name: str, *, idempotency_key: str | None = None, **fields: Any) -> Mapping[str, Any]:
        """Gives a hook other work to start. Its secrets stay. Raises: what `request` raises."""
        return await self._call("PUT", f"/hooks/{path_segment(name)}", fields, key=idempotency_key)

    async def rotate_hook(
        self, name: str, *, overlap_s: float = 86_400.0, idempotency_key: str | None = None
    ) -> Mapping[str, Any]:
        """Gives a hook a new secret; for ``overlap_s`` seconds those of before count too. Raises: what `request` raises."""
        return await self._call(
            "POST", f"/hooks/{path_segment(name)}/rotate", {"overlap_seconds": overlap_s}, key=idempotency_key
        )

    async def pause_hook(self, name: str) -> Mapping[str, Any]:
        """Has a hook take no webhooks. Raises: what `request` raises."""
        return await self._call("POST", f"/hooks/{path_segment(name)}/pause")

    async def resume_hook(self, name: str) -> Mapping[str, Any]:
        """Has a hook take webhooks again. Raises: what `request` raises."""
        return await self._call("POST", f"/hooks/{path_segment(name)}/resume")

    async def delete_hook(self, name: str) -> None:
        """Deletes a hook with its secrets. Raises: what `request` raises."""
        await self._call("DELETE", f"/hooks/{path_segment(name)}")

    async def channels(self) -> Sequence[Mapping[str, Any]]:
        """The workspace's channels of notifications (docs/notifications.md). Raises: what `request` raises."""
        return list((await self._call("GET", "/notifications/channels"))["channels"])

    async def set_channel(
        self, name: str, kind: str, *, idempotency_key: str | None = None, **fields: Any
    ) -> Mapping[str, Any]:
        """Makes a channel or replaces it.

        ``fields`` are those of ``POST /notifications/channels``. Raises: what `request` raises."""
        return await self._call(
            "POST", "/notifications/channels", {"name": name, "kind": kind, **fields}, key=idempotency_key
        )

    async def test_channel(self, name: str) -> Mapping[str, Any]:
        """Has a channel sent a test. Raises: what `request` raises."""
        return await self._call("POST", f"/notifications/channels/{path_segment(name)}/test")

    async def delete_channel(self, name: str) -> None:
        """Deletes a channel. Raises: what `request` raises."""
        await self._call("DELETE", f"/notifications/channels/{path_segment(name)}")

    async def notification_rules(self) -> Sequence[Mapping[str, Any]]:
        """The workspace's rules: which events are told where. Raises: what `request` raises."""
        return list((await self._call("GET", "/notifications/rules"))["rules"])

    async def set_notification_rule(
        self,
        name: str,
        events: Sequence[str],
        channels: Sequence[str],
        *,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> Mapping[str, Any]:
        """Makes a rule or replaces it.

        ``fields`` are those of ``POST /notifications/rules``. Raises: what `request` raises."""
        return await self._call(
            "POST",
            "/notifications/rules",
            {"name": name, "events": list(events), "channels": list(channels), **fields},
            key=idempotency_key,
        )

    async def delete_notification_rule(self, name: str) -> None:
        """Deletes a rule. Raises: what `request` raises."""
        await self._call("DELETE", f"/notifications/rules/{path_segment(name)}")

    async def notifications(self, **filters: Any) -> Mapping[str, Any]:
        """A page of what was told, and how.

        ``filters`` are those of ``GET /notifications``. Raises: what `request` raises."""
        return await self._call("GET", "/notifications", params=filters)

    async def replay_notification(
        self, notification_id: str, *, idempotency_key: str | None = None
    ) -> Mapping[str, Any]:
        """Sends again what was given up. Raises: what `request` raises."""
        return await self._call("POST", f"/notifications/{path_segment(notification_id)}/replay", key=idempotency_key)
