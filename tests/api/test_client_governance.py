"""The Python clients' calls about policies, budgets, quotas, hooks and notifications, against the real routes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from aragora_worker.api import ControlPlaneClient
from aragora_worker.base.errors import NotFound
from aragora_worker.blocking import BlockingClient
from aragora_worker.blocking_governance import BlockingGovernanceCalls
from aragora_worker.errors import ApiError
from aragora_worker.governance import GovernanceCalls
from tests.support.api import Api, in_thread
from tests.support.changes import MAIL

Call = Callable[..., Any]


def _calls(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in vars(kind).items()
        if inspect.isfunction(member) and not name.startswith("_") and name != "request"
    }


def test_both_clients_have_the_same_calls() -> None:
    assert _calls(GovernanceCalls) == _calls(BlockingGovernanceCalls)


async def _used(api: Api, use: Callable[[BlockingClient], Any]) -> Any:
    """What ``use`` returns, in a thread without an event loop. Each of its calls goes through `ControlPlaneClient` too."""

    def run() -> Any:
        with BlockingClient(api.url) as client:
            return use(client)

    return await in_thread(run)


async def test_policies_of_the_client(api: Api) -> None:
    def use(client: BlockingClient) -> None:
        made = client.create_policy("Night", task_types=["nightly"], agent_blocklist=["owl"], idempotency_key="k")
        assert (
            client.create_policy("Night", task_types=["nightly"], agent_blocklist=["owl"], idempotency_key="k") == made
        )
        assert client.update_policy(made["id"], priority=5)["version"] == 2
        assert client.roll_back_policy(made["id"], 1)["priority"] == made["priority"]
        assert [each["id"] for each in client.policies()] == [made["id"]]
        assert "matched" in client.dry_run_policy(name="Try", task_types=["x"], agent_blocklist=["y"])
        with pytest.raises(ApiError):
            client.post("/tasks", {"task_type": "nightly", "target_agent": "owl"})
        page = client.violations(policy_id=made["id"], status="open")
        assert page["total"] == 1
        client.update_violation(page["violations"][0]["id"], "resolved", notes="Seen.")
        assert client.violations(status="open")["total"] == 0
        client.delete_policy(made["id"])
        assert len(client.policy_versions(made["id"])) == 3
        assert client.policies() == []

    await _used(api, use)


async def test_budgets_and_quotas_of_the_client(api: Api) -> None:
    def use(client: BlockingClient) -> None:
        made = client.create_budget("All", "1.00", "0.40", mode="soft")
        assert client.update_budget(made["id"], limit_usd="2.00")["limit_usd"] == "2.00"
        assert [each["name"] for each in client.budgets()] == ["All"]
        assert client.spending()["spending"] == []
        assert client.spending("2026-01-01", "2026-02-01")["start"] == "2026-01-01"
        client.delete_budget(made["id"])
        assert client.set_quotas(agents=7, queued_tasks=9)["quotas"]["agents"] == 7
        assert client.set_quotas(agents=None)["quotas"] == client.quotas()["quotas"]
        assert client.quotas()["quotas"]["agents"] is None
        with pytest.raises(ApiError, match="agents"):
            client.set_quotas(agents=0)

    await _used(api, use)


async def test_hooks_and_notifications_of_the_client(api: Api) -> None:
    def use(client: BlockingClient) -> None:
        hook = client.create_hook("push", task={"task_type": "echo"})
        assert hook["secret"]
        assert client.update_hook("push", task={"task_type": "other"})["task_type"] == "other"
        assert client.rotate_hook("push", overlap_s=60)["secret"] != hook["secret"]
        assert client.pause_hook("push")["paused"]
        assert not client.resume_hook("push")["paused"]
        assert [each["name"] for each in client.hooks()] == ["push"]
        client.delete_hook("push")
        fields = {name: value for name, value in MAIL.items() if name != "kind"}
        client.set_channel("mail", MAIL["kind"], **fields)
        client.set_notification_rule("all", ["task.*"], ["mail"], severity="error")
        assert client.test_channel("mail")["channel"] == "mail"
        told = client.notifications(channel="mail")["notifications"]
        assert len(told) == 1
        assert [each["name"] for each in client.channels()] == ["mail"]
        assert [each["name"] for each in client.notification_rules()] == ["all"]
        with pytest.raises(ApiError):
            client.replay_notification(told[0]["notification_id"])
        client.delete_notification_rule("all")
        client.delete_channel("mail")
        with pytest.raises(NotFound):
            client.delete_channel("mail")

    await _used(api, use)


async def test_the_client_with_an_event_loop_has_them_too(api: Api) -> None:
    async with ControlPlaneClient(api.url) as client:
        assert (await client.quotas())["version"] == 0
        assert await client.hooks() == []
