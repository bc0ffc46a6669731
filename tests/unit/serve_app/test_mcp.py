"""Who does not serve tools needs not have their package; the schemas of tools."""

from __future__ import annotations

import sys

import pytest

from serve_app.mcp.making import McpMissing, serve_mcp
from serve_app.mcp.schemas import body_fields, whole
from serve_app.openapi.shapes import fields, listed, ref
from serve_app.schemas.tasks import CreateTask
from tests.support.api import api_settings
from tests.support.stores import StoreUrls


def test_an_application_that_lacks_the_package_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = api_settings(StoreUrls(database="postgresql://h/d", redis="redis://h"), "s", mcp_enabled=True)
    monkeypatch.setitem(sys.modules, "mcp", None)  # as where nobody has installed it
    with pytest.raises(McpMissing, match=r"pip install 'aragora-control-plane\[mcp\]'"):
        serve_mcp(None, settings)  # type: ignore[arg-type]


def _all(schema: object) -> list[str]:
    """Every reference and every name of a field."""
    if isinstance(schema, list):
        return [name for entry in schema for name in _all(entry)]
    if not isinstance(schema, dict):
        return []
    own = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
    return [*own, *schema, *(name for entry in schema.values() for name in _all(entry))]


def test_a_schema_of_an_answer_is_whole_and_allows_what_is_withheld() -> None:
    for schema in (whole(ref("Deliberation")), whole(fields(tasks=listed(ref("Task"))))):
        assert schema["type"] == "object"
        assert not [name for name in _all(schema) if name.startswith(("#/components", "x-"))]
        assert {name for name in _all(schema) if name.startswith("#/")} == {
            f"#/$defs/{name}" for name in schema["$defs"]
        }
    assert "payload" not in whole(ref("Task"))["required"]


def test_fields_of_a_body_keep_their_bounds_and_get_a_description() -> None:
    found = body_fields(CreateTask, {"task_type": "What.", "after": "First."})
    assert found == {
        "task_type": {"type": "string", "minLength": 1, "maxLength": 256, "description": "What."},
        "after": {"type": "array", "maxItems": 1000, "description": "First."},
    }
