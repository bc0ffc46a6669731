"""Checks values against JSON Schemas that somebody else wrote, with ``jsonschema``.

Model servers ignore parts of the schema that they are given, so their answers are checked here as well. A schema is checked
when it is submitted (``check_schema``) and compiled once. All that it can cost is bounded, because one check would hold a
process that serves everybody:

- its bytes and nesting, and the steps of one check (``Steps``): references can make work that doubles with each level;
- patterns never reach ``re``, which backtracks without bound (``patterns``); own keywords replace those of ``jsonschema``
  that use it, and those that take the square of a list;
- a reference leads to a place in the document itself. Nothing is ever fetched: the registry is empty and has no way to.

``format`` is an annotation, as the standard has it by default.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from fractions import Fraction
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import Any
from urllib.parse import unquote

from jsonschema import Draft3Validator, Draft202012Validator, validators
from jsonschema.exceptions import SchemaError, ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_values import check_json
from cluster.domain.base.patterns import BadPattern, Pattern

MAX_BYTES = 20_000
#: Schemas within a schema. Checking so many takes some tenths of a second, once.
MAX_PARTS = 500
#: States of all patterns of one schema.
MAX_STATES = 20_000
#: Steps of checking one answer: keywords, items and looks at characters. Some 200,000 take half a second.
MAX_STEPS = 200_000
#: Compiled schemas that are kept, and read patterns.
KEPT = 256
CODE = "invalid_schema"
MAX_SHOWN = 300

#: Keywords whose value is an object of schemas by name.
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})
#: Keywords whose value is data and never a schema.
_DATA = frozenset({"enum", "const", "default", "examples", "example", "required", "type", "dependentRequired"})
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
#: Keywords that check the same value again: a circle of these would never end.
_SAME_VALUE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")
_SAME_VALUE_MAPS = ("dependentSchemas", "dependencies")


class Steps:
    """What checks may still cost. One count may be shared by the checks of several values."""

    def __init__(self, most: int = MAX_STEPS) -> None:
        self.left = most

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise _TooManySteps


class _TooManySteps(Exception):
    pass


#: Keywords are functions of the library's form, which has no place for a count of its own.
_steps: ContextVar[Steps] = ContextVar("steps")


# --- submitting -------------------------------------------------------------------------------------------------------


def check_schema(schema: Mapping[str, Any], what: str) -> None:
    """Checks that values can be checked against a schema. ``what`` names the field in the error's text.

    Raises: `InvalidRequest` if it is not a JSON Schema, is too large, refers to another document or to itself without end,
    or has a pattern whose time cannot be bounded."""
    check_json(schema, what)
    text = _written(schema)
    if len(text.encode()) > MAX_BYTES:
        raise InvalidRequest(f"{what} must be at most {MAX_BYTES} bytes of JSON.", CODE)
    try:
        _compiled(text)
    except _BadSchema as bad:
        raise InvalidRequest(f"{what} is not a JSON Schema that can be checked: {bad}.", CODE) from None


class _BadSchema(ValueError):
    pass


def _written(schema: Mapping[str, Any]) -> str:
    return json.dumps(dict(schema), ensure_ascii=False)


@lru_cache(maxsize=KEPT)
def _compiled(text: str) -> Any:
    schema = json.loads(text)
    dialect = _dialect(schema)
    schema.pop("$id", None)  # all references begin with #, so the name of the whole matters to nobody
    try:
        _check_parts(schema, dialect)
        # Without a checker of formats: its check of patterns would give them to ``re``.
        dialect.check_schema(schema, format_checker=None)
    except SchemaError as wrong:
        raise _BadSchema(_path(wrong) + _cut(wrong.message)) from None
    except (RecursionError, Unresolvable):
        raise _BadSchema("it is nested too deeply") from None
    return dialect(schema, registry=Registry())


def _dialect(schema: Mapping[str, Any]) -> Any:
    named = schema.get("$schema", Draft202012Validator.META_SCHEMA["$schema"])
    known = validators.validator_for({"$schema": named}, default=None) if isinstance(named, str) else None
    if known is None:
        raise _BadSchema("$schema names a dialect that is not known; leave it out for draft 2020-12")
    if known is Draft3Validator:
        # Its ``type`` holds schemas and its ``required`` stands within a property: neither is looked at here.
        raise _BadSchema("$schema names draft 3, which is not supported; use draft 4 or a later one")
    return _bounded(known)


def _check_parts(schema: dict[str, Any], dialect: Any) -> None:
    """Looks at every schema within a schema, those that are only referred to included."""
    follows: dict[int, list[int]] = {}
    anchors = _anchors(schema)
    states = 0
    left: list[dict[str, Any]] = [schema]
    while left:
        part = left.pop()
        if id(part) in follows:
            continue
        if len(follows) >= MAX_PARTS:
            raise _BadSchema(f"it holds more than {MAX_PARTS} schemas")
        if part is not schema and dialect.ID_OF(part):
            raise _BadSchema("an inner schema has an id of its own, which changes what references mean")
        states += _states_of_patterns(part)
        if states > MAX_STATES:
            raise _BadSchema(f"its patterns have more than {MAX_STATES} states when repetitions are written out")
        targets = [_target(schema, anchors, part[name]) for name in _REFERENCES if isinstance(part.get(name), str)]
        same_value = [inner for name, inner in _inner(part) if name in _SAME_VALUE or name in _SAME_VALUE_MAPS]
        follows[id(part)] = [id(inner) for inner in (*targets, *same_value)]
        left.extend((*targets, *(inner for _, inner in _inner(part))))
    try:
        TopologicalSorter(follows).prepare()
    except CycleError:
        raise _BadSchema("it refers to itself without end") from None


def _inner(part: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The schemas directly within a schema, each with the keyword that holds it. What an unknown keyword holds counts too,
    since a reference may lead there."""
    for name, value in part.items():
        if name in _DATA:
            continue
        if name in _MAPS:
            held: Iterable[Any] = value.values() if isinstance(value, dict) else ()
        else:
            held = value if isinstance(value, list) else (value,)
        yield from ((name, inner) for inner in held if isinstance(inner, dict))


def _states_of_patterns(part: Mapping[str, Any]) -> int:
    found = [part["pattern"]] if isinstance(part.get("pattern"), str) else []
    by_name = part.get("patternProperties")
    if isinstance(by_name, dict):
        found.extend(by_name)
        if "unevaluatedProperties" in part:
            # Only these two together make ``jsonschema`` give patterns to ``re`` where no keyword of ours can stand.
            raise _BadSchema("patternProperties and unevaluatedProperties together are not supported")
    states = 0
    for text in found:
        try:
            states += _pattern(text).states
        except BadPattern as bad:
            raise _BadSchema(f"the pattern {_shown(text)} {bad}") from None
    return states


def _target(schema: dict[str, Any], anchors: Mapping[str, dict[str, Any]], reference: str) -> dict[str, Any]:
    """The place in the document that a reference leads to."""
    if not reference.startswith("#"):
        raise _BadSchema(f"{_shown(reference)} is outside of the document, and nothing is fetched; use $defs")
    fragment = unquote(reference[1:])
    found: Any = anchors.get(fragment) or _followed(schema, fragment)
    if isinstance(found, bool):
        return {}
    if not isinstance(found, dict):
        raise _BadSchema(f"{_shown(reference)} leads to no schema")
    return found


def _followed(schema: dict[str, Any], fragment: str) -> Any:
    """What a JSON pointer leads to, None if nothing."""
    if fragment and not fragment.startswith("/"):
        return None
    found: Any = schema
    for step in fragment.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list):
            found = found[int(name)] if _is_index(name) and int(name) < len(found) else None
        else:
            found = found.get(name) if isinstance(found, dict) else None
    return found


def _is_index(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) < 9


def _anchors(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    left = [schema]
    while left:
        part = left.pop()
        names = (part.get("$anchor"), part.get("$dynamicAnchor"))
        found.update((name, part) for name in names if isinstance(name, str))
        left.extend(inner for _, inner in _inner(part))
    return found


# --- putting one schema into another ----------------------------------------------------------------------------------

#: What belongs to the whole document: definitions, which model servers look for at its top only, and its dialect.
_OF_THE_WHOLE = ("$schema", "$defs", "definitions")


def within(schema: Mapping[str, Any], pointer: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(a schema as it must be written at ``pointer`` of a larger document, what goes to the top of that document).

    References count from the top of a document, so as they are they would lead nowhere from inside a larger one. ``pointer`` is
    a JSON pointer. An ``$id`` of the whole would begin a document of its own for those servers only that know how; it is left
    out."""
    moved = _referring(schema, pointer)
    moved.pop("$id", None)
    return moved, {name: moved.pop(name) for name in _OF_THE_WHOLE if name in moved}


def _referring(part: Mapping[str, Any], pointer: str) -> dict[str, Any]:
    def rewritten(value: Any) -> Any:
        return _referring(value, pointer) if isinstance(value, dict) else value

    written: dict[str, Any] = {}
    for name, value in part.items():
        if name in _REFERENCES and isinstance(value, str):
            written[name] = _moved_reference(value, pointer)
        elif name in _DATA:
            written[name] = value
        elif name in _MAPS and isinstance(value, dict):
            written[name] = {inner: rewritten(item) for inner, item in value.items()}
        else:
            written[name] = [rewritten(item) for item in value] if isinstance(value, list) else rewritten(value)
    return written


def _moved_reference(reference: str, pointer: str) -> str:
    fragment = reference[1:]
    if not reference.startswith("#") or (fragment and not fragment.startswith(("/", "%2F", "%2f"))):
        return reference  # an anchor, which has the same name everywhere in a document
    if unquote(fragment).split("/")[1:2] in (["$defs"], ["definitions"]):
        return reference
    return f"#{pointer}{fragment}"


# --- checking ---------------------------------------------------------------------------------------------------------


def mismatch(value: Any, schema: Mapping[str, Any], steps: Steps | None = None) -> str:
    """Why a value does not fit a schema, as the end of a sentence; an empty text if it fits.

    A value that cannot be checked within the steps does not fit, nor does any value fit a schema that is none."""
    if not schema:
        return ""
    _steps.set(steps or Steps())
    try:
        error = next(_compiled(_written(schema)).iter_errors(value), None)
    except _BadSchema as bad:
        return f"cannot be checked, because the schema is wrong: {bad}"
    except _TooManySteps:
        return "takes too many steps to check against the schema"
    except (RecursionError, Unresolvable):
        return "cannot be checked, because value or schema are nested too deeply"
    return "" if error is None else _path(error) + _problem(error)


def _path(error: ValidationError | SchemaError) -> str:
    steps = (_shown(step) if isinstance(step, str) else f"item {step + 1}" for step in error.absolute_path)
    return "".join(f"{step} " for step in steps)


def _problem(error: ValidationError) -> str:
    keyword, demand = error.validator, error.validator_value
    if keyword == "type":
        return f"must be of type {' or '.join(demand if isinstance(demand, list) else [demand])}"
    if keyword == "enum":
        return f"must be one of {_shown(demand)}"
    if keyword == "required":
        missing = next((name for name in demand if name not in error.instance), "")
        return f"needs {_shown(missing)}"
    if keyword is None:
        return "is not allowed by the schema"
    return f"must satisfy {_shown(keyword)}: {_shown(demand)}"


def _shown(value: Any) -> str:
    return _cut(json.dumps(value, ensure_ascii=False))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


# --- keywords ---------------------------------------------------------------------------------------------------------

Keyword = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]


@lru_cache(maxsize=16)
def _bounded(dialect: Any) -> Any:
    """A dialect whose keywords count their steps, with our own keywords where its own are unbounded or inexact."""
    own: dict[str, Keyword] = {name: keyword for name, keyword in _OWN.items() if name in dialect.VALIDATORS}
    keywords = {name: _counted(name, keyword) for name, keyword in {**dialect.VALIDATORS, **own}.items()}
    # Draft 4 did not take 5.0 for an integer, later ones do. Whoever writes 5.0 means 5 in any draft.
    types = dialect.TYPE_CHECKER.redefine("integer", _is_integer)
    return validators.extend(dialect, validators=keywords, type_checker=types)


#: Keywords that look at every item or member of a value by themselves.
_WIDE = frozenset(
    {
        *("items", "prefixItems", "additionalItems", "contains", "unevaluatedItems", "uniqueItems"),
        *("patternProperties", "additionalProperties", "propertyNames", "unevaluatedProperties"),
    }
)


#: To follow a reference takes that many times as long as to check a type.
_REFERENCE_STEPS = 20


def _counted(name: str, keyword: Keyword) -> Keyword:
    def check(validator: Any, demand: Any, value: Any, schema: Any) -> Iterable[ValidationError] | None:
        steps = _REFERENCE_STEPS if name in _REFERENCES else 1
        steps += len(demand) if isinstance(demand, list | dict) else 0
        if name in _WIDE and isinstance(value, list | dict):
            steps += len(value)
        _steps.get().spend(steps)
        return keyword(validator, demand, value, schema)

    return check


def _is_integer(_: Any, value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


@lru_cache(maxsize=KEPT)
def _pattern(text: str) -> Pattern:
    return Pattern(text)


def _found(pattern: str, text: str) -> bool:
    return _pattern(pattern).found_in(text, _steps.get().spend)


def _match_pattern(validator: Any, demand: str, value: Any, _: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and not _found(demand, value):
        yield ValidationError("does not match")


def _pattern_properties(validator: Any, demand: dict[str, Any], value: Any, _: Any) -> Iterator[ValidationError]:
    for pattern, schema in demand.items() if isinstance(value, dict) else ():
        for name, item in value.items():
            if _found(pattern, name):
                yield from validator.descend(item, schema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, demand: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, item in value.items() if isinstance(value, dict) else ():
        if name in known or any(_found(pattern, name) for pattern in patterns):
            continue
        if demand is False:
            yield ValidationError("is not allowed", path=(name,))
        else:
            yield from validator.descend(item, demand, path=name)


def _unique_items(validator: Any, demand: Any, value: Any, _: Any) -> Iterator[ValidationError]:
    """By hash: the library compares each item with each."""
    if demand and isinstance(value, list) and len({_key(item) for item in value}) < len(value):
        yield ValidationError("has an item twice")


def _key(item: Any) -> Any:
    """Equal for equal JSON: 1 is 1.0, and true is not 1."""
    if isinstance(item, dict):
        return ("object", frozenset((name, _key(inner)) for name, inner in item.items()))
    if isinstance(item, list):
        return ("array", tuple(_key(inner) for inner in item))
    return (isinstance(item, bool), item)


def _multiple_of(validator: Any, demand: Any, value: Any, _: Any) -> Iterator[ValidationError]:
    """Exactly: the library divides floats, so 0.3 is no multiple of 0.1 there, and a long integer raises."""
    if isinstance(value, int | float) and not isinstance(value, bool) and _exact(value) % _exact(demand) != 0:
        yield ValidationError("is no multiple")


def _exact(number: float) -> Fraction:
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


_OWN: dict[str, Keyword] = {
    "pattern": _match_pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
    "multipleOf": _multiple_of,
}
