"""How an agent's registration says that a credential of its workspace is sent to it.

The control plane sends a secret to the origin (scheme, host, port) for which somebody who may use it registered the agent, and
to no other: not where a redirect or an agent's card leads, nor to an endpoint that was changed since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Sending(StrEnum):
    """How a secret is sent."""

    BEARER = "bearer"
    HEADER = "header"
    BASIC = "basic"
    SIGNATURE = "signature"
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialUse:
    """What a registration says: which credential of its workspace is sent how, and where to (``https://host:443``)."""

    workspace: str
    name: str
    send: Sending
    origin: str
    header: str | None = None
    user: str | None = None
    key_id: str | None = None

    def stored(self) -> dict[str, Any]:
        """As the agent's row has it; the row has the workspace too."""
        return {name: value for name, value in asdict(self).items() if name != "workspace" and value is not None}

    def shown(self) -> dict[str, Any]:
        """As the API shows it, and takes it again."""
        return {name: value for name, value in self.stored().items() if name != "origin"}


def use_of(workspace: str, stored: Mapping[str, Any]) -> CredentialUse:
    """What `CredentialUse.stored` has made."""
    return CredentialUse(workspace=workspace, **{**stored, "send": Sending(stored["send"])})
