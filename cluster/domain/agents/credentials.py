"""Credentials: named secrets of a workspace, which the control plane sends to agents that it calls."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Final

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates

from cluster.domain.agents.agent import TransportKind
from cluster.domain.agents.credential_use import CredentialUse, Sending
from cluster.domain.agents.message_signatures import signing_key
from cluster.domain.base.errors import Conflict, InvalidRequest
from cluster.domain.base.log import IDENTITY, LogTexts

#: A workspace's credentials, and the characters of one: a chain of certificates with its key has some thousand.
MOST_CREDENTIALS: Final = 1_000
MOST_CHARS: Final = 16_384
#: What is shorter is no secret, and would be struck out of answers where it is an ordinary word.
LEAST_CHARS: Final = 8
LOG_TEXTS: LogTexts = {"credential": IDENTITY, "erasure": IDENTITY}

_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_KEY_ID: Final = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]{1,256}")
#: Headers that say how a call travels or what its body is.
_OURS: Final = re.compile(
    r"(host|connection|content-.*|transfer-encoding|te|trailer|upgrade|expect|keep-alive|proxy-.*|accept|accept-.*|"
    r"user-agent|signature|signature-input|idempotency-key|traceparent|tracestate|x-aragora-.*)",
    re.IGNORECASE,
)


def chosen_use(
    workspace: str,
    transport: TransportKind,
    origin: str,
    *,
    name: str,
    send: Sending | None,
    header: str | None,
    user: str | None,
    key_id: str | None,
) -> CredentialUse:
    """A registration's choice, checked. Without ``send`` the secret goes where the transport's protocol has it.

    Raises: `InvalidRequest` if the fields do not fit together."""
    if send is None:
        is_anthropic = transport is TransportKind.ANTHROPIC and user is None and key_id is None
        send = Sending.HEADER if header is not None or is_anthropic else Sending.BEARER
    if send is Sending.HEADER and header is None and transport is TransportKind.ANTHROPIC:
        header = "x-api-key"
    needs = {Sending.HEADER: "header", Sending.BASIC: "user"}.get(send)
    values = {"header": header, "user": user, "key_id": key_id}
    if needs is not None and values[needs] is None:
        raise InvalidRequest(f'credential: send "{send}" needs {needs}.', "invalid_credential")
    allowed = needs or ("key_id" if send is Sending.SIGNATURE else None)
    odd = next((field for field, value in values.items() if value is not None and field != allowed), None)
    if odd is not None:
        raise InvalidRequest(f'credential: send "{send}" takes no {odd}; leave it out.', "invalid_credential")
    if header is not None and (not _TOKEN.fullmatch(header) or _OURS.fullmatch(header)):
        raise InvalidRequest(
            "credential: header must be the name of a header that does not describe the call itself, such as x-api-key.",
            "invalid_credential",
        )
    if user is not None and (":" in user or _CONTROL.search(user)):
        raise InvalidRequest("credential: user must have no colon and no control characters.", "invalid_credential")
    if send is Sending.SIGNATURE:
        key_id = name if key_id is None else key_id
        if not _KEY_ID.fullmatch(key_id):
            raise InvalidRequest(
                "credential: key_id must be 1 to 256 printable ASCII characters without quotes and backslashes.",
                "invalid_credential",
            )
    if send is Sending.CERTIFICATE and not origin.startswith("https://"):
        raise InvalidRequest(
            "credential: a certificate needs an endpoint that begins with https://.", "invalid_credential"
        )
    return CredentialUse(
        workspace=workspace, name=name, send=send, origin=origin, header=header, user=user, key_id=key_id
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A named secret. ``secrets``: the current one, and until ``overlap_until`` the one before its rotation. ``origins``: where
    it may be sent; anywhere if there are none. Each change has a ``revision`` of its own. Times in epoch seconds."""

    workspace: str
    name: str
    secrets: tuple[str, ...] = field(repr=False)
    created_at: float
    created_by: str
    changed_at: float
    changed_by: str
    origins: tuple[str, ...] = ()
    overlap_until: float | None = None
    revision: int = 1

    def valid(self, now: float) -> tuple[str, ...]:
        """The secrets that count now, the current one first."""
        return self.secrets if self.overlap_until is not None and now < self.overlap_until else self.secrets[:1]

    def document(self) -> bytes:
        """What is sealed."""
        return json.dumps(asdict(self), ensure_ascii=False).encode()


def credential_of(document: bytes) -> Credential:
    """What `Credential.document` has made."""
    found = json.loads(document)
    return Credential(**found | {name: tuple(found[name]) for name in ("secrets", "origins")})


def check_secret(secret: str) -> str:
    """Returns a secret that may be stored. Raises: `InvalidRequest`; its message does not quote the secret."""
    if not LEAST_CHARS <= len(secret) <= MOST_CHARS:
        raise InvalidRequest(f"secret must have {LEAST_CHARS} to {MOST_CHARS:,} characters.", "invalid_credential")
    try:
        secret.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("secret must be text in UTF-8.", "invalid_credential") from None
    if "\0" in secret:
        raise InvalidRequest("secret must not have the character NUL.", "invalid_credential")
    return secret


def check_fits(credential: Credential, use: CredentialUse) -> None:
    """Checks that a credential may be sent to an agent, and can be sent so.

    Raises: `InvalidRequest`; its message names the credential and quotes nothing of it."""
    if credential.origins and use.origin not in credential.origins:
        raise InvalidRequest(
            f"The credential {credential.name} may only be sent to {', '.join(credential.origins)}, and not to {use.origin}; "
            "use another one, or change its origins.",
            "credential_origin",
        )
    for secret in credential.secrets:
        if (problem := _problem(use.send, secret)) is not None:
            raise InvalidRequest(f"The credential {credential.name} {problem}.", "invalid_credential")


def _problem(send: Sending, secret: str) -> str | None:
    """Why a secret cannot be sent so, as the end of a sentence."""
    match send:
        case Sending.BEARER | Sending.HEADER:
            return None if _HEADER_VALUE.fullmatch(secret) else "cannot stand in a header; it must be one line of ASCII"
        case Sending.BASIC:
            return None if not _CONTROL.search(secret) else "cannot be a password; it must be one line"
        case Sending.SIGNATURE:
            try:
                signing_key(secret)
            except ValueError:
                return "is no key that can sign; give an Ed25519 or P-256 key in PEM, or a shared secret"
        case Sending.CERTIFICATE:
            try:
                load_pem_x509_certificates(secret.encode())
                load_pem_private_key(secret.encode(), None)
            except (ValueError, TypeError):
                return "is no client certificate; give the chain and its key, not encrypted, in one PEM file"
    return None


def rotated(credential: Credential, secret: str, by: str, now: float, overlap_s: float) -> Credential:
    """The credential with a new secret; the one before counts for ``overlap_s`` seconds more. The same secret changes nothing.

    Raises: `Conflict` if it is the secret of before the last rotation, which an attempt that was lost must not bring back."""
    if secret == credential.secrets[0]:
        return credential
    if secret in credential.valid(now):
        raise Conflict(
            f"This is the secret of {credential.name} from before its last rotation; set it if you want it back.",
            "credential_rotated",
        )
    return replace(
        credential,
        secrets=(secret, credential.secrets[0])[: 2 if overlap_s > 0 else 1],
        overlap_until=now + overlap_s if overlap_s > 0 else None,
        changed_at=now,
        changed_by=by,
        revision=credential.revision + 1,
    )


def replaced(credential: Credential, secret: str, origins: Sequence[str], by: str, now: float) -> Credential:
    """The credential with this secret alone. What is so already stays as it is."""
    if credential.secrets == (secret,) and credential.origins == tuple(origins):
        return credential
    return replace(
        credential,
        secrets=(secret,),
        origins=tuple(origins),
        overlap_until=None,
        changed_at=now,
        changed_by=by,
        revision=credential.revision + 1,
    )


def basic(user: str, password: str) -> str:
    """The value of Authorization for a user and a password (RFC 7617, in UTF-8)."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
