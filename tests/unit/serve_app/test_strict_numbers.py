"""Numbers and booleans of request bodies: one rule for every field that the OpenAPI document has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from serve_app.application import make_app
from serve_app.schemas.fields import RequestBody
from serve_app.schemas.tasks import Claim

DOCUMENT: dict[str, Any] = make_app().openapi()
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
#: What is none of the kind, though pydantic would take it for one by default.
WRONG: dict[str, list[Any]] = {
    "integer": ["5", "5.0", "", True, False, "true", 5.5, [5], {}],
    "number": ["5", "0.5", "nan", "", True, False, [5], {}],
    "boolean": ["true", "false", "1", "yes", "", 1, 0, 1.0, [True], {}],
}

KINDS = {str: "string", dict: "object"}


def _names(part: Any) -> Iterator[str]:
    """Names of the schemas that a part of the document refers to, and of those that they refer to."""
    if isinstance(part, dict):
        reference = part.get("$ref", "")
        if reference.startswith("#/components/schemas/"):
            name = reference.rpartition("/")[2]
            yield name
            yield from _names(SCHEMAS[name])
        for inner in part.values():
            yield from _names(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _names(inner)


def _subclasses(of: type[RequestBody]) -> Iterator[type[RequestBody]]:
    for model in of.__subclasses__():
        yield model
        yield from _subclasses(model)


def _body_schemas() -> set[str]:
    bodies = [operation.get("requestBody") for path in DOCUMENT["paths"].values() for operation in path.values()]
    return {name for name in _names(bodies) if SCHEMAS[name].get("type") == "object"}


def _options(schema: dict[str, Any]) -> list[dict[str, Any]]:
    options: list[dict[str, Any]] = schema.get("anyOf", [schema])
    return options


def _kinds(option: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The value itself, the entries of a list, and the values of a mapping."""
    inner = [option.get("additionalProperties"), *option.get("patternProperties", {}).values()]
    yield "", option
    for where, part in (("items", option.get("items")), *(("values", part) for part in inner)):
        if isinstance(part, dict):
            yield where, part


def _fields() -> Iterator[tuple[str, str, str, str]]:
    """(model, field, kind, where in the field) of each number and boolean."""
    for name in sorted(_body_schemas()):
        for field, schema in SCHEMAS[name]["properties"].items():
            for option in _options(schema):
                for where, part in _kinds(option):
                    if part.get("type") in WRONG:
                        yield name, field, part["type"], where


MODELS = {model.__name__: model for model in _subclasses(RequestBody)}
FIELDS = list(_fields())


def _accepts(model: str, field: str, where: str, value: Any) -> bool:
    given = {"": value, "items": [value], "values": {"name": value}}[where]
    try:
        MODELS[model].model_validate({field: given})
    except ValidationError as error:
        return field not in {entry["loc"][0] for entry in error.errors()}
    return True


def test_every_body_of_the_document_follows_the_rule() -> None:
    assert _body_schemas() <= set(MODELS)
    assert {kind for _, _, kind, _ in FIELDS} == set(WRONG)
    assert {"RegisterAgent", "CreateTask", "Deliberate", "Report", "ControlSettings", "NewKey"} <= {
        f[0] for f in FIELDS
    }
    assert ("RegisterAgent", "resources", "number", "values") in FIELDS


@pytest.mark.parametrize(("model", "field", "kind", "where"), FIELDS)
def test_texts_are_no_numbers_and_numbers_no_booleans(model: str, field: str, kind: str, where: str) -> None:
    beside = {option.get("type") for option in _options(SCHEMAS[model]["properties"][field])}
    # A field may be a text or a reference as well as a number: then a text is no wrong number.
    wrong = [value for value in WRONG[kind] if where or KINDS.get(type(value)) not in beside]
    assert [value for value in wrong if _accepts(model, field, where, value)] == []


@pytest.mark.parametrize(("model", "field", "kind", "where"), [entry for entry in FIELDS if entry[2] != "boolean"])
def test_numbers_without_a_fraction_are_integers_and_floats(model: str, field: str, kind: str, where: str) -> None:
    bounds = [
        part.get("minimum", 1) for option in _options(SCHEMAS[model]["properties"][field]) for _, part in _kinds(option)
    ]
    least = max(1, *map(int, bounds))
    assert _accepts(model, field, where, least)
    assert _accepts(model, field, where, float(least))


def test_an_integral_float_becomes_the_same_integer() -> None:
    """What is stored, and the digest of a body, are those of the integer."""
    written = [Claim(agent_id="a", block_ms=number).model_dump_json() for number in (5, 5.0)]  # type: ignore[arg-type]
    assert written[0] == written[1]
