"""The metrics of a region: their names, what they show, their labels and, of histograms, their buckets.

The names are those of the guide and of earlier releases; what those did not have is named alike. Labels are closed sets (states,
kinds, templates of routes), or names that people choose, of which ``NAMED`` lists those: of these only the busiest have series of
their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: Labels whose values are names that callers choose.
NAMED: Final = frozenset({"task_type", "capability", "workspace", "queue"})
#: How many values of such a label have series of their own; the others are counted as ``OTHER``.
NAMED_MAX: Final = 50
OTHER: Final = "other"

TASK_DURATION_S = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0)
TASK_WAIT_S = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
DELIBERATION_S = (5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0)
CONFIDENCE = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0)
POLICY_CHECK_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
AGENT_COUNT = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0)
HTTP_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric: its exposition name, help text, label names, and buckets if it is a histogram.

    ``other_is_highest``: of a gauge the value of ``other`` is the highest one of those that it stands for, not their sum.
    ``known``: values of a counter's only label that are shown as 0 before they are counted; ``known_of``: a gauge whose values of
    the label are. A series that begins at 1 looks to ``increase`` as if nothing had happened."""

    name: str
    kind: str  # counter | gauge | histogram
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    other_is_highest: bool = False
    known: tuple[str, ...] = ()
    known_of: str | None = None


#: 1 or 0: how far the numbers of an answer can be trusted.
STORE_READABLE = "aragora_cp_store_readable"
METRICS_COMPLETE = "aragora_cp_metrics_complete"

FAMILIES: tuple[Family, ...] = (
    Family(
        name=STORE_READABLE,
        kind="gauge",
        help="1 if PostgreSQL could be read for this answer; 0: all other numbers are as they were last known.",
    ),
    Family(
        name=METRICS_COMPLETE,
        kind="gauge",
        help="1 if these are the region's numbers; 0: only those of the API replica that answers (process_*).",
    ),
    Family(
        name="aragora_cp_agents_registered_total",
        kind="counter",
        help="Registrations: success, or failure if the call was refused.",
        labels=("status",),
        known=("success", "failure"),
    ),
    Family(name="aragora_cp_agents_active", kind="gauge", help="Active agents by capability.", labels=("capability",)),
    Family(
        name="aragora_cp_agents",
        kind="gauge",
        help="Registered agents by liveness.",
        labels=("status",),
    ),
    Family(
        name="aragora_cp_agent_heartbeats_total",
        kind="counter",
        help="Signs of life of agents at the API, by whether Redis took them: stored or dropped.",
        labels=("status",),
        known=("stored", "dropped"),
    ),
    Family(
        name="aragora_cp_breakers",
        kind="gauge",
        help="Breakers of agents and of the control plane by state.",
        labels=("state",),
    ),
    Family(
        name="aragora_cp_agent_status_changes_total",
        kind="counter",
        help="Changes of agents' liveness and health.",
        labels=("status",),
    ),
    Family(
        name="aragora_cp_agent_health_checks_total",
        kind="counter",
        help="Endpoint probes: healthy, unhealthy or timeout.",
        labels=("status",),
        known=("healthy", "unhealthy", "timeout"),
    ),
    Family(
        name="aragora_cp_tasks_submitted_total",
        kind="counter",
        help="Tasks submitted.",
        labels=("task_type", "priority"),
    ),
    Family(name="aragora_cp_tasks_completed_total", kind="counter", help="Tasks completed.", labels=("task_type",)),
    Family(
        name="aragora_cp_tasks_failed_total",
        kind="counter",
        help="Tasks that ended without a result.",
        labels=("task_type", "failure_reason"),
    ),
    Family(
        name="aragora_cp_tasks_claimed_total",
        kind="counter",
        help="Attempts that were started: the share of each workspace is how fair claims are.",
        labels=("workspace",),
    ),
    Family(
        name="aragora_cp_leases_lost_total",
        kind="counter",
        help="Leases that ended without a report of their holder; lease_expired: it sent no heartbeat in time; "
        "kills_workers: the third of a task in a row.",
        labels=("reason",),
        known=("lease_expired", "agent_offline", "agent_lost", "not_delivered", "kills_workers"),
    ),
    Family(
        name="aragora_cp_dead_letters",
        kind="gauge",
        help="Tasks in the dead letter, counted up to 100,000.",
    ),
    Family(
        name="aragora_cp_task_duration_seconds",
        kind="histogram",
        help="Task execution duration.",
        labels=("task_type",),
        buckets=TASK_DURATION_S,
    ),
    Family(name="aragora_cp_task_queue_depth", kind="gauge", help="Waiting tasks.", labels=("priority",)),
    Family(
        name="aragora_cp_queue_depth",
        kind="gauge",
        help="Waiting tasks by queue; of all workspaces, the queues of one name together.",
        labels=("queue",),
    ),
    Family(
        name="aragora_cp_queue_oldest_seconds",
        kind="gauge",
        help="How long the oldest task has waited that could start at once, by queue.",
        labels=("queue",),
        other_is_highest=True,
    ),
    Family(
        name="aragora_cp_task_wait_time_seconds",
        kind="histogram",
        help="Time from when a task could start until it was claimed.",
        buckets=TASK_WAIT_S,
    ),
    Family(
        name="aragora_cp_scheduler_rereads_total",
        kind="counter",
        help="Times that a scheduler shard has read its state again.",
    ),
    Family(
        name="aragora_cp_commit_failures_total",
        kind="counter",
        help="Commits that the database refused or did not answer, by the class of their SQLSTATE.",
        labels=("sqlstate_class",),
    ),
    Family(
        name="aragora_cp_log_lag_seconds",
        kind="gauge",
        help="How long ago a follower of the log last had read it to its end.",
        labels=("follower",),
    ),
    Family(
        name="aragora_cp_log_unread_rows",
        kind="gauge",
        help="Rows of the log that a stored cursor has not passed, and that stay in the database therefore.",
        labels=("reader",),
    ),
    Family(
        name="aragora_cp_store_connections",
        kind="gauge",
        help="Connections to PostgreSQL by the kind of process that has them: in_use, idle, or free to be opened.",
        labels=(
            "process",
            "state",
        ),
    ),
    Family(
        name="aragora_cp_loop_lag_seconds",
        kind="gauge",
        help="How much later than planned the event loops of a kind of process woke up, at worst, within some 2 s.",
        labels=("process",),
    ),
    Family(
        name="aragora_cp_table_bytes",
        kind="gauge",
        help="Bytes of each table with its indexes.",
        labels=("table",),
    ),
    Family(
        name="aragora_cp_certificate_not_after_seconds",
        kind="gauge",
        help="When the front's certificate that ends first does, in seconds of the epoch.",
    ),
    Family(
        name="aragora_cp_denials_summed_total",
        kind="counter",
        help="Denied calls of which the log has only how many they were, because an API replica had too many kinds of them.",
    ),
    Family(
        name="aragora_audit_lag_seconds",
        kind="gauge",
        help="How long ago the first row of the log was written that is not sealed yet; 0 if all are.",
    ),
    Family(name="aragora_audit_lag_rows", kind="gauge", help="Rows of the log that are not sealed yet."),
    Family(
        name="aragora_cp_retention_removed_total",
        kind="counter",
        help="What retention has removed.",
        labels=("kind",),
    ),
    Family(
        name="aragora_cp_retention_pass_age_seconds",
        kind="gauge",
        help="How long ago retention last ended its pass over a workspace.",
    ),
    Family(
        name="aragora_cp_log_cursors_dropped_total",
        kind="counter",
        help="Segments of the log that went though a follower had not read them, since it held the log for too long.",
        labels=("follower",),
        known=("telemetry", "notifications", "workflows"),
    ),
    Family(
        name="aragora_cp_region_epoch",
        kind="gauge",
        help="The epoch under which this region's database accepts writes.",
    ),
    Family(
        name="aragora_cp_region_primary",
        kind="gauge",
        help="1 if this region is the primary.",
    ),
    Family(
        name="aragora_cp_region_in_sync",
        kind="gauge",
        help="Regions of the in-sync set: those that hold whatever was acknowledged. Only with peers.",
    ),
    Family(
        name="aragora_cp_replication_lag_rows",
        kind="gauge",
        help="Rows of the log that another region has not confirmed yet. Only with peers, at the primary.",
        labels=("region",),
    ),
    Family(
        name="aragora_cp_replication_silent_seconds",
        kind="gauge",
        help="For how long the region has heard nothing of the primary. Only with peers.",
    ),
    Family(
        name="aragora_cp_budgets_used_up",
        kind="gauge",
        help="Budgets of which all is spent or reserved in their present period.",
    ),
    Family(
        name="aragora_cp_schedule_runs_total",
        kind="counter",
        help="Runs of schedules that were due: started, or why not. Several that are left out at once count as one.",
        labels=("outcome",),
        known=("started", "missed", "overlap", "queue_full", "policy", "no_workflow"),
    ),
    Family(
        name="aragora_cp_workflow_runs_started_total",
        kind="counter",
        help="Runs of workflows that were started, replays too.",
    ),
    Family(
        name="aragora_cp_workflow_runs_ended_total",
        kind="counter",
        help="Runs of workflows by how they ended.",
        labels=("status",),
        known=("completed", "failed", "cancelled"),
    ),
    Family(
        name="aragora_cp_notifications_pending",
        kind="gauge",
        labels=("kind",),
        help="Notifications that wait for an attempt or another one, and pushes of A2A that do.",
    ),
    Family(
        name="aragora_cp_notifications_ended",
        kind="gauge",
        labels=("status",),
        help="Notifications that ended in the last hour: delivered, or dead, which were given up.",
    ),
    Family(
        name="aragora_cp_notifications_late_seconds",
        kind="gauge",
        help="For how long the attempt at a notification or a push has been due that waits longest.",
    ),
    Family(
        name="aragora_cp_workflow_runs_open",
        kind="gauge",
        help="Runs of workflows that have not ended.",
    ),
    Family(
        name="aragora_cp_workflow_stalled_seconds",
        kind="gauge",
        help="How long ago an open run of a workflow has moved, or should have, that waits longest.",
    ),
    Family(
        name="aragora_cp_policy_decisions_total",
        kind="counter",
        help="Submits that policies have judged; policy_type: what decided, none if nothing was against a policy.",
        labels=(
            "policy_type",
            "decision",
        ),
    ),
    Family(
        name="aragora_cp_policy_violations_total",
        kind="counter",
        help="Violations of policies; severity: how the policy is enforced.",
        labels=(
            "policy_type",
            "severity",
        ),
    ),
    Family(
        name="aragora_cp_policy_check_latency_seconds",
        kind="histogram",
        help="How long it took to judge the submits of a call by policies.",
        buckets=POLICY_CHECK_S,
    ),
    Family(
        name="aragora_cp_actor_memory_bytes",
        kind="gauge",
        help="Resident memory of each actor's process.",
        labels=("actor",),
    ),
    Family(
        name="aragora_cp_actor_memory_restarts_total",
        kind="counter",
        help="Actors that were restarted because they used more memory than their bound.",
        labels=("actor",),
        known_of="aragora_cp_actor_memory_bytes",
    ),
    Family(
        name="aragora_cp_api_memory_replacements_total",
        kind="counter",
        help="API replicas that were replaced because they used more memory than their bound.",
    ),
    Family(
        name="aragora_cp_unfenced_reports_total",
        kind="counter",
        help="Task reports that carried no lease token.",
    ),
    Family(
        name="aragora_cp_deliberations_started_total",
        kind="counter",
        help="Deliberations admitted.",
        labels=("mode",),
    ),
    Family(
        name="aragora_cp_deliberations_completed_total",
        kind="counter",
        help="Deliberations that ended.",
        labels=("status", "consensus_reached"),
    ),
    Family(
        name="aragora_cp_deliberation_duration_seconds",
        kind="histogram",
        help="Deliberation duration.",
        labels=("consensus_reached",),
        buckets=DELIBERATION_S,
    ),
    Family(
        name="aragora_cp_deliberation_sla_total",
        kind="counter",
        help="Deliberations by their final SLA level, each counted once.",
        labels=("level",),
        known=("compliant", "warning", "critical", "violated"),
    ),
    Family(
        name="aragora_cp_deliberation_consensus_confidence",
        kind="histogram",
        help="Confidence of decisions.",
        buckets=CONFIDENCE,
    ),
    Family(
        name="aragora_cp_deliberation_agent_count",
        kind="histogram",
        help="Agents on a panel.",
        buckets=AGENT_COUNT,
    ),
    Family(
        name="aragora_http_requests_total",
        kind="counter",
        help="HTTP requests by route; status 499: the caller hung up.",
        labels=("method", "endpoint", "status"),
    ),
    Family(
        name="aragora_http_request_duration_seconds",
        kind="histogram",
        help="HTTP request latency.",
        labels=("method", "endpoint", "status"),
        buckets=HTTP_S,
    ),
    Family(
        name="aragora_http_request_latency_seconds",
        kind="histogram",
        help="The same latency by route alone, under the name of earlier releases.",
        labels=("endpoint",),
        buckets=HTTP_S,
    ),
)
