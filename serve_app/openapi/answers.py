"""Which route answers what: the shapes of its answers by status, and the errors that its kind can have."""

from __future__ import annotations

from cluster.domain.audit.erasure import Scope
from cluster.domain.policies.violations import ViolationStatus, ViolationType
from cluster.domain.tasks.questions import Verdict
from cluster.domain.tasks.task import TaskStatus
from serve_app.openapi.shapes import (
    ANYTHING,
    COUNT,
    CURSOR,
    DIGEST,
    EPOCH,
    ID,
    ISO,
    LOCAL,
    MAP,
    NOTHING,
    NUMBER,
    TEXT,
    YES_OR_NO,
    Schema,
    fields,
    listed,
    more,
    nullable,
    ref,
    words,
)

JSON = "application/json"

_PAGED = {
    "total": COUNT,
    "total_exact": YES_OR_NO,
    "limit": COUNT,
    "offset": COUNT,
    "has_more": YES_OR_NO,
    "next_cursor": nullable(CURSOR),
}
#: Of a list that is read on by its cursor alone.
_KEYSET = {"total": COUNT, "total_exact": YES_OR_NO, "limit": COUNT, "next_cursor": nullable(CURSOR)}
_REPORTS = fields(
    results=listed(fields(task_id=nullable(TEXT), ok=YES_OR_NO, error_opt=TEXT, code_opt=TEXT)), total=COUNT
)
#: A repeated call is answered as an earlier build answered it, without what has been added since.
_CHOSEN = {"dry_run": YES_OR_NO, "total": COUNT, "total_exact_opt": YES_OR_NO, "remaining": COUNT}
_TASK, _AGENT, _CONTROL = ref("Task"), ref("Agent"), ref("Control")
_SCHEDULE = ref("Schedule")
_JUDGED_POLICY = more("Policy", conflicts=listed(ref("PolicyConflict")))
_NOTIFICATION = ref("Notification")
_TOLD = {"total_sent": COUNT, "successful": COUNT, "failed": COUNT, "pending": COUNT}
_WORKFLOW, _RUN = ref("Workflow"), ref("WorkflowRun")
_HOOK = ref("Hook")
_NEW_SECRET = {"secret": nullable(TEXT), "notice": TEXT}
_NEW_TOKEN = {"token": nullable(TEXT), "notice": TEXT}
_AUDIT_PAGE = {
    200: fields(
        entries=listed(ref("AuditEntry")),
        total=COUNT,
        total_exact=YES_OR_NO,
        query=fields(limit=COUNT, offset=COUNT),
    )
}
_DETAILED = {200: ref("DetailedHealth")}
_RETENTION = fields(
    workspace=ID,
    task_days=NUMBER,
    task_count=COUNT,
    deliberation_days=NUMBER,
    deliberation_count=COUNT,
    workflow_run_days=NUMBER,
    workflow_run_count=COUNT,
    spending_days=NUMBER,
    violation_days=NUMBER,
    policy_version_days=NUMBER,
    is_default=YES_OR_NO,
    run_requested=YES_OR_NO,
    last_run=nullable(fields(ended_at=EPOCH, tasks=COUNT, deliberations=COUNT, workflow_runs=COUNT)),
)
_REGIONS = fields(
    enabled=YES_OR_NO,
    region=TEXT,
    is_led=YES_OR_NO,
    **dict.fromkeys(
        ("zone", "role", "phase", "primary", "mode", "etcd_leader", "no_writes", "problem"), nullable(TEXT)
    ),
    epoch=nullable(COUNT),
    trusted_until=nullable(EPOCH),
    head=nullable(COUNT),
    in_sync=listed(TEXT),
    members=listed(fields(region=TEXT, holds_data=YES_OR_NO, residency=nullable(TEXT))),
    lag=listed(
        fields(region=TEXT, rows=nullable(COUNT), silent_seconds=nullable(NUMBER), is_stale=nullable(YES_OR_NO))
    ),
    surplus_rows=COUNT,
    warnings=listed(TEXT),
)
_HEALTH = fields(status={"type": "string", "enum": ["ok", "degraded"]}, degraded=listed(TEXT))

#: (method, path under the prefix or from the root) → status → the shape of the JSON answer.
ANSWERS: dict[tuple[str, str], dict[int, Schema]] = {
    # tasks
    ("POST", "/tasks"): {201: fields(task_id=ID, task_opt=_TASK)},
    ("GET", "/tasks"): {200: fields(tasks=listed(_TASK), **_PAGED)},
    ("POST", "/tasks/batch"): {201: fields(task_ids=listed(ID), total=COUNT)},
    ("POST", "/tasks/claim"): {
        200: fields(task=nullable(ref("LeasedTask")), tasks_opt=listed(ref("LeasedTask")), cancelling_opt=listed(ID))
    },
    ("POST", "/tasks/complete"): {200: _REPORTS},
    ("POST", "/tasks/fail"): {200: _REPORTS},
    ("POST", "/tasks/{task_id}/complete"): {200: fields(completed=YES_OR_NO)},
    ("POST", "/tasks/{task_id}/fail"): {200: fields(failed_opt=YES_OR_NO, released_opt=YES_OR_NO)},
    ("POST", "/tasks/{task_id}/stopped"): {200: fields(stopped=YES_OR_NO)},
    ("POST", "/tasks/{task_id}/cancel"): {200: fields(cancelled=YES_OR_NO)},
    ("POST", "/tasks/{task_id}/extend"): {200: fields(extended=YES_OR_NO, lease_expires_at=EPOCH)},
    ("GET", "/tasks/history"): {200: fields(history=listed(ref("HistoryEntry")), **_PAGED)},
    ("GET", "/tasks/{task_id}"): {200: _TASK},
    ("GET", "/tasks/{task_id}/events"): {
        200: fields(task_id=ID, events=listed(ref("TaskEvent")), total=COUNT, has_more=YES_OR_NO)
    },
    ("POST", "/tasks/{task_id}/chunks"): {200: fields(next=COUNT)},
    ("GET", "/tasks/{task_id}/chunks"): {200: ref("ChunkPage")},
    ("GET", "/tasks/{task_id}/chunks/stream"): {200: ref("ChunkPage")},
    ("GET", "/tasks/{task_id}/explain"): {200: ref("Explanation")},
    ("POST", "/tasks/{task_id}/children"): {201: fields(task_ids=listed(ID), total=COUNT)},
    ("POST", "/tasks/{task_id}/park"): {200: fields(parked=YES_OR_NO, attempt=COUNT)},
    # questions
    ("GET", "/questions"): {
        200: fields(
            questions=listed(ref("OpenQuestion")),
            total=COUNT,
            total_exact=YES_OR_NO,
            limit=COUNT,
            next_cursor=nullable(CURSOR),
        )
    },
    ("POST", "/tasks/{task_id}/ask"): {200: fields(asked=YES_OR_NO, attempt=COUNT)},
    ("POST", "/tasks/{task_id}/answer"): {200: fields(answered=YES_OR_NO, verdict=words(Verdict), answered_by=TEXT)},
    # agents
    ("POST", "/agents"): {201: _AGENT},
    ("GET", "/agents"): {200: fields(agents=listed(_AGENT), total=COUNT)},
    ("POST", "/agents/batch"): {201: fields(agents=listed(_AGENT), total=COUNT)},
    ("GET", "/agents/{agent_id}"): {200: _AGENT},
    ("DELETE", "/agents/{agent_id}"): {200: fields(unregistered=YES_OR_NO)},
    ("GET", "/agents/{agent_id}/metrics"): {200: ref("AgentMetrics")},
    ("GET", "/metrics/agents/{agent_id}"): {200: ref("AgentMetrics")},
    ("POST", "/agents/{agent_id}/pause"): {200: more("Agent", paused_at=EPOCH)},
    ("POST", "/agents/{agent_id}/drain"): {200: more("Agent", draining_since=EPOCH, drained=YES_OR_NO)},
    ("POST", "/agents/{agent_id}/resume"): {200: more("Agent", resumed_at=EPOCH)},
    ("POST", "/agents/{agent_id}/heartbeat"): {200: fields(acknowledged=YES_OR_NO, cancelling=listed(ID))},
    ("POST", "/agents/heartbeats"): {
        200: fields(
            acknowledged=COUNT,
            unknown=listed(ID),
            cancelling=listed(fields(agent_id=ID, task_id=ID)),
            refused_opt=listed(fields(index=COUNT, agent_id=nullable(TEXT), error=TEXT, code=TEXT)),
        )
    },
    # credentials
    ("GET", "/credentials"): {200: fields(credentials=listed(ref("Credential")), total=COUNT)},
    ("GET", "/credentials/{credential_name}"): {200: ref("Credential")},
    ("POST", "/credentials"): {201: ref("Credential")},
    ("POST", "/credentials/{credential_name}/rotate"): {200: ref("Credential")},
    ("DELETE", "/credentials/{credential_name}"): {200: fields(deleted=YES_OR_NO)},
    # notifications
    ("GET", "/notifications"): {
        200: fields(notifications=listed(_NOTIFICATION), total=COUNT, limit=COUNT, next_cursor=nullable(CURSOR))
    },
    ("GET", "/notifications/stats"): {
        200: fields(
            **_TOLD,
            success_rate=nullable(NUMBER),
            by_channel={"type": "object", "additionalProperties": fields(**_TOLD)},
            channels_configured=COUNT,
            kept_days=NUMBER,
        )
    },
    ("GET", "/notifications/channels"): {200: fields(channels=listed(ref("Channel")), total=COUNT)},
    ("POST", "/notifications/channels"): {201: ref("Channel")},
    ("DELETE", "/notifications/channels/{channel_name}"): {200: fields(deleted=YES_OR_NO)},
    ("POST", "/notifications/channels/{channel_name}/test"): {200: _NOTIFICATION},
    ("GET", "/notifications/rules"): {200: fields(rules=listed(ref("NotificationRule")), total=COUNT)},
    ("POST", "/notifications/rules"): {201: ref("NotificationRule")},
    ("DELETE", "/notifications/rules/{rule_name}"): {200: fields(deleted=YES_OR_NO)},
    ("GET", "/notifications/{notification_id}"): {200: _NOTIFICATION},
    ("POST", "/notifications/{notification_id}/replay"): {200: _NOTIFICATION},
    # hooks
    ("GET", "/hooks"): {200: fields(hooks=listed(_HOOK), total=COUNT)},
    ("POST", "/hooks"): {201: more("Hook", **_NEW_SECRET)},
    ("GET", "/hooks/{hook_name}"): {200: _HOOK},
    ("PUT", "/hooks/{hook_name}"): {200: _HOOK},
    ("POST", "/hooks/{hook_name}/rotate"): {200: more("Hook", **_NEW_SECRET)},
    ("POST", "/hooks/{hook_name}/pause"): {200: _HOOK},
    ("POST", "/hooks/{hook_name}/resume"): {200: _HOOK},
    ("DELETE", "/hooks/{hook_name}"): {200: fields(deleted=YES_OR_NO)},
    ("POST", "/hooks/{hook_name}"): {201: fields(task_id=nullable(ID), run_id=nullable(ID))},
    # schedules
    ("GET", "/schedules"): {
        200: fields(schedules=listed(_SCHEDULE), total=COUNT, total_exact=YES_OR_NO, limit=COUNT, offset=COUNT)
    },
    ("POST", "/schedules"): {201: _SCHEDULE},
    ("GET", "/schedules/{schedule_id}"): {200: _SCHEDULE},
    ("PUT", "/schedules/{schedule_id}"): {200: _SCHEDULE},
    ("DELETE", "/schedules/{schedule_id}"): {200: fields(deleted=YES_OR_NO)},
    ("POST", "/schedules/{schedule_id}/pause"): {200: _SCHEDULE},
    ("POST", "/schedules/{schedule_id}/resume"): {200: _SCHEDULE},
    ("POST", "/schedules/{schedule_id}/run"): {200: fields(schedule_id=ID, run_id=ID)},
    ("GET", "/schedules/{schedule_id}/preview"): {
        200: fields(
            schedule_id=ID,
            timezone=TEXT,
            runs=listed(fields(due_at=EPOCH, due=LOCAL, starts_at=EPOCH, starts=ISO)),
        )
    },
    # metrics
    ("GET", "/metrics/system"): {
        200: fields(
            cpu_opt=fields(cores_opt=COUNT, load_1m_opt=NUMBER),
            memory_opt=fields(total_bytes_opt=COUNT, available_bytes_opt=COUNT, replica_bytes_opt=COUNT),
            uptime_seconds=NUMBER,
            pending=COUNT,
            running=COUNT,
            throughput_per_minute=NUMBER,
        )
    },
    ("GET", "/metrics/tasks"): {
        200: fields(
            total=COUNT,
            by_status=fields(**dict.fromkeys(TaskStatus, COUNT)),
            by_type={"type": "object", "additionalProperties": COUNT},
            completion_rate=nullable(NUMBER),
            **dict.fromkeys(("avg_duration_ms", "avg_wait_time_ms", "throughput_per_minute"), NUMBER),
            **dict.fromkeys(("completed_today", "failed_today"), COUNT),
        )
    },
    # budgets
    ("GET", "/budgets"): {200: fields(budgets=listed(ref("Budget")), total=COUNT)},
    ("POST", "/budgets"): {201: ref("Budget")},
    ("GET", "/budgets/{budget_id}"): {200: ref("Budget")},
    ("PUT", "/budgets/{budget_id}"): {200: ref("Budget")},
    ("DELETE", "/budgets/{budget_id}"): {200: fields(deleted=YES_OR_NO)},
    ("GET", "/quotas"): {200: ref("Quotas")},
    ("PUT", "/quotas"): {200: ref("Quotas")},
    ("GET", "/spending"): {
        200: fields(
            **dict.fromkeys(("start", "end"), TEXT),
            spending=listed(ref("Spending")),
            **dict.fromkeys(("total_spent_usd", "total_reserved_usd"), ref("Usd")),
            truncated=YES_OR_NO,
        )
    },
    ("GET", "/spending/export"): {},
    # policies
    ("GET", "/policies"): {200: fields(policies=listed(ref("Policy")), total=COUNT)},
    ("POST", "/policies"): {201: _JUDGED_POLICY},
    ("POST", "/policies/dry-run"): {
        200: fields(
            **dict.fromkeys(("tried", "matched", "not_judged", "denied", "warned", "agent_refused"), COUNT),
            tasks=listed(fields(task_id=ID, task_type=TEXT, reason=TEXT)),
            conflicts=listed(ref("PolicyConflict")),
        )
    },
    ("GET", "/policies/{policy_id}"): {200: _JUDGED_POLICY},
    ("PUT", "/policies/{policy_id}"): {200: _JUDGED_POLICY},
    ("DELETE", "/policies/{policy_id}"): {200: fields(deleted=YES_OR_NO)},
    ("GET", "/policies/{policy_id}/versions"): {
        200: fields(versions=listed(ref("Policy")), total=COUNT, limit=COUNT, offset=COUNT)
    },
    ("POST", "/policies/{policy_id}/rollback"): {200: _JUDGED_POLICY},
    ("GET", "/policies/violations"): {
        200: fields(violations=listed(ref("Violation")), total=COUNT, limit=COUNT, offset=COUNT)
    },
    ("GET", "/policies/violations/stats"): {
        200: fields(
            **dict.fromkeys(("total", *ViolationStatus), COUNT),
            by_type=fields(**dict.fromkeys(ViolationType, COUNT)),
            open_by_type=fields(**dict.fromkeys(ViolationType, COUNT)),
        )
    },
    ("GET", "/policies/violations/{violation_id}"): {200: fields(violation=ref("Violation"))},
    ("PATCH", "/policies/violations/{violation_id}"): {
        200: fields(updated=YES_OR_NO, violation_id=ID, status=words(ViolationStatus), message=TEXT)
    },
    # workflows
    ("GET", "/workflow-schema"): {200: fields(schema=MAP)},
    ("GET", "/workflows"): {
        200: fields(workflows=listed(_WORKFLOW), total=COUNT, total_exact=YES_OR_NO, limit=COUNT, offset=COUNT)
    },
    ("POST", "/workflows"): {201: _WORKFLOW},
    ("GET", "/workflows/{name}"): {200: _WORKFLOW},
    ("DELETE", "/workflows/{name}"): {200: fields(deleted=YES_OR_NO)},
    ("POST", "/workflows/{name}/runs"): {201: _RUN},
    ("GET", "/workflow-runs"): {
        200: fields(runs=listed(_RUN), total=COUNT, total_exact=YES_OR_NO, limit=COUNT, offset=COUNT)
    },
    ("GET", "/workflow-runs/{run_id}"): {200: _RUN},
    ("POST", "/workflow-runs/{run_id}/cancel"): {200: _RUN},
    ("POST", "/workflow-runs/{run_id}/replay"): {201: _RUN},
    ("POST", "/workflow-runs/{run_id}/signals/{signal}"): {200: fields(run_id=ID, signal=ID)},
    # queue and dead letter
    ("GET", "/queue"): {200: fields(jobs=listed(ref("Job")), total=COUNT)},
    ("GET", "/queue/metrics"): {
        200: fields(
            **dict.fromkeys(("pending", "running", "completed_today", "failed_today"), COUNT),
            **dict.fromkeys(("avg_wait_time_ms", "avg_execution_time_ms", "throughput_per_minute"), NUMBER),
        )
    },
    ("POST", "/queue/prioritize"): {200: fields(success=YES_OR_NO, task=_TASK)},
    ("GET", "/queue/controls"): {200: fields(controls=listed(_CONTROL), total=COUNT)},
    ("PUT", "/queue/controls"): {200: _CONTROL},
    ("POST", "/queue/pause"): {200: _CONTROL},
    ("POST", "/queue/resume"): {200: _CONTROL},
    ("GET", "/dead-letter"): {
        200: fields(
            tasks=listed(ref("DeadTask")), total=COUNT, total_exact=YES_OR_NO, limit=COUNT, next_cursor=nullable(CURSOR)
        )
    },
    ("POST", "/dead-letter/replay"): {
        200: fields(
            **_CHOSEN,
            replayed_opt=listed(fields(task_id=ID, replayed_as=ID)),
            would_replay_opt=listed(fields(task_id=ID, payload=ANYTHING)),
        )
    },
    ("POST", "/dead-letter/purge"): {200: fields(**_CHOSEN, purged_opt=COUNT, would_purge_opt=listed(ID))},
    ("GET", "/dead-letter/{task_id}"): {200: ref("DeadTask")},
    ("POST", "/dead-letter/{task_id}/replay"): {
        200: fields(dry_run=YES_OR_NO, task_id=ID, replayed_as_opt=ID, payload_opt=ANYTHING)
    },
    # deliberations
    ("POST", "/deliberations"): {
        200: ref("Decision"),
        202: fields(task_id=ID, request_id=ID, status=TEXT),
    },
    ("GET", "/deliberations"): {200: fields(deliberations=listed(ref("Deliberation")), **_PAGED)},
    ("GET", "/deliberations/{request_id}"): {200: ref("Deliberation")},
    ("GET", "/deliberations/{request_id}/status"): {
        200: fields(request_id=ID, status=TEXT, terminal=nullable(TEXT), completed_at_opt=ISO)
    },
    ("GET", "/deliberations/{request_id}/transcript"): {
        200: fields(
            request_id=ID,
            status=TEXT,
            contract=MAP,
            events=listed(fields(n=COUNT, at=ISO, kind=TEXT, data=MAP)),
            total=COUNT,
            redacted_opt=YES_OR_NO,
        )
    },
    ("POST", "/deliberations/{request_id}/cancel"): {200: fields(cancelled=YES_OR_NO)},
    ("GET", "/deliberations/{request_id}/receipt"): {200: ref("Receipt")},
    ("POST", "/deliberations/{request_id}/outcome"): {200: fields(request_id=ID, correct=ANYTHING, agents=MAP)},
    # logins
    ("GET", "/auth/login"): {303: NOTHING},
    ("GET", "/auth/callback"): {303: NOTHING},
    ("GET", "/auth/session"): {
        200: fields(
            enabled=YES_OR_NO,
            principal=nullable(TEXT),
            groups=nullable(listed(TEXT)),
            expires_at=nullable(EPOCH),
            csrf_token=nullable(TEXT),
        )
    },
    ("GET", "/auth/caller"): {
        200: fields(
            principal=TEXT,
            workspace=nullable(TEXT),
            roles=listed(TEXT),
            permissions=listed(TEXT),
            suspended=YES_OR_NO,
            workspaces=listed(TEXT),
        )
    },
    ("POST", "/auth/logout"): {200: fields(ended=YES_OR_NO)},
    ("POST", "/auth/device"): {
        200: fields(
            **dict.fromkeys(("device_code", "user_code", "verification_uri"), TEXT),
            verification_uri_complete=nullable(TEXT),
            expires_in=COUNT,
            interval=COUNT,
        )
    },
    ("POST", "/auth/device/token"): {200: fields(token=TEXT, principal=TEXT, expires_at=EPOCH)},
    ("POST", "/auth/ticket"): {200: fields(ticket=TEXT, expires_at=EPOCH)},
    # receipts
    ("GET", "/receipts/keys"): {
        200: fields(
            keys=listed(
                fields(key_id=TEXT, algorithm=TEXT, public_key=TEXT, created_at=nullable(EPOCH), current=YES_OR_NO)
            )
        )
    },
    ("POST", "/outcomes/batch"): {200: fields(results=listed(MAP), recorded=COUNT, conflict=COUNT)},
    ("GET", "/weights"): {200: fields(snapshots=listed(ref("Snapshot")))},
    ("GET", "/weights/alarms"): {200: fields(alarms=listed(MAP))},
    ("GET", "/weights/{snapshot_id}"): {200: ref("Snapshot")},
    # access
    ("POST", "/workspaces"): {201: ref("Workspace")},
    ("GET", "/workspaces"): {200: fields(workspaces=listed(ref("Workspace")), **_KEYSET)},
    ("PATCH", "/workspaces/{workspace_id}"): {200: ref("Workspace")},
    ("DELETE", "/workspaces/{workspace_id}"): {200: ref("Workspace")},
    ("GET", "/workspaces/{workspace_id}/members"): {200: fields(members=listed(ref("Member")), **_KEYSET)},
    ("PUT", "/workspaces/{workspace_id}/members"): {200: fields(workspace=TEXT, subject=TEXT, role=TEXT)},
    ("DELETE", "/workspaces/{workspace_id}/members"): {200: fields(removed=YES_OR_NO)},
    ("GET", "/roles"): {200: fields(roles=listed(ref("Role")), total=COUNT)},
    ("PUT", "/roles/{role_name}"): {200: ref("Role")},
    ("DELETE", "/roles/{role_name}"): {200: fields(removed=YES_OR_NO)},
    ("POST", "/keys"): {201: more("ApiKey", **_NEW_TOKEN)},
    ("GET", "/keys"): {200: fields(keys=listed(ref("ApiKey")), **_KEYSET)},
    ("POST", "/keys/{key_id}/rotate"): {200: more("ApiKey", **_NEW_TOKEN)},
    ("DELETE", "/keys/{key_id}"): {200: ref("ApiKey")},
    # health and numbers
    ("GET", "/health"): {
        200: fields(status=TEXT, agents={"type": "object", "additionalProperties": ref("HealthCheck")})
    },
    ("GET", "/health/{agent_id}"): {200: ref("HealthCheck")},
    ("GET", "/health/detailed"): _DETAILED,
    ("GET", "/breakers"): {
        200: fields(
            breakers=listed(
                fields(
                    name=TEXT,
                    state=TEXT,
                    failure_count=COUNT,
                    success_count=COUNT,
                    last_failure=nullable(EPOCH),
                    reset_timeout_ms=NUMBER,
                )
            ),
            stale_opt=YES_OR_NO,
        )
    },
    ("GET", "/regions"): {200: _REGIONS},
    ("GET", "/stats"): {200: fields(registry=MAP, health=MAP, scheduler=MAP, config=MAP)},
    ("GET", "/metrics"): {
        200: fields(
            **dict.fromkeys(
                (
                    *(
                        "active_jobs",
                        "queued_jobs",
                        "completed_jobs",
                        "agents_available",
                        "agents_busy",
                        "total_agents",
                    ),
                    *("documents_processed_today", "audits_completed_today", "tokens_used_today"),
                ),
                COUNT,
            )
        )
    },
    ("GET", "/story/{subject_id}"): {
        200: fields(
            id=TEXT,
            events=listed(
                fields(
                    seq=COUNT,
                    timestamp=EPOCH,
                    type=TEXT,
                    entity=TEXT,
                    attempt=nullable(COUNT),
                    principal=TEXT,
                    cause=TEXT,
                    data=ref("EventData"),
                )
            ),
            progress_opt=ref("Progress"),
            has_more=YES_OR_NO,
            searched_from_opt=COUNT,
        )
    },
    ("GET", "/audit"): _AUDIT_PAGE,
    ("GET", "/audit/export"): {},
    ("GET", "/audit/stats"): {
        200: fields(
            total_entries=COUNT,
            total_exact=YES_OR_NO,
            last_hash=nullable(DIGEST),
            sealed_through=COUNT,
            storage_backend={"type": "string", "enum": ["postgresql"]},
            retention_days=NOTHING,
        )
    },
    ("GET", "/audit/verify"): {
        200: fields(
            valid=YES_OR_NO,
            start_seq=COUNT,
            end_seq=COUNT,
            message=TEXT,
            first_bad_seq=nullable(COUNT),
            self_signed=YES_OR_NO,
        )
    },
    ("GET", "/audit-logs"): _AUDIT_PAGE,
    ("GET", "/audit-logs/{log_id}"): {200: ref("AuditEntry")},
    ("POST", "/erasures"): {
        200: fields(
            erasure_id=ID,
            scope=words(Scope),
            dry_run=YES_OR_NO,
            complete=YES_OR_NO,
            next_cursor=nullable(CURSOR),
            erased=fields(
                tasks=COUNT,
                deliberations=COUNT,
                outcomes=COUNT,
                log_rows=COUNT,
                schedules=COUNT,
                workflows=COUNT,
                hooks=COUNT,
                policies=COUNT,
                violations=COUNT,
                notifications=COUNT,
                credentials=COUNT,
                budgets=COUNT,
            ),
            not_reached=listed(TEXT),
        )
    },
    ("GET", "/retention"): {200: _RETENTION},
    ("PUT", "/retention"): {200: _RETENTION},
    ("POST", "/retention/run"): {
        200: fields(
            dry_run=YES_OR_NO,
            run_requested=YES_OR_NO,
            complete=YES_OR_NO,
            tasks=nullable(COUNT),
            deliberations=nullable(COUNT),
            workflow_runs=nullable(COUNT),
        )
    },
    ("GET", "/stream"): {200: fields(sse=MAP, websocket=MAP, filters=listed(TEXT), frame=MAP, last_event_id=COUNT)},
}

#: The same for routes at the root.
ROOT_ANSWERS: dict[tuple[str, str], dict[int, Schema]] = {
    ("GET", "/health/live"): {200: fields(status=TEXT)},
    ("GET", "/health"): {200: _HEALTH, 503: more("Error", status=TEXT, degraded=listed(TEXT))},
    ("GET", "/health/detailed"): _DETAILED,
    ("GET", "/metrics"): {},
}

#: (method, path) → other forms of a 200: content type → what it is.
OTHER_FORMS: dict[tuple[str, str], dict[str, str]] = {
    ("GET", "/tasks/{task_id}/chunks/stream"): {
        "text/event-stream": "Chunks as they are written, each in a Frame; with this Accept header."
    },
    ("GET", "/stream"): {"text/event-stream": "Events as they are committed, each a Frame; with this Accept header."},
    ("GET", "/spending/export"): {"text/csv": "A row of spending a line, after their names."},
    ("GET", "/audit/export"): {
        "application/x-ndjson": "With format json: an AuditEntry a line.",
        "text/csv": "With format csv.",
        "text/plain": "With format syslog: RFC 5424.",
    },
    ("ROOT GET", "/metrics"): {
        "text/plain": "Metrics in Prometheus' text form.",
        "application/openmetrics-text": "The same with exemplars, if the caller accepts it.",
    },
}

#: Routes that a browser shows to a person, so that an error may be a page.
SHOW_ERRORS = frozenset({("GET", "/auth/login"), ("GET", "/auth/callback")})

#: Routes that can answer 404 although no id is in their path.
MAY_MISS = frozenset(
    {
        ("POST", "/keys"),
        ("POST", "/erasures"),
        ("POST", "/notifications/rules"),
        ("POST", "/hooks"),
        ("POST", "/schedules"),
        ("GET", "/auth/login"),
        ("GET", "/auth/callback"),
        ("POST", "/auth/device"),
        ("POST", "/auth/device/token"),
        ("POST", "/tasks/claim"),
        ("POST", "/queue/prioritize"),
        ("POST", "/tasks"),
        ("POST", "/tasks/batch"),
    }
)

#: Routes without a permission that tell some callers who they are, and refuse others.
KNOW_CALLERS = frozenset(
    {
        ("GET", "/auth/login"),
        ("GET", "/auth/callback"),
        ("POST", "/hooks/{hook_name}"),
        ("GET", "/auth/session"),
        ("GET", "/auth/caller"),
        ("POST", "/auth/logout"),
        ("POST", "/auth/device"),
        ("POST", "/auth/device/token"),
    }
)
