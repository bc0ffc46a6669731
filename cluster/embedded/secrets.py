"""Passwords of the embedded stores: made once, kept in a file of mode 0600, and never on a command line."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSecrets:
    postgres: str
    redis: str


def write_private(path: Path, text: str) -> None:
    """Writes a file that has mode 0600 from the start and is never half written."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def store_secrets(path: Path) -> StoreSecrets:
    """Reads the passwords from the file, or makes them if there is no file."""
    if path.exists():
        return StoreSecrets(**json.loads(path.read_text()))
    found = StoreSecrets(postgres=secrets.token_urlsafe(24), redis=secrets.token_urlsafe(24))
    write_private(path, json.dumps(asdict(found)))
    return found
