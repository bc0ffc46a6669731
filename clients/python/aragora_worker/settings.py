"""The environment of a worker: the only reader of ``ARAGORA_*`` variables in this package.

A worker looks at few of the variables that the control plane and ``aragora-cp`` read (docs/configuration.md). The
environment wins over the file that ``ARAGORA_CONFIG_FILE`` names. An empty value counts as unset.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

CONFIG_FILE: Final = "ARAGORA_CONFIG_FILE"
#: Of a value that is refused.
_SHOWN_CHARS: Final = 80
_YES: Final = frozenset({"1", "true", "t", "yes", "y", "on"})
_NO: Final = frozenset({"0", "false", "f", "no", "n", "off"})


class SettingsError(Exception):
    """A setting is not valid. The message says in one sentence which variable, its value and what is accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """Each field is the variable of its name: ``api_url`` is ``ARAGORA_API_URL``. None is unset. The last three say where the
    API of this machine's control plane is, for a worker that is told no other."""

    api_url: str | None = None
    api_urls: tuple[str, ...] = ()
    api_key: str | None = field(default=None, repr=False)
    client_workspace: str | None = None
    client_ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    worker_concurrency: int = 10
    batch_size: int = 50
    http_port: int = 8080
    tls_enabled: bool = False
    tls_cert_file: Path | None = None


def load_client_settings(environ: Mapping[str, str] | None = None) -> ClientSettings:
    """The settings of this process.

    Raises: `SettingsError` if a variable or the file is not valid."""
    environ = os.environ if environ is None else environ  # noqa: TID251 - the one reader of the package
    merged = {**read_config_file(environ), **{name: value for name, value in environ.items() if value != ""}}
    values: dict[str, Any] = {}
    for name, read in _READERS.items():
        variable = f"ARAGORA_{name.upper()}"
        if variable in merged:
            values[name] = read(variable, merged[variable])
    found = ClientSettings(**values)
    if (found.client_cert_file is None) != (found.client_key_file is None):
        raise SettingsError("ARAGORA_CLIENT_CERT_FILE and ARAGORA_CLIENT_KEY_FILE go together; set both or none.")
    return found


def read_config_file(environ: Mapping[str, str]) -> dict[str, str]:
    """What the file holds that ``ARAGORA_CONFIG_FILE`` names; nothing if it names none.

    Raises: `SettingsError` if the file cannot be used, or others can read it."""
    name = environ.get(CONFIG_FILE)
    if not name:
        return {}
    path = Path(name)
    try:
        mode = path.stat().st_mode
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(
            f"ARAGORA_CONFIG_FILE names {name}, which cannot be read as JSON; mend the file: {error}."
        ) from error
    if stat.S_IMODE(mode) & 0o077:
        raise SettingsError(f"ARAGORA_CONFIG_FILE {name} can be read by others; run chmod 600 on it.")
    if not isinstance(content, dict):
        raise SettingsError(f"ARAGORA_CONFIG_FILE {name} must be a JSON object of strings.")
    odd = next((key for key, value in content.items() if not isinstance(value, str)), None)
    if odd is not None:
        raise SettingsError(
            f"ARAGORA_CONFIG_FILE {name} must be a JSON object of strings; put the value of {odd} in quotes."
        )
    return content


def _text(_: str, value: str) -> str:
    return value


def _texts(_: str, value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(",") if word.strip())


def _path(_: str, value: str) -> Path:
    return Path(value)


def _count(variable: str, value: str) -> int:
    if not value.strip().isdecimal() or len(value) > 9 or int(value) < 1:
        raise _refused(variable, value, "a whole number from 1 on")
    return int(value)


def _port(variable: str, value: str) -> int:
    port = _count(variable, value)
    if port > 65_535:
        raise _refused(variable, value, "at most 65535")
    return port


def _switch(variable: str, value: str) -> bool:
    word = value.strip().lower()
    if word not in _YES | _NO:
        raise _refused(variable, value, "true or false")
    return word in _YES


def _refused(variable: str, value: str, accepted: str) -> SettingsError:
    return SettingsError(f"{variable}={value[:_SHOWN_CHARS]} is not accepted: it must be {accepted}.")


_READERS: Mapping[str, Callable[[str, str], Any]] = {
    "api_url": _text,
    "api_urls": _texts,
    "api_key": _text,
    "client_workspace": _text,
    "client_ca_file": _path,
    "client_cert_file": _path,
    "client_key_file": _path,
    "worker_concurrency": _count,
    "batch_size": _count,
    "http_port": _port,
    "tls_enabled": _switch,
    "tls_cert_file": _path,
}
