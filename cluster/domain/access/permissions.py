"""The names of permissions, and the table of other names that clients know for them.

A route requires one ``Permission``. A grant (of a key, a token or a role) is a list of names, and ``granted`` says which
permissions a name stands for. The released server has names of its own, and whoever holds one of them can make the calls
that the released server would allow. Such a name may stand for several permissions: the released server has one name for
submitting, claiming and deliberating, which are separate permissions here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.nearest import MAX_SHOWN, hint


class Permission(StrEnum):
    """What a route can require."""

    #: Needs no principal. A route can require it; it cannot be granted.
    PUBLIC = "public"
    AGENTS_READ = "controlplane:agents.read"
    #: Pauses, drains and resumes any agent, and registers what runs or is called by the control plane itself.
    AGENTS_WRITE = "controlplane:agents.write"
    #: Registers agents that pull their work, sends their heartbeats and deregisters them: what a worker does.
    AGENTS_CONNECT = "controlplane:agents.connect"
    TASKS_READ = "controlplane:tasks.read"
    TASKS_WRITE = "controlplane:tasks.write"
    TASKS_CLAIM = "controlplane:tasks.claim"
    DELIBERATIONS_READ = "controlplane:deliberations.read"
    DELIBERATIONS_WRITE = "controlplane:deliberations.write"
    QUEUE_READ = "controlplane:queue.read"
    QUEUE_WRITE = "controlplane:queue.write"
    HEALTH_READ = "controlplane:health.read"
    METRICS_READ = "controlplane:metrics.read"
    STREAM_READ = "controlplane:stream.read"
    #: Payloads, results, prompts and transcripts: without it they are absent from every answer, stream and log row.
    PAYLOADS_READ = "controlplane:payloads.read"
    #: What concerns every workspace at once: the region's metrics, and how the control plane's own parts are. It counts only
    #: if it is granted in all workspaces (``identity.principal_for``).
    SYSTEM_READ = "controlplane:system.read"
    #: Workspaces, members, role bindings, custom roles and API keys.
    ACCESS_READ = "controlplane:access.read"
    ACCESS_WRITE = "controlplane:access.write"
    #: The log as an audit trail: every row of the workspace, with its place in the chain.
    AUDIT_READ = "controlplane:audit.read"
    #: Whether the log is what was sealed: of all workspaces, since they share one chain. It shows no row.
    AUDIT_VERIFY = "controlplane:audit.verify"
    #: Deletes for good what people and agents wrote: of a task, of a subject, of the whole workspace.
    PAYLOADS_ERASE = "controlplane:payloads.erase"
    #: The names of credentials, and where each may be sent. Nothing shows a secret.
    CREDENTIALS_READ = "controlplane:credentials.read"
    #: Sets, rotates and deletes credentials.
    CREDENTIALS_WRITE = "controlplane:credentials.write"
    #: Registers an agent, or makes a channel of notifications, to which a credential is sent.
    CREDENTIALS_USE = "controlplane:credentials.use"
    #: Policies and their versions, and what they would do to a submit.
    POLICIES_READ = "controlplane:policies.read"
    POLICIES_WRITE = "controlplane:policies.write"
    #: Changes policies of all workspaces. It counts only if it is granted in all of them.
    POLICIES_GLOBAL = "controlplane:policies.global"
    #: Submits what soft policies refuse, with a reason.
    POLICIES_OVERRIDE = "controlplane:policies.override"
    #: Budgets, and what attempts have cost.
    BUDGETS_READ = "controlplane:budgets.read"
    BUDGETS_WRITE = "controlplane:budgets.write"
    #: The workspace's quotas, and how much of them is used.
    QUOTAS_READ = "controlplane:quotas.read"
    #: Sets quotas of workspaces. It counts only if it is granted in all of them: nobody raises the bounds of their own workspace.
    QUOTAS_WRITE = "controlplane:quotas.write"
    #: What was submitted against policies.
    VIOLATIONS_READ = "controlplane:violations.read"
    #: Says what people made of a violation.
    VIOLATIONS_UPDATE = "controlplane:violations.update"
    #: What was told to whom, and by which rules. Addresses take ``payloads.read`` besides.
    NOTIFICATIONS_READ = "controlplane:notifications.read"
    #: Makes and deletes channels and rules, tests channels, and replays what was given up.
    NOTIFICATIONS_WRITE = "controlplane:notifications.write"
    #: What webhooks of others start. Nothing shows a secret.
    HOOKS_READ = "controlplane:hooks.read"
    #: Makes hooks, and so lets others start what they say; rotates, pauses and deletes them.
    HOOKS_WRITE = "controlplane:hooks.write"


#: Every permission that can be granted.
ALL = frozenset(Permission) - {Permission.PUBLIC}
#: Those that nobody has who acts in one workspace, its administrator included.
OF_THE_SYSTEM = frozenset({Permission.SYSTEM_READ, Permission.POLICIES_GLOBAL, Permission.QUOTAS_WRITE})

#: What is left of every role while a workspace is suspended: what runs may end, so heartbeats and reports are taken. Claims need
#: the same permission as reports, so they are refused apart (``serve_app.auth.suspension``).
WHILE_SUSPENDED = frozenset(
    permission
    for permission in ALL
    if permission.endswith(".read")
    or permission
    in (
        Permission.ACCESS_WRITE,
        Permission.AUDIT_VERIFY,
        Permission.AGENTS_CONNECT,
        Permission.TASKS_CLAIM,
        Permission.PAYLOADS_ERASE,
    )
)

#: The released server has no workspaces, credentials or hooks and no calls about access, channels, budgets or quotas, so none of
#: its names allows these.
_OURS = {
    *(Permission.ACCESS_READ, Permission.ACCESS_WRITE, Permission.SYSTEM_READ),
    *(Permission.CREDENTIALS_READ, Permission.CREDENTIALS_WRITE, Permission.CREDENTIALS_USE),
    *(Permission.POLICIES_GLOBAL, Permission.POLICIES_OVERRIDE),
    Permission.NOTIFICATIONS_WRITE,
    *(Permission.HOOKS_READ, Permission.HOOKS_WRITE),
    *(Permission.BUDGETS_READ, Permission.BUDGETS_WRITE),
    *(Permission.QUOTAS_READ, Permission.QUOTAS_WRITE),
}
#: The released server has names of their own for the audit, so its names for reading do not allow it.
_AUDIT = frozenset({Permission.AUDIT_READ, Permission.AUDIT_VERIFY})
#: The same of policies and violations.
_POLICIES = frozenset(
    {
        *(Permission.POLICIES_READ, Permission.POLICIES_WRITE),
        *(Permission.VIOLATIONS_READ, Permission.VIOLATIONS_UPDATE),
    }
)
_READ = frozenset(permission for permission in ALL - _OURS - _AUDIT - _POLICIES if permission.endswith(".read"))
_AGENTS = frozenset({Permission.AGENTS_WRITE, Permission.AGENTS_CONNECT})
_WRITE = _AGENTS | {permission for permission in ALL - _OURS - _POLICIES if permission.endswith(".write")}
_TASKS = frozenset(
    {Permission.TASKS_WRITE, Permission.TASKS_CLAIM, Permission.DELIBERATIONS_READ, Permission.DELIBERATIONS_WRITE}
)


def _with_colons(permission: Permission) -> str:
    """The spelling with colons, such as ``control_plane:agents:read``: our own first versions and upstream's documents use it."""
    noun, _, verb = permission.removeprefix("controlplane:").partition(".")
    return f"control_plane:{noun}:{verb}"


#: Other name → the permissions that it stands for. `control_plane.cancel` is left out on purpose: each of our permissions allows
#: more than cancelling, and an alias must not grant more than its name says.
ALIASES: Mapping[str, frozenset[Permission]] = {
    "controlplane:agents": _AGENTS,
    "controlplane:audit": _AUDIT,
    "controlplane:policies": _POLICIES,
    "controlplane:tasks": _TASKS,
    "controlplane:read": _READ,
    "control_plane:read": _READ,
    "control_plane:write": _WRITE,
    "control-plane:read": _READ,
    "control-plane:write": _WRITE,
    "control_plane.read": _READ,
    "control_plane.submit": frozenset({Permission.TASKS_WRITE}),
    "control_plane.deliberate": frozenset({Permission.DELIBERATIONS_READ, Permission.DELIBERATIONS_WRITE}),
    **{_with_colons(permission): frozenset({permission}) for permission in sorted(ALL)},
}
_BY_NAME: Mapping[str, frozenset[Permission]] = {
    **ALIASES,
    **{permission.value: frozenset({permission}) for permission in ALL},
}


def granted(name: str) -> frozenset[Permission]:
    """The permissions that ``name`` stands for. Raises: `InvalidRequest` if nothing has that name."""
    found = _BY_NAME.get(name)
    if found is None:
        raise InvalidRequest(
            f"{name[:MAX_SHOWN]} is not a permission; {hint(name, (permission.value for permission in ALL))}",
            "unknown_permission",
        )
    return found
