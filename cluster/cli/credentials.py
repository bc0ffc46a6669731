"""The sessions of ``aragora-cp login``: a file of mode 0600 that has one for each control plane, by its URL.

A session is sent to the URL with which it began and to no other, and only where ARAGORA_API_KEY is not set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from stat import S_IMODE

from cluster.embedded.secrets import write_private
from cluster.settings import Settings, SettingsError


def credentials_file(settings: Settings) -> Path:
    """Where the sessions are."""
    return settings.credentials_file or Path.home() / ".config" / "aragora" / "credentials.json"


def kept_session(settings: Settings, url: str) -> str | None:
    """The session's token for a control plane; None without one. Raises: `SettingsError` if the file cannot be used."""
    return _read(credentials_file(settings)).get(_name(url))


def keep_session(settings: Settings, url: str, token: str | None) -> None:
    """Keeps a session, or drops it (None). Raises: `SettingsError` if the file cannot be used, `OSError` if it cannot be
    written."""
    path = credentials_file(settings)
    others = {name: kept for name, kept in _read(path).items() if name != _name(url)}
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(path, json.dumps(others if token is None else {**others, _name(url): token}, indent=2))


def _name(url: str) -> str:
    return url.rstrip("/")


def _read(path: Path) -> Mapping[str, str]:
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    if S_IMODE(mode) & 0o077:
        raise SettingsError(f"{path} holds sessions and can be read by others; run chmod 600 on it, and log in again.")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(token, str) for token in found.values()):
        raise SettingsError(f"{path} holds no sessions; remove it, and log in again.")
    return found
