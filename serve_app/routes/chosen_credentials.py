"""The credentials that registrations name, checked against what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cluster.domain.agents.agent import TransportKind
from cluster.domain.agents.credential_use import CredentialUse
from cluster.domain.agents.credentials import check_fits, chosen_use
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.ids import check_id
from cluster.http.origins import origin_of
from serve_app.gateway import Gateway
from serve_app.schemas.agents import RegisterAgent
from serve_app.schemas.credentials import CredentialChoice


async def credential_uses(
    gate: Gateway, workspace: str, bodies: Sequence[tuple[RegisterAgent, TransportKind]]
) -> Mapping[str, CredentialUse]:
    """How each agent's credential is sent, by the agent's id. Each is bound to the origin of the endpoint that it is registered
    with.

    Raises: `InvalidRequest` if there is no such credential, or it cannot be sent so; `Conflict` if none can be opened."""
    uses = {
        body.agent_id: _use(workspace, body, transport, body.credential)
        for body, transport in bodies
        if body.credential is not None
    }
    known = {name: await gate.credentials.get(workspace, name) for name in {use.name for use in uses.values()}}
    for use in uses.values():
        credential = known[use.name]
        if credential is None:
            raise InvalidRequest(
                f"There is no credential {use.name}; set it first (aragora-cp credentials set {use.name}).",
                "credential_missing",
            )
        check_fits(credential, use)
    return uses


def _use(workspace: str, body: RegisterAgent, transport: TransportKind, choice: CredentialChoice) -> CredentialUse:
    origin = None if body.endpoint is None else origin_of(body.endpoint)
    if origin is None:
        raise InvalidRequest(
            f"Agent {body.agent_id}: a credential is sent to an endpoint, which must be an http or https URL; give one, or leave "
            "the credential out.",
            "invalid_credential",
        )
    return chosen_use(
        workspace,
        transport,
        origin,
        name=check_id(choice.name, "credential"),
        send=choice.send,
        header=choice.header,
        user=choice.user,
        key_id=choice.key_id,
    )
