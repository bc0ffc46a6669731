"""The OpenAPI document: complete, consistent, and checked by a witness that does see differences."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from serve_app.application import PREFIXES, make_app
from serve_app.openapi.answers import ANSWERS, OTHER_FORMS, ROOT_ANSWERS
from serve_app.openapi.shapes import EPOCH, ISO, LEVEL, LEVEL_NAME, SHAPES, nullable, ref
from serve_app.schemas.fields import MAX_EPOCH_S, RequestBody, iso_time
from tests.support.documented import documented

DOCUMENT: dict[str, Any] = make_app().openapi()
OPERATIONS = {
    (method.upper(), path): operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
CP = PREFIXES[0]


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _parts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _parts(inner)


def test_every_reference_leads_somewhere_and_every_schema_is_one() -> None:
    for part in _parts(DOCUMENT):
        if isinstance(part.get("$ref"), str):
            found: Any = DOCUMENT
            for step in part["$ref"].removeprefix("#/").split("/"):
                found = found[step]
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_route_has_its_answers_and_no_others_are_stated() -> None:
    stated = {(method, CP + path) for method, path in ANSWERS} | set(ROOT_ANSWERS)
    assert stated == set(OPERATIONS)
    forms = {(method.removeprefix("ROOT "), path) for method, path in OTHER_FORMS}
    assert forms <= {(method, path.removeprefix(CP)) for method, path in OPERATIONS}


def test_no_shape_of_an_answer_replaces_a_body() -> None:
    """The document would then ask callers for what a body does not have."""
    bodies = {body.__name__: body for body in _subclasses(RequestBody)}
    assert not SHAPES.keys() & bodies.keys()
    named = DOCUMENT["components"]["schemas"].keys() & bodies.keys()
    assert len(named) > 20
    for name in named:
        fields = {field.alias or word for word, field in bodies[name].model_fields.items()}
        assert DOCUMENT["components"]["schemas"][name]["properties"].keys() == fields


def _subclasses(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


#: A browser shows their errors to a person.
_SHOWN_TO_PEOPLE = ("/auth/login", "/auth/callback")


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_a_route_documents_its_errors_in_one_shape(method: str, path: str) -> None:
    responses = OPERATIONS[method, path]["responses"]
    assert "422" not in responses, "FastAPI's own, which is never sent"
    assert {"500", "503"} < set(responses)
    assert any(status < "400" for status in responses)
    for status, response in responses.items():
        if path.endswith(_SHOWN_TO_PEOPLE) and status >= "400":
            assert response["content"].keys() == {"application/json", "text/html"}
            assert response["content"]["application/json"] == {"schema": {"$ref": "#/components/schemas/Error"}}
        elif status >= "400" and path != "/health":
            assert response == {"$ref": f"#/components/responses/Error{status}"}
    if method != "GET":
        assert {"400", "408", "409", "413", "429"} < set(responses)


def test_the_shape_of_an_error_is_what_is_sent() -> None:
    assert not {"HTTPValidationError", "ValidationError"} & set(DOCUMENT["components"]["schemas"])
    for response in DOCUMENT["components"]["responses"].values():
        assert response["content"] == {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    assert set(SHAPES["Error"]["required"]) == {"error", "code", "trace_id"}


def test_content_types_and_202_are_documented() -> None:
    assert "202" in OPERATIONS["POST", f"{CP}/deliberations"]["responses"]
    stream = OPERATIONS["GET", f"{CP}/stream"]["responses"]["200"]["content"]
    assert set(stream) == {"application/json", "text/event-stream"}
    assert set(OPERATIONS["GET", "/metrics"]["responses"]["200"]["content"]) == {
        "text/plain",
        "application/openmetrics-text",
    }


def test_ids_keys_and_cursors_have_their_patterns() -> None:
    seen = set()
    for operation in OPERATIONS.values():
        for parameter in operation.get("parameters", ()):
            name, schema = parameter["name"].lower(), parameter["schema"]
            if name == "idempotency-key":
                assert (schema["minLength"], schema["maxLength"]) == (1, 255)
            elif name in ("cursor", "task_id", "agent_id", "request_id"):
                assert any("pattern" in option for option in (schema, *schema.get("anyOf", ())))
            seen.add(name)
    assert {"idempotency-key", "cursor", "task_id", "agent_id", "request_id"} <= seen
    register = DOCUMENT["components"]["schemas"]["RegisterAgent"]["properties"]["agent_id"]
    assert register["pattern"].startswith("^[A-Za-z0-9]")


# --- times and priorities ---------------------------------------------------------------------------------------------


def _is_time(name: str) -> bool:
    return name.endswith("_at") or name in (
        "at",
        "timestamp",
        "last_heartbeat",
        "last_active",
        "last_failure",
        "draining_since",
    )


def test_times_and_priorities_have_one_of_two_forms() -> None:
    times = [form(kind) for kind in (EPOCH, ISO) for form in (dict, nullable)]
    levels = [form(kind) for kind in (LEVEL, LEVEL_NAME) for form in (dict, nullable)]
    levels.append(ref("PolicyPriority"))  # an order among policies, of no task
    found = 0
    # A receipt's timestamp is what is compared when it is verified: docs/receipts.md.
    own_forms = [shape for name, shape in SHAPES.items() if name != "Receipt"]
    for part in _parts([own_forms, *ANSWERS.values(), *ROOT_ANSWERS.values()]):
        for name, schema in part.get("properties", {}).items():
            if _is_time(name):
                assert schema in times, name
                found += 1
            elif name.endswith("priority"):
                assert schema in levels, name
                found += 1
    assert found > 30


@given(st.floats(0, MAX_EPOCH_S) | st.integers(0, MAX_EPOCH_S))
def test_a_time_in_iso_has_one_form(at: float) -> None:
    """A whole second was written without its microseconds before."""
    jsonschema.validate(iso_time(at), SHAPES["IsoTime"])


# --- the witness ------------------------------------------------------------------------------------------------------

ERROR = {"error": "Do this.", "code": "invalid_request", "trace_id": "t"}
JSON = "application/json"


@pytest.mark.parametrize(
    ("method", "path", "status", "kind", "body"),
    [
        ("POST", "/tasks", 200, JSON, {"task_id": "t"}),
        ("POST", "/tasks", 201, JSON, {}),
        ("POST", "/tasks", 201, JSON, {"task_id": "t", "more": 1}),
        ("POST", "/tasks", 201, JSON, {"task_id": "not an id"}),
        ("POST", "/tasks", 201, "text/plain", {"task_id": "t"}),
        ("POST", "/tasks", 422, JSON, ERROR),
        ("POST", "/tasks", 400, JSON, {"detail": "FastAPI's own"}),
        ("POST", "/tasks", 400, JSON, ERROR | {"error": {"an": "object"}}),
        ("POST", "/tasks", 400, JSON, {"error": "no code", "trace_id": "t"}),
        ("GET", "/queue/metrics", 404, JSON, ERROR),
        (
            "GET",
            "/deliberations/d/status",
            200,
            JSON,
            {"request_id": "d", "status": "s", "terminal": None, "completed_at": 1.5},
        ),
        (
            "POST",
            "/tasks/t/extend",
            200,
            JSON,
            {"extended": True, "lease_expires_at": "2026-01-01T00:00:00.000000+00:00"},
        ),
        ("GET", "/no/such", 404, JSON, {"detail": "Not Found"}),
        ("GET", "/no/such", 200, JSON, {}),
    ],
)
def test_the_witness_sees_what_is_not_documented(method: str, path: str, status: int, kind: str, body: Any) -> None:
    for prefix in PREFIXES:
        assert documented().difference(method, prefix + path, status, kind, json.dumps(body).encode())


def test_the_witness_sees_frames_in_another_form() -> None:
    good = {"type": "task_submitted", "timestamp": 1.5, "seq": 3, "data": {"priority": 50, "run_at": 1.5, "word": "w"}}
    assert documented().frame_difference(json.dumps(good)) == ""
    for change in (
        {"timestamp": "2026-01-01"},
        {"data": {"priority": "normal"}},
        {"data": {"run_at": "2026"}},
        {"more": 1},
    ):
        bad = json.dumps(good | change)
        assert documented().frame_difference(bad), change
        sent = f": connected\n\ndata: {bad}\n\n".encode()
        assert documented().difference("GET", f"{CP}/stream", 200, "text/event-stream; charset=utf-8", sent)


def test_the_witness_lets_pass_what_is_documented() -> None:
    assert documented().difference("POST", f"{CP}/tasks", 201, JSON, b'{"task_id": "t"}') == ""
    assert documented().difference("POST", f"{CP}/tasks", 503, JSON, json.dumps(ERROR).encode()) == ""
    assert documented().difference("PUT", f"{CP}/tasks", 405, JSON, json.dumps(ERROR).encode()) == ""
