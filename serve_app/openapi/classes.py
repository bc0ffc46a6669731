"""Which fields of answers are shown to whom: each is a number or a name that every reader may see, or it takes a permission.

A field whose schema leaves no room for words (a number, a time, an id, one of a closed set) is shown. Every other field is in one
of the tables below, by the name of its shape (``Task``) or of its call (``GET /stats``), a dot and its own name. A field that is
in neither is withheld like a payload; a test fails until it is in one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.domain.access.permissions import Permission
from serve_app.openapi.answers import ANSWERS, ROOT_ANSWERS
from serve_app.openapi.shapes import SHAPES, Schema

#: Names, kinds and our own sentences: what a client or an operator chose to call something, and what we say about it.
SHOWN: Mapping[str, str] = {
    "Error": "error trace_id allowed zone region url",
    "Error.errors": "field message",
    "Task": (
        "task_type required_capabilities queue target_region fallback_regions assigned_region region_routing_mode "
        "origin_region tenant concurrency_key worker_version sticky_key"
    ),
    "Task.after": "when_failed",
    "Question": "answerers asked_by answered_by",
    "OpenQuestion": "task_type queue",
    "POST /tasks/{task_id}/answer": "answered_by",
    # An agent sees what it is leased, whatever else it may see.
    "LeasedTask": "payload result error metadata lease_token checkpoint traceparent",
    "LeasedQuestion": "question answer_schema answer reason default",
    "ChildOutcome": "task_type result error",
    "POST /tasks/complete.results": "task_id error code",
    "POST /tasks/fail.results": "task_id error code",
    "HistoryEntry": "type",
    # Routes leave the words out of the data of events (``serve_app.auth.words``): no schema tells them apart.
    "TaskEvent": "type principal data",
    "ChunkPage": "after",
    "GET /story/{subject_id}": "id",
    "GET /story/{subject_id}.events": "type entity principal cause data",
    # As with events, routes leave the words out of details and errors.
    "AuditEntry": "entry_id action resource_type resource_id workspace_id details error_message",
    "AuditEntry.actor": "type id name ip_address user_agent",
    "GET /audit/stats": "retention_days",
    "GET /audit/verify": "message",
    "POST /erasures": "not_reached",
    "GET /stream": "sse websocket filters frame",
    "Explanation": "summary queue tenant",
    "Explanation.reasons": "code message unblock",
    # An agent's metadata describe it, and its worker reads them to know its own registration.
    "Agent": (
        "capabilities model provider metadata tags region_id available_regions region_latency_ms endpoint price owner rate "
        "resources status_detail notice version credential"
    ),
    "Credential": "origins created_by changed_by",
    "Channel": "changed_by",
    "NotificationRule": "events changed_by quiet",
    "Notification": "event title entity last_error",
    "POST /agents/heartbeats.refused": "agent_id error code",
    "Job": "type",
    "Control": "kind name changed_by",
    "Schedule": "name cron timezone created_by task_type",
    "GET /schedules/{schedule_id}/preview": "timezone",
    "Budget": "name subject created_by updated_by",
    "Quotas": "updated_by",
    "GET /spending": "start end",
    "Spending": "day task_type",
    "Policy": "name created_by updated_by workspaces task_types capabilities agent_allowlist agent_blocklist deny_when",
    "Policy.region_constraint": "allowed_regions blocked_regions",
    "PolicyConflict": "reason",
    "POST /policies/dry-run.tasks": "task_type reason",
    "Violation": "policy_name description task_type submitted_by agent_id region resolved_by",
    "PATCH /policies/violations/{violation_id}": "message",
    "Hook": "path task_type created_by changed_by",
    "POST /hooks": "path task_type created_by changed_by secret notice",
    "POST /hooks/{hook_name}/rotate": "path task_type created_by changed_by secret notice",
    "GET /workflow-schema": "schema",
    "Workflow": "name created_by",
    "WorkflowRun": "workflow created_by",
    "RunStep": "reason",
    "Decision": "status terminal decision_type answer_type decided_by tie_path stop applied_mode snapshot_id kind mode cost",
    "Decision.person": "verdict answered_by ended_as",
    "Decision.person.agents": "terminal",
    "POST /deliberations": "status",
    "Deliberation": "status deliberation_status status_detail state terminal",
    "Deliberation.metrics": "sla_compliance",
    "GET /deliberations/{request_id}/status": "status terminal",
    "GET /deliberations/{request_id}/transcript": "status",
    "GET /deliberations/{request_id}/transcript.events": "kind",
    # A receipt without its texts: what is signed about them (hashes, the root of the tree, the end), and the signature. Whoever
    # gets the whole receipt later can tell that it is the same one.
    "Receipt": "schema_version receipt_id request_id timestamp verdict consensus_proof artifact_hash head signature",
    "GET /receipts/keys.keys": "key_id algorithm public_key",
    "POST /outcomes/batch": "results",
    "Snapshot": "snapshot_id gate learned log_odds accuracy calibrated kinds alarms document",
    "GET /weights/alarms": "alarms",
    "GET /health": "status",
    "HealthCheck": "status metadata",
    "DetailedHealth": "status version",
    "DetailedHealth.components": "name status",
    "GET /breakers.breakers": "name state",
    "GET /regions": "region zone role phase primary mode etcd_leader no_writes problem in_sync warnings",
    "GET /regions.members": "region residency",
    "GET /regions.lag": "region",
    "GET /stats": "registry health scheduler config",
    # Who may do what is for those to see who may read that, and a new key's token for whoever made it.
    "Workspace": "name zone",
    "Member": "workspace subject role created_by",
    "PUT /workspaces/{workspace_id}/members": "workspace subject role",
    "Role": "name permissions",
    "ApiKey": "name state_detail workspaces grants created_by",
    "POST /keys": "name state_detail workspaces grants created_by token notice",
    "POST /keys/{key_id}/rotate": "name state_detail workspaces grants created_by token notice",
    # To whoever has the session, or has just logged in.
    "GET /auth/session": "principal groups csrf_token",
    "GET /auth/caller": "principal workspace roles permissions workspaces",
    "POST /auth/device": "device_code user_code verification_uri verification_uri_complete",
    "POST /auth/device/token": "token principal",
    "POST /auth/ticket": "ticket",
    "ROOT GET /health/live": "status",
    "ROOT GET /health": "degraded status",
}

#: Words and values that somebody wrote for somebody else.
PAYLOADS: Mapping[str, str] = {
    "Task": "payload result error metadata checkpoint",
    "Progress": "message",
    "Question": "question answer_schema answer reason default",
    "HistoryEntry": "result error metadata",
    "Schedule": "task deliberation workflow",  # payload and metadata, the question and its material, the input
    "Policy": "description metadata",
    "Violation": "resolution_notes metadata",
    "Hook": "task signal metadata input",
    "POST /hooks": "task metadata input",
    "POST /hooks/{hook_name}/rotate": "task metadata input",
    "Workflow": "document",  # inputs that its author wrote
    "WorkflowRun": "metadata",
    "RunStep": "result",
    "Job": "name document_count",  # of the metadata
    "ChunkPage.chunks": "content",
    "Agent": "options",  # which hold prompts
    "Channel": "url host sender recipients user",
    "HealthCheck": "error",
    "POST /dead-letter/replay.would_replay": "payload",
    "POST /dead-letter/{task_id}/replay": "payload",
    "Decision": ("answer value reasoning evidence_used dissent dissenting_views tally pairwise debate_delta error"),
    "Decision.abstained": "reason",
    "Decision.person": "rationale",
    "Decision.person.agents": "reason answer value",
    "Deliberation": "question error context_id",
    "GET /deliberations/{request_id}/transcript": "contract",
    "GET /deliberations/{request_id}/transcript.events": "data",
    "POST /deliberations/{request_id}/outcome": "correct agents",
    "Receipt": "input_summary input_hash dissenting_views contract events",
}

#: How the parts of the control plane are, which serve all workspaces.
OF_THE_SYSTEM: Mapping[str, str] = {
    "DetailedHealth.components": "latency_ms error warnings",
    "GET /metrics/system.cpu": "cores load_1m",
    "GET /metrics/system.memory": "total_bytes available_bytes replica_bytes",
}


def _listed(table: Mapping[str, str]) -> frozenset[str]:
    return frozenset(f"{owner}.{name}" for owner, names in table.items() for name in names.split())


_TABLES: Mapping[Permission | None, frozenset[str]] = {
    None: _listed(SHOWN),
    Permission.PAYLOADS_READ: _listed(PAYLOADS),
    Permission.SYSTEM_READ: _listed(OF_THE_SYSTEM),
}


@dataclass(frozen=True, slots=True)
class FieldClass:
    """``name`` as in the tables; ``permission`` that it takes, None if it is shown. ``is_listed``: a table has it, or its schema
    leaves no room for words."""

    name: str
    permission: Permission | None
    is_listed: bool


def class_of(owners: tuple[str, ...], name: str, schema: Schema) -> FieldClass | None:
    """The class of a field; None if it is an object or a list of objects, whose own fields have classes. ``owners`` are the
    names of its shape, the most special first."""
    for owner in owners:
        for permission, listed in _TABLES.items():
            if f"{owner}.{name}" in listed:
                return FieldClass(f"{owner}.{name}", permission, True)
    if _has_fields(schema):
        return None
    closed = _is_closed(schema)
    return FieldClass(f"{owners[0]}.{name}", None if closed else Permission.PAYLOADS_READ, closed)


def _followed(schema: Schema) -> Schema:
    """The schema behind a reference, without the null that it may be instead, and of a list its items'."""
    if "$ref" in schema:
        return _followed(SHAPES[schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return _followed(schema["anyOf"][0])
    if schema.get("type") == "array":
        return _followed(schema["items"])
    values = schema.get("additionalProperties")
    return _followed(values) if isinstance(values, dict) else schema


def _has_fields(schema: Schema) -> bool:
    # What an event says depends on its type: its rows have their words apart, and `auth.words` decides about those.
    return "properties" in _followed(schema) and _followed(schema).get("additionalProperties") is not True


def _is_closed(schema: Schema) -> bool:
    inner = _followed(schema)
    return inner.get("type") in ("integer", "number", "boolean") or "enum" in inner or "pattern" in inner


# --- the rule of a call's answer ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """What is withheld of a value. ``fields``: the permission that a field takes, None if it is shown; ``inside``: rules of
    fields that are objects. ``each``: the rule of every value of a map."""

    fields: Mapping[str, Permission | None] = field(default_factory=dict)
    inside: Mapping[str, Rule] = field(default_factory=dict)
    each: Rule | None = None
    #: Whoever has all of these sees everything. Computed once, because every answer is asked for it.
    permissions: frozenset[Permission] = field(init=False)

    def __post_init__(self) -> None:
        rules = [*self.inside.values(), *([self.each] if self.each is not None else [])]
        own = frozenset(permission for permission in self.fields.values() if permission is not None)
        object.__setattr__(self, "permissions", own.union(*(rule.permissions for rule in rules)))

    def applied(self, value: Any, held: frozenset[Permission]) -> Any:
        """The value without the fields for which a permission is missing. What no schema names is withheld as well."""
        if isinstance(value, list):
            return [self.applied(entry, held) for entry in value]
        if not isinstance(value, dict):
            return value
        if self.each is not None:
            return {name: self.each.applied(entry, held) for name, entry in value.items()}
        return {
            name: self.inside[name].applied(entry, held) if name in self.inside else entry
            for name, entry in value.items()
            if name in self.inside or self._shows(name, held)
        }

    def _shows(self, name: str, held: frozenset[Permission]) -> bool:
        permission = self.fields.get(name, Permission.PAYLOADS_READ)
        return permission is None or permission in held


def _name_of(schema: Schema) -> str | None:
    return schema["$ref"].rpartition("/")[2] if "$ref" in schema else None


def walk(schema: Schema, owner: str, note: Callable[[FieldClass], None] | None = None) -> Rule:
    """The rule of a schema. ``owner`` is the name of what has no name of its own; ``note`` gets the class of every field."""
    name, inner = _name_of(schema), schema
    if name is not None:
        return walk(SHAPES[name], name, note)
    if "anyOf" in schema:
        return walk(schema["anyOf"][0], owner, note)
    if schema.get("type") == "array":
        return walk(schema["items"], owner, note)
    if isinstance(schema.get("additionalProperties"), dict):
        return Rule(each=walk(schema["additionalProperties"], owner, note))
    owners = (owner, *([inner["x-extends"]] if "x-extends" in inner else ()))
    fields: dict[str, Permission | None] = {}
    inside: dict[str, Rule] = {}
    for field_name, field_schema in inner.get("properties", {}).items():
        found = class_of(owners, field_name, field_schema)
        if found is None:
            inside[field_name] = walk(field_schema, f"{owners[-1]}.{field_name}", note)
            continue
        if note is not None:
            note(found)
        fields[field_name] = found.permission
    return Rule(fields, inside)


def calls() -> Iterator[tuple[str, Mapping[int, Schema]]]:
    """Every call by its name in the tables, with the schemas of its answers."""
    for (method, path), answers in ANSWERS.items():
        yield f"{method} {path}", answers
    for (method, path), answers in ROOT_ANSWERS.items():
        yield f"ROOT {method} {path}", answers


def documented(schema: Schema, owner: str) -> Schema:
    """The schema as the OpenAPI document has it: a field that takes a permission names it, and may be absent."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [documented(option, owner) for option in schema["anyOf"]]}
    if schema.get("type") == "array":
        return {**schema, "items": documented(schema["items"], owner)}
    if "properties" not in schema:
        return schema
    owners = (owner, *([schema["x-extends"]] if "x-extends" in schema else ()))
    properties: Schema = {}
    required = set(schema.get("required", ()))
    for name, inner in schema["properties"].items():
        found = class_of(owners, name, inner)
        if found is None:
            properties[name] = documented(inner, f"{owners[-1]}.{name}")
        elif found.permission is None:
            properties[name] = inner
        else:
            # A reference is alone in its object.
            properties[name] = {"allOf": [inner]} if "$ref" in inner else dict(inner)
            properties[name]["x-permission"] = found.permission.value
            required.discard(name)
    return {**schema, "properties": properties, "required": [name for name in schema["properties"] if name in required]}


#: Call → status → what is withheld.
RULES: Mapping[str, Mapping[int, Rule]] = {
    call: {status: walk(schema, call) for status, schema in answers.items()} for call, answers in calls()
}
