"""Bodies and answers about workspaces, members, roles and API keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from cluster.domain.access.api_key import ApiKey, has_expired
from cluster.domain.access.roles import ROLES, CustomRole
from cluster.domain.access.workspaces import RoleBinding, Workspace, WorkspaceState, all_deleted
from serve_app.schemas.fields import MAX_BATCH, MAX_SECONDS, ExactBody, Seconds, Text, Word, Words, agent_name

Subject = Annotated[Text, Field(min_length=1, max_length=256, description="user:EMAIL, group:NAME, key:ID or agent:ID")]


class OpenState(StrEnum):
    """States that a workspace can be put into; it is deleted by DELETE."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


class NewWorkspace(ExactBody):
    """``name`` is for people; without one it is the id. ``zone``: where the workspace is resident, for good; nowhere if it is
    left out."""

    younger = frozenset({"zone"})

    id: Word
    name: Words | None = None
    zone: Word | None = None


class WorkspaceChange(ExactBody):
    """Fields that are left out stay as they are."""

    name: Words | None = None
    state: OpenState | None = None


class NewMember(ExactBody):
    subject: Subject
    role: Word


class RolePermissions(ExactBody):
    """Names of permissions (docs/access.md)."""

    permissions: list[Word] = Field(max_length=64)


class NewKey(ExactBody):
    """``workspaces`` are those that the key acts in, the caller's if left out; ``["*"]`` stands for all. ``grants`` are names of
    roles and permissions. Without ``expires_in_seconds`` the key does not expire. With ``agents`` it acts for these agents only:
    it registers, beats, claims, reports and drains for no other."""

    younger = frozenset({"agents"})

    name: Words
    grants: list[Word] = Field(min_length=1, max_length=64)
    workspaces: list[Word] | None = Field(None, min_length=1, max_length=64)
    expires_in_seconds: Seconds | None = None
    agents: list[Annotated[Word, AfterValidator(agent_name)]] | None = Field(None, min_length=1, max_length=MAX_BATCH)


class Rotation(ExactBody):
    """For ``overlap_seconds`` the secret of before counts too."""

    overlap_seconds: float = Field(3600.0, ge=0, le=MAX_SECONDS)


def workspace_wire(workspace: Workspace) -> dict[str, Any]:
    return {
        "id": workspace.id,
        "name": workspace.name,
        "state": workspace.state.value,
        "zone": workspace.zone,
        "created_at": workspace.created_at,
        "changed_at": workspace.changed_at,
    }


def member_wire(binding: RoleBinding) -> dict[str, Any]:
    return {
        "workspace": binding.workspace,
        "subject": binding.subject,
        "role": binding.role,
        "created_at": binding.created_at,
        "created_by": binding.created_by,
    }


def role_wire(role: CustomRole) -> dict[str, Any]:
    return {"name": role.name, "built_in": False, "permissions": list(role.permissions)}


def built_in_roles() -> list[dict[str, Any]]:
    return [
        {"name": name, "built_in": True, "permissions": sorted(permission.value for permission in permissions)}
        for name, permissions in ROLES.items()
    ]


def _key_state(key: ApiKey, now: float, is_closed: bool) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if has_expired(key, now):
        return "expired"
    return "workspace_deleted" if is_closed else "valid"


def _closed_words(closed: Sequence[Workspace]) -> str | None:
    """A sentence about workspaces that are suspended or deleted; None if there are none."""
    words = {
        WorkspaceState.SUSPENDED: "is suspended: the key can only read there until it is resumed",
        WorkspaceState.DELETED: "was deleted: the key can do nothing there",
    }
    sentences = [
        f"The workspace {workspace.id} {words[workspace.state]}." for workspace in closed if workspace.state in words
    ]
    return " ".join(sentences) or None


def key_wire(key: ApiKey, now: float, workspaces: list[str], known: Mapping[str, Workspace | None]) -> dict[str, Any]:
    """``workspaces``: those of the key that the caller may see; ``known``: all that it acts in. The digests of its secrets are no
    part of any answer."""
    seen = [workspace for name in workspaces if (workspace := known.get(name)) is not None]
    state = _key_state(key, now, all_deleted(known.values()))
    return {
        "id": key.id,
        "name": key.name,
        "state": state,
        # A key that has ended reads nowhere, whatever becomes of its workspaces.
        "state_detail": None if state in ("revoked", "expired") else _closed_words(seen),
        "workspaces": workspaces,
        "grants": list(key.grants),
        "agents": None if key.agents is None else list(key.agents),
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "overlap_until": key.overlap_until,
        "last_used_at": key.last_used_at,
    }
