"""The deliberation that a path names."""

from __future__ import annotations

from cluster.domain.base.errors import NotFound
from cluster.domain.base.ids import check_id
from cluster.domain.base.log import Origin
from cluster.domain.deliberation.request_ids import request_id_in
from cluster.domain.deliberation.stored import Deliberation
from serve_app.gateway import Gateway


async def known_deliberation(gate: Gateway, asker: Origin, request_id: str) -> Deliberation:
    """The deliberation of the caller's workspace that has this id, or whose client chose it.

    Raises: `NotFound` if the workspace has none, `Removed` if retention has removed it, `InvalidRequest` if ``request_id`` is
    no id."""
    check_id(request_id, "request_id")
    stored_ids = dict.fromkeys((request_id, request_id_in(asker.workspace, gate.settings.workspace, request_id)))
    for stored_id in stored_ids:
        deliberation = await gate.deliberations.get(asker.workspace, stored_id)
        if deliberation is not None:
            return deliberation
    for stored_id in stored_ids:
        stub = await gate.deliberations.stub(asker.workspace, stored_id)
        if stub is not None:
            raise stub.error("deliberation")
    raise NotFound(f"There is no deliberation {request_id}.", "deliberation_not_found")
