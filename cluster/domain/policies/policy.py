"""A policy: which tasks it is about, what it demands of them and of their agents, and what happens to what is against it.

An empty list of a policy says nothing: about every task, every agent, every region.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Final

from cluster.domain.access.workspaces import ALL_WORKSPACES
from cluster.domain.audit.erasure import POLICY_ERASED
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.expressions import Expression, expression
from cluster.domain.base.log import IDENTITY, SYSTEM, LogRecord, LogTexts, Origin, record_for

#: Policies of a workspace, and policies of all workspaces.
MOST_POLICIES: Final = 200
CREATED: Final = "policy.created"
UPDATED: Final = "policy.updated"
DELETED: Final = "policy.deleted"
#: A row of this kind lists policies some versions of which are not kept any more.
VERSIONS_REMOVED: Final = "policy.versions_removed"
#: The rows after which a copy of the policies is read anew.
CHANGES: Final = (CREATED, UPDATED, DELETED, POLICY_ERASED)

#: What a condition may name: fields of the task, and what somebody wrote.
VARIABLES: Final = frozenset({"task", "payload", "metadata"})

_CODE: Final = "invalid_policy"


class Enforcement(StrEnum):
    """What happens to a submit that is against a policy. ``warn``: it is taken, and a violation is recorded. ``soft`` and
    ``hard``: it is refused, and a violation is recorded; whoever may overrides a ``soft`` one, with a reason."""

    WARN = "warn"
    SOFT = "soft"
    HARD = "hard"


class Scope(StrEnum):
    """What a policy says that it is about. It decides nothing: the lists do."""

    GLOBAL = "global"
    TASK_TYPE = "task_type"
    CAPABILITY = "capability"
    REGION = "region"
    WORKSPACE = "workspace"


LOG_TEXTS: LogTexts = {
    "policy_id": IDENTITY,
    "policy_ids": IDENTITY,
    "erasure": IDENTITY,
    "enforcement": frozenset(Enforcement),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One version of a policy. ``workspace`` is ``*`` for one of all workspaces, which ``workspaces`` then narrows.
    ``capabilities``: it is about tasks that require one of them. ``max_execution_s``: the longest time limit that a task may ask
    for, in seconds. ``deny_when``: a condition in CEL; a submit of which it is true, or of which it cannot be evaluated, is
    against the policy. Times are epoch seconds."""

    id: str
    workspace: str
    name: str
    description: str = ""
    scope: Scope = Scope.GLOBAL
    workspaces: tuple[str, ...] = ()
    task_types: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    agent_allowlist: tuple[str, ...] = ()
    agent_blocklist: tuple[str, ...] = ()
    allowed_regions: tuple[str, ...] = ()
    blocked_regions: tuple[str, ...] = ()
    max_execution_s: float | None = None
    deny_when: str | None = None
    enforcement: Enforcement = Enforcement.HARD
    enabled: bool = True
    priority: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1
    created_at: float
    created_by: str
    changed_at: float
    changed_by: str

    @property
    def is_global(self) -> bool:
        """Whether it is about all workspaces."""
        return self.workspace == ALL_WORKSPACES

    @property
    def denies(self) -> bool:
        """Whether what is against it is refused."""
        return self.enforcement is not Enforcement.WARN

    def condition(self) -> Expression | None:
        """The condition of ``deny_when``, None if there is none. Raises: `InvalidRequest` if that is no condition."""
        return None if self.deny_when is None else expression(self.deny_when, VARIABLES)

    def content(self) -> dict[str, Any]:
        """What a version says, as it is stored."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self._content()}

    def _content(self) -> Sequence[tuple[str, Any]]:
        return [(each.name, getattr(self, each.name)) for each in fields(self) if each.name not in _ROW]

    def of_version(self, content: Mapping[str, Any], by: str, now: float) -> Policy:
        """The next version, which says ``content``."""
        changed = replace(self, version=self.version + 1, changed_at=now, changed_by=by, **read_content(content))
        return checked(changed)

    def record(self, origin: Origin, now: float, kind: str) -> LogRecord:
        """The row of a change of this policy; its name and what it is for are words."""
        data = {"policy_id": self.id, "version": self.version, "enforcement": self.enforcement.value}
        words = {"name": self.name, "description": self.description}
        return record_for(origin, now, kind, self.id, data, words)


def removing_versions(workspace: str, versions: Sequence[tuple[str, int]], now: float) -> LogRecord:
    """The row of a commit that deletes versions, each (policy, version), for their age."""
    origin = Origin(workspace=workspace, principal=SYSTEM)
    data = {"policy_ids": sorted({policy_id for policy_id, _ in versions})}
    return record_for(origin, now, VERSIONS_REMOVED, workspace, data)


#: The fields that are columns of their own.
_ROW: Final = ("id", "workspace", "version", "created_at", "created_by", "changed_at", "changed_by")
_TYPES: Final[Mapping[str, Any]] = {"enforcement": Enforcement, "scope": Scope}


def read_content(content: Mapping[str, Any]) -> dict[str, Any]:
    """What `Policy.content` wrote, as fields. A name that this version does not know is left out."""
    known = {each.name for each in fields(Policy)} - set(_ROW)
    return {
        name: _TYPES.get(name, lambda same: same)(tuple(value) if isinstance(value, list) else value)
        for name, value in content.items()
        if name in known
    }


def checked(policy: Policy) -> Policy:
    """The policy, if it makes sense.

    Raises: `InvalidRequest` if nothing could ever be against it, nothing could ever fit it, its scope names an empty list, or
    its condition is none."""
    demands = (
        *(policy.agent_allowlist, policy.agent_blocklist, policy.allowed_regions, policy.blocked_regions),
        policy.max_execution_s,
        policy.deny_when,
    )
    if not any(demands):
        raise InvalidRequest(
            "The policy demands nothing; give agent_allowlist, agent_blocklist, region_constraint, sla or deny_when.",
            _CODE,
        )
    policy.condition()
    if policy.agent_allowlist and set(policy.agent_allowlist) <= set(policy.agent_blocklist):
        raise InvalidRequest(
            "Every agent of agent_allowlist is in agent_blocklist too, so no agent could have a task; name another.",
            _CODE,
        )
    if policy.allowed_regions and set(policy.allowed_regions) <= set(policy.blocked_regions):
        raise InvalidRequest(
            "Every region of allowed_regions is in blocked_regions too, so no agent could have a task; name another.",
            _CODE,
        )
    if policy.workspaces and not policy.is_global and policy.workspaces != (policy.workspace,):
        raise InvalidRequest(
            "workspaces names another workspace than the call's; only a policy with all_workspaces is about others.",
            _CODE,
        )
    of_scope = {
        Scope.TASK_TYPE: ("task_types", policy.task_types),
        Scope.CAPABILITY: ("capabilities", policy.capabilities),
        Scope.REGION: ("region_constraint", policy.allowed_regions + policy.blocked_regions),
    }.get(policy.scope)
    if of_scope is not None and not of_scope[1]:
        raise InvalidRequest(f"scope {policy.scope.value} needs {of_scope[0]}.", _CODE)
    return policy
