"""Runs that keepers submit, under policies on a real store: what their conditions read does not hold up the event loop."""

from __future__ import annotations

import asyncio

from actors.under_policies import judged_items
from cluster.domain.base.log import Origin, record_for
from cluster.domain.policies.policy import Policy
from cluster.domain.tasks.task import IdempotencyKey
from cluster.ports.tasks import SubmitItem
from cluster.postgres.stores import Stores
from tests.support.awaited import Awaited
from tests.support.policies import a_policy
from tests.support.samples import NOW, new_task

ORIGIN = Origin(workspace="w")


async def _made(stores: Stores, policy: Policy) -> None:
    await stores.policies.create(policy, record_for(ORIGIN, NOW, "policy.created", policy.id), None)


def _item(id_: str, payload: object, workspace: str = "w") -> SubmitItem:
    task = new_task(id=id_, payload=payload, origin=Origin(workspace=workspace))
    return SubmitItem(task=task, idempotency=IdempotencyKey(route="runs", key=id_, body_digest=b""))


async def test_others_go_on_while_conditions_read_what_is_large(stores: Stores) -> None:
    await _made(stores, a_policy(agent_blocklist=(), deny_when="payload.exists(each, each == 'no')"))
    awaited = Awaited([*["yes"] * 50_000, "no"])
    asked = asyncio.create_task(judged_items(stores.policies, [_item("t", awaited)]))
    await awaited.is_read.wait()
    assert await stores.policies.list("w")
    awaited.may_go_on.set()
    (found,) = await asked
    assert found.denied is not None


async def test_items_of_several_workspaces_keep_their_order(stores: Stores) -> None:
    await _made(stores, a_policy(agent_blocklist=(), deny_when="payload == 'no'"))
    items = [_item("t1", "no"), _item("t2", "no", "other"), _item("t3", "yes"), _item("t4", "no")]
    found = await judged_items(stores.policies, items)
    assert [(each.task.id, each.denied is not None) for each in found] == [
        ("t1", True),
        ("t2", False),
        ("t3", False),
        ("t4", True),
    ]
