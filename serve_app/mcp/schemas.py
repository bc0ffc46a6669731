"""JSON Schemas of tools: those of the routes' bodies and answers, which are written down once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serve_app.openapi.classes import documented
from serve_app.openapi.shapes import SHAPES, Schema
from serve_app.schemas.fields import RequestBody

_COMPONENTS = "#/components/schemas/"
_DEFINITIONS = "#/$defs/"


def whole(schema: Schema) -> Schema:
    """The schema of an answer with the shapes that it refers to, so that it needs no other document. What is withheld from some
    callers may be absent. The protocol wants the root to be no reference."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_COMPONENTS)
        schema = documented(SHAPES[name], name)
    definitions: dict[str, Schema] = {}
    pending = [*_named(schema)]
    while pending:
        name = pending.pop()
        if name not in definitions:
            shape = documented(SHAPES[name], name)
            definitions[name] = _local(shape)
            pending += _named(shape)
    return {**_local(schema), **({"$defs": definitions} if definitions else {})}


def body_fields(body: type[RequestBody], descriptions: dict[str, str]) -> dict[str, Schema]:
    """The schemas of some fields of a body, with a description for a model."""
    properties = body.model_json_schema()["properties"]
    return {name: _of_field(properties[name]) | {"description": text} for name, text in descriptions.items()}


def _of_field(schema: Schema) -> Schema:
    """Without what pydantic adds of itself. One that refers to another schema is left open: the route decides."""
    kept = {name: value for name, value in schema.items() if name not in ("title", "default")}
    return {name: value for name, value in kept.items() if "$ref" not in str(value)}


def _named(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema["$ref"].removeprefix(_COMPONENTS)
        for value in schema.values():
            yield from _named(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _named(value)


def _local(schema: Any) -> Any:
    """References within the schema, and no words of our own document (``x-permission``)."""
    if isinstance(schema, list):
        return [_local(value) for value in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: value.replace(_COMPONENTS, _DEFINITIONS) if name == "$ref" else _local(value)
        for name, value in schema.items()
        if not name.startswith("x-")
    }
