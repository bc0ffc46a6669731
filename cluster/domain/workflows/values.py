"""What a step gets: templates whose references are replaced by the values that they name.

A **reference** is an object ``{"from": SOURCE}`` with an optional ``path`` (a JSON Pointer, RFC 6901) and an optional ``default``
for a pointer that finds nothing. ``{"literal": VALUE}`` is VALUE, whatever that looks like.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cluster.domain.base.errors import ControlPlaneError, InvalidRequest

#: Sources that are no step: what the run was given, the item of a map, and what failed (for the step that handles it).
INPUT: Final = "input"
ITEM: Final = "item"
FAILURE: Final = "failure"
SOURCES: Final = (INPUT, ITEM, FAILURE)
#: Levels of lists and objects in a template.
MOST_LEVELS: Final = 16
_FIELDS: Final = frozenset({"from", "path", "default"})
_NO_ESCAPE: Final = re.compile(r"~(?![01])")
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")


class Unresolved(ControlPlaneError):
    """A reference finds nothing; the text says which."""

    default_code = "input_unresolved"


@dataclass(frozen=True, slots=True)
class Reference:
    """``path`` is a JSON Pointer into the value of ``source``."""

    source: str
    path: str = ""

    def __str__(self) -> str:
        return f"{self.source}#{self.path}"


def reference_of(value: Any) -> Reference | None:
    """The reference that an object is; None if it is none. Raises: `InvalidRequest` if its path is no JSON Pointer."""
    if not (isinstance(value, Mapping) and "from" in value and value.keys() <= _FIELDS):
        return None
    source, path = value["from"], value.get("path", "")
    if not isinstance(source, str):
        return None
    if not isinstance(path, str) or (path and path[0] != "/") or _NO_ESCAPE.search(path):
        raise InvalidRequest(
            f'The path of a reference to {source} must be a JSON Pointer, such as "" or "/items/0".', "invalid_workflow"
        )
    return Reference(source, path)


def references(template: Any, levels: int = MOST_LEVELS) -> Iterator[Reference]:
    """All references of a template.

    Raises: `InvalidRequest` if it has more than ``levels`` levels, or a path is no JSON Pointer."""
    if not isinstance(template, Mapping | list):
        return
    if levels == 0:
        raise InvalidRequest(
            f"An input must not be nested deeper than {MOST_LEVELS} levels; wrap what is no reference in "
            '{"literal": …}.',
            "limit_exceeded",
        )
    if _is_literal(template):
        return
    found = reference_of(template)
    if found is not None:
        yield found
        return
    for inner in template.values() if isinstance(template, Mapping) else template:
        yield from references(inner, levels - 1)


def resolved(template: Any, values: Mapping[str, Any]) -> Any:
    """The template with the values that its references name. ``values``: by source; a source that is not there has no value.

    Raises: `Unresolved` if a reference without a default finds nothing."""
    if isinstance(template, list):
        return [resolved(inner, values) for inner in template]
    if not isinstance(template, Mapping):
        return template
    if _is_literal(template):
        return template["literal"]
    reference = reference_of(template)
    if reference is None:
        return {name: resolved(inner, values) for name, inner in template.items()}
    try:
        return found_at(values[reference.source], reference.path)
    except LookupError:
        if "default" in template:
            return template["default"]
        raise Unresolved(f"{reference} finds nothing; give the reference a default, or change its path.") from None


def _is_literal(template: Any) -> bool:
    return isinstance(template, Mapping) and template.keys() == {"literal"}


def located(template: Any, at: str = "") -> Iterator[tuple[str, Reference]]:
    """Each reference of a template with its place, a JSON Pointer."""
    if isinstance(template, list):
        for n, inner in enumerate(template):
            yield from located(inner, f"{at}/{n}")
    elif isinstance(template, Mapping) and not _is_literal(template):
        reference = reference_of(template)
        if reference is not None:
            yield at, reference
            return
        for name, inner in template.items():
            yield from located(inner, f"{at}/{name.replace('~', '~0').replace('/', '~1')}")


def without(template: Any, pointers: Collection[str], at: str = "") -> Any:
    """The template with null where the pointers point."""
    if at in pointers:
        return {"literal": None}
    if isinstance(template, list):
        return [without(inner, pointers, f"{at}/{n}") for n, inner in enumerate(template)]
    if not isinstance(template, Mapping) or _is_literal(template) or reference_of(template) is not None:
        return template
    escaped = {name: name.replace("~", "~0").replace("/", "~1") for name in template}
    return {name: without(inner, pointers, f"{at}/{escaped[name]}") for name, inner in template.items()}


def found_at(value: Any, path: str) -> Any:
    """What a JSON Pointer finds. Raises: `LookupError` if that is nothing."""
    for part in path.split("/")[1:]:
        if isinstance(value, Mapping):
            value = value[part.replace("~1", "/").replace("~0", "~")]
        elif isinstance(value, list) and _INDEX.fullmatch(part):
            value = value[int(part)]
        else:
            raise LookupError(path)
    return value
