"""Bodies and answers about credentials. A secret is in a body only."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr

from cluster.domain.agents.credential_use import Sending
from cluster.domain.agents.credentials import MOST_CHARS, Credential, check_secret
from serve_app.schemas.fields import MAX_SECONDS, ExactBody, Text, Word


def _checked(secret: SecretStr) -> SecretStr:
    check_secret(secret.get_secret_value())
    return secret


Secret = Annotated[SecretStr, Field(min_length=1, max_length=MOST_CHARS), AfterValidator(_checked)]


class CredentialFields(ExactBody):
    """``origins``: where it may be sent, such as ``https://api.example.com``; without any, to every agent that names it."""

    name: Word
    secret: Secret
    origins: list[Text] = Field([], max_length=64)


class CredentialRotation(ExactBody):
    """For ``overlap_seconds`` an agent that refuses the new secret (401) is sent the one of before."""

    secret: Secret
    overlap_seconds: float = Field(3600.0, ge=0, le=MAX_SECONDS)


class CredentialChoice(ExactBody):
    """The credential that is sent with calls of the agent: as ``bearer`` token, in a ``header``, as password of ``user``
    (``basic``), as the key of a request ``signature`` (``key_id``; the credential's name if left out), or as client
    ``certificate``. Without ``send``: in the header that is named, in ``x-api-key`` for ``anthropic``, else as bearer token."""

    name: Word
    send: Sending | None = None
    header: Text | None = Field(None, max_length=128)
    user: Text | None = Field(None, max_length=256)
    key_id: Text | None = Field(None, max_length=256)


def credential_wire(credential: Credential, now: float) -> dict[str, Any]:
    """A credential as the API shows it: without its secrets."""
    return {
        "name": credential.name,
        "origins": list(credential.origins),
        "revision": credential.revision,
        "created_at": credential.created_at,
        "created_by": credential.created_by,
        "changed_at": credential.changed_at,
        "changed_by": credential.changed_by,
        "overlap_until": credential.overlap_until if len(credential.valid(now)) > 1 else None,
    }
