"""The tables of docs/permissions.md, and principals that have one role."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cluster.domain.access.identity import AccessPolicy, Identity, Method, principal_for
from cluster.domain.access.principal import Principal
from cluster.domain.access.workspaces import WorkspaceState
from tests.support.access import StatedTables

PAGE = Path(__file__).parents[2] / "docs" / "permissions.md"


def _table(first: str) -> list[list[str]]:
    """The rows of the table whose first column has this head, the head included."""
    lines = PAGE.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return [rows[0], *rows[2:]]


def roles() -> Mapping[str, frozenset[str]]:
    """Role → permissions."""
    head, *rows = _table("Permission")
    return {role: frozenset(row[0] for row in rows if row[at] == "✓") for at, role in enumerate(head) if at > 0}


def calls() -> Mapping[str, str]:
    """Call → permission."""
    rows = [(call, permission) for call, permission in _table("Call")[1:]]
    assert len(rows) == len(dict(rows)), "a call has two rows"
    return dict(rows)


def with_role(role: str, workspace: str) -> Principal:
    """The principal of a key that has this role in this workspace."""
    identity = Identity(
        id=f"key:{role}-of-{workspace}",
        method=Method.API_KEY,
        subjects=(f"key:{role}-of-{workspace}",),
        workspaces=(workspace,),
        grants=(role,),
    )
    return principal_for(
        identity, None, StatedTables(dict.fromkeys(("v", "w"), WorkspaceState.ACTIVE)), AccessPolicy(home="default")
    )
