"""Checks a value against a JSON Schema.

Only ``type``, ``enum``, ``required``, ``properties`` and ``items`` are checked; other keywords are ignored. Model servers
ignore parts of the schema that they are given, so their answers are checked here as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def mismatch(value: Any, schema: Mapping[str, Any]) -> str:
    """Why a value does not fit a schema, as the end of a sentence; an empty text if it fits."""
    kind = schema.get("type")
    if isinstance(kind, str) and kind in _TYPES:
        wrong_bool = isinstance(value, bool) and kind in ("number", "integer")
        if wrong_bool or not isinstance(value, _TYPES[kind]):
            return f"must be of type {kind}"
    if "enum" in schema and value not in schema["enum"]:
        return f"must be one of {json.dumps(schema['enum'], ensure_ascii=False)}"
    if isinstance(value, dict):
        return _object_mismatch(value, schema)
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return next((found for item in value if (found := mismatch(item, schema["items"]))), "")
    return ""


def _object_mismatch(value: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    missing = [name for name in _required(schema) if name not in value]
    if missing:
        return f"needs {json.dumps(missing[0], ensure_ascii=False)}"
    properties = schema.get("properties")
    for name, inner in properties.items() if isinstance(properties, Mapping) else ():
        if name in value and isinstance(inner, Mapping) and (found := mismatch(value[name], inner)):
            return f"{json.dumps(name, ensure_ascii=False)} {found}"
    return ""


def _required(schema: Mapping[str, Any]) -> list[Any]:
    names = schema.get("required")
    return names if isinstance(names, list) else []
