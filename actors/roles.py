"""Which actors a deployment has, and their names."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass

from cluster.domain.agents.agent import Dedicated
from cluster.domain.base.json_writing import canonical_json
from cluster.settings import Settings
from cluster.version import VERSION

SCHEDULER = "scheduler"
AGENT_HOST = "agent-host"
DEDICATED_AGENT = "dedicated-agent"
HEALTH_MONITOR = "health-monitor"
REGION_LEADER = "region-leader"
DELIBERATION = "deliberation"
TELEMETRY = "telemetry"
SEALER = "sealer"

#: The kinds that every deployment has, in the order in which they are started and replaced: what others wait for comes first.
KINDS = (TELEMETRY, REGION_LEADER, SCHEDULER, AGENT_HOST, DELIBERATION, HEALTH_MONITOR, SEALER)

#: How an error names an actor of each kind to people, who know the words of the glossary and no actor's name.
_TITLES = {
    SCHEDULER: "The scheduler",
    AGENT_HOST: "An agent host",
    DEDICATED_AGENT: "The process of the dedicated agent",
    HEALTH_MONITOR: "The health monitor",
    REGION_LEADER: "The region leader",
    DELIBERATION: "A deliberation worker",
    TELEMETRY: "Telemetry",
    SEALER: "The sealer",
}

NAMESPACE = "aragora"


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One actor that has to exist. ``kind`` says what it does, ``index`` which one of its kind it is.

    A dedicated agent's actor has no index but its ``agent`` (workspace, agent_id), and ``needs``: what it declares to Ray.
    """

    kind: str
    index: int = 0
    agent: tuple[str, str] | None = None
    needs: Dedicated | None = None

    @property
    def key(self) -> str:
        """What the role is published under: its kind, and the index or the agent's digest."""
        return f"{self.kind}-{self.index if self.agent is None else agent_digest(*self.agent)}"

    @property
    def title(self) -> str:
        """What a sentence for people calls it, at its beginning."""
        return _TITLES[self.kind]


def agent_digest(workspace: str, agent_id: str) -> str:
    """Stands for an agent in an actor's name. All digests have one length, so that none is the beginning of another."""
    return hashlib.blake2b(f"{workspace}\x1f{agent_id}".encode(), digest_size=10).hexdigest()


def dedicated_role(workspace: str, agent_id: str, needs: Dedicated | None = None) -> Role:
    """The role of a dedicated agent's actor. Without ``needs`` it can be called but not created."""
    return Role(kind=DEDICATED_AGENT, agent=(workspace, agent_id), needs=needs)


def desired_roles(settings: Settings) -> tuple[Role, ...]:
    """The fixed roles, in the order of ``KINDS``."""
    counts = {AGENT_HOST: settings.agent_hosts, DELIBERATION: settings.deliberation_workers}
    return tuple(Role(kind=kind, index=i) for kind in KINDS for i in range(counts.get(kind, 1)))


def fingerprint(settings: Settings) -> str:
    """A digest of the code's version and of every setting that an actor acts on. Another one means another actor."""
    return hashlib.sha256(f"{VERSION}|{settings.fingerprint()}".encode()).hexdigest()[:12]


def actor_name(settings: Settings, role: Role) -> str:
    """The Ray name: deployment, role, and the fingerprint that tells a successor from its predecessor.

    It also has a digest of the needs, because what an actor declares to Ray is fixed when it is created: other needs take
    another actor.
    """
    name = f"{settings.deployment_id}-{role.key}-{fingerprint(settings)}"
    if role.needs is None:
        return name
    needs = canonical_json(asdict(role.needs))
    return f"{name}-{hashlib.sha256(needs.encode()).hexdigest()[:8]}"


def kind_prefix(settings: Settings, kind: str) -> str:
    """How the names of all actors of a kind begin, whatever their version."""
    return f"{settings.deployment_id}-{kind}-"


def role_prefix(settings: Settings, role: Role) -> str:
    """How the names of all actors of a role begin, whatever their version."""
    return f"{settings.deployment_id}-{role.key}-"
