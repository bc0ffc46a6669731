"""One rule for the numbers and booleans of all request bodies: a text or a boolean is no number, and a number or a text is no
boolean. A float without a fraction (``5.0``) is an integer, because JSON has one kind of number and clients write it so.

The rule is put into the schema that pydantic has made of a model, so that no field can be declared without it. pydantic's
``strict`` for whole models was rejected: it refuses ``5.0`` as an integer, and the names of enums.
"""

from __future__ import annotations

from typing import Any, Final, cast

from pydantic_core import CoreSchema, PydanticKnownError, core_schema

#: Parts of a schema that hold values or settings instead of further schemas.
_NO_SCHEMAS: Final = frozenset({"default", "metadata", "config", "serialization", "expected", "members"})


def with_strict_numbers(schema: CoreSchema) -> CoreSchema:
    """The schema with the rule in all its numbers and booleans, those in lists and mappings too."""
    return cast(CoreSchema, _strict(schema))


def _strict(part: Any) -> Any:
    if isinstance(part, list | tuple):
        return type(part)(_strict(entry) for entry in part)
    if not isinstance(part, dict):
        return part
    kind = part.get("type")
    if kind in ("float", "bool"):
        return part | {"strict": True}
    if kind == "int":
        return core_schema.no_info_before_validator_function(_number, cast(core_schema.IntSchema, part))
    return {name: value if name in _NO_SCHEMAS else _strict(value) for name, value in part.items()}


def _number(value: Any) -> Any:
    """The value, if it is a number, which pydantic then takes if it has no fraction."""
    if type(value) is not int and type(value) is not float:
        raise PydanticKnownError("int_type")
    return value
