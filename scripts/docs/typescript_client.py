"""Writes clients/typescript/src/api.ts from the OpenAPI document: ``make docs``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aragora_worker.errors import FOR_LATER
from serve_app.application import make_app

JSON = "application/json"
#: Answers that are texts; a stream has a form of its own, which the hand-written client reads.
TEXTS = ("text/plain", "text/csv", "application/x-ndjson")
IDEMPOTENCY = "idempotency-key"

#: Calls whose function has a name that only its module explains.
NAMES = {
    "/api/control-plane/tasks/{task_id}/answer": "answerQuestion",
    "/api/control-plane/tasks/{task_id}/ask": "askQuestion",
    "/api/control-plane/tasks/{task_id}/park": "parkTask",
    "/api/control-plane/audit": "listAudit",
    "/api/control-plane/queue/controls": "queueControls",
    "/api/control-plane/queue/pause": "pauseQueue",
    "/api/control-plane/queue/resume": "resumeQueue",
    "/api/control-plane/queue/prioritize": "prioritizeTask",
    "/api/control-plane/dead-letter/purge": "purgeDeadLetters",
    "/api/control-plane/story/{subject_id}": "readStory",
    "/api/control-plane/stream": "streamInfo",
    "/health/detailed": "detailedHealth",
    "/health/live": "isLive",
    "/health": "isReady",
    "/api/control-plane/audit/export": "exportAudit",
    "/api/control-plane/audit/stats": "auditStats",
    "/api/control-plane/audit/verify": "verifyAudit",
    "/metrics": "metricsText",
}
#: Methods of such a path whose function says it all.
KEPT = {("/api/control-plane/queue/controls", "put")}
#: Second paths of a call, for older clients.
ALSO = ("/api/control-plane/tasks/fail", "/api/control-plane/agents/{agent_id}/metrics")

HEAD = """\
// Written by `make docs` from the OpenAPI document of the control plane. Do not edit it.

/** Any value that JSON has. An integer beyond 2^53 - 1 loses digits in JavaScript: send such ids, and money, as texts. */
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** What every call may be given besides its own members. */
export interface CallOptions {
  /** Ends the call; its outcome is then unknown. */
  signal?: AbortSignal;
}

/** One of a call that changes something and may be repeated. */
export interface Repeatable extends CallOptions {
  /** A repeat under the same key is not done twice. */
  idempotency_key?: string;
}

/** Makes a call. `ControlPlaneClient` is one. */
export interface Caller {
  call<T>(method: string, path: string, query: readonly string[], args: object): Promise<T>;
}
"""


def page() -> str:
    """The whole file."""
    document = make_app().openapi()
    schemas = document["components"]["schemas"]
    parts = [HEAD, _codes(), *(_named(name, schemas[name]) for name in sorted(schemas))]
    methods: dict[str, str] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            name = _method_name(operation["operationId"], path, method)
            text = None if path in ALSO else _method(name, method, path, operation)
            if text is not None:
                assert name not in methods, f"give {path} a name of its own"
                methods[name] = text
    body = "\n\n".join(methods[name] for name in sorted(methods))
    parts.append(
        "/** One method for each call of the API. Members have the names that they have on the wire. */\n"
        "export class Api {\n  readonly #caller: Caller;\n\n"
        "  constructor(caller: Caller) {\n    this.#caller = caller;\n  }\n\n" + body + "\n}\n"
    )
    return "\n".join(parts)


def _codes() -> str:
    lines = "".join(f"  {json.dumps(code)},\n" for code in sorted(FOR_LATER))
    return (
        "/** The codes of errors after which the same may succeed later, for outcomes that have only a code. */\n"
        f"export const FOR_LATER: ReadonlySet<string> = new Set([\n{lines}]);\n"
    )


def _named(name: str, schema: Mapping[str, Any]) -> str:
    return f"{_comment(schema.get('description', ''), '')}export type {name} = {type_of(schema)};\n"


def _method_name(operation_id: str, path: str, method: str) -> str:
    """FastAPI makes an id of the function's name, the path and the method."""
    if path in NAMES and (path, method) not in KEPT:
        return NAMES[path]
    name = operation_id.removesuffix(re.sub(r"\W", "_", path) + f"_{method}")
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _method(name: str, method: str, path: str, operation: Mapping[str, Any]) -> str | None:
    """A method, or None if the answer is a stream of events alone."""
    answer = _answer(operation["responses"])
    if answer is None:
        return None
    given = list(_members(operation))
    repeatable = any(parameter["name"] == IDEMPOTENCY for parameter in operation.get("parameters", ()))
    options = "Repeatable" if repeatable else "CallOptions"
    members = "; ".join(f"{member}{'' if required else '?'}: {kind}" for member, kind, required in given)
    argument = f"{{ {members} }} & {options}" if members else options
    optional = "" if any(required for _, _, required in given) else " = {}"
    queries = [parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"]
    passed = '{ ...args, as: "text" }' if answer == "string" else "args"
    call = f"this.#caller.call({json.dumps(method.upper())}, {json.dumps(path)}, {json.dumps(queries)}, {passed})"
    return (
        f"{_comment(operation.get('description', ''), '  ')}"
        f"  {name}(args: {argument}{optional}): Promise<{answer}> {{\n    return {call};\n  }}"
    )


def _members(operation: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """(name, type, whether it has to be given)."""
    for parameter in operation.get("parameters", ()):
        if parameter["in"] in ("path", "query"):
            yield _property(parameter["name"]), type_of(parameter["schema"]), bool(parameter.get("required"))
    body = operation.get("requestBody")
    if body is not None and JSON in body["content"]:
        yield "body", type_of(body["content"][JSON]["schema"]), bool(body.get("required"))


def _answer(responses: Mapping[str, Any]) -> str | None:
    kinds: list[str] = []
    for status, response in responses.items():
        if status.startswith("2"):
            for media, content in response.get("content", {}).items():
                if media == JSON:
                    kinds.append(type_of(content["schema"]))
                elif media in TEXTS:
                    kinds.append("string")
    return " | ".join(dict.fromkeys(kinds)) or None


def type_of(schema: Mapping[str, Any]) -> str:
    """The TypeScript type of a JSON Schema, as far as TypeScript can say it."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for word, joint in (("anyOf", " | "), ("oneOf", " | "), ("allOf", " & ")):
        if word in schema:
            return joint.join(dict.fromkeys(_in_union(part) for part in schema[word]))
    if "const" in schema or "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(dict.fromkeys(type_of({**schema, "type": each}) for each in kind))
    if kind == "array":
        return f"Array<{type_of(schema.get('items', {}))}>"
    return _object(schema) if kind == "object" else _PLAIN.get(str(kind), "Json")


_PLAIN = {"string": "string", "boolean": "boolean", "null": "null", "integer": "number", "number": "number"}


def _in_union(schema: Mapping[str, Any]) -> str:
    found = type_of(schema)
    return f"({found})" if " & " in found else found


def _object(schema: Mapping[str, Any]) -> str:
    properties = schema.get("properties", {})
    required = schema.get("required", ())
    others = schema.get("additionalProperties")
    lines = [f"{_property(name)}{'' if name in required else '?'}: {type_of(properties[name])}" for name in properties]
    if not lines:
        return f"Record<string, {type_of(others) if isinstance(others, dict) else 'Json'}>"
    return "{ " + "; ".join(lines) + " }"


def _property(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_$][\w$]*", name) else json.dumps(name)


def _comment(text: str, indent: str) -> str:
    if not text:
        return ""
    lines: Sequence[str] = text.replace("``", "`").replace("*/", "* /").strip().splitlines()
    if len(lines) == 1:
        return f"{indent}/** {lines[0]} */\n"
    return f"{indent}/**\n" + "".join(f"{indent} * {line}".rstrip() + "\n" for line in lines) + f"{indent} */\n"


if __name__ == "__main__":
    sys.stdout.write(page())
