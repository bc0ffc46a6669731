"""Access in memory: the tables of a replica, and bearer tokens that are checked with them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cluster.domain.access.api_key import ApiKey, digest_of
from cluster.domain.access.identity import AccessPolicy
from cluster.domain.access.roles import CustomRole
from cluster.domain.access.workspaces import RoleBinding, Workspace, WorkspaceState
from cluster.domain.base.errors import StoreUnavailable
from cluster.ports.clock import Clock
from cluster.process.clock import SystemClock
from serve_app.auth.bearer import BearerTokens
from serve_app.auth.key_uses import KeyUses
from serve_app.auth.token_checks import SharedSecrets, TokenChecks, TrustedIssuer
from tests.support.tokens import SECRET, signed

LIFE_S = 3600.0
_generations = itertools.count(1)
SECRETS = SharedSecrets(current=SECRET)


@dataclass
class Tables:
    """The workspaces ``w`` and ``v``, and what a test adds. It is the store of keys' uses too."""

    keys: dict[str, ApiKey] = field(default_factory=dict)
    bound: list[RoleBinding] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    since: dict[str, float] = field(default_factory=dict)
    workspaces: dict[str, Workspace] = field(default_factory=dict)
    writes: list[Sequence[tuple[str, float]]] = field(default_factory=list)
    away: bool = False

    @property
    def generation(self) -> int:
        """Another one at each look: tests change the tables directly."""
        return next(_generations)

    def __post_init__(self) -> None:
        for name in ("w", "v"):
            self.workspaces[name] = Workspace(
                id=name, name=name, state=WorkspaceState.ACTIVE, created_at=0.0, changed_at=0.0
            )

    def bindings(self, subject: str) -> Sequence[RoleBinding]:
        return [binding for binding in self.bound if binding.subject == subject]

    def custom_roles(self, workspace: str) -> Mapping[str, CustomRole]:
        return {}

    def workspace(self, workspace: str) -> Workspace | None:
        return self.workspaces.get(workspace)

    def key(self, key_id: str) -> ApiKey | None:
        return self.keys.get(key_id)

    def is_revoked(self, jti: str) -> bool:
        return jti in self.revoked

    def not_before(self, principal: str) -> float:
        return self.since.get(principal, 0.0)

    async def used(self, uses: Sequence[tuple[str, float]]) -> None:
        if self.away:
            raise StoreUnavailable("The store is away.")
        self.writes.append(uses)

    def bind(self, subject: str, role: str, workspace: str = "w") -> None:
        self.bound.append(
            RoleBinding(workspace=workspace, subject=subject, role=role, created_at=0.0, created_by="test")
        )

    def add_key(self, name: str, role: str = "admin", workspaces: tuple[str, ...] = ("w",), **changes: Any) -> str:
        """Stores a key; returns its token."""
        id = hashlib.sha256(name.encode()).hexdigest()[:26]
        secret = hashlib.sha256(b"secret of " + name.encode()).hexdigest()[:32]
        key = ApiKey(
            id=id,
            name=name,
            workspaces=workspaces,
            grants=(role,),
            digests=(digest_of(secret),),
            created_at=0.0,
            created_by="test",
        )
        self.keys[id] = replace(key, **changes)
        return f"ara_{id}_{secret}"

    def change_key(self, token: str, **changes: Any) -> None:
        id = token.split("_")[1]
        self.keys[id] = replace(self.keys[id], **changes)


def claims(clock: Clock, subject: str = "user:ann@example.com", **more: Any) -> dict[str, Any]:
    """Claims that count now."""
    now = clock.now()
    return {"sub": subject, "iat": now - 1, "exp": now + 600, "jti": "t1", **more}


def own_token(clock: Clock, subject: str = "user:ann@example.com", **more: Any) -> str:
    return signed(claims(clock, subject, **more))


def bearer_tokens(
    tables: Tables,
    *,
    issuer: TrustedIssuer | None = None,
    policy: AccessPolicy | None = None,
    clock: Clock | None = None,
    secrets: SharedSecrets | None = SECRETS,
) -> BearerTokens:
    clock = clock or SystemClock()
    return BearerTokens(
        view=tables,
        policy=policy or AccessPolicy(home="w"),
        tokens=TokenChecks(secrets=secrets, issuer=issuer, life_s=LIFE_S),
        uses=KeyUses(tables, clock),  # type: ignore[arg-type]  # the one method of the store that it calls
        clock=clock,
    )
