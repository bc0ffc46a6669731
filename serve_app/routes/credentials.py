"""Routes of credentials: secrets that the control plane sends to agents. No answer has a secret."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fastapi import Request

from cluster.domain.access.permissions import Permission
from cluster.domain.agents.credentials import Credential, replaced, rotated
from cluster.domain.base.errors import Conflict, InvalidRequest, NotFound
from cluster.domain.base.ids import check_id
from cluster.domain.base.log import LogRecord, Origin, record_for
from cluster.http.origins import origin_of
from serve_app.auth.admission import Asker, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, gateway
from serve_app.http.idempotency import Idempotency, answered_once
from serve_app.schemas.credentials import CredentialFields, CredentialRotation, credential_wire

router = GuardedRouter(tags=["credentials"])

#: How often a change is made anew because another one came before it.
TRIES = 5
#: The origin of a channel of notifications that hands in mail.
MAIL_SERVER = re.compile(r"smtp://[A-Za-z0-9.-]{1,253}:[1-9][0-9]{0,4}")


@router.get("/credentials")
@requires(Permission.CREDENTIALS_READ)
async def list_credentials(request: Request, asker: Asker) -> dict[str, Any]:
    """The workspace's credentials, by name, without their secrets. 409 (`Conflict`, ``no_secrets_key``) if ARAGORA_SECRETS_KEY
    is not set."""
    gate = gateway(request)
    now = gate.clock.now()
    found = await gate.credentials.list(asker.workspace)
    return {"credentials": [credential_wire(credential, now) for credential in found], "total": len(found)}


@router.get("/credentials/{credential_name}")
@requires(Permission.CREDENTIALS_READ)
async def get_credential(request: Request, credential_name: str, asker: Asker) -> dict[str, Any]:
    """One credential, without its secret. 404 (`NotFound`) if there is no such credential, 409 (`Conflict`,
    ``no_secrets_key``) if ARAGORA_SECRETS_KEY is not set."""
    gate = gateway(request)
    return credential_wire(await _known(gate, asker, credential_name), gate.clock.now())


@router.post("/credentials", status_code=201)
@requires(Permission.CREDENTIALS_WRITE)
async def set_credential(request: Request, body: CredentialFields, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Makes a credential, or gives it this secret and no other: the one of before counts no more. 400 (`InvalidRequest`) if an
    origin is none, 409 (`Conflict`) if the workspace has 1,000 credentials, the key was used with another body, or
    ARAGORA_SECRETS_KEY is not set (``no_secrets_key``)."""
    gate = gateway(request)
    name = check_id(body.name, "name")
    secret, origins = body.secret.get_secret_value(), _origins(body.origins)

    def change(stored: Credential | None, now: float) -> Credential:
        if stored is not None:
            return replaced(stored, secret, origins, asker.principal, now)
        return Credential(
            workspace=asker.workspace,
            name=name,
            secrets=(secret,),
            origins=tuple(origins),
            created_at=now,
            created_by=asker.principal,
            changed_at=now,
            changed_by=asker.principal,
        )

    async def put() -> dict[str, Any]:
        return await _changed(gate, asker, name, change, "credential.set")

    given = {"secret": gate.credentials.fingerprint(asker.workspace, secret), "origins": origins}
    return await answered_once(gate, asker, f"credentials/set/{name}", key, given, put)


@router.post("/credentials/{credential_name}/rotate")
@requires(Permission.CREDENTIALS_WRITE)
async def rotate_credential(
    request: Request, credential_name: str, body: CredentialRotation, asker: Asker, key: Idempotency
) -> dict[str, Any]:
    """Gives a credential a new secret. For ``overlap_seconds`` an agent that refuses it (401) is sent the one of before. The
    secret that it has already changes nothing. 404 (`NotFound`) if there is no such credential, 409 (`Conflict`) if the key
    was used with another body, the secret is the one of before (``credential_rotated``), or ARAGORA_SECRETS_KEY is not set."""
    gate = gateway(request)
    name = check_id(credential_name, "credential_name")
    secret = body.secret.get_secret_value()

    def change(stored: Credential | None, now: float) -> Credential:
        if stored is None:
            raise _unknown(name)
        return rotated(stored, secret, asker.principal, now, body.overlap_seconds)

    async def rotate() -> dict[str, Any]:
        return await _changed(gate, asker, name, change, "credential.rotated")

    given = {
        "secret": gate.credentials.fingerprint(asker.workspace, secret),
        "overlap_seconds": body.overlap_seconds,
    }
    return await answered_once(gate, asker, f"credentials/rotate/{name}", key, given, rotate)


@router.delete("/credentials/{credential_name}")
@requires(Permission.CREDENTIALS_WRITE)
async def delete_credential(request: Request, credential_name: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Deletes a credential for good. Calls of agents that name it fail from now on, by a sentence that names it. 404 (`NotFound`)
    if there is no such credential."""
    gate = gateway(request)
    name = check_id(credential_name, "credential_name")

    async def delete() -> dict[str, Any]:
        record = _record(asker, gate.clock.now(), "credential.deleted", name)
        if not await gate.credentials.remove(asker.workspace, name, record):
            raise _unknown(name)
        return {"deleted": True}

    return await answered_once(gate, asker, f"credentials/delete/{name}", key, None, delete)


async def _known(gate: Gateway, asker: Origin, name: str) -> Credential:
    found = await gate.credentials.get(asker.workspace, check_id(name, "credential_name"))
    if found is None:
        raise _unknown(name)
    return found


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no credential {name}; set it first.", "credential_not_found")


def _record(asker: Origin, now: float, kind: str, name: str) -> LogRecord:
    return record_for(asker, now, kind, name, {"credential": name})


async def _changed(
    gate: Gateway, asker: Origin, name: str, change: Callable[[Credential | None, float], Credential], kind: str
) -> dict[str, Any]:
    """The credential after a change, which is stored if it changes anything.

    Raises: `Conflict` if others change it all the time."""
    for _ in range(TRIES):
        stored, now = await gate.credentials.get(asker.workspace, name), gate.clock.now()
        after = change(stored, now)
        if after is stored or await gate.credentials.put(after, _record(asker, now, kind, name)):
            return credential_wire(after, now)
    raise Conflict("The credential was changed meanwhile; look at it and try again.", "credential_changed")


def _origins(given: list[str]) -> list[str]:
    """Origins as they are compared. Raises: `InvalidRequest` if one is none."""
    origins = []
    for text in given:
        if MAIL_SERVER.fullmatch(text):
            origins.append(text.lower())
            continue
        origin = origin_of(text)
        # What follows the host would not be looked at, though whoever wrote it expects that it is.
        if origin is None or text.rstrip("/").count("/") != 2 or any(mark in text for mark in "@?#"):
            raise InvalidRequest(
                "origins: each must be a scheme, a host and a port if it is not the scheme's own, such as "
                "https://api.example.com (of a mail server smtp://mail.example.com:587).",
                "invalid_origin",
            )
        origins.append(origin)
    return list(dict.fromkeys(origins))
