"""Shapes of answers, as JSON Schemas. Each field has one form: a time is epoch seconds in one kind of object and ISO 8601 in
another, as the released API has them, but never both in the same place."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from cluster.domain.access.workspaces import WorkspaceState
from cluster.domain.agents.agent import AgentBody, AgentStatus, Health, Intent, IntentBy, Liveness, TransportKind
from cluster.domain.base.ids import ID_PATTERN
from cluster.domain.budgets.budget import BudgetScope, Mode, Period
from cluster.domain.notifications.channel import ChannelKind, MailTls
from cluster.domain.notifications.delivery import DeliveryStatus
from cluster.domain.notifications.events import Severity
from cluster.domain.notifications.rules import RepeatBy
from cluster.domain.policies.policy import Enforcement
from cluster.domain.policies.policy import Scope as PolicyScope
from cluster.domain.policies.violations import ViolationStatus, ViolationType
from cluster.domain.quotas.quotas import QuotaKind
from cluster.domain.schedules.schedule import CatchUp, Overlap
from cluster.domain.schedules.schedule import State as ScheduleState
from cluster.domain.tasks.questions import Verdict
from cluster.domain.tasks.task import Body, TaskDetail, TaskStatus
from cluster.domain.workflows.document import FailureCode, RunStatus, StepStatus

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
NOTHING: Schema = {"type": "null"}
YES_OR_NO: Schema = {"type": "boolean"}
ANYTHING: Schema = {}
MAP: Schema = {"type": "object"}
ID: Schema = {"type": "string", "pattern": f"^{ID_PATTERN}$"}
CURSOR: Schema = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "maxLength": 512}
DIGEST: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


EPOCH = ref("EpochSeconds")
ISO = ref("IsoTime")
LOCAL = ref("LocalTime")
LEVEL = ref("PriorityNumber")
LEVEL_NAME = ref("PriorityName")


def nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def listed(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def words(kind: type[StrEnum]) -> Schema:
    return {"type": "string", "enum": [word.value for word in kind]}


def fields(**given: Schema) -> Schema:
    """An object with these fields; a name that ends with ``_opt`` is of a field that may be left out."""
    required = [name for name in given if not name.endswith("_opt")]
    properties = {name.removesuffix("_opt"): schema for name, schema in given.items()}
    return {"type": "object", "properties": properties, "required": required}


def more(name: str, **given: Schema) -> Schema:
    """A named shape with more fields."""
    first, second = SHAPES[name], fields(**given)
    return {
        "type": "object",
        "x-extends": name,
        "properties": first["properties"] | second["properties"],
        "required": first["required"] + second["required"],
    }


SHAPES: dict[str, Schema] = {
    "EpochSeconds": {
        "type": "number",
        "minimum": 0,
        "description": "A time: seconds since 1970 (UTC), with a fraction.",
    },
    "IsoTime": {
        "type": "string",
        "format": "date-time",
        "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$",
        "description": "A time: ISO 8601 in UTC, with microseconds.",
    },
    "LocalTime": {
        "type": "string",
        "format": "date-time",
        "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d(:\d\d)?$",
        "description": "A time: ISO 8601 in a time zone, with what that is ahead of UTC then.",
    },
    "PriorityNumber": {"type": "integer", "enum": [0, 50, 75, 100], "description": "low, normal, high, urgent"},
    "PriorityName": {"type": "string", "enum": ["low", "normal", "high", "urgent"]},
    "Error": fields(
        error={"type": "string", "minLength": 1, "description": "One sentence that says what to do."},
        code={"type": "string", "pattern": "^[a-z][a-z0-9_]*$", "description": "For programs; it does not change."},
        trace_id={"type": "string", "description": "Also in the header X-Trace-Id and in the log."},
        errors_opt=listed(fields(field=TEXT, message=TEXT)),
        # Of a submit that a policy refuses.
        policy_id_opt=ID,
        policy_version_opt=COUNT,
        violation_type_opt=words(ViolationType),
        allowed_opt=TEXT,
        # Of one for which a budget is used up.
        budget_id_opt=ID,
        resets_at_opt=EPOCH,
        # Of a submit or registration for which a quota has no room.
        quota_opt=words(QuotaKind),
        limit_opt=COUNT,
        used_opt=COUNT,
        can_override_opt=YES_OR_NO,
        index_opt=COUNT,
        # Of a call that another region has to answer.
        zone_opt=TEXT,
        region_opt=nullable(TEXT),
        url_opt=nullable(TEXT),
    ),
}

#: What an event says, by SSE, WebSocket and in lists of events.
SHAPES["EventData"] = {
    "type": "object",
    "properties": {"priority": LEVEL},
    "patternProperties": {"_at$": nullable(EPOCH)},
    "additionalProperties": True,
    "description": "Depends on the type. Times are epoch seconds, priorities numbers.",
}
SHAPES["Frame"] = {
    **fields(type=TEXT, timestamp=EPOCH, seq_opt=WHOLE, data=ref("EventData")),
    "description": "An event of a stream, by SSE or WebSocket.",
}
SHAPES["Progress"] = fields(
    attempt=COUNT, reported_at=EPOCH, percent=nullable(NUMBER), message=nullable(TEXT),
)  # fmt: skip
SHAPES["RetryPolicy"] = fields(
    attempts=COUNT, initial_seconds_opt=NUMBER, factor_opt=NUMBER, cap_seconds_opt=NUMBER,
    non_retryable_opt=listed({"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_.-]{0,63}$"}), calls_opt=COUNT,
)  # fmt: skip
SHAPES["Question"] = fields(
    attempt=COUNT, open=YES_OR_NO, question=TEXT, answer_schema=nullable(MAP), answerers=listed(TEXT),
    time_limit_seconds=nullable(NUMBER), asked_at=EPOCH, asked_by=TEXT, due_at=nullable(EPOCH),
    verdict=nullable(words(Verdict)), answer=ANYTHING, reason=nullable(TEXT), answered_at=nullable(EPOCH),
    answered_by=nullable(TEXT), default_opt=ANYTHING,
)  # fmt: skip
SHAPES["LeasedQuestion"] = more("Question")
SHAPES["OpenQuestion"] = more("Question", task_id=ID, task_type=TEXT, queue=TEXT, priority=LEVEL)
SHAPES["Parked"] = fields(attempt=COUNT, parked_at=EPOCH, children=listed(ID))
SHAPES["ChildOutcome"] = fields(
    task_id=ID, task_type=TEXT, status=words(TaskStatus), status_detail=words(TaskDetail), result=ANYTHING,
    error=nullable(TEXT), left_out_opt=listed(words(Body)),
)  # fmt: skip
SHAPES["Task"] = fields(
    id=ID, task_type=TEXT, payload=ANYTHING, required_capabilities=listed(TEXT), status=words(TaskStatus),
    status_detail=words(TaskDetail), priority=LEVEL, created_at=EPOCH, run_at=EPOCH, assigned_at=nullable(EPOCH),
    started_at=nullable(EPOCH), completed_at=nullable(EPOCH), changed_at=EPOCH, assigned_agent=nullable(ID),
    timeout_seconds=NUMBER,
    max_retries=COUNT, retries=COUNT, attempt=COUNT, result=ANYTHING, error=nullable(TEXT), metadata=MAP, queue=TEXT,
    target_agent=nullable(ID), target_region=nullable(TEXT), fallback_regions=listed(TEXT), assigned_region=nullable(TEXT),
    region_routing_mode=TEXT, origin_region=TEXT, replayed_as_opt=ID, tenant_opt=TEXT, queue_timeout_seconds_opt=NUMBER,
    total_timeout_seconds_opt=NUMBER, concurrency_key_opt=TEXT, concurrency_limit_opt=WHOLE, worker_version_opt=TEXT,
    sticky_key_opt=TEXT,
    excluded_agents_opt=listed(ID), after_opt=listed(fields(id=ID, when_failed=TEXT)), left_out_opt=listed(words(Body)),
    redacted_opt=YES_OR_NO, progress_opt=ref("Progress"), checkpoint_opt=ANYTHING,
    retry_opt=ref("RetryPolicy"), question_opt=ref("Question"), parent_task_id_opt=ID, parked_opt=ref("Parked"),
)  # fmt: skip
SHAPES["Workspace"] = fields(
    id=ID, name=TEXT, state=words(WorkspaceState), zone=nullable(TEXT), created_at=EPOCH, changed_at=EPOCH,
)  # fmt: skip
SHAPES["Member"] = fields(workspace=TEXT, subject=TEXT, role=TEXT, created_at=EPOCH, created_by=TEXT)
SHAPES["Role"] = fields(name=TEXT, built_in=YES_OR_NO, permissions=listed(TEXT))
SHAPES["ApiKey"] = fields(
    id=ID, name=TEXT, state={"type": "string", "enum": ["valid", "expired", "revoked", "workspace_deleted"]},
    state_detail_opt=nullable(TEXT), workspaces=listed(TEXT), grants=listed(TEXT), agents=nullable(listed(ID)),
    created_at=EPOCH, created_by=TEXT, expires_at=nullable(EPOCH), revoked_at=nullable(EPOCH),
    overlap_until=nullable(EPOCH), last_used_at=nullable(EPOCH),
)  # fmt: skip
SHAPES["LeasedTask"] = more(
    "Task",
    lease_token=TEXT,
    lease_expires_at=EPOCH,
    redelivered=YES_OR_NO,
    question_opt=ref("LeasedQuestion"),
    children_opt=listed(ref("ChildOutcome")),
    traceparent_opt=TEXT,
)
SHAPES["DeadTask"] = more("Task", reason=words(TaskDetail), ended_at=EPOCH)
SHAPES["AuditEntry"] = fields(
    entry_id=TEXT, action=TEXT, actor=fields(type=TEXT, id=TEXT, name=NOTHING, ip_address=NOTHING, user_agent=NOTHING),
    resource_type=TEXT, resource_id=TEXT, timestamp=ISO, workspace_id=TEXT, details=ref("EventData"),
    outcome={"type": "string", "enum": ["success", "failure"]}, error_message=nullable(TEXT), sequence_number=COUNT,
    previous_hash=nullable(DIGEST), entry_hash=nullable(DIGEST),
)  # fmt: skip
SHAPES["Job"] = fields(
    id=ID, type=TEXT, name=TEXT, status=words(TaskStatus), status_detail=words(TaskDetail), progress=NUMBER,
    started_at=nullable(ISO), created_at=ISO, document_count=ANYTHING, agents_assigned=listed(ID), priority=LEVEL_NAME,
)  # fmt: skip
SHAPES["HistoryEntry"] = fields(
    id=ID, type=TEXT, status=words(TaskStatus), status_detail=words(TaskDetail), priority=LEVEL_NAME,
    assigned_agent=nullable(ID), result=ANYTHING, error=nullable(TEXT), retries=COUNT, duration_ms=nullable(NUMBER),
    created_at=ISO, started_at=nullable(ISO), completed_at=nullable(ISO), metadata=MAP,
    left_out_opt=listed(words(Body)), redacted_opt=YES_OR_NO,
)  # fmt: skip
SHAPES["TaskEvent"] = fields(
    n=COUNT, seq=COUNT, type=TEXT, timestamp=EPOCH, attempt=nullable(WHOLE), principal=TEXT, data=ref("EventData")
)
SHAPES["ChunkPage"] = fields(
    task_id=ID, status=words(TaskStatus), attempt=COUNT, after=TEXT, has_more=YES_OR_NO, elsewhere=YES_OR_NO,
    chunks=listed(fields(attempt=COUNT, n=COUNT, timestamp=EPOCH, content=ANYTHING)),
)  # fmt: skip
SHAPES["Explanation"] = fields(
    task_id=ID, status=words(TaskStatus), status_detail=words(TaskDetail), summary=TEXT,
    reasons=listed(fields(code=TEXT, message=TEXT, unblock=nullable(TEXT), at=nullable(EPOCH))),
    able_agents=listed(ID), queue=TEXT, tenant=TEXT, position_opt=WHOLE, retry_opt=ref("RetryPolicy"),
    effective_priority_opt=LEVEL_NAME, fairness_share_opt=NUMBER,
    dispatches_until_turn_opt=nullable(NUMBER),
)  # fmt: skip
SHAPES["Agent"] = fields(
    agent_id=ID, capabilities=listed(TEXT), status=words(AgentStatus), model=TEXT, provider=TEXT, metadata=MAP,
    registered_at=EPOCH, last_heartbeat=EPOCH, current_task_id=nullable(ID), tasks_completed=COUNT, tasks_failed=COUNT,
    avg_latency_ms=NUMBER, tags=listed(TEXT), region_id=TEXT, available_regions=listed(TEXT), region_latency_ms=MAP,
    last_heartbeat_by_region={"type": "object", "additionalProperties": EPOCH}, transport=words(TransportKind),
    endpoint=nullable(TEXT), max_concurrency=COUNT, version=nullable(TEXT), running_tasks=COUNT, intent=words(Intent),
    left_out_opt=listed(words(AgentBody)), intent_by=nullable(words(IntentBy)), liveness=words(Liveness), health=words(Health),
    credential=nullable(MAP),
    price=nullable(MAP), owner=nullable(TEXT), rate=nullable(MAP), options=MAP, dedicated=YES_OR_NO, num_cpus_opt=NUMBER,
    num_gpus_opt=NUMBER, memory_opt=COUNT, resources_opt=MAP, status_detail_opt=TEXT, notice_opt=TEXT,
)  # fmt: skip
SHAPES["Credential"] = fields(
    name=ID, origins=listed(TEXT), revision=COUNT, created_at=EPOCH, created_by=TEXT, changed_at=EPOCH, changed_by=TEXT,
    overlap_until=nullable(EPOCH),
)  # fmt: skip
SHAPES["Channel"] = fields(
    name=ID, kind=words(ChannelKind), credential=nullable(ID), url=nullable(TEXT), host=nullable(TEXT), port=nullable(COUNT),
    sender=nullable(TEXT), recipients=nullable(listed(TEXT)), tls=nullable(words(MailTls)), user=nullable(TEXT),
    changed_at=EPOCH, changed_by=TEXT,
)  # fmt: skip
SHAPES["NotificationRule"] = fields(
    name=ID, events=listed(TEXT), severity=words(Severity), channels=listed(ID), repeat_after_seconds=NUMBER,
    repeat_by=words(RepeatBy), digest_seconds=nullable(NUMBER), quiet=nullable(MAP), changed_at=EPOCH, changed_by=TEXT,
)  # fmt: skip
SHAPES["Notification"] = fields(
    notification_id=ID, channel=ID, rule=nullable(ID), event=TEXT, severity=words(Severity), title=TEXT, entity=TEXT, seq=COUNT,
    event_at=EPOCH, created_at=EPOCH, status=words(DeliveryStatus), attempts=COUNT, repeats=COUNT,
    next_attempt_at=nullable(EPOCH), ended_at=nullable(EPOCH), last_error=nullable(TEXT),
)  # fmt: skip
SHAPES["HealthCheck"] = fields(
    agent_id=ID, status=TEXT, latency_ms=nullable(NUMBER), timestamp=EPOCH, error=nullable(TEXT), metadata=MAP
)
SHAPES["DetailedHealth"] = fields(
    status=TEXT, uptime_seconds=COUNT, version=TEXT,
    components=listed(fields(name=TEXT, status=TEXT, latency_ms_opt=NUMBER, error_opt=TEXT, warnings_opt=listed(TEXT))),
)  # fmt: skip
SHAPES["AgentMetrics"] = fields(
    agent_id=ID, status=words(AgentStatus), tasks_completed=COUNT, tasks_failed=COUNT, running_tasks=COUNT,
    findings_generated=COUNT, average_response_time_ms=NUMBER, error_rate=NUMBER, last_active=EPOCH, uptime_seconds=NUMBER,
)  # fmt: skip
SHAPES["Control"] = fields(
    kind=TEXT, name=TEXT, paused=YES_OR_NO, changed_at=nullable(EPOCH), changed_by=nullable(TEXT),
    rate_per_second_opt=nullable(NUMBER), burst_opt=WHOLE, weight_opt=NUMBER,
)  # fmt: skip
SHAPES["Usd"] = {
    "type": "string",
    "pattern": r"^-?\d+\.\d{2,9}$",
    "description": "US dollars.",
}
_SPENT = {"spent_usd": ref("Usd"), "reserved_usd": ref("Usd"), "attempts": COUNT, "unknown_costs": COUNT}
SHAPES["Budget"] = fields(
    id=ID,
    **dict.fromkeys(("name", "created_by", "updated_by"), TEXT),
    scope=words(BudgetScope),
    subject=nullable(TEXT),
    period=words(Period),
    mode=words(Mode),
    limit_usd=ref("Usd"),
    estimate_usd=ref("Usd"),
    version=COUNT,
    created_at=ISO,
    updated_at=ISO,
    usage_opt=fields(
        **_SPENT,
        **dict.fromkeys(("period_start", "period_end"), ISO),
        available_usd=ref("Usd"),
        level=COUNT,
        forecast_usd=nullable(ref("Usd")),
    ),
)
SHAPES["Quotas"] = fields(
    workspace=ID,
    quotas=fields(**dict.fromkeys(QuotaKind, nullable(COUNT))),
    used=fields(**dict.fromkeys(("agents", "queued_tasks", "running_tasks"), COUNT)),
    version=COUNT,
    updated_at=nullable(ISO),
    updated_by=nullable(TEXT),
)
SHAPES["Spending"] = fields(day=TEXT, agent_id=ID, task_type=TEXT, **_SPENT)
SHAPES["PolicyPriority"] = {
    "type": "integer",
    "minimum": -1_000_000,
    "maximum": 1_000_000,
    "description": "Of several policies that refuse a submit, the highest is named.",
}
SHAPES["Policy"] = fields(
    **dict.fromkeys(("id",), ID),
    **dict.fromkeys(("name", "description", "created_by", "updated_by"), TEXT),
    scope=words(PolicyScope),
    all_workspaces=YES_OR_NO,
    **dict.fromkeys(("workspaces", "task_types", "capabilities", "agent_allowlist", "agent_blocklist"), listed(TEXT)),
    region_constraint=fields(allowed_regions=listed(TEXT), blocked_regions=listed(TEXT)),
    sla=fields(max_execution_seconds=nullable(NUMBER)),
    deny_when=nullable(TEXT),
    enforcement_level=words(Enforcement),
    enabled=YES_OR_NO,
    priority=ref("PolicyPriority"),
    metadata=MAP,
    version=COUNT,
    previous_version=nullable(COUNT),
    created_at=ISO,
    updated_at=ISO,
)
SHAPES["PolicyConflict"] = fields(policy_id=ID, reason=TEXT)
SHAPES["Violation"] = fields(
    **dict.fromkeys(("id", "policy_id", "workspace_id"), ID),
    policy_version=COUNT,
    **dict.fromkeys(("policy_name", "description", "task_type", "submitted_by", "resolution_notes"), TEXT),
    violation_type=words(ViolationType),
    enforcement_level=words(Enforcement),
    task_id=nullable(ID),
    **dict.fromkeys(("agent_id", "region", "resolved_by"), nullable(TEXT)),
    timestamp=ISO,
    status=words(ViolationStatus),
    resolved_at=nullable(ISO),
    overridden=YES_OR_NO,
    metadata=MAP,
)
SHAPES["Schedule"] = fields(
    schedule_id=ID, name=TEXT, state=words(ScheduleState), cron=nullable(TEXT), timezone=TEXT, every_seconds=nullable(COUNT),
    starts_at=nullable(EPOCH), ends_at=nullable(EPOCH), jitter_seconds=NUMBER, catch_up=words(CatchUp),
    catch_up_window_seconds=NUMBER, catch_up_limit=COUNT, overlap=words(Overlap), paused=YES_OR_NO,
    next_run_at=nullable(EPOCH), last_due_at=nullable(EPOCH), last_run_id=nullable(ID), open_run_ids=listed(ID),
    runs_started=COUNT, created_at=EPOCH, changed_at=EPOCH, created_by=TEXT, task_type=nullable(TEXT), task=nullable(MAP),
    deliberation=nullable(MAP), workflow_name=nullable(ID), workflow=nullable(MAP),
)  # fmt: skip
SHAPES["Hook"] = fields(
    name=ID, path=TEXT, paused=YES_OR_NO, task_type=nullable(TEXT), task=nullable(MAP), workflow=nullable(ID),
    signal=nullable(MAP), version=nullable(COUNT), metadata=nullable(MAP), input=ANYTHING, rate_per_minute=NUMBER,
    secrets=listed(fields(ends_at=nullable(EPOCH))), revision=COUNT, created_at=EPOCH, created_by=TEXT, changed_at=EPOCH,
    changed_by=TEXT,
)  # fmt: skip
SHAPES["Workflow"] = fields(name=TEXT, version=COUNT, created_at=EPOCH, created_by=TEXT, steps=listed(ID), document=MAP)
SHAPES["RunStep"] = fields(
    id=ID, status=words(StepStatus), tasks=nullable(COUNT), started=COUNT, open=COUNT, failed=COUNT, failed_items=listed(COUNT),
    first_task_id=nullable(ID), first_deliberation_id=nullable(ID), code=nullable(words(FailureCode)), reason=TEXT,
    started_at=nullable(EPOCH),
    ended_at=nullable(EPOCH), waits_until=nullable(EPOCH), result_opt=ANYTHING, result_left_out_opt=YES_OR_NO,
)  # fmt: skip
SHAPES["WorkflowRun"] = fields(
    run_id=ID, workflow=TEXT, version=COUNT, status=words(RunStatus), created_at=EPOCH, changed_at=EPOCH,
    ended_at=nullable(EPOCH), created_by=TEXT, replays=nullable(ID), metadata=MAP, steps=listed(ref("RunStep")),
)  # fmt: skip
SHAPES["Decision"] = fields(
    request_id=ID, task_id=ID, status=TEXT, terminal=nullable(TEXT), decision_type=TEXT, answer=nullable(TEXT), value=ANYTHING,
    answer_type=nullable(TEXT), confidence=nullable(NUMBER), confidence_calibrated=YES_OR_NO, consensus_reached=YES_OR_NO,
    authoritative=YES_OR_NO, decided_by=nullable(TEXT), reasoning=TEXT, evidence_used=listed(TEXT), dissent=listed(MAP),
    dissenting_views=listed(TEXT),
    supporters=listed(ID), abstained=listed(fields(agent=ID, reason=TEXT)), tally=MAP, tie_path=listed(TEXT),
    pairwise=nullable(MAP), stop=nullable(TEXT), applied_mode=nullable(TEXT), snapshot_id=nullable(TEXT),
    kind=nullable(TEXT), panel=listed(ID), lost=listed(ID), debate_delta=nullable(MAP), mode=nullable(TEXT),
    rounds_completed=COUNT, total_tokens=COUNT, total_cost_usd=NUMBER, cost=nullable(MAP), agent_calls=COUNT,
    duration_seconds=nullable(NUMBER), error=nullable(TEXT), redacted_opt=YES_OR_NO,
    person=nullable(fields(
        task_id=ID, asked_at=EPOCH, verdict=nullable(words(Verdict)), answered_by=nullable(TEXT), answered_at=nullable(EPOCH),
        rationale=TEXT, ended_as=TEXT, decided=YES_OR_NO,
        agents=fields(terminal=TEXT, reason=TEXT, answer=nullable(TEXT), value=ANYTHING),
    )),
)  # fmt: skip
SHAPES["Deliberation"] = fields(
    request_id=ID, task_id=ID, status=TEXT, deliberation_status=TEXT, state=TEXT, terminal=nullable(TEXT),
    status_detail=nullable(TEXT), question_task_id=nullable(ID),
    question=nullable(TEXT), created_at=ISO, completed_at=nullable(ISO), changed_at=EPOCH, result=nullable(ref("Decision")),
    error=nullable(TEXT), contract_digest=DIGEST, context_id_opt=TEXT, redacted_opt=YES_OR_NO,
    metrics_opt=fields(duration_seconds=NUMBER, rounds_completed=COUNT, total_agent_responses=COUNT,
                       consensus_confidence=nullable(NUMBER), sla_compliance=TEXT),
)  # fmt: skip
SHAPES["Snapshot"] = fields(
    snapshot_id=TEXT, version=WHOLE, created_at=EPOCH, agents=listed(ID), outcomes=COUNT, gate=MAP, learned=MAP, log_odds=MAP,
    accuracy=MAP, owner_cap=nullable(NUMBER), calibrated=listed(TEXT), kinds=MAP, alarms=listed(MAP),
    document_opt=MAP,
)  # fmt: skip
SHAPES["Receipt"] = {
    **fields(
        schema_version=TEXT, receipt_id=TEXT, request_id=ID, timestamp=TEXT, input_summary=nullable(TEXT),
        input_hash=nullable(TEXT), verdict=TEXT, confidence=nullable(NUMBER), dissenting_views=listed(TEXT), consensus_proof=MAP,
        artifact_hash=TEXT, head=MAP, signature=MAP, contract=nullable(MAP), events=listed(MAP),
    ),
    "description": "Its own schema and all its rules: docs/receipts.md.",
}  # fmt: skip
