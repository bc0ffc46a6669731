"""Every table of the schema: replicated or local, and why. docs/regions.md and the tests read this declaration.

A commit that changes a replicated table writes a row of the log that names what it changed. A **naming** says how: rows of
these kinds name the table's rows whose columns have these values. It may name more than was changed, since what travels is what
the table holds now; it must never name less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

#: Before a field of a log row's ``data``.
DATA: Final = "data."
#: Before a field of ``data`` that is a list: the row names one row of the table for each entry. A row of the log without the list
#: names its entity's.
EACH: Final = "each."


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """``values``: column of the table → where its value is in the log row: ``entity``, ``workspace``, ``at``,
    ``data.FIELD`` or ``each.FIELD``. Without values the row names the whole table."""

    kinds: tuple[str, ...]
    values: Mapping[str, str]

    def names(self, kind: str) -> bool:
        return kind.startswith(self.kinds)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicatedTable:
    """``columns`` have their SQL types. ``own`` are columns that each region keeps for itself. ``withheld``: what stands
    instead of a value in a region that may not hold what a workspace's clients wrote, as a SQL expression; ``owner`` is the SQL
    of the workspace, empty if the table has none. ``whole_rows_withheld``: such rows do not travel at all. ``fixed``: never
    changed once inserted. ``deletes``: what is named and no longer there is deleted in the other region too."""

    name: str
    key: tuple[str, ...]
    naming: Naming
    columns: Mapping[str, str]
    why: str
    own: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    withheld: Mapping[str, str] = field(default_factory=dict)
    whole_rows_withheld: bool = False
    fixed: tuple[str, ...] = ()
    deletes: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTable:
    name: str
    why: str


def _columns(text: str) -> Mapping[str, str]:
    """Column → type, from ``column type, column type``."""
    pairs = (part.strip().split(" ", 1) for part in text.split(","))
    return {name: kind.strip() for name, kind in pairs}


def _of_workspace(*kinds: str, **values: str) -> Naming:
    return Naming(kinds=kinds, values={"workspace": "workspace", **values})


_STUB: Final = (
    "id text, workspace text, status text, created_at double precision, completed_at double precision, removed_at double "
    "precision"
)

LOG: Final = ReplicatedTable(
    name="log",
    key=("seq",),
    naming=Naming(kinds=(), values={}),
    columns=_columns(
        "seq bigint, at double precision, workspace text, kind text, entity text, attempt integer, principal text, data "
        "json, digest bytea, epoch bigint, cause text, zone text, private text, private_digest bytea, v smallint"
    ),
    # What a workspace is called is its own, whichever workspace the call came from.
    owner="case when kind like 'access.workspace_%' then entity else workspace end",
    # A row of the first form has its words among its data, and does not verify without them.
    withheld={"private": "null", "data": "case v when 1 then '{}' else data::text end"},
    why="Its rows travel themselves, under the numbers that the primary gave them.",
)

REPLICATED: Final[tuple[ReplicatedTable, ...]] = (
    ReplicatedTable(
        name="workspaces",
        key=("id",),
        naming=Naming(kinds=("access.workspace_",), values={"id": "entity"}),
        columns=_columns("id text, name text, state text, created_at double precision, changed_at double precision"),
        owner="id",
        withheld={"name": "''"},
        why="Who may work where is the same in all regions.",
    ),
    ReplicatedTable(
        name="workspace_deletions",
        key=("workspace",),
        naming=Naming(kinds=("access.workspace_changed",), values={"workspace": "entity"}),
        columns=_columns("workspace text, principal text, seq bigint"),
        why="What a deleted workspace still has is ended in the name of who deleted it, whichever region ends it.",
    ),
    ReplicatedTable(
        name="workspace_zones",
        key=("workspace",),
        naming=Naming(kinds=("access.workspace_created",), values={"workspace": "entity"}),
        columns=_columns("workspace text, zone text"),
        why="Every region knows what it may not hold and has to answer elsewhere.",
    ),
    ReplicatedTable(
        name="role_bindings",
        key=("workspace", "subject", "role"),
        naming=Naming(kinds=("access.role_bound", "access.role_unbound"), values={"subject": "entity"}),
        columns=_columns("workspace text, subject text, role text, created_at double precision, created_by text"),
        why="Who may do what is the same in all regions.",
    ),
    ReplicatedTable(
        name="custom_roles",
        key=("workspace", "name"),
        naming=Naming(
            kinds=("access.role_defined", "access.role_removed"),
            values={"workspace": "data.workspace", "name": "entity"},
        ),
        columns=_columns("workspace text, name text, permissions text[]"),
        why="Who may do what is the same in all regions.",
    ),
    ReplicatedTable(
        name="api_keys",
        key=("id",),
        naming=Naming(kinds=("access.key_",), values={"id": "entity"}),
        columns=_columns(
            "id text, name text, workspaces text[], grants text[], digests bytea[], created_at double precision, "
            "created_by text, expires_at double precision, revoked_at double precision, overlap_until double precision"
        ),
        own={"last_used_at": "Each region sees its own uses, and stores them without a row."},
        why="A key opens any region's door. Only digests of keys are stored.",
    ),
    ReplicatedTable(
        name="api_key_agents",
        key=("key_id",),
        naming=Naming(kinds=("access.key_created",), values={"key_id": "entity"}),
        columns=_columns("key_id text, agents text[]"),
        why="A key that is bound to agents is bound to them in all regions.",
    ),
    ReplicatedTable(
        name="revocations",
        key=("subject",),
        naming=Naming(kinds=("access.revoked",), values={}),
        columns=_columns("subject text, not_before double precision, until double precision"),
        why="What was revoked is revoked everywhere. A revocation deletes those that have ended, so each names the whole table.",
    ),
    ReplicatedTable(
        name="signing_keys",
        key=("key_id",),
        naming=Naming(kinds=("receipts.key_published",), values={"key_id": "entity"}),
        columns=_columns("key_id text, public_key bytea, created_at timestamptz"),
        own={"seed": "A secret of the deployment; each region makes its own."},
        why="A receipt that one region signed is verified in any.",
    ),
    ReplicatedTable(
        name="controls",
        key=("workspace", "kind", "name"),
        naming=_of_workspace("control.", kind="data.kind", name="data.name"),
        columns=_columns(
            "workspace text, kind text, name text, paused boolean, rate_per_s double precision, burst integer, weight "
            "double precision, seq bigint, changed_at double precision, principal text"
        ),
        why="What operators paused stays paused after a failover.",
    ),
    ReplicatedTable(
        name="agents",
        key=("workspace", "agent_id"),
        naming=_of_workspace("agent.", agent_id="entity"),
        columns=_columns(
            "workspace text, agent_id text, principal text, capabilities json, model text, provider text, metadata json, "
            "tags json, region_id text, available_regions json, transport text, endpoint text, max_concurrency integer, "
            "options json, intent text, intent_by text, liveness text, health text, registered_at double precision, "
            "updated_at double precision, dedicated json, own_intent text, credential json"
        ),
        own={
            "last_seen_at": "Heartbeats are stored without a row, by the region that hears them.",
            **dict.fromkeys(
                ("tasks_completed", "tasks_failed", "latency_ms_sum"), "Folds of the log, which each region makes."
            ),
        },
        owner="workspace",
        withheld={"metadata": "'{}'", "options": "'{}'"},
        why="Agents go on with the region that answers, without registering again.",
    ),
    ReplicatedTable(
        name="tasks",
        key=("id",),
        naming=Naming(kinds=("task.", "retention.tasks_removed"), values={"id": "each.task_ids"}),
        columns=_columns(
            "id text, workspace text, shard smallint, queue text, task_type text, priority smallint, status text, "
            "status_detail text, attempt integer, retries integer, max_retries integer, timeout_s double precision, "
            "created_at double precision, run_at double precision, started_at double precision, completed_at double "
            "precision, assigned_agent text, claim_id text, holder text, principal text, target_agent text, target_region"
            " text, region_routing_mode text, origin_region text, fallback_regions json, required_capabilities json, "
            "payload json, metadata json, rules json, result json, error text, replayed_as text, purged_at double "
            "precision, place text, erased_at double precision"
        ),
        owner="workspace",
        withheld={"payload": "'null'", "metadata": "'{}'", "result": "null", "error": "null"},
        why="An acknowledged task is never lost.",
    ),
    ReplicatedTable(
        name="task_progress",
        key=("task_id",),
        # An erasure or a purge deletes it, and names the task alone; retention does too.
        naming=Naming(
            kinds=("progress.", "task.erased", "task.purged", "retention.tasks_removed"),
            values={"task_id": "each.task_ids"},
        ),
        columns=_columns(
            "task_id text, workspace text, attempt integer, at double precision, percent double precision, message text, "
            "checkpoint json"
        ),
        owner="workspace",
        withheld={"message": "null", "checkpoint": "null"},
        why="The next attempt goes on from the last checkpoint in any region. Apart from its task, whose payload would travel "
        "with every report.",
    ),
    ReplicatedTable(
        name="task_questions",
        key=("task_id", "attempt"),
        naming=Naming(
            kinds=(
                *("task.submitted", "task.asked", "task.answered", "task.completed", "task.failed", "task.erased"),
                *("task.purged", "retention.tasks_removed"),
            ),
            values={"task_id": "each.task_ids"},
        ),
        columns=_columns(
            "task_id text, attempt integer, workspace text, asked_at double precision, asked_by text, answerers json, "
            "time_limit_s double precision, has_default boolean, words json, verdict text, answered_at double precision, "
            "answered_by text, answer json, reason text"
        ),
        owner="workspace",
        withheld={"words": """'{"text": "", "schema": null}'""", "answer": "null", "reason": "null"},
        why="What people are asked, and have answered, is the same in all regions.",
    ),
    ReplicatedTable(
        name="task_parks",
        key=("task_id", "attempt"),
        naming=Naming(
            kinds=("task.parked", "task.erased", "retention.tasks_removed"), values={"task_id": "each.task_ids"}
        ),
        columns=_columns("task_id text, attempt integer, workspace text, at double precision, children json"),
        owner="workspace",
        why="A task waits for its children in the region that takes over too. Ids alone.",
    ),
    ReplicatedTable(
        name="deliberations",
        key=("request_id",),
        naming=Naming(
            kinds=("deliberation.", "journal.", "retention.deliberations_removed"),
            values={"request_id": "each.request_ids"},
        ),
        columns=_columns(
            "request_id text, task_id text, workspace text, principal text, admitted_at double precision, deadline_at "
            "double precision, contract json, contract_digest bytea, mode text, state text, terminal text, result json, "
            "completed_at double precision, events integer, cancel_requested boolean, cause text, erased_at double precision"
        ),
        own={
            "owner": "The worker that holds it, a process of one region.",
            "fence": "Counts the workers of one region; a worker of another cannot write here.",
        },
        owner="workspace",
        withheld={"contract": "'null'", "result": "null"},
        why="A deliberation resumes in the region that takes over.",
    ),
    ReplicatedTable(
        name="deliberation_events",
        key=("request_id", "n"),
        naming=Naming(
            kinds=("deliberation.", "journal.", "retention.deliberations_removed"),
            values={"request_id": "each.request_ids"},
        ),
        columns=_columns("request_id text, n integer, at double precision, kind text, data json"),
        owner="(select d.workspace from deliberations d where d.request_id = deliberation_events.request_id)",
        whole_rows_withheld=True,
        why="It resumes without paying for an answer twice. The journal of a deliberation travels whole.",
    ),
    ReplicatedTable(
        name="task_stubs",
        key=("id",),
        naming=Naming(kinds=("retention.tasks_removed",), values={"id": "each.task_ids"}),
        columns=_columns(_STUB),
        why="A removed task has the same answer in any region, and counts there as it ended.",
    ),
    ReplicatedTable(
        name="deliberation_stubs",
        key=("id",),
        naming=Naming(kinds=("retention.deliberations_removed",), values={"id": "each.request_ids"}),
        columns=_columns(_STUB),
        why="A removed deliberation has the same answer in any region.",
    ),
    ReplicatedTable(
        name="workflow_run_stubs",
        key=("id",),
        naming=Naming(kinds=("retention.runs_removed",), values={"id": "each.run_ids"}),
        columns=_columns(_STUB),
        why="A removed run has the same answer in any region.",
    ),
    ReplicatedTable(
        name="retention",
        key=("workspace",),
        naming=_of_workspace("retention.rule_set", "retention.run_requested"),
        columns=_columns("workspace text, rule json, requested_at double precision"),
        why="The region that takes over keeps what this one would keep.",
    ),
    ReplicatedTable(
        name="schedules",
        key=("id",),
        naming=Naming(kinds=("schedule.",), values={"id": "entity"}),
        columns=_columns(
            "id text, workspace text, principal text, name text, plan json, template json, created_at double precision, "
            "changed_at double precision, next_due bigint, fire_at double precision, paused boolean, revision bigint, "
            "changed_row bigint, last_due bigint, last_run text, runs json, fired bigint"
        ),
        owner="workspace",
        whole_rows_withheld=True,
        why="Runs go on in the region that takes over. A template is words and the work itself, so a schedule does not travel "
        "to where its words may not.",
    ),
    ReplicatedTable(
        name="budgets",
        key=("id",),
        naming=Naming(kinds=("budget.created", "budget.updated", "budget.deleted"), values={"id": "entity"}),
        columns=_columns(
            "id text, workspace text, name text, scope text, subject text, period text, mode text, limit_nanos bigint, "
            "estimate_nanos bigint, version integer, created_at double precision, created_by text, changed_at double "
            "precision, changed_by text"
        ),
        owner="workspace",
        withheld={"name": "''"},
        why="The region that takes over spends no more than this one would.",
    ),
    ReplicatedTable(
        name="budget_entries",
        key=("task_id", "attempt"),
        naming=Naming(
            kinds=(
                *("task.claimed", "task.completed", "task.failed", "task.requeued", "task.retried"),
                *("task.dead_lettered", "task.timeout", "task.cancelled", "task.asked", "task.parked", "budget.folded"),
            ),
            values={"task_id": "each.task_ids"},
        ),
        columns=_columns(
            "task_id text, attempt integer, workspace text, budgets text[], agent_id text, task_type text, at double "
            "precision, reserved bigint, spent bigint, known boolean, settled_at double precision"
        ),
        owner="workspace",
        why="What was spent and reserved counts in the region that takes over.",
    ),
    ReplicatedTable(
        name="budget_days",
        key=("workspace", "day", "agent_id", "task_type", "budgets"),
        naming=_of_workspace("budget.folded", "budget.days_removed", day="each.days"),
        columns=_columns(
            "workspace text, day text, agent_id text, task_type text, budgets text[], attempts bigint, spent bigint, unknown "
            "bigint"
        ),
        owner="workspace",
        why="What was spent counts in the region that takes over.",
    ),
    ReplicatedTable(
        name="budget_levels",
        key=("budget_id", "period_start", "limit_nanos", "level"),
        naming=Naming(kinds=("budget.level_reached", "budget.levels_removed"), values={"budget_id": "each.budget_ids"}),
        columns=_columns(
            "budget_id text, period_start double precision, limit_nanos bigint, level smallint, workspace text, at double "
            "precision"
        ),
        owner="workspace",
        why="People are told once of each level.",
    ),
    ReplicatedTable(
        name="quotas",
        key=("workspace",),
        naming=Naming(kinds=("quota.changed",), values={"workspace": "entity"}),
        columns=_columns(
            "workspace text, agents integer, queued_tasks integer, running_tasks integer, submits_per_minute integer, version "
            "integer, changed_at double precision, changed_by text"
        ),
        owner="workspace",
        why="The region that takes over admits no more than this one would.",
    ),
    ReplicatedTable(
        name="policies",
        key=("id",),
        naming=Naming(
            kinds=("policy.created", "policy.updated", "policy.deleted", "policy.erased"), values={"id": "entity"}
        ),
        columns=_columns(
            "id text, workspace text, version integer, content json, created_at double precision, created_by text, "
            "changed_at double precision, changed_by text"
        ),
        owner="workspace",
        whole_rows_withheld=True,
        why="The region that takes over judges submits as this one did. What a policy is for is words, and no region judges "
        "submits of a workspace whose words it may not hold.",
    ),
    ReplicatedTable(
        name="policy_versions",
        key=("policy_id", "version"),
        naming=Naming(
            kinds=("policy.created", "policy.updated", "policy.erased", "policy.versions_removed"),
            values={"policy_id": "each.policy_ids"},
        ),
        columns=_columns(
            "policy_id text, version integer, workspace text, content json, created_at double precision, created_by text, "
            "changed_at double precision, changed_by text"
        ),
        owner="workspace",
        whole_rows_withheld=True,
        why="A policy is rolled back in any region.",
    ),
    ReplicatedTable(
        name="policy_violations",
        key=("id",),
        naming=Naming(kinds=("policy.violation",), values={"id": "each.violation_ids"}),
        columns=_columns(
            "id text, workspace text, policy_id text, policy_version integer, policy_name text, violation_type text, "
            "enforcement text, description text, principal text, task_type text, task_id text, agent_id text, region text, "
            "at double precision, status text, resolved_at double precision, resolved_by text, resolution_notes text, "
            "revision integer"
        ),
        owner="workspace",
        withheld={"policy_name": "''", "description": "''", "resolution_notes": "''"},
        why="What was against a policy is counted in any region.",
    ),
    ReplicatedTable(
        name="workflows",
        key=("workspace", "name", "version"),
        naming=_of_workspace("workflow.applied", "workflow.deleted", name="entity"),
        columns=_columns(
            "workspace text, name text, version integer, principal text, document json, templates json, digest bytea, "
            "created_at double precision"
        ),
        owner="workspace",
        whole_rows_withheld=True,
        why="Runs go on in the region that takes over, each with the version that it was started with. A document is words and "
        "the work itself.",
    ),
    ReplicatedTable(
        name="workflow_runs",
        key=("id",),
        naming=Naming(kinds=("workflow.run_", "retention.runs_removed"), values={"id": "each.run_ids"}),
        columns=_columns(
            "id text, workspace text, name text, version integer, principal text, input json, metadata json, status text, "
            "state json, created_at double precision, changed_at double precision, ended_at double precision, "
            "started_row bigint, due_at double precision, signals json, replays text, refers text[]"
        ),
        owner="workspace",
        whole_rows_withheld=True,
        why="Runs go on in the region that takes over, from the rows of the log that it has.",
    ),
    ReplicatedTable(
        name="hooks",
        key=("workspace", "name"),
        naming=_of_workspace("hook.", name="entity"),
        columns=_columns(
            "id text, workspace text, name text, starts json, input json, rate_per_minute double precision, "
            "created_at double precision, created_by text, changed_at double precision, changed_by text, secrets_id text, "
            "secrets_until json, paused boolean, revision bigint"
        ),
        owner="workspace",
        whole_rows_withheld=True,
        why="Their secrets stay in their region: after a failover each hook is rotated, or its sender is given the secret anew.",
    ),
    ReplicatedTable(
        name="notification_channels",
        key=("workspace", "name"),
        naming=_of_workspace("notification.channel_", name="entity"),
        columns=_columns(
            "workspace text, name text, kind text, principal text, changed_at double precision, credential text, target json"
        ),
        owner="workspace",
        whole_rows_withheld=True,
        why="The region that takes over goes on telling, as soon as it has the credentials. Addresses are people's.",
    ),
    ReplicatedTable(
        name="notification_rules",
        key=("workspace", "name"),
        naming=_of_workspace("notification.rule_", name="entity"),
        columns=_columns(
            "workspace text, name text, events json, least text, channels json, principal text, changed_at double precision, "
            "repeat_after_s double precision, repeat_by text, since bigint, digest_s double precision, quiet json"
        ),
        owner="workspace",
        whole_rows_withheld=True,
        why="As their channels.",
    ),
    ReplicatedTable(
        name="idempotency",
        key=("workspace", "route", "key"),
        naming=_of_workspace(
            *("task.submitted", "agent.registered", "agent.unregistered", "deliberation.admitted", "schedule.created"),
            "budget.created",
            "policy.created",
            "workflow.run_started",
            created_at="at",
        ),
        columns=_columns(
            "workspace text, route text, key text, digest bytea, answer text, created_at double precision"
        ),
        deletes=False,
        why="A repeat has the answer of the first call in any region. Keys end by their age in each region. Remembered "
        "answers of calls that do no harm if they are made twice have no row, and stay where they were given.",
    ),
    ReplicatedTable(
        name="outcomes",
        key=("workspace", "id"),
        naming=_of_workspace("outcome.", id="entity"),
        columns=_columns(
            "workspace text, id text, n bigint, recorded_at double precision, principal text, source text, panel text[], "
            "votes json, right_answer text, options json, digest bytea, kind text"
        ),
        owner="workspace",
        withheld={"votes": "'{}'", "right_answer": "''", "options": "'[]'", "kind": "null"},
        fixed=("n",),
        why="Weights are learned from them.",
    ),
    ReplicatedTable(
        name="weight_snapshots",
        key=("workspace", "id"),
        naming=_of_workspace("weights.", id="entity"),
        columns=_columns(
            "workspace text, id text, panel_key text, panel text[], version integer, through_n bigint, "
            "created_at double precision, document json, alarms json"
        ),
        why="Contracts and receipts name them.",
    ),
    ReplicatedTable(
        name="log_archives",
        key=("first_seq", "last_seq"),
        naming=Naming(kinds=("retention.log_removed",), values={"first_seq": "data.first_seq"}),
        columns=_columns(
            "first_seq bigint, last_seq bigint, at double precision, name text, digest bytea, entry bytea, epochs json, "
            "first_form boolean"
        ),
        why="A log that is copied after its first rows have gone verifies from the entry hash on that is kept here.",
    ),
)

LOCAL: Final[tuple[LocalTable, ...]] = (
    LocalTable(name="schema_migrations", why="Which migrations this database has."),
    LocalTable(name="region_state", why="What this database may do: role, epoch, trust."),
    LocalTable(name="kept_zone", why="For which zone of residency this schema is, if it is for one alone."),
    LocalTable(name="replication_status", why="What the region's leader tells its other processes."),
    LocalTable(name="replicas", why="How far this database is with what it receives."),
    LocalTable(
        name="shards", why="Generations of the region's own scheduler; a shard of another region writes elsewhere."
    ),
    LocalTable(
        name="workflow_cursors",
        why="How far this region has advanced runs; under another epoch it reads the log anew from the first open run.",
    ),
    LocalTable(
        name="notifications",
        why="What this region has told. One that takes over tells of the last minute again, under the same ids.",
    ),
    LocalTable(
        name="pushes",
        why="URLs with sealed tokens, for as long as a task lasts. After a failover clients name them anew.",
    ),
    LocalTable(name="notification_cursors", why="How far this region has read the log for notifications."),
    LocalTable(name="breakers", why="What this region's calls of its own stores have met."),
    LocalTable(name="agent_probes", why="What this region's probes have met; another path may do."),
    LocalTable(
        name="log_segments", why="Where this database's segments of the log begin and end; a copy of it has others."
    ),
    LocalTable(
        name="followed_archives", why="What went from this region's log while it followed, by its own segments."
    ),
    LocalTable(
        name="replication_cursors", why="How far the others are, as the region's leader knows while it is primary."
    ),
    LocalTable(name="leases", why="Leases of the region's own processes, which heartbeats renew."),
    LocalTable(name="telemetry", why="Folds of the log with a cursor; each region makes its own."),
    LocalTable(
        name="audit_checkpoints",
        why="A fold of the log, signed by the region that is primary; the chain itself is the same in each.",
    ),
    LocalTable(name="task_terms", why="Follows from the tasks: triggers write it in each region."),
    LocalTable(name="deliberation_terms", why="Follows from the deliberations: triggers write it in each region."),
    LocalTable(name="actor_names", why="Processes of the region."),
    LocalTable(
        name="task_chunks",
        why="They are many and short-lived; a region has those that it took itself, and says so after a failover.",
    ),
    LocalTable(name="task_chunk_totals", why="Of the chunks that the region took."),
    LocalTable(name="retention_passes", why="When this region's own retention went through a workspace last."),
    LocalTable(name="sessions", why="Whoever logged in at one region logs in at another one anew."),
    LocalTable(name="logins", why="Logins that have begun at this region and not ended yet, for ten minutes."),
    LocalTable(name="secrets", why="Sealed by a key of the deployment, and never sent."),
    LocalTable(name="group_revision", why="The store of a group of one region."),
    LocalTable(name="group_leases", why="The store of a group of one region."),
    LocalTable(name="group_entries", why="The store of a group of one region."),
)

#: By name; the log comes last, so that a copy has its rows when it has all that they stand for.
TABLES: Final[Mapping[str, ReplicatedTable]] = {table.name: table for table in (*REPLICATED, LOG)}
