"""The one vocabulary of permissions, and the table of other names that clients know.

A route requires one ``Permission``. A grant (of a key, a token or a role) is a list of names, and ``granted`` says which
permissions a name stands for. Whoever holds a name that the released server asks for can make the calls that the
released server asks it for, so a name of its wire may stand for several permissions: it has one word for submitting,
claiming and deliberating, which are different people's work here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from cluster.domain.base.errors import InvalidRequest


class Permission(StrEnum):
    #: What needs no principal at all. It can be required, and not granted.
    PUBLIC = "public"
    AGENTS_READ = "controlplane:agents.read"
    AGENTS_WRITE = "controlplane:agents.write"
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


#: All that can be granted.
ALL = frozenset(Permission) - {Permission.PUBLIC}

_READ = frozenset(one for one in ALL if one.endswith(".read"))
_WRITE = frozenset(one for one in ALL if one.endswith(".write"))
_TASKS = frozenset(
    {Permission.TASKS_WRITE, Permission.TASKS_CLAIM, Permission.DELIBERATIONS_READ, Permission.DELIBERATIONS_WRITE}
)


def _with_colons(permission: Permission) -> str:
    """``control_plane:agents:read``: the spelling of our own first versions and of upstream's documents."""
    noun, _, verb = permission.removeprefix("controlplane:").partition(".")
    return f"control_plane:{noun}:{verb}"


#: Other names, and the permissions that each stands for. `control_plane.cancel` is left out on purpose: it is less than
#: any permission that we have, and an alias must not grant more than its name says.
ALIASES: Mapping[str, frozenset[Permission]] = {
    "controlplane:agents": frozenset({Permission.AGENTS_WRITE}),
    "controlplane:tasks": _TASKS,
    "controlplane:read": _READ,
    "control_plane:read": _READ,
    "control_plane:write": _WRITE,
    "control-plane:read": _READ,
    "control-plane:write": _WRITE,
    "control_plane.read": _READ,
    "control_plane.submit": frozenset({Permission.TASKS_WRITE}),
    "control_plane.deliberate": frozenset({Permission.DELIBERATIONS_READ, Permission.DELIBERATIONS_WRITE}),
    **{_with_colons(one): frozenset({one}) for one in sorted(ALL)},
}
_BY_NAME: Mapping[str, frozenset[Permission]] = {**ALIASES, **{one.value: frozenset({one}) for one in ALL}}


def granted(name: str) -> frozenset[Permission]:
    """The permissions that ``name`` stands for. InvalidRequest for a name that is not known."""
    found = _BY_NAME.get(name)
    if found is None:
        raise InvalidRequest(
            f"{name} is not a permission; choose from those listed in docs/api.md.", "unknown_permission"
        )
    return found
