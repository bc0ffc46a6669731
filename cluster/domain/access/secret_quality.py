"""Whether a secret that somebody chose can be guessed. It is asked when a process starts, since a token that is signed with a
secret from some documentation lets everybody in who has read it."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections import Counter
from itertools import pairwise

MIN_BYTES = 32
#: Least bits by the frequency of its characters, and least bytes to which it packs: a text that repeats itself packs well.
MIN_BITS = 96.0
MIN_PACKED = 24
#: Least different steps from one character to the next: the alphabet has few, 32 random hexadecimal digits some 20.
MIN_STEPS = 8
#: Bytes that packing adds by itself.
_FRAME = 8
#: Least characters of a password, which people choose and a store's server can slow down, unlike a signature's secret.
MIN_PASSWORD = 12
#: Least different characters of a password.
MIN_DIFFERENT = 5
#: What examples are made of. None of them is in one of a million random secrets.
_EXAMPLES = (
    "256-bit", "512-bit", "256bit", "at-least-", "changeme", "change-me", "change_me", "example", "placeholder", "password",
    "passphrase", "replace-me", "replace_me", "replaceme", "replace-with", "your-secret", "your_secret", "yoursecret",
    "your-super",
    "my-secret", "my_secret", "mysecret", "supersecret", "super-secret", "super_secret", "secret-key", "secret_key",
    "secretkey", "jwt-secret", "jwt_secret", "jwtsecret", "client-secret", "insert-", "generate-", "openssl", "aragora",
    "django-insecure", "replace-this", "correct horse", "correct-horse", "qwerty",
)  # fmt: skip
#: SHA-256 of random secrets that are printed in documents: RFC 7515 A.1 (and 7519), RFC 7520 3.5, FastAPI's tutorial
#: ("OAuth2 with Password (and hashing), Bearer with JWT tokens").
_PRINTED = frozenset(
    {
        hashlib.sha256(secret.encode()).hexdigest()
        for secret in (
            "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
            "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg",
            "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        )
    }
)


def weakness(secret: str) -> str | None:
    """Why a secret is not one, as the end of a sentence; None if it is one. It quotes nothing of the secret."""
    content = secret.encode()
    if len(content) < MIN_BYTES:
        return f"it has {len(content)} bytes, and {MIN_BYTES} are needed"
    if any(example in secret.lower() for example in _EXAMPLES) or hashlib.sha256(content).hexdigest() in _PRINTED:
        return "it is an example from some documentation"
    counts = Counter(content).values()
    bits = -sum(count * math.log2(count / len(content)) for count in counts)
    if bits < MIN_BITS or len(zlib.compress(content, 9)) - _FRAME < MIN_PACKED:
        return "it repeats itself, so that it can be guessed"
    if len({after - before for before, after in pairwise(content)}) < MIN_STEPS:
        return "it counts up or down, so that it can be guessed"
    return None


def is_example(secret: str) -> bool:
    """Whether a secret is from some documentation, where its length is another's choice."""
    return any(example in secret.lower() for example in _EXAMPLES)


def password_weakness(password: str, user: str = "") -> str | None:
    """Why a password of a store is weak, as the end of a sentence; None if nothing is known against it. It quotes nothing of the
    password."""
    lower = password.lower()
    if len(password) < MIN_PASSWORD:
        return f"it has {len(password)} characters, and {MIN_PASSWORD} are needed"
    if any(example in lower for example in _EXAMPLES):
        return "it is an example from some documentation"
    if len(set(lower.replace(user.lower(), "") if user else lower)) < MIN_DIFFERENT:
        return "it repeats itself, or the name of its user"
    return None
