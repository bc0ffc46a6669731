"""Which calls the released client makes: each of its methods is called on a client that only writes down what it would send."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from aragora_sdk.namespaces.control_plane import ControlPlaneAPI


@dataclass(frozen=True, slots=True)
class ClientMethod:
    """A method of the client, and the call that it makes; parameters of the path are in braces."""

    name: str
    verb: str
    path: str


class _Notebook:
    """Stands in for the client below a namespace."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def request(self, verb: str, path: str, **_: Any) -> dict[str, Any]:
        self.calls.append((verb, path))
        return {}


def methods() -> Iterator[ClientMethod]:
    """Every method of the client's control plane, by name."""
    for name, function in inspect.getmembers(ControlPlaneAPI, inspect.isfunction):
        if name.startswith("_"):
            continue
        required = [
            f"{{{parameter.name}}}"
            for parameter in list(inspect.signature(function).parameters.values())[1:]
            if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]
        notebook = _Notebook()
        getattr(ControlPlaneAPI(cast(Any, notebook)), name)(*required)
        ((verb, path),) = notebook.calls
        yield ClientMethod(name, verb, path)


def without_route(routes: Iterable[tuple[str, str]]) -> list[ClientMethod]:
    """The methods whose call is none of ``routes`` (verb, path)."""
    known = {(verb, _anonymous(path)) for verb, path in routes}
    return [method for method in methods() if (method.verb, _anonymous(method.path)) not in known]


def _anonymous(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)
