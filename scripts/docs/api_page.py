"""Writes docs/api.md from the routes: ``make docs``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute

from cluster.domain.access.permissions import ALIASES, Permission
from cluster.domain.base.ids import ID_PATTERN, ROUTE_WORDS
from cluster.domain.base.json_values import MAX_DEPTH
from cluster.settings import Settings
from scripts.docs.released_client import methods, without_route
from serve_app.application import _ROUTERS, PREFIXES, make_app
from serve_app.routes import health
from serve_app.routes.deliberations import SYNC_WAIT_S
from serve_app.schemas.fields import MAX_BATCH
from serve_app.schemas.tasks import MAX_BLOCK_MS, MAX_CLAIM


def _aliases() -> str:
    """Rows of the table of aliases. Names with the same permissions share a row; the older spellings, which follow a rule,
    are left out."""
    names: dict[frozenset[Permission], list[str]] = {}
    for name, stands_for in ALIASES.items():
        if name.count(":") < 2:
            names.setdefault(stands_for, []).append(name)
    return "\n".join(f"| {_listed(group)} | {_listed(sorted(stands_for))} |" for stands_for, group in names.items())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


HEAD = f"""# API

`make docs` writes this page from the routes. A running system shows the same at `/docs`, where you can try calls, and as
OpenAPI at `/openapi.json`, with the shape of every answer and every status of an error; all answers that the project's tests
get are compared with it. Every path under `{PREFIXES[0]}` is also served under `{PREFIXES[1]}`.

```bash
curl -s -X POST http://127.0.0.1:8080/api/control-plane/tasks -H 'Content-Type: application/json' \\
  -H 'Idempotency-Key: review-17' -d '{{"task_type": "review", "payload": {{"pr": 17}}}}'
```

## Errors

```json
{{"error": "There is no task task_x.", "code": "task_not_found", "trace_id": "4f1c2d3e4a5b6c7d8e9f0a1b2c3d4e5f"}}
```

`error` is always one sentence, `code` is stable, `trace_id` is also the response's `X-Trace-Id`: send `X-Request-ID` or
`X-Correlation-ID` to choose it, or a `traceparent` (W3C), whose trace id it then is ([traces](tracing.md)).
A 400 for a body adds `errors`, a list of `field` and `message`.

In bodies a number is a number and a boolean is `true` or `false`: `"5"` for a number and `1` for a boolean are a 400. `5.0`
counts as the integer 5.

| Status | Meaning | Repeat it? |
|---|---|---|
| 400 | a field is missing or has a value that is not accepted (`InvalidRequest`) | no |
| 401 | the caller proves no identity (`Unauthenticated`, `unauthenticated`) | with a token |
| 403 | the caller lacks the permission that `error` names (`Forbidden`, `forbidden`) | no |
| 403 | the workspace is suspended (`workspace_suspended`) | after it is resumed |
| 404 | the task, agent or other thing does not exist in this workspace (`NotFound`) | no |
| 405 | the path does not have this method | no |
| 408 | the body did not arrive within 30 s (`body_too_slow`) | yes |
| 409 | its state does not allow this call (`Conflict`: `lease_lost`, `already_terminal`, `idempotency_conflict`) | no |
| 410 | [retention](retention.md) has removed it (`Removed`: `task_removed`, `deliberation_removed`, `cursor_lost`, …) | no |
| 413 | the body is too large | no |
| 415 | the body is not sent as JSON (`unsupported_media_type`) | with `Content-Type: application/json` |
| 429 | too much waits (`overloaded`), too many calls (`rate_limited`) or wrong keys (`too_many_failures`) | after `Retry-After` |
| 503 | a store or an actor does not answer (`store_unavailable`, `actor_unavailable`, `fenced`) | after `Retry-After` |
| 500 | a bug of the control plane (`internal_error`); its log has the trace id | report it |

One error of a control plane whose front is its HAProxy has another shape: HAProxy's fixed 400, an HTML page, which no
configuration changes. It answers so what it does not take for HTTP or for a WebSocket handshake: a line and headers of more than
some 15 kB, NUL in a header, another host in the URL than in `Host`, a handshake without its key, a chunk without its size that
comes with the head. That call has not reached the API, and no repeat of it will. What uvicorn refuses
behind it (an unknown method, a handshake of another version) is a 400 `invalid_request` in the shape of errors. A replica that
is called directly, past HAProxy, answers that as plain text: `Invalid HTTP request received.` or `Failed to open a WebSocket
connection: …`. Any other answer without the shape comes from a proxy in front ([troubleshooting](troubleshooting.md)): whether
the call was carried out is unknown, so repeat it under its key.

A call whose caller hangs up before the answer has status 499 in the log of requests and in the metric
`aragora_http_requests_total`; no answer has it.

## Times and priorities

Each field has one form, which OpenAPI states. As the released API has them, the forms differ between kinds of objects:

| Where | Times | Priorities |
|---|---|---|
| tasks, agents, leases, health, controls, keys, snapshots, explanations | epoch seconds (a number) | 0, 50, 75, 100 |
| events: SSE, WebSocket, `/tasks/{{id}}/events`, `/story` | epoch seconds | 0, 50, 75, 100 |
| jobs of `/queue`, entries of `/tasks/history` | ISO 8601 in UTC | `low`, `normal`, `high`, `urgent` |
| deliberations and their transcripts | ISO 8601 in UTC | |
| receipts | epoch seconds where they are signed; `timestamp` is ISO 8601 | |
| bodies and queries of requests, `effective_priority` of an explanation | epoch seconds | a name, of any case |

A time in ISO 8601 always has microseconds and the offset: `2026-01-31T12:00:00.000000+00:00`. The `timestamp` of a receipt, which
is compared when it is verified, leaves out microseconds that are zero.

## Repeating safely

Every mutating call takes the header `Idempotency-Key`, 1 to 255 printable characters, not all blank. A call that creates agents,
tasks or a deliberation stores the key with the body for `ARAGORA_IDEMPOTENCY_WINDOW` seconds, in the transaction of the change.
A repeat with the same key and body gets the same answer and changes nothing; the same key with another body is a 409. A
key is its principal's: the same key of somebody else is another one. On a claim the key works as `claim_id`: the same key
gives the same leases. The other mutating calls can be repeated with or without a key (cancelling twice, pausing twice,
reporting an attempt twice); only the second deletion of an agent without a key is a 404. A deliberation without a key
and without a `request_id` is recognised by its body, because the released client sends it again after a time-out.

## Limits

| What | Limit |
|---|---|
| body | `ARAGORA_MAX_BODY_BYTES`, {Settings.model_fields["max_body_bytes"].default:,} bytes by default |
| items of a batch (agents, tasks, reports) | {MAX_BATCH:,}; heartbeats 10,000 |
| tasks of one claim | {MAX_CLAIM} |
| wait of a claim (`block_ms`) | {MAX_BLOCK_MS:,} ms; more is cut to that |
| wait of a synchronous deliberation | {SYNC_WAIT_S:g} s, then 202 with a `Location` |
| nesting of JSON that is kept | {MAX_DEPTH} levels |
| ids that clients choose | `{ID_PATTERN}`, none of {", ".join(f"`{word}`" for word in sorted(ROUTE_WORDS))} |
| names (task types, capabilities, models, of keys and queues) | one line without control characters, not all blank |

Unknown fields are ignored in the bodies that the released client sends, because it turns any keyword argument into a field.
In all other bodies and parts of bodies (access, queue controls, the dead letter, outcomes; `price` and `rate` of an agent,
`after` of a task) an unknown field is a 400 `unknown_field` that names the nearest known one. Values that are not accepted
are refused.

A query parameter that a read, a deletion or a call of the dead letter does not have is a 400 `unknown_parameter`, and one that is
given twice a 400 `repeated_parameter`; an empty filter is not accepted. Names that begin with `_` (against caches), `token` and
the names of the workspace are ignored, and `/health` with what is below it, `/metrics`, `/breakers` and `/stats` take any;
`/queue/metrics` does not.

## Permissions

Every route and every WebSocket declares one permission; the application does not start if one declares none. The permission
is checked before the body and the parameters. While authentication is off, every caller is the local administrator, who has
all permissions. [Permissions](permissions.md) has every role, every call, what is withheld without
`controlplane:payloads.read`, and what a workspace is. A call that names another workspace than it acts in (the header
`X-Aragora-Workspace`, or `workspace_id` in its query or body) is a 403.

A grant may also use these names, which stand for several permissions or for one:

| Name | Permissions |
|---|---|
{_aliases()}

The older spelling `control_plane:agents:read` stands for `controlplane:agents.read`, and likewise for all others.
"""

STREAM = """
## Streams

`GET {prefix}/stream` with `Accept: text/event-stream`, or a WebSocket at `{prefix}/stream` or
`/ws/control-plane`: see [streams](streams.md). The permission is `{permission}`.

A WebSocket at `{prefix}/agents/heartbeats` takes bodies of `POST {prefix}/agents/heartbeats` as
frames, and needs the same permission. A refused handshake is answered like a refused call: 401 or 403, with the same
body.
"""


def page() -> str:
    document = make_app().openapi()
    sections: dict[str, list[str]] = {}
    for path, route in _routes():
        operation = document["paths"][path]
        for method in sorted(route.methods or ()):
            tag = str((route.tags or ["health"])[0])
            lines = _route(method, path, route, operation[method.lower()], document["components"]["schemas"])
            sections.setdefault(tag, []).append("\n".join(lines))
    body = "".join(f"\n## {tag.capitalize()}\n\n" + "\n\n".join(routes) + "\n" for tag, routes in sections.items())
    return (
        HEAD
        + _released_client()
        + body
        + STREAM.replace("{prefix}", PREFIXES[0]).replace("{permission}", Permission.STREAM_READ)
    )


def _released_client() -> str:
    """How much of the released client works.

    Raises: `AssertionError` if one of its methods has no route."""
    missing = without_route((method, path) for path, route in _routes() for method in route.methods or ())
    assert not missing, missing
    return f"""
## The released client

All {len(list(methods()))} methods of the `control_plane` namespace of the released client work unmodified, as do those of its
asynchronous client.
"""


def _routes() -> Iterator[tuple[str, APIRoute]]:
    routers: Sequence[tuple[str, APIRouter]] = (("", health.root), *((PREFIXES[0], router) for router in _ROUTERS))
    for prefix, router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute):
                yield prefix + route.path, route


def _route(
    method: str, path: str, route: APIRoute, operation: Mapping[str, Any], schemas: Mapping[str, Any]
) -> list[str]:
    permission = getattr(route.endpoint, "permission", None)
    lines = [f"### `{method} {path}`", "", f"Permission `{permission}`. Answers {route.status_code or 200}."]
    if route.description:
        lines[-1] += " " + re.sub(r"\s+", " ", route.description.replace("``", "`"))
    parameters = [_parameter(p) for p in operation.get("parameters", ()) if p["in"] == "query"]
    if parameters:
        lines += ["", f"Query: {', '.join(parameters)}."]
    fields = _body(operation, schemas)
    if fields:
        lines += ["", "| Field | Type | Default |", "|---|---|---|", *fields]
    return lines


def _parameter(parameter: Mapping[str, Any]) -> str:
    default = parameter["schema"].get("default")
    shown = "" if default is None else f" (default `{str(default).lower() if isinstance(default, bool) else default}`)"
    return f"`{parameter['name']}`{shown}"


def _body(operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> list[str]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    schema = schemas.get(_reference(content), {})
    required = set(schema.get("required", ()))
    rows = []
    for name, field in schema.get("properties", {}).items():
        default = "**required**" if name in required else f"`{_json(field.get('default'))}`"
        rows.append(f"| `{name}` | {_type(field, schemas)} | {default} |")
    return rows


def _reference(schema: Mapping[str, Any]) -> str:
    for option in (schema, *schema.get("anyOf", ())):
        if "$ref" in option:
            return str(option["$ref"]).rpartition("/")[2]
    return ""


def _json(value: Any) -> str:
    return {None: "null", True: "true", False: "false"}.get(value, str(value)) if _hashable(value) else str(value)


def _hashable(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _type(field: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """A field's type in words, with its bounds."""
    options = [option for option in field.get("anyOf", [field]) if option.get("type") != "null"]
    return " or ".join(_one_type(option, schemas) for option in options) or "any"


def _one_type(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    name = _reference(schema)
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    if name:
        known = schemas.get(name, {})
        return _one_type(known, schemas) if "enum" in known else name
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list{_bounds(schema)} of {_type(schema.get('items', {}), schemas)}"
    return kind + _bounds(schema) + (" characters" if kind == "string" and "maxLength" in schema else "")


def _bounds(schema: Mapping[str, Any]) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum", schema.get("minLength", schema.get("minItems"))))
    high = schema.get("maximum", schema.get("maxLength", schema.get("maxItems")))
    least = "more than" if "exclusiveMinimum" in schema else "at least"
    if low is None and high is None:
        return ""
    if high is None:
        return f", {least} {low:g}"
    return f", at most {high:g}" if low is None else f", {low:g} to {high:g}"


if __name__ == "__main__":
    sys.stdout.write(page())
