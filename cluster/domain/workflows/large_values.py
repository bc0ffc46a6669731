"""Values that are not copied into the payload of a task: it refers to them, and whoever reads the payload gets them.

What is stored instead of such a payload is an object with the one member `KEY`, which says where in it which values go. A
payload that has such a member by itself is stored inside one without values, so nobody can write a reference of their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cluster.domain.workflows.values import found_at

#: Characters of JSON up to which a value is copied.
MOST_COPIED: Final = 65_536
KEY: Final = "aragora.values/1"
#: How the text of one begins, whatever has written it.
PREFIX: Final = f'{{"{KEY}":'


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value is: what a run was given, or with ``step`` the result of its step, which has ``total`` tasks or deliberations
    of which ``failed`` have none."""

    run: str
    step: str | None = None
    total: int = 0
    fan_out: bool = False
    failed: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        if self.step is None:
            return {"run": self.run}
        return {"run": self.run, "step": self.step, "total": self.total, "fan_out": self.fan_out, "failed": self.failed}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Origin:
        return cls(**{**data, "failed": tuple(data.get("failed", ()))})


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeValue:
    """``at`` and ``path`` are JSON Pointers: into the payload, and into what the origin has."""

    at: str
    origin: Origin
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Referring:
    """A payload with null in place of large values. ``chars``: of JSON, with them."""

    payload: Any
    values: Sequence[LargeValue] = ()
    chars: int = 0

    def filled(self, found: Mapping[Origin, Any]) -> Any:
        """The payload with its values. One that is there no more stays null."""
        payload = self.payload
        for value in self.values:
            try:
                inner = found_at(found[value.origin], value.path)
            except LookupError:
                continue
            payload = _set(payload, value.at, inner)
        return payload


def stored_payload(payload: Any) -> Any:
    """What is stored of a payload."""
    if not isinstance(payload, Referring):
        if not (isinstance(payload, Mapping) and KEY in payload):
            return payload
        payload = Referring(payload=payload)
    values = [{"at": value.at, "origin": value.origin.to_json(), "path": value.path} for value in payload.values]
    return {KEY: {"payload": payload.payload, "values": values, "chars": payload.chars}}


def read_payload(text: str) -> Any:
    """The payload of what is stored, `Referring` if it lacks values."""
    stored = json.loads(text)
    if not text.startswith(PREFIX):
        return stored
    inner = stored[KEY]
    if not inner["values"]:
        return inner["payload"]
    values = [
        LargeValue(at=value["at"], origin=Origin.from_json(value["origin"]), path=value["path"])
        for value in inner["values"]
    ]
    return Referring(payload=inner["payload"], values=values, chars=inner["chars"])


def _set(payload: Any, at: str, value: Any) -> Any:
    """``payload`` with a value in the place of the null that is there."""
    if at == "":
        return value
    holder, _, last = at.rpartition("/")
    inside = found_at(payload, holder)
    inside[int(last) if isinstance(inside, list) else last.replace("~1", "/").replace("~0", "~")] = value
    return payload
