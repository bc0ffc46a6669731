"""Tickets of WebSockets: what a browser's page puts into the URL, where it can put no header.

A ticket is worth what the credential is worth that it was made with, once. So what is kept under it is that credential, which is
checked again when the ticket is used, and which only the ticket opens: whoever reads the store finds a hash and what it cannot
open, and whoever writes to it can make no ticket that lets anybody in. To keep who the caller was instead was rejected: then
whoever writes to the store could be anybody.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Final

from cluster.domain.access.sealing import Sealer, Unsealable
from cluster.domain.base.json_writing import canonical_json

TICKET_BYTES: Final = 32
LIFE_S: Final = 30.0
#: Characters of a ticket: base64 without padding.
TICKET_CHARS: Final = 43


@dataclass(frozen=True, slots=True)
class Ticketed:
    """What a ticket stands for: the credential that it was made with, whether a browser's cookie brought that, and the workspace
    of the call that made it. After ``expires_at`` (epoch seconds) it does not count."""

    token: str
    is_cookie: bool
    workspace: str
    expires_at: float


def ticket_of(entropy: bytes) -> str:
    """The text of a ticket. ``entropy`` are ``TICKET_BYTES`` random bytes."""
    return base64.urlsafe_b64encode(entropy).rstrip(b"=").decode()


def name_of(ticket: str) -> str:
    """Under which name a ticket is kept. The ticket does not follow from it."""
    return _hash("name", ticket).hex()


def seal(ticket: str, ticketed: Ticketed, nonce: bytes) -> str:
    """What is kept. ``nonce`` are `cluster.domain.access.sealing.NONCE_BYTES` random bytes."""
    content = canonical_json(asdict(ticketed)).encode()
    return base64.b64encode(_sealer(ticket).seal(name_of(ticket), content, nonce)).decode()


def unseal(ticket: str, kept: str) -> Ticketed | None:
    """What the ticket stands for; None if that was not sealed for it."""
    try:
        return Ticketed(**json.loads(_sealer(ticket).open(name_of(ticket), base64.b64decode(kept, validate=True))))
    except (Unsealable, ValueError, TypeError):
        return None


def _sealer(ticket: str) -> Sealer:
    return Sealer((_hash("seal", ticket),))


def _hash(use: str, ticket: str) -> bytes:
    return hashlib.sha256(f"aragora ticket {use}\0{ticket}".encode()).digest()
