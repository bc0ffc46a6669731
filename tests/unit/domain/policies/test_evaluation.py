"""What policies say of submits, as one function that hears all of them."""

from __future__ import annotations

import random
from itertools import permutations
from typing import Any

import pytest

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.policies.conflicts import conflicts
from cluster.domain.policies.evaluation import Decision, Submit, agent_bounds, evaluate, is_about
from cluster.domain.policies.policy import Enforcement, Policy, Scope, checked, read_content
from cluster.domain.policies.submits import judged
from cluster.domain.policies.violations import ViolationStatus, ViolationType
from cluster.domain.tasks.rules import TaskRules
from cluster.domain.tasks.task import IdempotencyKey
from tests.support.policies import a_policy, a_violation
from tests.support.samples import NOW, new_task

ONLY = frozenset
FALSE = "tasks of which this is false: payload.n > 1"


def a_submit(**fields: Any) -> Submit:
    return Submit(**({"workspace": "w", "task_type": "echo", "timeout_s": 60.0} | fields))


def short(**fields: Any) -> Policy:
    """Tasks ask for half a minute at most, which `a_submit` is against."""
    return a_policy(**({"agent_blocklist": (), "max_execution_s": 30.0} | fields))


def test_in_whatever_order_a_hard_policy_beats_soft_ones_and_warnings() -> None:
    policies = [
        short(id="p1", enforcement=Enforcement.WARN, priority=9),
        short(id="p2", enforcement=Enforcement.SOFT, priority=8),
        short(id="p3", priority=1),
        short(id="p4", priority=2),
    ]
    for order in permutations(policies):
        found = evaluate(order, a_submit())
        assert found.decision is Decision.DENY
        assert [finding.policy.id for finding in found.findings] == ["p4", "p3", "p2", "p1"]
    assert evaluate(policies[:1], a_submit()).decision is Decision.WARN
    assert evaluate(policies, a_submit(timeout_s=30.0)).decision is Decision.ALLOW


@pytest.mark.parametrize(
    ("policy", "submit", "about"),
    [
        ({"workspace": "other"}, {}, False),
        ({"workspace": "*"}, {}, True),
        ({"workspace": "*", "workspaces": ("other",)}, {}, False),
        ({"workspace": "*", "workspaces": ("w", "other")}, {}, True),
        ({"task_types": ("echo",)}, {}, True),
        ({"task_types": ("other",)}, {}, False),
        ({"capabilities": ("x", "y")}, {"required": ONLY("y")}, True),
        ({"capabilities": ("x",)}, {"required": ONLY("y")}, False),
        ({"capabilities": ("x",)}, {}, False),
        ({"enabled": False}, {}, False),
    ],
    ids=str,
)
def test_a_policy_is_about_what_its_lists_name(policy: dict[str, Any], submit: dict[str, Any], about: bool) -> None:
    assert is_about(a_policy(**policy), a_submit(**submit)) is about


@pytest.mark.parametrize(
    ("policy", "submit", "found"),
    [
        ({"agent_allowlist": ("a",)}, {}, None),
        ({"agent_allowlist": ("a", "b"), "agent_blocklist": ("b",)}, {"target_agent": "a"}, None),
        ({"agent_allowlist": ("a", "b"), "agent_blocklist": ("b",)}, {"target_agent": "b"}, ("agent", "agents a")),
        ({"agent_blocklist": ("b",)}, {"target_agent": "b"}, ("agent", "agents other than b")),
        ({"allowed_regions": ("eu",)}, {"regions": ("eu", "us")}, ("region", "regions eu")),
        ({"allowed_regions": ("eu",)}, {"regions": ("eu",)}, None),
        ({"blocked_regions": ("us",)}, {"regions": ("us",)}, ("region", "regions other than us")),
        ({"max_execution_s": 59.5}, {}, ("sla", "timeout_seconds of at most 59.5")),
        ({"max_execution_s": 60.0}, {}, None),
        ({"deny_when": "payload.n > 1"}, {"variables": {"payload": {"n": 1}}}, None),
        ({"deny_when": "payload.n > 1"}, {"variables": {"payload": {"n": 2}}}, ("condition", FALSE)),
        ({"deny_when": "payload.n > 1"}, {"variables": {"payload": {"n": "2"}}}, ("condition", FALSE)),
        ({"deny_when": "payload.n > 1"}, {"variables": {"payload": {}}}, ("condition", FALSE)),
    ],
    ids=str,
)
def test_a_submit_is_judged_by_what_it_names(
    policy: dict[str, Any], submit: dict[str, Any], found: tuple[str, str] | None
) -> None:
    findings = evaluate([a_policy(**({"agent_blocklist": ()} | policy))], a_submit(**submit)).findings
    assert [(finding.type.value, finding.allowed) for finding in findings] == ([] if found is None else [found])


def test_what_a_policy_demands_of_agents_goes_with_the_task_and_back() -> None:
    policy = a_policy(agent_allowlist=("a1", "a9"), blocked_regions=("us",))
    task = judged([policy, short(enforcement=Enforcement.WARN)], new_task(), None).task
    assert task.rules is not None
    assert TaskRules.from_json(task.rules.to_json()) == task.rules
    (bounds,) = task.rules.policies
    assert not bounds.refuses("a1", ONLY({"eu"}))
    assert bounds.refuses("a1", ONLY({"eu", "us"}))
    assert bounds.refuses("a9", ONLY()), "blocked counts more than allowed"
    assert bounds.refuses("a2", ONLY())
    assert agent_bounds(a_policy(enforcement=Enforcement.WARN)) is None


def test_a_repeat_under_a_key_has_violations_of_the_same_ids() -> None:
    def ids(task_id: str, key: str | None) -> list[str]:
        idem = None if key is None else IdempotencyKey(route="tasks", key=key, body_digest=b"")
        found = judged([short()], new_task(id=task_id, timeout_s=60.0), idem)
        assert found.denied is not None
        return [violation.id for violation in found.violations]

    assert ids("t1", "k") == ids("t2", "k") != ids("t2", "other")
    assert ids("t1", None) != ids("t2", None)


def test_a_version_says_what_it_is_given_and_keeps_the_rest() -> None:
    policy = a_policy(task_types=("echo",), metadata={"ticket": 7}, enforcement=Enforcement.SOFT)
    assert read_content(policy.content()) == read_content(policy.of_version(policy.content(), "u", NOW).content())
    after = policy.of_version(policy.content() | {"task_types": ("other",)}, "user:other", NOW + 1)
    assert (after.version, after.changed_by, after.task_types) == (2, "user:other", ("other",))
    assert (after.metadata, after.enforcement, after.created_by) == ({"ticket": 7}, Enforcement.SOFT, "user:tester")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"agent_blocklist": ()}, "demands nothing"),
        ({"agent_allowlist": ("a9",)}, "no agent could have a task"),
        ({"allowed_regions": ("eu",), "blocked_regions": ("eu", "us")}, "no agent could have a task"),
        ({"workspaces": ("other",)}, "another workspace"),
        ({"deny_when": "secret.x"}, "names secret"),
        ({"deny_when": "task."}, "not CEL"),
        ({"scope": Scope.TASK_TYPE}, "needs task_types"),
        ({"scope": Scope.CAPABILITY}, "needs capabilities"),
        ({"scope": Scope.REGION}, "needs region_constraint"),
    ],
    ids=str,
)
def test_a_policy_that_makes_no_sense_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        checked(a_policy(**fields))


@pytest.mark.parametrize(
    ("policy", "rival", "contradict"),
    [
        ({"agent_allowlist": ("a",)}, {"agent_allowlist": ("b",)}, True),
        ({"agent_allowlist": ("a", "b")}, {"agent_allowlist": ("b",)}, False),
        ({"agent_allowlist": ("a",)}, {"agent_blocklist": ("a",)}, True),
        ({"agent_allowlist": ("a",)}, {"agent_blocklist": ("a",), "enforcement": Enforcement.WARN}, False),
        ({"agent_allowlist": ("a",)}, {"agent_blocklist": ("a",), "enabled": False}, False),
        ({"agent_allowlist": ("a",), "task_types": ("x",)}, {"agent_blocklist": ("a",), "task_types": ("y",)}, False),
        ({"agent_allowlist": ("a",)}, {"agent_blocklist": ("a",), "workspace": "*", "workspaces": ("v",)}, False),
        ({"allowed_regions": ("eu",)}, {"allowed_regions": ("us",)}, True),
        ({"blocked_regions": ("eu",)}, {"blocked_regions": ("us",)}, False),
    ],
    ids=str,
)
def test_policies_that_leave_no_agent_contradict_each_other(
    policy: dict[str, Any], rival: dict[str, Any], contradict: bool
) -> None:
    first, second = (
        a_policy(**({"id": policy_id, "agent_blocklist": ()} | fields))
        for policy_id, fields in (("1", policy), ("2", rival))
    )
    assert bool(conflicts(first, [first, second])) is contradict
    assert bool(conflicts(second, [second, first])) is contradict


def test_who_settled_a_violation_stays_until_it_is_opened_again() -> None:
    violation = a_violation()
    for status in ViolationStatus:
        after = violation.changed(status, None, "user:one", NOW + 1)
        assert (after.resolved_at is not None) is status.is_settled
    settled = violation.changed(ViolationStatus.RESOLVED, "Told them.", "user:one", NOW + 1)
    again = settled.changed(ViolationStatus.FALSE_POSITIVE, None, "user:two", NOW + 2)
    assert (again.resolved_by, again.resolved_at, again.resolution_notes) == ("user:one", NOW + 1, "Told them.")
    opened = again.changed(ViolationStatus.INVESTIGATING, "", "user:two", NOW + 3)
    assert (opened.resolved_by, opened.resolved_at, opened.resolution_notes) == (None, None, "")


def test_evaluation_agrees_with_a_slow_reading_of_each_rule() -> None:
    """Against random policies: each kind of finding where its rule, read word by word, is broken, and nothing else."""
    chance = random.Random(7)

    def some(names: str) -> tuple[str, ...]:
        return tuple(name for name in names if chance.random() < 0.4)

    for _ in range(2000):
        policy = a_policy(
            agent_allowlist=some("ab"),
            agent_blocklist=some("ab"),
            allowed_regions=some("rs"),
            blocked_regions=some("rs"),
            max_execution_s=chance.choice((None, 30.0, 90.0)),
        )
        submit = a_submit(target_agent=chance.choice((None, "a", "b", "c")), regions=some("rst"))
        agent, broken = submit.target_agent, set()
        if agent is not None:
            may = not policy.agent_allowlist or agent in policy.agent_allowlist
            if agent in policy.agent_blocklist or not may:
                broken.add(ViolationType.AGENT)
        for region in submit.regions:
            may = not policy.allowed_regions or region in policy.allowed_regions
            if region in policy.blocked_regions or not may:
                broken.add(ViolationType.REGION)
        if policy.max_execution_s == 30.0:
            broken.add(ViolationType.SLA)
        assert {finding.type for finding in evaluate([policy], submit).findings} == broken


def test_an_override_puts_aside_soft_policies_alone() -> None:
    soft = a_policy(id="soft", enforcement=Enforcement.SOFT, agent_blocklist=("a1",))
    far = a_policy(id="far", enforcement=Enforcement.SOFT, agent_blocklist=("a2",))
    warns = short(id="warns", enforcement=Enforcement.WARN)
    task = new_task(target_agent="a1", timeout_s=60.0)
    found = judged([soft, far, warns], task, None, "why")
    assert found.denied is None
    assert found.task.rules is not None
    assert [bound.policy_id for bound in found.task.rules.policies] == ["far"]
    assert {each.policy_id: (each.status, each.resolution_notes) for each in found.violations} == {
        "soft": (ViolationStatus.RESOLVED, "why"),
        "warns": (ViolationStatus.OPEN, ""),
    }
    hard = short(id="hard", enforcement=Enforcement.HARD)
    refused = judged([soft, hard], task, None, "why")
    assert refused.denied is not None
    assert refused.denied.details["policy_id"] == "hard"
    assert {each.status for each in refused.violations} == {ViolationStatus.OPEN}
    assert {each.task_id for each in refused.violations} == {None}
