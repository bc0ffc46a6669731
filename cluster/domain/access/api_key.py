"""API keys: ``ara_ID_SECRET``. The prefix and the form are the released client's; the secret is shown once and never stored.

The secret has 160 bits of entropy, so its SHA-256 is stored as it is. A slow hash (argon2) was rejected: it protects secrets
that can be guessed, and would cost every request some 50 ms.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import re
from dataclasses import dataclass, replace

PREFIX = "ara"
#: The released server takes a bearer token for an API key if it begins like this; all others are JWTs.
MARK = f"{PREFIX}_"
#: Bytes of randomness of a secret.
SECRET_BYTES = 20
_TOKEN = re.compile(r"ara_([0-9a-z]{10,40})_([0-9a-z]{32})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is stored. Times are epoch seconds; None: never.

    ``workspaces`` are those that it may act in, the first if a request names none; ``*`` stands for all. ``grants`` are names
    of roles and permissions. ``agents`` are those that it acts for; None: all of its workspaces. ``digests`` are the SHA-256 of
    its secrets: two while a rotation overlaps, until ``overlap_until``.
    """

    id: str
    name: str
    workspaces: tuple[str, ...]
    grants: tuple[str, ...]
    digests: tuple[bytes, ...]
    created_at: float
    created_by: str
    expires_at: float | None = None
    revoked_at: float | None = None
    overlap_until: float | None = None
    last_used_at: float | None = None
    agents: tuple[str, ...] | None = None

    @property
    def principal(self) -> str:
        """Its name in log rows."""
        return f"key:{self.id}"


def secret_of(entropy: bytes) -> str:
    """A secret of ``SECRET_BYTES`` random bytes, in lower-case base 32."""
    assert len(entropy) == SECRET_BYTES, "160 bits of entropy"
    return base64.b32encode(entropy).decode().lower()


def token_of(key_id: str, secret: str) -> str:
    """The token of a key, which is shown once."""
    return f"{MARK}{key_id}_{secret}"


def parse_token(token: str) -> tuple[str, str] | None:
    """(id, secret) of a bearer token; None if it has not the form of a key."""
    match = _TOKEN.fullmatch(token)
    return None if match is None else (match[1], match[2])


def digest_of(secret: str) -> bytes:
    """SHA-256 of a secret, as it is stored."""
    return hashlib.sha256(secret.encode()).digest()


def is_valid(key: ApiKey, secret: str, now: float) -> bool:
    """Whether the secret is the key's, at this time. Compares in constant time. The newest secret is first in ``digests``; an
    older one counts until ``overlap_until``."""
    if key.revoked_at is not None or has_expired(key, now):
        return False
    overlaps = key.overlap_until is not None and now < key.overlap_until
    given, matches = digest_of(secret), False
    for digest in key.digests if overlaps else key.digests[:1]:
        matches |= hmac.compare_digest(digest, given)
    return matches


def ends_at(key: ApiKey, secret: str) -> float:
    """When a secret that is valid now ends by itself, in epoch seconds; infinity: never."""
    ends = [key.expires_at] if key.expires_at is not None else []
    if key.overlap_until is not None and not hmac.compare_digest(key.digests[0], digest_of(secret)):
        ends.append(key.overlap_until)
    return min(ends, default=math.inf)


def rotated(key: ApiKey, secret: str, overlap_until: float) -> ApiKey:
    """The key with a new secret; the one that was the newest counts until ``overlap_until``."""
    return replace(key, digests=(digest_of(secret), key.digests[0]), overlap_until=overlap_until)


def has_expired(key: ApiKey, now: float) -> bool:
    """Whether the key's time is over."""
    return key.expires_at is not None and now >= key.expires_at
