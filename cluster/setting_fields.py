"""What the modules of settings share: how a variable is declared, and the forms of values."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, JsonValue
from pydantic_settings import NoDecode

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
