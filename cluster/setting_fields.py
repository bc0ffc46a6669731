"""What the modules of settings share: how a variable is declared, and the forms of values."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, JsonValue
from pydantic_settings import NoDecode

from cluster.domain.base.urls import LOOPBACK_HOSTS

#: Roles of settings. No role: a change of the setting replaces running actors.
LATER = "later"  # accepted, but without effect in this version
CLIENT = "client"  # read by the command line and by workers only
STARTUP = "startup"  # read by ``aragora-cp`` only
PROCESS = "process"  # read by each process when it starts; a change replaces nothing

#: Texts that are separated by commas.
Words = Annotated[tuple[str, ...], NoDecode]


def variable(
    default: Any,
    description: str,
    *,
    group: str,
    unit: str = "",
    role: str = "",
    env: str | None = None,
    **constraints: Any,
) -> Any:
    """A field of the model, with what the generated page says about it. ``role``: LATER, CLIENT, STARTUP, PROCESS or
    none."""
    extra: dict[str, JsonValue] = {"group": group, "unit": unit, "role": role}
    return Field(default, description=description, json_schema_extra=extra, validation_alias=env, **constraints)


def split_words(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def url_problem(value: str, schemes: tuple[str, ...]) -> str | None:
    """Why a value is no URL of one of these schemes. It quotes nothing that may be part of a password."""
    beginnings = " or ".join(f"{scheme}://" for scheme in schemes)
    scheme, separator, rest = value.partition("://")
    if not separator:
        return f"it has no scheme; it must begin with {beginnings}"
    if scheme not in schemes:
        return f"its scheme is {scheme[:32]}, but it must begin with {beginnings}"
    hint = "write characters like @ : / # ? in a password as %40 %3A %2F %23 %3F"
    try:
        hosts = urlsplit(f"x://{rest}").netloc.rpartition("@")[2].split(",")  # PostgreSQL takes several
    except ValueError:
        return f"it cannot be parsed; {hint}, and an IPv6 address in brackets"
    ports = [host.rpartition("]")[2].rpartition(":")[2] for host in hosts if ":" in host.rpartition("]")[2]]
    if not all(port.isdecimal() and port.isascii() and 0 < int(port[:6]) <= 65_535 for port in ports):
        return f"its port is not a number from 1 to 65535; {hint}"
    return None if any(hosts) or "/" in rest else f"it names no host; {hint}"


def is_private(url: str) -> bool:
    """Whether what is sent to a URL is encrypted or leaves no machine."""
    return not url.startswith("http://") or urlsplit(url).hostname in LOOPBACK_HOSTS
