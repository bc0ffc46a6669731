"""Which actors a deployment has, and what they are called."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cluster.settings import Settings
from cluster.version import VERSION

SCHEDULER = "scheduler"
AGENT_HOST = "agent-host"
HEALTH_MONITOR = "health-monitor"
REGION_LEADER = "region-leader"
DELIBERATION = "deliberation"
TELEMETRY = "telemetry"

NAMESPACE = "aragora"


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One actor that has to exist. ``kind`` says what it does, ``index`` which of its kind it is."""

    kind: str
    index: int = 0

    @property
    def key(self) -> str:
        return f"{self.kind}-{self.index}"


def desired_roles(settings: Settings) -> tuple[Role, ...]:
    """In the order in which they are started and replaced: what others wait for comes first."""
    return (
        Role(kind=TELEMETRY),
        Role(kind=REGION_LEADER),
        Role(kind=SCHEDULER),
        *(Role(kind=AGENT_HOST, index=i) for i in range(settings.agent_hosts)),
        *(Role(kind=DELIBERATION, index=i) for i in range(settings.deliberation_workers)),
        Role(kind=HEALTH_MONITOR),
    )


def fingerprint(settings: Settings) -> str:
    """Changes with the code version and with every setting that an actor acts on."""
    return hashlib.sha256(f"{VERSION}|{settings.fingerprint()}".encode()).hexdigest()[:12]


def actor_name(settings: Settings, role: Role) -> str:
    """The Ray name: prefix, role, and the fingerprint that tells a successor from its predecessor."""
    return f"{settings.deployment_id}-{role.key}-{fingerprint(settings)}"


def role_prefix(settings: Settings, role: Role) -> str:
    return f"{settings.deployment_id}-{role.key}-"
