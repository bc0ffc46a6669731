"""The endpoints of agents that are registered again with what the API has shown of them, without their secrets."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.urls import MASK, is_masked, shown_url
from serve_app.gateway import Gateway
from serve_app.schemas.agents import RegisterAgent


async def with_whole_endpoints(gate: Gateway, workspace: str, bodies: Sequence[RegisterAgent]) -> list[RegisterAgent]:
    """The registrations, with the stored endpoint in place of one that equals it as it is shown. To store what is shown would
    silently lose the secrets; to fill them into another URL would send them elsewhere.

    Raises: `InvalidRequest` if an endpoint lacks its secrets and is not the one that is stored."""
    masked = [body.agent_id for body in bodies if body.endpoint is not None and is_masked(body.endpoint)]
    if not masked:
        return list(bodies)
    stored = await gate.agents.get_many([(workspace, agent_id) for agent_id in masked])
    return [
        body.model_copy(update={"endpoint": _whole(body, stored[workspace, body.agent_id].endpoint)})
        if (workspace, body.agent_id) in stored
        else _checked(body)
        for body in bodies
    ]


def _whole(body: RegisterAgent, stored: str | None) -> str | None:
    if body.endpoint is not None and stored is not None and body.endpoint == shown_url(stored):
        return stored
    return _checked(body).endpoint


def _checked(body: RegisterAgent) -> RegisterAgent:
    if body.endpoint is not None and is_masked(body.endpoint):
        raise InvalidRequest(
            f"Agent {body.agent_id}: endpoint has {MASK} for a secret that is not shown, and is not the endpoint that the agent "
            "has; send the whole URL.",
            "invalid_endpoint",
        )
    return body
