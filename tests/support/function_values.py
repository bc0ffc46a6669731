"""Values for calls of SQL functions, another in each field, and what the parameters of such calls are expected to be."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cluster.domain.agents.agent import Dedicated, TransportKind
from cluster.domain.agents.credential_use import CredentialUse, Sending
from cluster.domain.base.log import LogRecord, Origin
from cluster.domain.tasks.order_key import encode
from cluster.domain.tasks.questions import Answer, Question, Verdict
from cluster.domain.tasks.rules import TaskRules
from cluster.domain.tasks.task import (
    IdempotencyKey,
    NewTask,
    Priority,
    TaskDecision,
    TaskDetail,
    TaskHead,
    TaskStatus,
)
from cluster.ports.agents import RegisterItem
from cluster.ports.tasks import ShardFence
from cluster.postgres.access import PostgresAccessStore
from cluster.postgres.stores import Stores
from cluster.postgres.tasks import partition
from tests.support.samples import registration

T1, T2, T3, T4, T5 = (1_700_000_000.0 + n for n in range(11, 16))
ORIGIN = Origin(workspace="w-origin", principal="user:origin", cause="cause-origin")
KEY = IdempotencyKey(route="route-1", key="key-1", body_digest=b"digest-1")
ROW = LogRecord(at=T5, workspace="w-row", kind="system.row", entity="row-1", principal="user:row", cause="cause-row")
SEAL = bytes(range(32))
FENCE = ShardFence(shard="shard-1", generation=77)
KEYS = {"i_route": ["route-1"], "i_key": ["key-1"], "i_digest": [b"digest-1"]}
QUESTION = Question(text="why?", answerers=("user:answerer",))
ANSWER = Answer(verdict=Verdict.APPROVED, principal="user:answerer", value_json='"yes"')
RULES = TaskRules(tenant="tenant-1")
TASK = NewTask(
    id="task_1",
    origin=ORIGIN,
    task_type="type-1",
    created_at=T1,
    payload={"payload": 1},
    metadata={"metadata": 1},
    required_capabilities=("capability",),
    priority=Priority.HIGH,
    timeout_s=302.0,
    max_retries=7,
    run_at=T3,
    queue="queue-1",
    target_agent="agent-1",
    target_region="target-1",
    fallback_regions=("fallback",),
    region_routing_mode="strict",
    origin_region="from-1",
    rules=RULES,
)
REGISTRATION = RegisterItem(
    agent=registration(
        "agent-1",
        at=T1,
        origin=ORIGIN,
        capabilities=("capability",),
        model="model-1",
        provider="provider-1",
        metadata={"metadata": 1},
        tags=("tag",),
        region_id="region-1",
        available_regions=("available",),
        transport=TransportKind.A2A,
        endpoint="http://endpoint",
        max_concurrency=3,
        options={"option": 1},
        dedicated=Dedicated(num_cpus=2.0),
        credential=CredentialUse(
            workspace="w-origin", name="credential-1", send=Sending.BEARER, origin="https://o:443"
        ),
    ).agent,
    record=replace(ROW, workspace="w-origin", entity="agent-1"),
    idempotency=KEY,
)
REGISTERED = {
    "p_now": T1,
    "a_capabilities": ['["capability"]'],
    "a_model": ["model-1"],
    "a_provider": ["provider-1"],
    "a_metadata": ['{"metadata": 1}'],
    "a_tags": ['["tag"]'],
    "a_region_id": ["region-1"],
    "a_available": ['["available"]'],
    "a_transport": ["a2a"],
    "a_endpoint": ["http://endpoint"],
    "a_max_concurrency": [3],
    "a_options": ['{"option": 1}'],
    "a_dedicated": lambda value: has(num_cpus=2.0)(value[0]),
    "a_credential": lambda value: has(name="credential-1")(value[0]),
    **KEYS,
}
SUBMITTED = {
    "p_now": T1,
    "p_all_or_none": False,
    "t_shard": [partition("w-origin")],
    "t_queue": ["queue-1"],
    "t_task_type": ["type-1"],
    "t_priority": [int(Priority.HIGH)],
    "t_detail": ["delayed"],
    "t_max_retries": [7],
    "t_timeout_s": [302.0],
    "t_run_at": [T3],
    "t_target_agent": ["agent-1"],
    "t_target_region": ["target-1"],
    "t_routing": ["strict"],
    "t_origin": ["from-1"],
    "t_fallback": ['["fallback"]'],
    "t_required": ['["capability"]'],
    "t_payload": ['{"payload": 1}'],
    "t_metadata": ['{"metadata": 1}'],
    "t_rules": ['{"tenant": "tenant-1"}'],
    **KEYS,
}
HEAD = TaskHead(
    id="task_1",
    workspace="w-origin",
    task_type="type-1",
    priority=4,
    required=frozenset({"capability"}),
    target_agent="agent-1",
    queue="queue-1",
    created_at=T1,
    run_at=T2,
    timeout_s=302.0,
    max_retries=8,
    status=TaskStatus.COMPLETED,
    detail=TaskDetail.RETRYING,
    attempt=5,
    retries=6,
    assigned_agent="agent-2",
    claim_id="claim-2",
    holder="holder-2",
    started_at=T3,
    order_key=(13.0, "place"),
)
DECISION = TaskDecision(
    head=HEAD,
    expect_status=TaskStatus.RUNNING,
    expect_attempt=9,
    record=replace(ROW, attempt=5, private={"words": 1}),
    completed_at=T4,
    result_json='"result"',
    error="error-1",
)
DECIDED = {
    "p_shard": "shard-1",
    "p_generation": 77,
    "d_expect_status": ["running"],
    "d_expect_attempt": [9],
    "d_status": ["completed"],
    "d_detail": ["retrying"],
    "d_retries": [6],
    "d_priority": [4],
    "d_run_at": [T2],
    "d_agent": ["agent-2"],
    "d_claim": ["claim-2"],
    "d_holder": ["holder-2"],
    "d_started": [T3],
    "d_completed": [T4],
    "d_result": ['"result"'],
    "d_error": ["error-1"],
    "d_place": [encode((13.0, "place"))],
}


def is_more(found: list[dict[str, Any]]) -> bool:
    (more,) = found
    assert (more["n"], more["question"]["answerers"], more["answer"]["verdict"]) == (1, ["user:answerer"], "approved")
    return bool(more["entry"] == {"spent": 99, "known": True} and more["children"] == ["task_2", "task_3"])


def row_of(*records: LogRecord) -> dict[str, Any]:
    """The columns of rows that go as one parameter for each. What is made for it can be told by its form."""
    attempts = [record.attempt for record in records]
    words = [record.private is not None for record in records]
    return {
        "l.v": 2,
        "l.at": [record.at for record in records],
        "l.workspace": [record.workspace for record in records],
        "l.kind": [record.kind for record in records],
        "l.entity": [record.entity for record in records],
        "l.attempt": None if attempts == [None] * len(records) else attempts,
        "l.principal": [record.principal for record in records],
        "l.cause": [record.cause for record in records],
        "l.data": [record.data_json() for record in records],
        "l.private": (lambda value: [_salted(text) for text in value] == words) if any(words) else None,
        "l.private_digest": None,
        "l.digest": lambda value: len(value) == len(records) and all(isinstance(each, bytes) for each in value),
    }


def _salted(text: str | None) -> bool:
    return text is not None and "salt" in json.loads(text)


def has(**fields: Any) -> Callable[[Any], bool]:
    """Whether a text is the JSON of an object with these fields, or of a list that has only such a one."""

    def check(text: Any) -> bool:
        if not isinstance(text, str):
            return False
        with contextlib.suppress(ValueError):
            found = json.loads(text)
            found = found[0] if isinstance(found, list) and found else found
            return isinstance(found, dict) and all(found.get(name) == value for name, value in fields.items())
        return False

    return check


def sealed(value: Any) -> bool:
    """Whether it is bytes that are not the secret: each seal is another one."""
    return isinstance(value, bytes) and b"secret" not in value and len(value) > 32


@dataclass(frozen=True, slots=True)
class Call:
    """``gives``: the value of each parameter but the region's name and epoch, and rows of the log that go as one value."""

    run: Callable[[Stores], Awaitable[Any]]
    gives: Mapping[str, Any]
    region: bool = True


def access(stores: Stores) -> PostgresAccessStore:
    return PostgresAccessStore(stores.pool, stores.epoch, lambda: T4)
