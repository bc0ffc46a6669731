"""Each call of an SQL function gives every parameter the field that it is for, and none that could be swapped has the value of
another: one that is swapped is found.

Arguments go by position. Each call is made here by the method of the store, on a real database, with a value of its own in each
field, and what the statement gives is compared by the parameters' names.
"""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.domain.access.api_key import ApiKey
from cluster.domain.access.roles import CustomRole
from cluster.domain.access.sessions import Session, SessionKind
from cluster.domain.access.workspaces import RoleBinding, Workspace, WorkspaceState
from cluster.domain.agents.agent import Health, Intent, IntentBy, Liveness
from cluster.domain.agents.breaker import Breaker, BreakerState
from cluster.domain.agents.credentials import Credential
from cluster.domain.audit.checkpoint import Checkpoint
from cluster.domain.audit.log_retention import Dropped, Follower, Segment
from cluster.domain.base.errors import ControlPlaneError
from cluster.domain.base.log import SYSTEM, LogRecord, private_digest
from cluster.domain.budgets.budget import MOST_BUDGETS
from cluster.domain.budgets.entries import SettledEntry, Settlement
from cluster.domain.budgets.levels import LevelReached
from cluster.domain.consensus.learning import StoredOutcome, fit, panel_key
from cluster.domain.consensus.outcomes import Outcome
from cluster.domain.deliberation.stored import JournalAppend, JournalEvent, NewDeliberation
from cluster.domain.notifications.channel import MOST_CHANNELS
from cluster.domain.notifications.events import Severity
from cluster.domain.notifications.pushes import (
    ENDS,
    MOST_OF_TASK,
    MOST_PUSHES,
    NewPush,
    PushSecret,
    StateChange,
)
from cluster.domain.notifications.rules import Queued
from cluster.domain.policies.policy import MOST_POLICIES
from cluster.domain.quotas.quotas import Quotas
from cluster.domain.scheduling.limits import Control, ControlKind
from cluster.domain.tasks.chunks import ChunkBounds, NewChunks
from cluster.domain.tasks.progress import Progress, ProgressReport
from cluster.domain.tasks.task import (
    LeaseToken,
)
from cluster.domain.workflows.document import RunStatus
from cluster.domain.workflows.stored import StoredRun, StoredWorkflow
from cluster.ports.access import Revocation
from cluster.ports.agents import AgentChange
from cluster.ports.breakers import StoredBreaker
from cluster.ports.consensus_group import KeyCompare, KeyPut
from cluster.ports.operations import Replay
from cluster.ports.schedules import ScheduleChange
from cluster.ports.tasks import SubmitItem
from cluster.ports.telemetry import AgentCounters
from cluster.postgres.chunks import PostgresChunks
from cluster.postgres.deliberations import SOFT_KEY_S
from cluster.postgres.log_segments import stored_archive
from cluster.postgres.replica import PostgresReplica
from cluster.postgres.stores import Stores
from cluster.process.clock import SystemClock
from regions.consensus.group_of_one import GroupOfOne
from tests.support.budgets import a_budget
from tests.support.docs import ROOT
from tests.support.function_calls import CallRecorder, Functions, Given, is_that, swappable, swapped
from tests.support.function_values import (
    ANSWER,
    DECIDED,
    DECISION,
    FENCE,
    KEY,
    KEYS,
    ORIGIN,
    QUESTION,
    REGISTERED,
    REGISTRATION,
    ROW,
    SEAL,
    SUBMITTED,
    T1,
    T2,
    T3,
    T4,
    T5,
    TASK,
    Call,
    access,
    has,
    is_more,
    row_of,
    sealed,
)
from tests.support.hooks import a_hook
from tests.support.log_segments import an_archive
from tests.support.notifications import new_channel, new_rule
from tests.support.outcomes import AGENTS, history, new_outcome
from tests.support.policies import a_policy, a_violation
from tests.support.schedules import new_schedule

CALLS: dict[str, Call] = {
    # --- access
    "put_workspace": Call(
        lambda s: access(s).create_workspace(
            ORIGIN,
            Workspace(id="w-1", name="name-1", state=WorkspaceState.SUSPENDED, created_at=T1, changed_at=T2),
        ),
        {"p_new": True, "p_id": "w-1", "p_name": "name-1", "p_state": "suspended", "p_at": T2},
    ),
    "create_resident_workspace": Call(
        lambda s: access(s).create_workspace(
            ORIGIN,
            Workspace(
                id="w-1", name="name-1", state=WorkspaceState.ACTIVE, created_at=T1, changed_at=T2, zone="zone-1"
            ),
        ),
        {"p_id": "w-1", "p_name": "name-1", "p_zone": "zone-1", "p_at": T2},
    ),
    "put_binding": Call(
        lambda s: access(s).put_binding(
            ORIGIN, RoleBinding(workspace="w-1", subject="user:s", role="role-1", created_at=T1, created_by="user:by")
        ),
        {
            "p_workspace": "w-1",
            "p_subject": "user:s",
            "p_role": "role-1",
            "p_custom": ["role-1"],
            "p_at": T1,
            "p_by": "user:by",
        },
    ),
    "remove_binding": Call(
        lambda s: access(s).remove_binding(ORIGIN, "w-1", "user:s", "role-1"),
        {"p_now": T4, "p_workspace": "w-1", "p_subject": "user:s", "p_role": "role-1"},
    ),
    "put_role": Call(
        lambda s: access(s).put_role(ORIGIN, CustomRole(workspace="w-1", name="role-1", permissions=("tasks.read",))),
        {"p_workspace": "w-1", "p_name": "role-1", "p_permissions": ["tasks.read"]},
    ),
    "remove_role": Call(
        lambda s: access(s).remove_role(ORIGIN, "w-1", "role-1"),
        {"p_now": T4, "p_workspace": "w-1", "p_name": "role-1"},
    ),
    "create_bound_key": Call(
        lambda s: access(s).create_key(
            ORIGIN,
            ApiKey(
                id="key-1",
                name="name-1",
                workspaces=("w-1",),
                grants=("viewer", "role-1"),
                digests=(b"digest-1",),
                created_at=T1,
                created_by="user:by",
                expires_at=T2,
                agents=("agent-1",),
            ),
            first=True,
        ),
        {
            "p_now": T4,
            "p_first": True,
            "p_id": "key-1",
            "p_name": "name-1",
            "p_workspaces": ["w-1"],
            "p_grants": ["viewer", "role-1"],
            "p_custom": ["role-1"],
            "p_digests": [b"digest-1"],
            "p_created_at": T1,
            "p_created_by": "user:by",
            "p_expires_at": T2,
            "p_agents": ["agent-1"],
        },
    ),
    "change_key": Call(
        lambda s: access(s).put_key(
            ORIGIN,
            ApiKey(
                id="key-1",
                name="name-1",
                workspaces=("w-1",),
                grants=("viewer",),
                digests=(b"digest-1",),
                created_at=T1,
                created_by="user:by",
                revoked_at=T2,
                overlap_until=T3,
            ),
        ),
        {
            "p_now": T4,
            "p_id": "key-1",
            "p_digests": [b"digest-1"],
            "p_overlap_until": T3,
            "p_revoked_at": T2,
        },
    ),
    "revoke_access": Call(
        lambda s: access(s).revoke(ORIGIN, Revocation(subject="user:s", not_before=T1, until=T2)),
        {"p_now": T4, "p_subject": "user:s", "p_not_before": T1, "p_until": T2},
    ),
    "begin_session": Call(
        lambda s: access(s).begin_session(
            Session(
                id="session-1",
                digest=b"digest-1",
                kind=SessionKind.BROWSER,
                issuer="issuer-1",
                principal="user:p",
                groups=("group-1",),
                began_at=T1,
                expires_at=T2,
            ),
            ROW,
        ),
        {
            "p_id": "session-1",
            "p_digest": b"digest-1",
            "p_kind": "browser",
            "p_issuer": "issuer-1",
            "p_principal": "user:p",
            "p_groups": ["group-1"],
            "p_began_at": T1,
            "p_expires_at": T2,
        },
    ),
    "end_session": Call(lambda s: access(s).end_session("session-1", ROW), {"p_id": "session-1"}),
    # --- agents
    "register_agents": Call(lambda s: s.agents.register([REGISTRATION]), REGISTERED),
    "register_within_quotas": Call(lambda s: s.agents.register_within_quotas([REGISTRATION]), REGISTERED),
    "change_agents": Call(
        lambda s: s.agents.change(
            [
                AgentChange(
                    workspace="w-1",
                    agent_id="agent-1",
                    record=ROW,
                    intent=Intent.DRAINING,
                    intent_by=IntentBy.OPERATOR,
                    liveness=Liveness.OFFLINE,
                    health=Health.DEGRADED,
                )
            ]
        ),
        {
            "c_intent": ["draining"],
            "c_intent_by": ["operator"],
            "c_liveness": ["offline"],
            "c_health": ["degraded"],
        },
    ),
    "remove_agents": Call(lambda s: s.agents.remove([ROW], [KEY]), KEYS),
    "save_breakers": Call(
        lambda s: s.breakers.save(
            [
                StoredBreaker(
                    workspace="w-1",
                    agent_id="agent-1",
                    breaker=Breaker(
                        name="breaker-1",
                        threshold=3,
                        reset_s=4.0,
                        state=BreakerState.HALF_OPEN,
                        failures=5,
                        successes=6,
                        last_failure=T1,
                        changed_at=T2,
                        retry_at=T3,
                    ),
                )
            ],
            [ROW],
        ),
        {
            "b_workspace": ["w-1"],
            "b_name": ["breaker-1"],
            "b_agent_id": ["agent-1"],
            "b_state": ["half_open"],
            "b_threshold": [3],
            "b_reset_s": [4.0],
            "b_failures": [5],
            "b_successes": [6],
            "b_last_failure": [T1],
            "b_changed_at": [T2],
            "b_retry_at": [T3],
        },
    ),
    # --- what runs once, and who may write
    "acquire_lease": Call(
        lambda s: s.leases.acquire("lease-1", "holder-1", 30.0),
        {"p_name": "lease-1", "p_holder": "holder-1", "p_ttl_s": 30.0},
        region=False,
    ),
    "take_generation": Call(
        lambda s: s.tasks.take_generation("shard-1", "owner-1"),
        {"p_region": "test-region", "p_shard": "shard-1", "p_owner": "owner-1"},
        region=False,
    ),
    "raise_epoch": Call(
        lambda s: s.region.raise_epoch("leader-1"),
        {"p_region": "test-region", "p_leader": "leader-1", "p_from": 1},
        region=False,
    ),
    "set_region_role": Call(
        lambda s: PostgresReplica(s.pool, "zone-1").set_role("secondary", 3, 4.0),
        {"p_zone": "zone-1", "p_role": "secondary", "p_epoch": 3, "p_trusted_s": 4.0},
        region=False,
    ),
    "group_swap": Call(
        lambda s: GroupOfOne(s.pool, SystemClock()).swap(
            [KeyCompare(key="compared", value="value-1", revision=3)],
            [KeyPut(key="put", value="value-2", lease="4")],
            ["deleted"],
        ),
        {
            "c_key": ["compared"],
            "c_value": ["value-1"],
            "c_revision": [3],
            "p_key": ["put"],
            "p_value": ["value-2"],
            "p_lease": [4],
            "d_key": ["deleted"],
        },
        region=False,
    ),
    "log_append": Call(lambda s: s.log.append([ROW]), {"p_ok": [True]}),
    "log_story": Call(
        lambda s: s.log.story("w-1", "task_1", 3, 4),
        {"p_workspace": "w-1", "p_of": "task_1", "p_after": 3, "p_limit": 4},
        region=False,
    ),
    "seal_log": Call(
        lambda s: s.seals.seal(
            Checkpoint(
                head={"zone": "zone-1", "epoch": 3, "first_seq": 4, "last_seq": 5},
                public_key=b"public",
                signature=b"signature",
                entries=b"entries",
            )
        ),
        {
            "p_zone": "zone-1",
            "p_epoch": 3,
            "p_first": 4,
            "p_last": 5,
            "p_head": has(zone="zone-1"),
            "p_public_key": b"public",
            "p_signature": b"signature",
            "p_entries": b"entries",
        },
        region=False,
    ),
    "publish_signing_key": Call(
        lambda s: s.signing_keys(()).own(SEAL),
        {
            "p_key_id": lambda value: isinstance(value, str) and value not in ("", "test-region"),
            "p_public_key": lambda value: isinstance(value, bytes) and value != SEAL,
            "p_seed": SEAL,
        },
    ),
    "save_telemetry": Call(
        lambda s: s.telemetry.save(
            "name-1",
            3,
            {"snapshot": 1},
            [AgentCounters(workspace="w-1", agent_id="agent-1", completed=4, failed=5, latency_ms_sum=6.0)],
        ),
        {
            "p_name": "name-1",
            "p_cursor": 3,
            "p_snapshot": '{"snapshot": 1}',
            "c_workspace": ["w-1"],
            "c_agent_id": ["agent-1"],
            "c_completed": [4],
            "c_failed": [5],
            "c_latency": [6.0],
        },
        region=False,
    ),
    # --- tasks
    "submit_tasks": Call(
        lambda s: s.tasks.submit([SubmitItem(task=TASK, idempotency=KEY)]),
        SUBMITTED | row_of(TASK.record(TASK.head())),
    ),
    "submit_asking_tasks": Call(
        lambda s: s.tasks.submit([SubmitItem(task=replace(TASK, question=QUESTION), idempotency=KEY)]),
        SUBMITTED
        | row_of(replace(TASK, question=QUESTION).record(replace(TASK, question=QUESTION).head()))
        | {"t_detail": ["input_required"], "t_question": lambda value: has(answerers=["user:answerer"])(value[0])},
    ),
    "submit_within_quotas": Call(
        lambda s: s.tasks.submit(
            [SubmitItem(task=replace(TASK, question=QUESTION), idempotency=KEY, within_quotas=True)]
        ),
        SUBMITTED
        | row_of(replace(TASK, question=QUESTION).record(replace(TASK, question=QUESTION).head()))
        | {"t_detail": ["input_required"], "t_question": lambda value: has(answerers=["user:answerer"])(value[0])},
    ),
    "decide": Call(
        lambda s: s.tasks.decide(
            FENCE,
            [
                replace(
                    DECISION,
                    question=QUESTION,
                    answer=ANSWER,
                    entry=Settlement(task_id="task_1", attempt=5, nanos=99, is_known=True),
                    children=("task_2", "task_3"),
                )
            ],
        ),
        DECIDED | row_of(DECISION.record) | {"p_more": lambda value: is_more(json.loads(value))},
    ),
    "store_progress": Call(
        lambda s: s.tasks.store_progress(
            FENCE,
            [
                ProgressReport(
                    workspace="w-1",
                    task_id="task_1",
                    attempt=3,
                    at=T1,
                    progress=Progress(percent=4.0, message="message-1", checkpoint_json='"checkpoint"'),
                )
            ],
        ),
        {
            "p_shard": "shard-1",
            "p_generation": 77,
            "r_task": ["task_1"],
            "r_workspace": ["w-1"],
            "r_attempt": [3],
            "r_at": [T1],
            "r_percent": [4.0],
            "r_message": ["message-1"],
            "r_checkpoint": ['"checkpoint"'],
        },
    ),
    "write_chunks": Call(
        lambda s: PostgresChunks(
            s.pool, s.epoch, ChunkBounds(chunks=21, bytes=22, per_s=23.0, bytes_per_s=24.0, burst_s=25.0)
        ).write(
            [
                NewChunks(
                    workspace="w-1",
                    token=LeaseToken(task_id="task_1", attempt=3, agent_id="agent-1"),
                    first=4,
                    contents=['"a"', '"b"'],
                    at=T1,
                    skip=True,
                )
            ]
        ),
        {
            "p_workspace": ["w-1"],
            "p_task": ["task_1"],
            "p_attempt": [3],
            "p_agent": ["agent-1"],
            "p_first": [4],
            "p_skip": [True],
            "p_at": [T1],
            "p_count": [2],
            "p_content": ['"a"', '"b"'],
            "p_most": 21,
            "p_most_bytes": 22,
            "p_per_s": 23.0,
            "p_bytes_per_s": 24.0,
            "p_burst_s": 25.0,
        },
    ),
    "replay_tasks": Call(
        lambda s: s.dead_letters.replay([Replay(of="task_0", task=TASK, record=ROW, new_payload=True)]),
        {
            "p_now": T1,
            "p_workspace": "w-origin",
            "r_of": ["task_0"],
            "r_id": ["task_1"],
            "r_principal": ["user:origin"],
            "r_payload": ['{"payload": 1}'],
            "r_rules": ['{"tenant": "tenant-1"}'],
        },
    ),
    "purge_tasks": Call(
        lambda s: s.dead_letters.purge("w-1", ["row-1"], [ROW]), {"p_now": ROW.at, "p_workspace": "w-1"}
    ),
    "put_control": Call(
        lambda s: s.controls.put(
            Control(
                workspace="w-row",
                kind=ControlKind.TENANT,
                name="name-1",
                paused=True,
                rate_per_s=3.0,
                burst=4,
                weight=5.0,
            ),
            ROW,
        ),
        {
            "p_workspace": "w-row",
            "p_kind": "tenant",
            "p_name": "name-1",
            "p_paused": True,
            "p_rate": 3.0,
            "p_burst": 4,
            "p_weight": 5.0,
        },
    ),
    # --- deliberations and what is learned
    "admit_deliberations": Call(
        lambda s: s.deliberations.admit(
            [
                NewDeliberation(
                    request_id="request-1",
                    task_id="task_1",
                    origin=ORIGIN,
                    admitted_at=T1,
                    deadline_at=T2,
                    contract={"contract": 1},
                    contract_digest=b"contract",
                    mode="async",
                    idempotency=KEY,
                )
            ]
        ),
        {
            "p_now": T1,
            "p_soft_s": SOFT_KEY_S,
            "d_task_id": ["task_1"],
            "d_deadline_at": [T2],
            "d_contract": ['{"contract":1}'],
            "d_contract_digest": [b"contract"],
            "d_mode": ["async"],
            **KEYS,
        },
    ),
    "append_deliberations": Call(
        lambda s: s.deliberations.append(
            [
                JournalAppend(  # nobody is told of it, so its row comes last
                    request_id="request-1",
                    workspace="w-row",
                    fence=31,
                    events=(JournalEvent(n=21, at=T1, kind="kind-1", data={"data": 1}),),
                    state="state-1",
                    terminal="terminal-1",
                    result={"result": 1},
                    completed_at=T4,
                    cause="cause-1",
                ),
                JournalAppend(
                    request_id="request-2",
                    workspace="w-row",
                    fence=32,
                    events=(
                        JournalEvent(n=22, at=T2, kind="kind-2", data={"data": 2}),
                        JournalEvent(n=23, at=T3, kind="kind-3", data={"data": 3}),
                    ),
                    log=((0, "system.row", {}, {"words": 1}),),
                    state="state-2",
                    terminal="terminal-2",
                    result={"result": 2},
                    completed_at=T5,
                    cause="cause-row",
                ),
            ]
        ),
        {
            "a_request_id": ["request-1", "request-2"],
            "a_fence": [31, 32],
            "a_first": [21, 22],
            "a_events": [1, 2],
            "a_state": ["state-1", "state-2"],
            "a_terminal": ["terminal-1", "terminal-2"],
            "a_result": ['{"result":1}', '{"result":2}'],
            "a_completed_at": [T4, T5],
            "e_request_id": ["request-1", "request-2", "request-2"],
            "e_n": [21, 22, 23],
            "e_at": [T1, T2, T3],
            "e_kind": ["kind-1", "kind-2", "kind-3"],
            "e_data": ['{"data":1}', '{"data":2}', '{"data":3}'],
        }
        | row_of(
            replace(ROW, at=T2, entity="request-2", principal="system:deliberation", private={"words": 1}),
            LogRecord(
                at=T1,
                workspace=SYSTEM,
                kind="journal.appended",
                entity="request-1",
                cause="cause-1",
                data={"events": 21},
            ),
        ),
    ),
    "cancel_deliberation": Call(
        lambda s: s.deliberations.cancel("w-1", "request-1", ROW),
        {"p_workspace": "w-1", "p_request_id": "request-1"},
    ),
    "record_outcomes_of_kinds": Call(
        lambda s: s.outcomes.record(
            [new_outcome(1, Outcome(votes={"x": "a"}, right="a", options=("a", "b"), kind="law"), panel=("x", "z"))]
        ),
        {
            "o_source": ["import"],
            "o_panel": ['["x", "z"]'],
            "o_votes": ['{"x": "a"}'],
            "o_right": ["a"],
            "o_options": ['["a", "b"]'],
            "o_content": lambda value: isinstance(value[0], bytes),
            "o_kind": ["law"],
        },
    ),
    "save_snapshots": Call(
        lambda s: s.outcomes.save(
            [
                fit(
                    "w-1",
                    T1,
                    AGENTS,
                    [StoredOutcome(n=n, outcome=item.outcome) for n, item in enumerate(history(40), start=1)],
                    {},
                    None,
                )
            ]
        ),
        {
            "s_panel_key": [panel_key(AGENTS)],
            "s_panel": [json.dumps(list(AGENTS))],
            "s_through": [40],
            "s_document": lambda value: isinstance(json.loads(value[0]), dict),
            "s_alarms": ["[]"],
        },
    ),
    # --- erasure and retention
    "erase_deliberation": Call(
        lambda s: s.erasures.erase_deliberation("w-1", "contract-1", [(3, "data-3"), (4, "data-4")], [ROW]),
        {"p_contract": "contract-1", "p_n": [3, 4], "p_data": ["data-3", "data-4"]},
    ),
    "erase_log_words": Call(lambda s: s.erasures.erase_log_words("w-1", 3, 4, ROW), {"p_after": 3, "p_through": 4}),
    "put_retention": Call(
        lambda s: s.retention.set_rule("w-1", {"rule": 1}, ROW), {"p_rule": '{"rule":1}', "p_requested_at": None}
    ),
    "remove_log_segment": Call(
        lambda s: s.log_segments.remove(
            Segment(number=3, first_seq=1, last_seq=9, last_at=T1, is_newest=False), an_archive(1, 9), ROW
        ),
        {"p_number": 3, "p_archive": stored_archive(an_archive(1, 9), ROW.at)},
    ),
    "remove_segment": Call(
        lambda s: s.log_segments.remove(
            Segment(number=3, first_seq=1, last_seq=9, last_at=T1, is_newest=False),
            an_archive(1, 9),
            ROW,
            Dropped(frozenset({Follower.TELEMETRY, Follower.WORKFLOWS}), frozenset({"region-1"})),
            [ROW],
        ),
        {
            "p_number": 3,
            "p_archive": stored_archive(an_archive(1, 9), ROW.at),
            "p_dropped": ["telemetry", "workflows"],
            "p_regions": ["region-1"],
        },
    ),
    "trim_followed_log": Call(
        lambda s: s.log_segments.trim(
            Segment(number=3, first_seq=1, last_seq=9, last_at=T1, is_newest=False), an_archive(1, 9), T2
        ),
        {"p_zone": "test-region", "p_number": 3, "p_archive": stored_archive(an_archive(1, 9), T2)},
        region=False,
    ),
    # --- credentials and hooks
    "put_credential": Call(
        lambda s: s.credentials([SEAL]).put(
            Credential(
                workspace="w-1",
                name="name-1",
                secrets=("secret",),
                created_at=T1,
                created_by="user:by",
                changed_at=T2,
                changed_by="user:by",
                revision=3,
            ),
            ROW,
        ),
        {
            "p_most": lambda value: value > 3,
            "p_name": "credential/w-1/name-1",
            "p_sealed": sealed,
            "p_revision": 3,
        },
    ),
    "remove_credential": Call(
        lambda s: s.credentials([SEAL]).remove("w-1", "name-1", ROW), {"p_name": "credential/w-1/name-1"}
    ),
    "put_hook": Call(
        lambda s: s.hooks([SEAL]).put(a_hook(), ROW, ()),
        {"p_most": lambda value: value > 1, "p_hook": has(id="hook_1", name="reviews"), "p_sealed": sealed},
    ),
    "start_once": Call(
        lambda s: s.hooks([SEAL]).submit(SubmitItem(task=TASK, idempotency=KEY)),
        {"p_region": "test-region", "p_id": "task_1"},
        region=False,
    ),
    # --- policies and budgets
    "create_policy": Call(
        lambda s: s.policies.create(a_policy(), ROW, KEY),
        {"p_most": MOST_POLICIES, "p_policy": has(id="policy_1", workspace="w"), **KEYS},
    ),
    "change_policy": Call(lambda s: s.policies.change(a_policy(), ROW), {"p_policy": has(id="policy_1")}),
    "remove_policy": Call(lambda s: s.policies.remove(a_policy(version=3), ROW), {"p_workspace": "w", "p_version": 3}),
    "record_violations": Call(
        lambda s: s.policies.record([a_violation()], [ROW]), {"p_violations": has(id="violation_1")}
    ),
    "change_violation": Call(
        lambda s: s.policies.change_violation(a_violation(), ROW), {"p_violation": has(id="violation_1")}
    ),
    "create_budget": Call(
        lambda s: s.budgets.create(a_budget(), ROW, KEY),
        {"p_most": MOST_BUDGETS, "p_budget": has(id="budget_1", workspace="w"), **KEYS},
    ),
    "change_budget": Call(lambda s: s.budgets.change(a_budget(), ROW), {"p_budget": has(id="budget_1")}),
    "remove_budget": Call(lambda s: s.budgets.remove(a_budget(version=3), ROW), {"p_workspace": "w", "p_version": 3}),
    "tell_budget_levels": Call(
        lambda s: s.budgets.tell(
            [
                LevelReached(
                    budget_id="budget_1",
                    workspace="w",
                    period_start=T1,
                    limit_nanos=3,
                    level=4,
                    spent_nanos=5,
                    reserved_nanos=6,
                    at=T2,
                )
            ]
        ),
        {"p_levels": has(budget_id="budget_1", workspace="w", period_start=T1, limit_nanos=3, level=4, at=T2)},
    ),
    "fold_entries": Call(
        lambda s: s.budgets.fold([SettledEntry(workspace="w", task_id="task_1", attempt=5, day="2026-01-31")], ROW),
        {"p_tasks": ["task_1"], "p_attempts": [5]},
    ),
    "remove_spending": Call(lambda s: s.budgets.forget_days(["2026-01-31"], ROW), {"p_days": ["2026-01-31"]}),
    "remove_policy_versions": Call(
        lambda s: s.policies.remove_versions([("policy_1", 2)], ROW), {"p_ids": ["policy_1"], "p_versions": [2]}
    ),
    "remove_budget_levels": Call(
        lambda s: s.budgets.forget_levels(["budget_1"], T1, ROW), {"p_ids": ["budget_1"], "p_before": T1}
    ),
    "remove_violations": Call(lambda s: s.policies.remove_violations(["violation_1"], ROW), {"p_ids": ["violation_1"]}),
    "put_quotas": Call(
        lambda s: s.quotas.put(
            Quotas(workspace="w", agents=2, queued_tasks=3, running_tasks=4, submits_per_minute=5, version=1), ROW
        ),
        {"p_quotas": has(workspace="w", agents=2, queued_tasks=3, running_tasks=4, submits_per_minute=5, version=1)},
    ),
    # --- schedules and workflows
    "create_schedule": Call(
        lambda s: s.schedules.create(new_schedule(), ROW, KEY),
        {"p_most": lambda value: value > 1, "p_schedule": has(id="sched_1", name="nightly"), **KEYS},
    ),
    "change_schedules": Call(
        lambda s: s.schedules.change(
            [ScheduleChange(schedule=new_schedule(), records=[ROW], tasks=[], deliberations=[], defined=True)]
        ),
        {"p_schedules": has(id="sched_1"), "p_defined": ["sched_1"]},
    ),
    "apply_workflow": Call(
        lambda s: s.workflows.apply(
            StoredWorkflow(
                workspace="w",
                name="flow-1",
                version=3,
                principal="user:p",
                document={"document": 1},
                templates={"templates": {}},
                digest=b"digest",
                created_at=T1,
            ),
            ROW,
        ),
        {
            "p_most": lambda value: value > 1,
            "p_workflow": has(workspace="w", name="flow-1", version=3, principal="user:p", document={"document": 1}),
        },
    ),
    "start_run": Call(
        lambda s: s.workflows.start(RUN, {"input": 1}, ROW, KEY),
        {"p_run": has(id="wfrun_1", name="flow-1", version=3, input={"input": 1}), **KEYS},
    ),
    "signal_run": Call(
        lambda s: s.workflows.signal(ROW, "signal-1", "value-1", ["step-1"]),
        {
            "p_name": "signal-1",
            "p_value": '"value-1"',
            "p_steps": ["step-1"],
            "p_most": lambda value: value > 1,
        },
    ),
    "advance_runs": Call(
        lambda s: s.workflows.advance((3, 4), [RUN], [ROW], []),
        {"p_from": 3, "p_to": 4, "p_runs": has(id="wfrun_1")},
    ),
    "begin_advancing": Call(lambda s: s.workflows.begin(), {}),
    # --- notifications
    "put_notification_channel": Call(
        lambda s: s.notifications.put_channel(new_channel("name-1"), ROW),
        {"p_most": MOST_CHANNELS, "p_channel": has(name="name-1", credential="key", workspace="w")},
    ),
    "put_notification_rule": Call(
        lambda s: s.notifications.put_rule(new_rule("name-1", "channel-1"), ROW),
        {"p_most": lambda value: value > 1, "p_rule": has(name="name-1", channels=["channel-1"])},
    ),
    "test_notification_channel": Call(
        lambda s: s.notifications.test(
            Queued(
                id="ntf_1",
                workspace="w",
                channel="channel-1",
                rule=None,
                event="event-1",
                severity=Severity.INFO,
                entity="entity-1",
                seq=3,
                at=T1,
                data={},
                created_at=T2,
                due_at=T2,
            ),
            ROW,
        ),
        {"p_queued": has(id="ntf_1", channel="channel-1", event="event-1", entity="entity-1", at=T1, created_at=T2)},
    ),
    "begin_notifying": Call(lambda s: s.notifications.begin(), {}),
    "queue_notifications": Call(
        lambda s: s.notifications.queue((3, 4), [], [], T1), {"p_from": 3, "p_to": 4, "p_queued": "[]"}
    ),
    "queue_pushes": Call(
        lambda s: s.notifications.queue(
            (3, 4), [], [StateChange(workspace="w-1", task_id="task_1", seq=5, state="state-1", at=T2)], T1
        ),
        {"p_changes": has(workspace="w-1", task_id="task_1", seq=5, state="state-1", at=T2), "p_now": T1},
        region=False,
    ),
    "put_push": Call(
        lambda s: s.pushes([SEAL]).put(
            NewPush(
                workspace="w-1",
                task_id="task_1",
                id="id-1",
                principal="user:1",
                created_at=T1,
                url="https://a/b",
                origin="https://a",
                in_context=True,
                secret=PushSecret(token="secret"),
            ),
            ROW,
        ),
        {
            "p_most": MOST_PUSHES,
            "p_most_of_task": MOST_OF_TASK,
            "p_push": has(workspace="w-1", task_id="task_1", id="id-1", url="https://a/b", origin="https://a"),
            "p_sealed": sealed,
        },
    ),
    "claim_pushes": Call(
        lambda s: s.pushes([SEAL]).claim(T1, T2, 3, [("w-1", "https://a")]),
        {"p_now": T1, "p_until": T2, "p_limit": 3, "b_workspace": ["w-1"], "b_origin": ["https://a"]},
    ),
    "settle_pushes": Call(lambda s: s.pushes([SEAL]).settle([]), {"p_ended": "[]", "p_ends": list(ENDS)}, region=False),
    "claim_notifications": Call(
        lambda s: s.notifications.claim(T1, T2, 3, [("w-1", "channel-1")]),
        {"p_now": T1, "p_until": T2, "p_limit": 3, "b_workspace": ["w-1"], "b_channel": ["channel-1"]},
    ),
}
RUN = StoredRun(
    id="wfrun_1",
    workspace="w",
    name="flow-1",
    version=3,
    principal="user:p",
    metadata={},
    status=RunStatus.RUNNING,
    state={},
    created_at=T1,
    changed_at=T2,
)


async def given(stores: Stores, recorder: CallRecorder, name: str) -> tuple[Given, dict[str, Any]]:
    """What the call of a function gives, and what is expected of it."""
    call, epoch = CALLS[name], stores.epoch.value
    of_region = {"p_region": "test-region", "p_epoch": epoch} if call.region else {}
    recorder.calls.clear()
    with contextlib.suppress(ControlPlaneError):  # what the call needs may not be there: what it gives is seen before
        await call.run(stores)
    found = next(found for called, found in recorder.calls if called == name)
    rows = {parameter: value for parameter, value in found.values.items() if found.types[parameter] == "log_rows"}
    assert all(isinstance(value, tuple) for value in rows.values())
    private = found.values.get("l.private")
    made = {} if private is None else {"l.private_digest": [text and private_digest(text) for text in private]}
    return found, {**of_region, **call.gives, **made, **rows}


def faults(found: Given, expected: Mapping[str, Any]) -> list[str]:
    """The parameters that got something else, or else the pairs that a swap would leave as expected."""
    wrong = [
        f"{each}: {found.values.get(each)!r}"
        for each in sorted(found.values.keys() | expected.keys())
        if each not in expected or each not in found.values or not is_that(found.values[each], expected[each])
    ]
    unseen = [
        f"a swap of {first} and {second} would not be seen"
        for first, second in swappable(found)
        if all(is_that(value, expected.get(each)) for each, value in swapped(found.values, first, second).items())
    ]
    return wrong or unseen


async def test_calls_give_each_parameter_what_it_is_for(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """All on one database: each of them only has to be sent."""
    recorder = CallRecorder(await Functions.read(stores.pool))
    recorder.install(stores.pool, monkeypatch)
    # The epoch is raised at last: calls state it.
    names = sorted(CALLS, key=lambda name: (name == "raise_epoch", name))
    found = {name: faults(*await given(stores, recorder, name)) for name in names}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_a_swap_and_a_value_that_two_parameters_share_are_found() -> None:
    expected = {"p_name": "a", "p_holder": "b", "p_ttl_s": 3.0}
    types = {"p_name": "text", "p_holder": "text", "p_ttl_s": "double precision"}
    assert faults(Given(dict(expected), types), expected) == []
    assert faults(Given(swapped(expected, "p_name", "p_holder"), types), expected) == ["p_holder: 'a'", "p_name: 'b'"]
    same = {**expected, "p_holder": "a"}
    assert faults(Given(same, types), same) == ["a swap of p_name and p_holder would not be seen"]


def statements() -> Iterator[str]:
    """All SQL that the product sends, but migrations."""
    for path in (ROOT / "cluster" / "postgres" / "sql").glob("*.sql"):
        yield path.read_text()
    for folder in ("actors", "cluster", "regions", "serve_app"):
        for module in sorted((ROOT / folder).rglob("*.py")):
            yield from _texts(module)


def _texts(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "$1" in node.value:
            yield node.value


async def test_every_function_that_takes_several_arguments_is_called_here(stores: Stores) -> None:
    functions = await Functions.read(stores.pool)
    called = {
        name
        for sql in statements()
        for name, arguments in functions.called(sql)
        if sum("$" in text for text in arguments) > 1
    }
    without_rows = {name for name in called if not _takes_only_rows(functions, name)}
    assert without_rows == set(CALLS)


def _takes_only_rows(functions: Functions, name: str) -> bool:
    """Whether there is nothing but region, epoch and rows: two columns of a row cannot be swapped by the call."""
    newest = max(functions.of[name])
    return [*functions.signature(name, newest).names] in (["p_region", "p_epoch", "l"],)
