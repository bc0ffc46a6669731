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

/** The codes of errors after which the same may succeed later, for outcomes that have only a code. */
export const FOR_LATER: ReadonlySet<string> = new Set([
  "actor_unavailable",
  "copy_incomplete",
  "epoch_replaced",
  "fenced",
  "generation_replaced",
  "internal_error",
  "misrouted",
  "not_primary",
  "not_replicated",
  "overloaded",
  "rate_limited",
  "stale_region",
  "store_unavailable",
  "too_many_failures",
  "unavailable",
]);

/** A dependency: the task `id` must end first. `when_failed` says what happens if it ends without a result. */
export type After = { id: string; when_failed?: WhenFailed };

export type Agent = { agent_id: string; capabilities: Array<string>; status: "starting" | "ready" | "busy" | "draining" | "paused" | "offline" | "failed"; model: string; provider: string; metadata: Record<string, Json>; registered_at: EpochSeconds; last_heartbeat: EpochSeconds; current_task_id: string | null; tasks_completed: number; tasks_failed: number; avg_latency_ms: number; tags: Array<string>; region_id: string; available_regions: Array<string>; region_latency_ms: Record<string, Json>; last_heartbeat_by_region: Record<string, EpochSeconds>; transport: "pull" | "openai" | "anthropic" | "http" | "a2a" | "import"; endpoint: string | null; max_concurrency: number; version: string | null; running_tasks: number; intent: "active" | "paused" | "draining"; left_out?: Array<"metadata" | "options">; intent_by: "operator" | "agent" | null; liveness: "starting" | "alive" | "suspect" | "offline" | "deaf"; health: "unknown" | "healthy" | "degraded" | "failed"; credential: Record<string, Json> | null; price: Record<string, Json> | null; owner: string | null; rate: Record<string, Json> | null; options?: Record<string, Json>; dedicated: boolean; num_cpus?: number; num_gpus?: number; memory?: number; resources?: Record<string, Json>; status_detail?: string; notice?: string };

export type AgentMetrics = { agent_id: string; status: "starting" | "ready" | "busy" | "draining" | "paused" | "offline" | "failed"; tasks_completed: number; tasks_failed: number; running_tasks: number; findings_generated: number; average_response_time_ms: number; error_rate: number; last_active: EpochSeconds; uptime_seconds: number };

/** The wire's `status`. */
export type AgentStatus = "starting" | "ready" | "busy" | "draining" | "paused" | "offline" | "failed";

/**
 * `approve` and `answer` take an `answer` that fits the schema of the question (approved without one: true); `reject`
 * takes a `reason`. `attempt`: of the question that is meant, if a later one must not be answered.
 */
export type AnswerQuestion = { verdict: "approve" | "reject" | "answer"; answer?: Json; reason?: string | null; attempt?: number | null };

export type ApiKey = { id: string; name: string; state: "valid" | "expired" | "revoked" | "workspace_deleted"; state_detail?: string | null; workspaces: Array<string>; grants: Array<string>; agents: Array<string> | null; created_at: EpochSeconds; created_by: string; expires_at: EpochSeconds | null; revoked_at: EpochSeconds | null; overlap_until: EpochSeconds | null; last_used_at: EpochSeconds | null };

/** The same as a body of its own. `cost_usd`: what the attempt has cost, for budgets. */
export type Ask = { question: string; answer_schema?: Record<string, Json> | null; answerers?: Array<string>; time_limit_seconds?: number | null; default?: Json; checkpoint?: Json; lease_token: string; cost_usd?: string | null };

/** The question of a holder, which gives its lease back with it. `checkpoint`: from where the next attempt goes on. */
export type AskInReport = { question: string; answer_schema?: Record<string, Json> | null; answerers?: Array<string>; time_limit_seconds?: number | null; default?: Json; checkpoint?: Json };

export type AuditEntry = { entry_id: string; action: string; actor: { type: string; id: string; name: null; ip_address: null; user_agent: null }; resource_type: string; resource_id: string; timestamp: IsoTime; workspace_id: string; details: EventData; outcome: "success" | "failure"; error_message: string | null; sequence_number: number; previous_hash: string | null; entry_hash: string | null };

export type Budget = { id: string; name: string; created_by: string; updated_by: string; scope: "workspace" | "agent" | "task_type"; subject: string | null; period: "day" | "month"; mode: "soft" | "hard" | "throttle"; limit_usd: Usd; estimate_usd: Usd; version: number; created_at: IsoTime; updated_at: IsoTime; usage?: { spent_usd: Usd; reserved_usd: Usd; attempts: number; unknown_costs: number; period_start: IsoTime; period_end: IsoTime; available_usd: Usd; level: number; forecast_usd: Usd | null } };

/**
 * What can be changed of a budget; what is left out stays. `limit_usd`: what its tasks may cost in a period.
 * `estimate_usd`: what is reserved for an attempt until its cost is known.
 */
export type BudgetChange = { name?: string | null; mode?: Mode | null; limit_usd?: string | null; estimate_usd?: string | null };

/** Whose attempts a budget counts. */
export type BudgetScope = "workspace" | "agent" | "task_type";

/** Says that the agent has stopped working on a task that is being cancelled, and what that has cost (`cost_usd`). */
export type CancelAcknowledgement = { agent_id?: string | null; lease_token?: string | null; cost_usd?: string | null };

/** Which of the runs start that could not start in time. */
export type CatchUp = "skip" | "one" | "all";

export type Channel = { name: string; kind: "webhook" | "slack" | "teams" | "email"; credential: string | null; url?: string | null; host?: string | null; port: number | null; sender?: string | null; recipients?: Array<string> | null; tls: "starttls" | "tls" | "none" | null; user?: string | null; changed_at: EpochSeconds; changed_by: string };

/**
 * `credential`: of a `webhook` the key that signs (base64), of `slack` and `teams` the URL, of `email` the password
 * of `user`. `url` is a webhook's; the other fields are those of e-mail.
 */
export type ChannelFields = { name: string; kind: ChannelKind; credential?: string | null; url?: string | null; host?: string | null; port?: number | null; sender?: string | null; recipients?: Array<string> | null; tls?: MailTls | null; user?: string | null };

export type ChannelKind = "webhook" | "slack" | "teams" | "email";

export type ChildOutcome = { task_id: string; task_type: string; status: "pending" | "running" | "completed" | "failed" | "cancelled" | "timeout"; status_detail: "queued" | "delayed" | "retrying" | "blocked" | "input_required" | "waiting_children" | "running" | "cancelling" | "completed" | "failed" | "dead_lettered" | "cancelled" | "timeout"; result: Json; error: string | null; left_out?: Array<"payload" | "metadata" | "result"> };

/** Chooses dead tasks by `ids` or by `filter`, at most `limit` of them, newest first. */
export type Chosen = { ids?: Array<string> | null; filter?: DeadLetterFilter | null; limit?: number; dry_run?: boolean };

export type ChunkPage = { task_id: string; status: "pending" | "running" | "completed" | "failed" | "cancelled" | "timeout"; attempt: number; after: string; has_more: boolean; elsewhere: boolean; chunks: Array<{ attempt: number; n: number; timestamp: EpochSeconds; content?: Json }> };

export type Claim = { agent_id: string; capabilities?: Array<string> | null; block_ms?: number; max_tasks?: number | null; claim_id?: string | null; task_types?: Array<string> | null; queues?: Array<string> | null; version?: string | null };

/** `cost_usd`: what the attempt has cost, in US dollars as a text, for budgets. */
export type Complete = { result?: Json; agent_id?: string | null; latency_ms?: number | null; lease_token?: string | null; cost_usd?: string | null };

export type Control = { kind: string; name: string; paused: boolean; changed_at: EpochSeconds | null; changed_by: string | null; rate_per_second?: number | null; burst?: number; weight?: number };

export type ControlKind = "queue" | "task_type" | "tenant";

/** Names a queue, a task type or a tenant. Tasks without a tenant belong to a tenant named like the workspace. */
export type ControlName = { kind?: ControlKind; name: string };

/**
 * Settings of a queue or tenant. Fields that are left out stay as they are; null for `rate_per_second` lifts the
 * limit.
 */
export type ControlSettings = { kind?: ControlKind; name: string; rate_per_second?: number | null; burst?: number | null; weight?: number | null };

/** Children of the task whose lease the caller holds (`lease_token`). */
export type CreateChildren = { tasks: Array<CreateTask>; lease_token: string };

/**
 * `secret`: what the sender signs with, if it makes its own: base64 of 24 to 64 bytes, behind `whsec_` or not. Without
 * it one is made.
 */
export type CreateHook = { task?: HookTask | null; workflow?: string | null; signal?: HookSignal | null; version?: number | null; metadata?: Record<string, Json> | null; input?: Json; rate_per_minute?: number; name: string; secret?: string | null };

/**
 * `run_at` is epoch seconds, `delay_seconds` counts from now; give at most one of them.
 *
 * `timeout_seconds` bounds one attempt, `queue_timeout_seconds` each wait for an agent, and `total_timeout_seconds`
 * the time from submit to end. `after` names tasks that must end first; an id alone means that this task fails if that
 * one does. `parent_task_id`: the task whose child it is. `policy_override`: why it is submitted although soft policies
 * refuse it.
 */
export type CreateTask = { task_type: string; required_capabilities?: Array<string>; priority?: string; timeout_seconds?: number | null; max_retries?: number | null; retry?: Retry | null; metadata?: Record<string, Json>; queue?: string; tenant?: string | null; queue_timeout_seconds?: number | null; total_timeout_seconds?: number | null; concurrency_key?: string | null; concurrency_limit?: number; target_agent?: string | null; excluded_agents?: Array<string>; target_region?: string | null; fallback_regions?: Array<string>; region_routing_mode?: "any" | "preferred" | "strict"; worker_version?: string | null; sticky_key?: string | null; input_required?: InputRequired | null; payload?: Json; run_at?: number | null; delay_seconds?: number | null; after?: Array<string | After>; parent_task_id?: string | null; policy_override?: PolicyOverride | null; idempotency_key?: string | null };

export type CreateTasks = { tasks: Array<CreateTask> };

export type Credential = { name: string; origins: Array<string>; revision: number; created_at: EpochSeconds; created_by: string; changed_at: EpochSeconds; changed_by: string; overlap_until: EpochSeconds | null };

/**
 * The credential that is sent with calls of the agent: as `bearer` token, in a `header`, as password of `user`
 * (`basic`), as the key of a request `signature` (`key_id`; the credential's name if left out), or as client
 * `certificate`. Without `send`: in the header that is named, in `x-api-key` for `anthropic`, else as bearer token.
 */
export type CredentialChoice = { name: string; send?: Sending | null; header?: string | null; user?: string | null; key_id?: string | null };

/** `origins`: where it may be sent, such as `https://api.example.com`; without any, to every agent that names it. */
export type CredentialFields = { name: string; secret: string; origins?: Array<string> };

/** For `overlap_seconds` an agent that refuses the new secret (401) is sent the one of before. */
export type CredentialRotation = { secret: string; overlap_seconds?: number };

/** Chooses dead tasks: all given fields must match. Times are epoch seconds of the task's end. */
export type DeadLetterFilter = { task_type?: string | null; queue?: string | null; reason?: DeadReason | null; error_contains?: string | null; ended_after?: number | null; ended_before?: number | null };

/** The details with which a task is in the dead letter. Not a `Literal`: its error would show Python's names. */
export type DeadReason = "dead_lettered" | "timeout";

export type DeadTask = { id: string; task_type: string; payload?: Json; required_capabilities: Array<string>; status: "pending" | "running" | "completed" | "failed" | "cancelled" | "timeout"; status_detail: "queued" | "delayed" | "retrying" | "blocked" | "input_required" | "waiting_children" | "running" | "cancelling" | "completed" | "failed" | "dead_lettered" | "cancelled" | "timeout"; priority: PriorityNumber; created_at: EpochSeconds; run_at: EpochSeconds; assigned_at: EpochSeconds | null; started_at: EpochSeconds | null; completed_at: EpochSeconds | null; changed_at: EpochSeconds; assigned_agent: string | null; timeout_seconds: number; max_retries: number; retries: number; attempt: number; result?: Json; error?: string | null; metadata?: Record<string, Json>; queue: string; target_agent: string | null; target_region: string | null; fallback_regions: Array<string>; assigned_region: string | null; region_routing_mode: string; origin_region: string; replayed_as?: string; tenant?: string; queue_timeout_seconds?: number; total_timeout_seconds?: number; concurrency_key?: string; concurrency_limit?: number; worker_version?: string; sticky_key?: string; excluded_agents?: Array<string>; after?: Array<{ id: string; when_failed: string }>; left_out?: Array<"payload" | "metadata" | "result">; redacted?: boolean; progress?: Progress; checkpoint?: Json; retry?: RetryPolicy; question?: Question; parent_task_id?: string; parked?: Parked; reason: "queued" | "delayed" | "retrying" | "blocked" | "input_required" | "waiting_children" | "running" | "cancelling" | "completed" | "failed" | "dead_lettered" | "cancelled" | "timeout"; ended_at: EpochSeconds };

export type Decision = { request_id: string; task_id: string; status: string; terminal: string | null; decision_type: string; answer?: string | null; value?: Json; answer_type: string | null; confidence: number | null; confidence_calibrated: boolean; consensus_reached: boolean; authoritative: boolean; decided_by: string | null; reasoning?: string; evidence_used?: Array<string>; dissent?: Array<Record<string, Json>>; dissenting_views?: Array<string>; supporters: Array<string>; abstained: Array<{ agent: string; reason?: string }>; tally?: Record<string, Json>; tie_path: Array<string>; pairwise?: Record<string, Json> | null; stop: string | null; applied_mode: string | null; snapshot_id: string | null; kind: string | null; panel: Array<string>; lost: Array<string>; debate_delta?: Record<string, Json> | null; mode: string | null; rounds_completed: number; total_tokens: number; total_cost_usd: number; cost: Record<string, Json> | null; agent_calls: number; duration_seconds: number | null; error?: string | null; redacted?: boolean; person: { task_id: string; asked_at: EpochSeconds; verdict: "approved" | "rejected" | "answered" | "default" | null; answered_by: string | null; answered_at: EpochSeconds | null; rationale?: string; ended_as: string; decided: boolean; agents: { terminal: string; reason?: string; answer?: string | null; value?: Json } } | null };

/**
 * A question for a panel of agents.
 *
 * `config` may hold options, agents, rounds, consensus, min_agents, max_agents, effort, max_tokens and more.
 * `documents`, `attachments` and `evidence` are shown to the panel as data; nothing is fetched.
 */
export type Deliberate = { content: string; decision_type?: string; config?: Record<string, Json>; context?: Record<string, Json>; documents?: Array<string>; attachments?: Array<Record<string, Json>>; evidence?: Array<Record<string, Json>>; request_id?: string | null; async?: boolean; mode?: "sync" | "async" | null; priority?: string; required_capabilities?: Array<string>; timeout_seconds?: number | null };

export type Deliberation = { request_id: string; task_id: string; status: string; deliberation_status: string; state: string; terminal: string | null; status_detail: string | null; question_task_id: string | null; question?: string | null; created_at: IsoTime; completed_at: IsoTime | null; changed_at: EpochSeconds; result: Decision | null; error?: string | null; contract_digest: string; context_id?: string; redacted?: boolean; metrics?: { duration_seconds: number; rounds_completed: number; total_agent_responses: number; consensus_confidence: number | null; sla_compliance: string } };

/**
 * `correct` is the right answer in the form of the agents' answers; null means that no answer was right.
 * `votes` (answer by agent, null for none) is needed only if the deliberation recorded none.
 */
export type DeliberationOutcome = { correct: Json; votes?: Record<string, Json> | null };

/** What a deliberation's `deliberation_status` may be. */
export type DeliberationStatus = "pending" | "scheduled" | "in_progress" | "consensus_reached" | "no_consensus" | "timeout" | "cancelled" | "failed";

export type DeliveryStatus = "pending" | "delivered" | "dead";

export type DetailedHealth = { status: string; uptime_seconds: number; version: string; components: Array<{ name: string; status: string; latency_ms?: number; error?: string; warnings?: Array<string> }> };

/** `device_code` is that of the answer that began the login. */
export type DeviceLogin = { device_code: string };

/** A policy as it would be made, and how many of the newest tasks are looked at. */
export type DryRun = { name?: string | null; description?: string | null; scope?: Scope | null; all_workspaces?: boolean | null; workspaces?: Array<string> | null; task_types?: Array<string> | null; capabilities?: Array<string> | null; agent_allowlist?: Array<string> | null; agent_blocklist?: Array<string> | null; region_constraint?: RegionConstraint | null; sla?: Sla | null; deny_when?: string | null; enforcement_level?: Enforcement | null; enabled?: boolean | null; priority?: number | null; metadata?: Record<string, Json> | null; limit?: number };

/**
 * What happens to a submit that is against a policy. `warn`: it is taken, and a violation is recorded. `soft` and
 * `hard`: it is refused, and a violation is recorded; whoever may overrides a `soft` one, with a reason.
 */
export type Enforcement = "warn" | "soft" | "hard";

/** A time: seconds since 1970 (UTC), with a fraction. */
export type EpochSeconds = number;

/**
 * What to erase: one of `workspace`, `task_id` (also of a deliberation) and `subject`, what a submit named as
 * `subject` in its metadata or context. `dry_run` only counts. `cursor` goes on with an earlier call.
 */
export type Erase = { workspace?: string | null; task_id?: string | null; subject?: string | null; dry_run?: boolean; cursor?: string | null };

export type Error = { error: string; code: string; trace_id: string; errors?: Array<{ field: string; message: string }>; policy_id?: string; policy_version?: number; violation_type?: "agent" | "region" | "sla" | "condition"; allowed?: string; budget_id?: string; resets_at?: EpochSeconds; quota?: "agents" | "queued_tasks" | "running_tasks" | "submits_per_minute"; limit?: number; used?: number; can_override?: boolean; index?: number; zone?: string; region?: string | null; url?: string | null };

/** Why an attempt failed. `malformed`: its answer could not be stored or read; it is retried like `retryable`. */
export type ErrorClass = "retryable" | "not_retryable" | "rate_limited" | "malformed";

/** Depends on the type. Times are epoch seconds, priorities numbers. */
export type EventData = { priority?: PriorityNumber };

export type Explanation = { task_id: string; status: "pending" | "running" | "completed" | "failed" | "cancelled" | "timeout"; status_detail: "queued" | "delayed" | "retrying" | "blocked" | "input_required" | "waiting_children" | "running" | "cancelling" | "completed" | "failed" | "dead_lettered" | "cancelled" | "timeout"; summary: string; reasons: Array<{ code: string; message: string; unblock: string | null; at: EpochSeconds | null }>; able_agents: Array<string>; queue: string; tenant: string; position?: number; retry?: RetryPolicy; effective_priority?: PriorityName; fairness_share?: number; dispatches_until_turn?: number | null };

/** Forms of an export. */
export type ExportFormat = "json" | "csv" | "syslog";

/**
 * A renewal of a lease, with what its holder reports of its progress: `percent` done, a `message` for people, and a
 * `checkpoint` (any JSON up to a bound) from which the next attempt can go on. What is left out, or null, stays as it was.
 */
export type Extend = { lease_token: string; percent?: number | null; message?: string | null; checkpoint?: Json };

/**
 * A failed attempt. `error_class` retryable, malformed and rate_limited let the task be tried again; not_retryable
 * ends it, as `requeue` false does, and as an `error_code` does that the task's `retry` calls non-retryable. The next
 * attempt waits for `retry_after_seconds` at least (up to a bound), and longer after `rate_limited`. `released`: it has
 * not failed, the holder gives it back unfinished; it costs no retry. `cost_usd`: what the attempt has cost.
 */
export type Fail = { error?: string | null; released?: boolean; agent_id?: string | null; latency_ms?: number | null; requeue?: boolean; error_class?: ErrorClass; retry_after_seconds?: number | null; error_code?: string | null; lease_token?: string | null; cost_usd?: string | null };

/**
 * One task, or one deliberation, for each item of the list that `over` becomes, at most `concurrency` at a time; the
 * result is the list of theirs, in order. `filter`: a condition in CEL, which leaves out items of which it is false.
 * `on_item_failure`: an item that fails ends the step (`fail`), or is null in the list (`continue`).
 */
export type FanOut = { over: Array<Json> | Record<string, Json>; filter?: string | null; concurrency?: number | null; on_item_failure?: ItemFailure; task?: StepTask | null; deliberation?: StepDeliberation | null };

/** An event of a stream, by SSE or WebSocket. */
export type Frame = { type?: string; timestamp: EpochSeconds; seq?: number; data?: EventData };

/** The step that handles a failure; its result stands for that of the step that failed. */
export type Handler = { step: string };

export type HealthCheck = { agent_id: string; status: string; latency_ms: number | null; timestamp: EpochSeconds; error?: string | null; metadata: Record<string, Json> };

export type Heartbeat = { status?: "starting" | "ready" | "busy" | "draining" | "paused" | "offline" | "failed" | null; worker_process?: string | null };

export type HeartbeatItem = { status?: "starting" | "ready" | "busy" | "draining" | "paused" | "offline" | "failed" | null; worker_process?: string | null; agent_id: string };

export type Heartbeats = { heartbeats: Array<HeartbeatItem> };

export type HistoryEntry = { id: string; type: string; status: "pending" | "running" | "completed" | "failed" | "cancelled" | "timeout"; status_detail: "queued" | "delayed" | "retrying" | "blocked" | "input_required" | "waiting_children" | "running" | "cancelling" | "completed" | "failed" | "dead_lettered" | "cancelled" | "timeout"; priority: PriorityName; assigned_agent: string | null; result?: Json; error?: string | null; retries: number; duration_ms: number | null; created_at: IsoTime; started_at: IsoTime | null; completed_at: IsoTime | null; metadata?: Record<string, Json>; left_out?: Array<"payload" | "metadata" | "result">; redacted?: boolean };

export type Hook = { name: string; path: string; paused: boolean; task_type: string | null; task?: Record<string, Json> | null; workflow: string | null; signal?: Record<string, Json> | null; version: number | null; metadata?: Record<string, Json> | null; input?: Json; rate_per_minute: number; secrets: Array<{ ends_at: EpochSeconds | null }>; revision: number; created_at: EpochSeconds; created_by: string; changed_at: EpochSeconds; changed_by: string };

/**
 * What a webhook is: a `task` (a body of POST /tasks without its payload), a run of a `workflow`, of its newest
 * `version` if none is given, with `metadata`, or a `signal` to a run that waits for it. `input` becomes the payload of
 * the task, the input of the run or the value of the signal; in it
 * `{"from": "body", "path": JSON Pointer, "default": VALUE}` stands for a part of the webhook's body, and `{"from": "id"}`
 * for its id. Without it that is the whole body. A hook takes `rate_per_minute` webhooks in a minute.
 */
export type HookFields = { task?: HookTask | null; workflow?: string | null; signal?: HookSignal | null; version?: number | null; metadata?: Record<string, Json> | null; input?: Json; rate_per_minute?: number };

/** The signal `name` to the run `run_id`; either may be a reference, as in `input`. */
export type HookSignal = { run_id: string | Record<string, Json>; name: string | Record<string, Json> };

/** A task, as in POST /tasks, without its payload. */
export type HookTask = { task_type: string; required_capabilities?: Array<string>; priority?: string; timeout_seconds?: number | null; max_retries?: number | null; retry?: Retry | null; metadata?: Record<string, Json>; queue?: string; tenant?: string | null; queue_timeout_seconds?: number | null; total_timeout_seconds?: number | null; concurrency_key?: string | null; concurrency_limit?: number; target_agent?: string | null; excluded_agents?: Array<string>; target_region?: string | null; fallback_regions?: Array<string>; region_routing_mode?: "any" | "preferred" | "strict"; worker_version?: string | null; sticky_key?: string | null; input_required?: InputRequired | null };

/**
 * `id` names the question, whose outcome is recorded once. Give `options` if the answers are a closed set. `kind`
 * says what kind of question it is; files of recorded votes call it `c`, which is understood too.
 */
export type ImportedOutcome = { id: string; votes: Record<string, Json>; correct: Json; options?: Array<Json>; kind?: string | null; c?: string | null };

export type ImportedOutcomes = { outcomes: Array<ImportedOutcome> };

/**
 * A question to people. `answer_schema`: the JSON Schema of the answer. `answerers`: who may answer (`user:EMAIL`,
 * `group:NAME`, `key:ID`, `role:NAME`); without any, whoever may write tasks. `default`: the answer that applies when
 * `time_limit_seconds` are over; without one the task fails then.
 */
export type InputRequired = { question: string; answer_schema?: Record<string, Json> | null; answerers?: Array<string>; time_limit_seconds?: number | null; default?: Json };

/** A time: ISO 8601 in UTC, with microseconds. */
export type IsoTime = string;

/** What a failed item means to its fan-out: it fails too and stops the others, or the item's place stays null. */
export type ItemFailure = "fail" | "continue";

export type Job = { id: string; type: string; name?: string; status: "pending" | "running" | "completed" | "failed" | "cancelled" | "timeout"; status_detail: "queued" | "delayed" | "retrying" | "blocked" | "input_required" | "waiting_children" | "running" | "cancelling" | "completed" | "failed" | "dead_lettered" | "cancelled" | "timeout"; progress: number; started_at: IsoTime | null; created_at: IsoTime; document_count?: Json; agents_assigned: Array<string>; priority: PriorityName };

export type LeasedQuestion = { attempt: number; open: boolean; question: string; answer_schema: Record<string, Json> | null; answerers: Array<string>; time_limit_seconds: number | null; asked_at: EpochSeconds; asked_by: string; due_at: EpochSeconds | null; verdict: "approved" | "rejected" | "answered" | "default" | null; answer: Json; reason: string | null; answered_at: EpochSeconds | null; answered_by: string | null; default?: Json };

export type LeasedTask = { id: string; task_type: string; payload: Json; required_capabilities: Array<string>; status: "pending" | "running" | "completed" | "failed" | "cancelled" | "timeout"; status_detail: "queued" | "delayed" | "retrying" | "blocked" | "input_required" | "waiting_children" | "running" | "cancelling" | "completed" | "failed" | "dead_lettered" | "cancelled" | "timeout"; priority: PriorityNumber; created_at: EpochSeconds; run_at: EpochSeconds; assigned_at: EpochSeconds | null; started_at: EpochSeconds | null; completed_at: EpochSeconds | null; changed_at: EpochSeconds; assigned_agent: string | null; timeout_seconds: number; max_retries: number; retries: number; attempt: number; result: Json; error: string | null; metadata: Record<string, Json>; queue: string; target_agent: string | null; target_region: string | null; fallback_regions: Array<string>; assigned_region: string | null; region_routing_mode: string; origin_region: string; replayed_as?: string; tenant?: string; queue_timeout_seconds?: number; total_timeout_seconds?: number; concurrency_key?: string; concurrency_limit?: number; worker_version?: string; sticky_key?: string; excluded_agents?: Array<string>; after?: Array<{ id: string; when_failed: string }>; left_out?: Array<"payload" | "metadata" | "result">; redacted?: boolean; progress?: Progress; checkpoint?: Json; retry?: RetryPolicy; question?: LeasedQuestion; parent_task_id?: string; parked?: Parked; lease_token: string; lease_expires_at: EpochSeconds; redelivered: boolean; children?: Array<ChildOutcome>; traceparent?: string };

/** A time: ISO 8601 in a time zone, with what that is ahead of UTC then. */
export type LocalTime = string;

/** `starttls`: the connection begins without TLS and goes on with it, or not at all. `tls`: from the first byte on. */
export type MailTls = "starttls" | "tls" | "none";

export type Member = { workspace: string; subject: string; role: string; created_at: EpochSeconds; created_by: string };

/**
 * What a budget does. `soft`: it only counts and tells. `hard`: nothing starts whose reservation it has no room for.
 * `throttle`: as hard, and its tasks come later the more of it is used.
 */
export type Mode = "soft" | "hard" | "throttle";

/** A budget. `subject`: the agent's id or the task type of its scope; none for the workspace. */
export type NewBudget = { name?: string | null; mode?: Mode | null; limit_usd?: string | null; estimate_usd?: string | null; scope?: BudgetScope; subject?: string | null; period?: Period };

/**
 * `workspaces` are those that the key acts in, the caller's if left out; `["*"]` stands for all. `grants` are names of
 * roles and permissions. Without `expires_in_seconds` the key does not expire. With `agents` it acts for these agents only:
 * it registers, beats, claims, reports and drains for no other.
 */
export type NewKey = { name: string; grants: Array<string>; workspaces?: Array<string> | null; expires_in_seconds?: number | null; agents?: Array<string> | null };

export type NewMember = { subject: string; role: string };

/**
 * `name` is for people; without one it is the id. `zone`: where the workspace is resident, for good; nowhere if it is
 * left out.
 */
export type NewWorkspace = { id: string; name?: string | null; zone?: string | null };

export type Notification = { notification_id: string; channel: string; rule: string | null; event: string; severity: "info" | "warning" | "error" | "critical"; title: string; entity: string; seq: number; event_at: EpochSeconds; created_at: EpochSeconds; status: "pending" | "delivered" | "dead"; attempts: number; repeats: number; next_attempt_at: EpochSeconds | null; ended_at: EpochSeconds | null; last_error: string | null };

export type NotificationRule = { name: string; events: Array<string>; severity: "info" | "warning" | "error" | "critical"; channels: Array<string>; repeat_after_seconds: number; repeat_by: "entity" | "event"; digest_seconds: number | null; quiet: Record<string, Json> | null; changed_at: EpochSeconds; changed_by: string };

export type OpenQuestion = { attempt: number; open: boolean; question?: string; answer_schema?: Record<string, Json> | null; answerers: Array<string>; time_limit_seconds: number | null; asked_at: EpochSeconds; asked_by: string; due_at: EpochSeconds | null; verdict: "approved" | "rejected" | "answered" | "default" | null; answer?: Json; reason?: string | null; answered_at: EpochSeconds | null; answered_by: string | null; default?: Json; task_id: string; task_type: string; queue: string; priority: PriorityNumber };

/** States that a workspace can be put into; it is deleted by DELETE. */
export type OpenState = "active" | "suspended";

/**
 * What happens to a run that is due while an earlier one has not ended. `queue`: it starts when that one has ended.
 * `cancel`: that one is cancelled.
 */
export type Overlap = "skip" | "queue" | "cancel" | "allow";

/** The same as a body of its own. `cost_usd`: what the attempt has cost, for budgets. */
export type Park = { children: Array<string>; checkpoint?: Json; lease_token: string; cost_usd?: string | null };

/**
 * `children`: ids of tasks that were submitted with this one as their `parent_task_id`, all of which have to end.
 * `checkpoint`: from where the next attempt goes on.
 */
export type ParkInReport = { children: Array<string>; checkpoint?: Json };

export type Parked = { attempt: number; parked_at: EpochSeconds; children: Array<string> };

/** How long a budget lasts before it begins anew, at midnight UTC. */
export type Period = "day" | "month";

export type Policy = { id: string; name: string; description?: string; created_by: string; updated_by: string; scope: "global" | "task_type" | "capability" | "region" | "workspace"; all_workspaces: boolean; workspaces: Array<string>; task_types: Array<string>; capabilities: Array<string>; agent_allowlist: Array<string>; agent_blocklist: Array<string>; region_constraint: { allowed_regions: Array<string>; blocked_regions: Array<string> }; sla: { max_execution_seconds: number | null }; deny_when: string | null; enforcement_level: "warn" | "soft" | "hard"; enabled: boolean; priority: PolicyPriority; metadata?: Record<string, Json>; version: number; previous_version: number | null; created_at: IsoTime; updated_at: IsoTime };

export type PolicyConflict = { policy_id: string; reason: string };

/**
 * What a policy says. A list that is empty or left out says nothing: every task type, every agent, every region.
 * `enforcement_level`: `warn` takes a task that is against the policy and records a violation, `soft` and `hard` refuse
 * it. `deny_when`: a condition in CEL of `task`, `payload` and `metadata`; a task of which it is true is against the
 * policy, and so is one of which it cannot be evaluated. `all_workspaces`: it is about those that `workspaces` names, or
 * all.
 */
export type PolicyFields = { name?: string | null; description?: string | null; scope?: Scope | null; all_workspaces?: boolean | null; workspaces?: Array<string> | null; task_types?: Array<string> | null; capabilities?: Array<string> | null; agent_allowlist?: Array<string> | null; agent_blocklist?: Array<string> | null; region_constraint?: RegionConstraint | null; sla?: Sla | null; deny_when?: string | null; enforcement_level?: Enforcement | null; enabled?: boolean | null; priority?: number | null; metadata?: Record<string, Json> | null };

/** Why soft policies that refuse the task are put aside: words for whoever reads the audit. */
export type PolicyOverride = { reason: string };

/** Of several policies that refuse a submit, the highest is named. */
export type PolicyPriority = number;

/** What an agent costs per million tokens. */
export type Price = { input_per_mtok: number; output_per_mtok: number; currency?: string };

/**
 * Fields that are left out stay as they are. `position` counts the waiting tasks of the same sub-queue and priority
 * from 1; 0 means 1.
 */
export type Prioritize = { task_id: string; priority?: string | null; position?: number | null };

export type PriorityName = "low" | "normal" | "high" | "urgent";

/** low, normal, high, urgent */
export type PriorityNumber = 0 | 50 | 75 | 100;

export type Progress = { attempt: number; reported_at: EpochSeconds; percent: number | null; message?: string | null };

export type Question = { attempt: number; open: boolean; question?: string; answer_schema?: Record<string, Json> | null; answerers: Array<string>; time_limit_seconds: number | null; asked_at: EpochSeconds; asked_by: string; due_at: EpochSeconds | null; verdict: "approved" | "rejected" | "answered" | "default" | null; answer?: Json; reason?: string | null; answered_at: EpochSeconds | null; answered_by: string | null; default?: Json };

/**
 * From `start` until `end` (HH:MM by the clock of `timezone`; the next day's if it is not later), beginning on `days`
 * (mon to sun; every day if they are left out). Events that are at least as grave as `unless` are told all the same.
 */
export type QuietFields = { start: string; end: string; timezone?: string; days?: Array<"mon" | "tue" | "wed" | "thu" | "fri" | "sat" | "sun"> | null; unless?: Severity };

export type Quotas = { workspace: string; quotas: { agents: number | null; queued_tasks: number | null; running_tasks: number | null; submits_per_minute: number | null }; used: { agents: number; queued_tasks: number; running_tasks: number }; version: number; updated_at: IsoTime | null; updated_by: string | null };

/** A token bucket: `per_minute` calls on average, `burst` at once. */
export type Rate = { per_minute: number; burst?: number };

/** Its own schema and all its rules: docs/receipts.md. */
export type Receipt = { schema_version: string; receipt_id: string; request_id: string; timestamp: string; input_summary?: string | null; input_hash?: string | null; verdict: string; confidence: number | null; dissenting_views?: Array<string>; consensus_proof: Record<string, Json>; artifact_hash: string; head: Record<string, Json>; signature: Record<string, Json>; contract?: Record<string, Json> | null; events?: Array<Record<string, Json>> };

/** `allowed_regions`: only these, any if it is empty. A region in both is blocked. */
export type RegionConstraint = { allowed_regions?: Array<string>; blocked_regions?: Array<string> };

/**
 * `endpoint` and `transport` make a push agent; without them the agent pulls work by claiming.
 *
 * `import_path` (`module:Class`) runs a Python class in the cluster. `dedicated` gives the agent a Ray actor of
 * its own, which declares `num_cpus`, `num_gpus`, `memory` (bytes) and custom `resources` to Ray.
 */
export type RegisterAgent = { agent_id: string; capabilities?: Array<string>; model?: string; provider?: string; metadata?: Record<string, Json>; tags?: Array<string>; region_id?: string | null; available_regions?: Array<string>; transport?: TransportKind | null; endpoint?: string | null; credential?: CredentialChoice | null; max_concurrency?: number; price?: Price | null; owner?: string | null; rate?: Rate | null; import_path?: string | null; options?: Record<string, Json>; version?: string | null; dedicated?: boolean; num_cpus?: number; num_gpus?: number; memory?: number; resources?: Record<string, Json> };

export type RegisterAgents = { agents: Array<RegisterAgent> };

/** What makes an event a repeat of another one: the same event about the same thing, or about anything. */
export type RepeatBy = "entity" | "event";

/** `payload` replaces the payload of every chosen task; `payload_patch` sets some fields of it. */
export type ReplayDead = { ids?: Array<string> | null; filter?: DeadLetterFilter | null; limit?: number; dry_run?: boolean; payload?: Json; payload_patch?: Record<string, Json> | null };

/** `from_step`: it and what comes after it runs anew, whatever became of it. */
export type ReplayRun = { from_step?: string | null };

/**
 * One report of a batch: a failure if it has `error`, the answer to a cancel if it has `stopped`, given back
 * unfinished if it has `released`, with a question to people if it has `ask`, or until children have ended if it has
 * `park`. `cost_usd`: what the attempt has cost.
 */
export type Report = { task_id: string; result?: Json; error?: string | null; requeue?: boolean; error_class?: ErrorClass; retry_after_seconds?: number | null; error_code?: string | null; stopped?: boolean; released?: boolean; ask?: AskInReport | null; park?: ParkInReport | null; agent_id?: string | null; latency_ms?: number | null; lease_token?: string | null; cost_usd?: string | null };

export type Reports = { reports: Array<Report> };

/**
 * How a task is tried again, instead of as usual: how many `attempts` may end badly in all; the wait after the first of
 * them, by what each later one is longer, and the longest; the codes of failures (`error_code`, an error class, or
 * `run_timeout`) that end the task; how many `calls` one attempt may make of an agent that is unavailable.
 */
export type Retry = { attempts?: number | null; initial_seconds?: number | null; factor?: number | null; cap_seconds?: number | null; non_retryable?: Array<string>; calls?: number };

export type RetryPolicy = { attempts: number; initial_seconds?: number; factor?: number; cap_seconds?: number; non_retryable?: Array<string>; calls?: number };

export type Role = { name: string; built_in: boolean; permissions: Array<string> };

/** Names of permissions (docs/access.md). */
export type RolePermissions = { permissions: Array<string> };

/** The version whose words and lists the next version has. */
export type Rollback = { version: number };

/** For `overlap_seconds` the secrets of before count too. `secret` as when the hook is made. */
export type RotateHook = { overlap_seconds?: number; secret?: string | null };

/** For `overlap_seconds` the secret of before counts too. */
export type Rotation = { overlap_seconds?: number };

/**
 * `events`: names, `group.*` or `*`; `severity`: the least one. Within `repeat_after_seconds` after an event was
 * told, the same event about the same thing (`entity`) or about anything (`event`) is only counted.
 * `digest_seconds`: for so long events are gathered and then told as one; `quiet`: hours in which they are gathered until
 * the hours end.
 */
export type RuleFields = { name: string; events: Array<string>; severity?: Severity; channels: Array<string>; repeat_after_seconds?: number; repeat_by?: RepeatBy; digest_seconds?: number | null; quiet?: QuietFields | null };

/** `dry_run` only counts what would be removed now. */
export type RunRetention = { dry_run?: boolean };

/** `failing` and `cancelling`: nothing starts any more, and some tasks have not ended. */
export type RunStatus = "running" | "failing" | "cancelling" | "completed" | "failed" | "cancelled";

export type RunStep = { id: string; status: "waiting" | "running" | "completed" | "failed" | "skipped" | "cancelled"; tasks: number | null; started: number; open: number; failed: number; failed_items: Array<number>; first_task_id: string | null; first_deliberation_id: string | null; code: "task_failed" | "task_cancelled" | "task_timeout" | "input_unresolved" | "input_too_large" | "not_a_list" | "not_a_time" | "condition_failed" | "signal_timeout" | "limit_exceeded" | "result_removed" | "policy_denied" | "invalid_deliberation" | "no_consensus" | "deliberation_failed" | "deliberation_cancelled" | "deliberation_timeout" | null; reason: string; started_at: EpochSeconds | null; ended_at: EpochSeconds | null; waits_until: EpochSeconds | null; result?: Json; result_left_out?: boolean };

export type Schedule = { schedule_id: string; name: string; state: "active" | "paused" | "ended"; cron: string | null; timezone: string; every_seconds: number | null; starts_at: EpochSeconds | null; ends_at: EpochSeconds | null; jitter_seconds: number; catch_up: "skip" | "one" | "all"; catch_up_window_seconds: number; catch_up_limit: number; overlap: "skip" | "queue" | "cancel" | "allow"; paused: boolean; next_run_at: EpochSeconds | null; last_due_at: EpochSeconds | null; last_run_id: string | null; open_run_ids: Array<string>; runs_started: number; created_at: EpochSeconds; changed_at: EpochSeconds; created_by: string; task_type: string | null; task?: Record<string, Json> | null; deliberation?: Record<string, Json> | null; workflow_name: string | null; workflow?: Record<string, Json> | null };

/**
 * When runs are due (`cron` in a `timezone`, or `every_seconds`), and what each is: a `task` (a body of POST
 * /tasks), a `deliberation` (one of POST /deliberations) or a run of a `workflow`. Times are epoch seconds. In a change,
 * fields that are left out stay as they are.
 *
 * `catch_up` says which missed runs are made up: none (`skip`), the newest (`one`) or `all`, of the last
 * `catch_up_window_seconds` and at most `catch_up_limit`. `overlap` says what happens to a run that is due while
 * an earlier one has not ended: none starts (`skip`), it waits (`queue`, tasks only), the earlier one is cancelled
 * (`cancel`), or both run (`allow`). A run starts up to `jitter_seconds` after it is due.
 */
export type ScheduleFields = { name?: string | null; cron?: string | null; timezone?: string | null; every_seconds?: number | null; starts_at?: number | null; ends_at?: number | null; jitter_seconds?: number | null; catch_up?: CatchUp | null; catch_up_window_seconds?: number | null; catch_up_limit?: number | null; overlap?: Overlap | null; paused?: boolean | null; task?: CreateTask | null; deliberation?: Deliberate | null; workflow?: ScheduledRun | null };

/** A run of the workflow `name`, as in POST /workflows/{name}/runs. Without a `version` each run is of the newest one. */
export type ScheduledRun = { input?: Json; version?: number | null; metadata?: Record<string, Json>; name: string };

/** What a policy says that it is about. It decides nothing: the lists do. */
export type Scope = "global" | "task_type" | "capability" | "region" | "workspace";

/** `value`: the result of the steps that wait for the signal. */
export type SendSignal = { value?: Json };

/** How a secret is sent. */
export type Sending = "bearer" | "header" | "basic" | "signature" | "certificate";

/**
 * The workspace's quotas: registered agents, tasks that wait, tasks that run, submits in a minute. Null removes one; a field
 * that is left out stays as it is.
 */
export type SetQuotas = { agents?: number | null; queued_tasks?: number | null; running_tasks?: number | null; submits_per_minute?: number | null };

/**
 * What the workspace keeps. Days count from the end, numbers are of the newest by their submit; 0 is no bound. A field that
 * is left out stays as it is.
 */
export type SetRetention = { task_days?: number | null; task_count?: number | null; deliberation_days?: number | null; deliberation_count?: number | null; workflow_run_days?: number | null; workflow_run_count?: number | null; spending_days?: number | null; violation_days?: number | null; policy_version_days?: number | null };

export type Severity = "info" | "warning" | "error" | "critical";

/**
 * The wait for a signal; its value is the step's result. If it has not come after `timeout_seconds`, the result is
 * `default`; without one the step fails (`signal_timeout`).
 */
export type SignalWait = { name: string; timeout_seconds?: number | null; default?: Json };

/** `max_execution_seconds`: the longest `timeout_seconds` that a task may ask for. */
export type Sla = { max_execution_seconds?: number | null };

/**
 * The wait for `seconds`, or `until` a time (a text of RFC 3339 with its zone, or epoch seconds); or references to
 * such.
 */
export type SleepWait = { seconds?: number | Record<string, Json> | null; until?: number | string | Record<string, Json> | null };

export type Snapshot = { snapshot_id: string; version: number; created_at: EpochSeconds; agents: Array<string>; outcomes: number; gate: Record<string, Json>; learned: Record<string, Json>; log_odds: Record<string, Json>; accuracy: Record<string, Json>; owner_cap: number | null; calibrated: Array<string>; kinds: Record<string, Json>; alarms: Array<Record<string, Json>>; document?: Record<string, Json> };

/**
 * By what a list is ordered, the newest first: when its entries were submitted, or when each has ended, else begun, else was
 * submitted.
 */
export type Sort = "created" | "changed";

export type Spending = { day: string; agent_id: string; task_type: string; spent_usd: Usd; reserved_usd: Usd; attempts: number; unknown_costs: number };

/**
 * `input`: what references to `input` stand for. `version`: of the workflow, the newest if it is left out.
 * `metadata`: of each task of the run; its `subject` says whose work it is.
 */
export type StartRun = { input?: Json; version?: number | null; metadata?: Record<string, Json> };

/**
 * A deliberation, as in POST /deliberations, whose result is the step's. Whatever is an object may be a reference, as in
 * the input of a task. `on_no_consensus`: one that ends without a decision fails the step (`fail`), or is its result
 * (`complete`).
 */
export type StepDeliberation = { content: string | Record<string, Json>; decision_type?: string | Record<string, Json>; config?: Record<string, Json>; context?: Record<string, Json>; documents?: Array<Json> | Record<string, Json>; attachments?: Array<Json> | Record<string, Json>; evidence?: Array<Json> | Record<string, Json>; required_capabilities?: Array<Json> | Record<string, Json>; timeout_seconds?: number | Record<string, Json> | null; on_no_consensus?: "fail" | "complete" };

/**
 * A step: a `task`, a `deliberation`, a `map`, or the wait for a `signal` or a time (`sleep`). It starts when the
 * steps `after` which it comes and those that it refers to are over. If it fails, the run does (`fail`), goes on without
 * its result (`continue`), or another step handles it. `when`: a condition in CEL; if it is false, the step is
 * skipped.
 */
export type StepFields = { id: string; task?: StepTask | null; deliberation?: StepDeliberation | null; map?: FanOut | null; signal?: SignalWait | null; sleep?: SleepWait | null; when?: string | null; after?: Array<string>; on_failure?: "fail" | "continue" | Handler };

/**
 * A task, as in POST /tasks. Its payload is `input`, in which `{"from": "input" | "item" | STEP, "path": JSON Pointer,
 * "default": VALUE}` stands for a value that is known when the step starts, and `{"literal": VALUE}` for itself.
 */
export type StepTask = { task_type: string; required_capabilities?: Array<string>; priority?: string; timeout_seconds?: number | null; max_retries?: number | null; retry?: Retry | null; metadata?: Record<string, Json>; queue?: string; tenant?: string | null; queue_timeout_seconds?: number | null; total_timeout_seconds?: number | null; concurrency_key?: string | null; concurrency_limit?: number; target_agent?: string | null; excluded_agents?: Array<string>; target_region?: string | null; fallback_regions?: Array<string>; region_routing_mode?: "any" | "preferred" | "strict"; worker_version?: string | null; sticky_key?: string | null; input_required?: InputRequired | null; input?: Json };

export type Task = { id: string; task_type: string; payload?: Json; required_capabilities: Array<string>; status: "pending" | "running" | "completed" | "failed" | "cancelled" | "timeout"; status_detail: "queued" | "delayed" | "retrying" | "blocked" | "input_required" | "waiting_children" | "running" | "cancelling" | "completed" | "failed" | "dead_lettered" | "cancelled" | "timeout"; priority: PriorityNumber; created_at: EpochSeconds; run_at: EpochSeconds; assigned_at: EpochSeconds | null; started_at: EpochSeconds | null; completed_at: EpochSeconds | null; changed_at: EpochSeconds; assigned_agent: string | null; timeout_seconds: number; max_retries: number; retries: number; attempt: number; result?: Json; error?: string | null; metadata?: Record<string, Json>; queue: string; target_agent: string | null; target_region: string | null; fallback_regions: Array<string>; assigned_region: string | null; region_routing_mode: string; origin_region: string; replayed_as?: string; tenant?: string; queue_timeout_seconds?: number; total_timeout_seconds?: number; concurrency_key?: string; concurrency_limit?: number; worker_version?: string; sticky_key?: string; excluded_agents?: Array<string>; after?: Array<{ id: string; when_failed: string }>; left_out?: Array<"payload" | "metadata" | "result">; redacted?: boolean; progress?: Progress; checkpoint?: Json; retry?: RetryPolicy; question?: Question; parent_task_id?: string; parked?: Parked };

/** `status_detail` on the wire. */
export type TaskDetail = "queued" | "delayed" | "retrying" | "blocked" | "input_required" | "waiting_children" | "running" | "cancelling" | "completed" | "failed" | "dead_lettered" | "cancelled" | "timeout";

export type TaskEvent = { n: number; seq: number; type: string; timestamp: EpochSeconds; attempt: number | null; principal: string; data: EventData };

/** The six statuses of the wire; `TaskDetail` tells them apart further. */
export type TaskStatus = "pending" | "running" | "completed" | "failed" | "cancelled" | "timeout";

/**
 * How an agent is called. `pull` agents have no endpoint: they claim work. `import` agents are Python classes that run in
 * the cluster.
 */
export type TransportKind = "pull" | "openai" | "anthropic" | "http" | "a2a" | "import";

/** What people made of a violation. */
export type UpdateViolation = { status: ViolationStatus; resolution_notes?: string | null };

/** US dollars. */
export type Usd = string;

export type Violation = { id: string; policy_id: string; workspace_id: string; policy_version: number; policy_name: string; description: string; task_type: string; submitted_by: string; resolution_notes?: string; violation_type: "agent" | "region" | "sla" | "condition"; enforcement_level: "warn" | "soft" | "hard"; task_id: string | null; agent_id: string | null; region: string | null; resolved_by: string | null; timestamp: IsoTime; status: "open" | "investigating" | "resolved" | "false_positive"; resolved_at: IsoTime | null; overridden: boolean; metadata?: Record<string, Json> };

/** What people made of a violation. */
export type ViolationStatus = "open" | "investigating" | "resolved" | "false_positive";

/** What of a policy the submit was against. */
export type ViolationType = "agent" | "region" | "sla" | "condition";

/** What happens to a task if one that it runs after ends without a result. */
export type WhenFailed = "fail" | "run_anyway";

export type Workflow = { name: string; version: number; created_at: EpochSeconds; created_by: string; steps: Array<string>; document?: Record<string, Json> };

/** A workflow: its name, and its steps in any order. */
export type WorkflowDocument = { name: string; description?: string | null; steps: Array<StepFields> };

export type WorkflowRun = { run_id: string; workflow: string; version: number; status: "running" | "failing" | "cancelling" | "completed" | "failed" | "cancelled"; created_at: EpochSeconds; changed_at: EpochSeconds; ended_at: EpochSeconds | null; created_by: string; replays: string | null; metadata?: Record<string, Json>; steps: Array<RunStep> };

export type Workspace = { id: string; name: string; state: "active" | "suspended" | "deleted"; zone: string | null; created_at: EpochSeconds; changed_at: EpochSeconds };

/** Fields that are left out stay as they are. */
export type WorkspaceChange = { name?: string | null; state?: OpenState | null };

/**
 * Consecutive chunks (text or JSON), of which the first one has the number `first`. `skip`: numbers before it that were
 * not taken are given up.
 */
export type WriteChunks = { lease_token: string; first: number; chunks: Array<Json>; skip?: boolean };

/** One method for each call of the API. Members have the names that they have on the wire. */
export class Api {
  readonly #caller: Caller;

  constructor(caller: Caller) {
    this.#caller = caller;
  }

  /**
   * Gives a subject a role in a workspace, or (`*`) in all of them. A repeat changes nothing. 403 (`Forbidden`,
   * `exceeds_own`) if the role allows more than the caller may do there. 404 (`NotFound`) if there is no such workspace.
   */
  addMember(args: { workspace_id: string; body: NewMember } & Repeatable): Promise<{ workspace: string; subject: string; role: string }> {
    return this.#caller.call("PUT", "/api/control-plane/workspaces/{workspace_id}/members", [], args);
  }

  /** Health of one agent: of a called agent by its last probe, of a pull agent by its heartbeats. */
  agentHealth(args: { agent_id: string } & CallOptions): Promise<HealthCheck> {
    return this.#caller.call("GET", "/api/control-plane/health/{agent_id}", [], args);
  }

  /**
   * Counts and times of an agent since it was first registered. `findings_generated` counts the entries of the
   * `findings` lists in its results; `uptime_seconds` is 0 while the agent is offline.
   */
  agentMetrics(args: { agent_id: string } & CallOptions): Promise<AgentMetrics> {
    return this.#caller.call("GET", "/api/control-plane/metrics/agents/{agent_id}", [], args);
  }

  /**
   * Answers the open question of a task. The same answer again changes nothing. 400 (`InvalidRequest`, `invalid_answer`) if
   * the answer does not fit the question, 403 (`Forbidden`, `not_an_answerer`) if the caller is not among those who may
   * answer, 409 (`Conflict`) if the question has another answer (`already_answered`) or none is open (`no_open_question`).
   */
  answerQuestion(args: { task_id: string; body: AnswerQuestion } & Repeatable): Promise<{ answered: boolean; verdict: "approved" | "rejected" | "answered" | "default"; answered_by: string }> {
    return this.#caller.call("POST", "/api/control-plane/tasks/{task_id}/answer", [], args);
  }

  /**
   * Every component with its status and latency, and with `warnings` (sentences) if something about it is unusual. The
   * status is 200 even if a component is unhealthy.
   */
  apiDetailed(args: CallOptions = {}): Promise<DetailedHealth> {
    return this.#caller.call("GET", "/api/control-plane/health/detailed", [], args);
  }

  /**
   * Stores a document as the next version of the workflow of its name; the same document again is no new version. Runs that
   * were started keep theirs. One that deliberates also takes the permission to start a deliberation. 400 (`InvalidRequest`,
   * `invalid_workflow` or `limit_exceeded`) if its steps cannot be, 409 (`Conflict`) if the workspace has 1,000
   * workflows.
   */
  applyWorkflow(args: { body: WorkflowDocument } & Repeatable): Promise<Workflow> {
    return this.#caller.call("POST", "/api/control-plane/workflows", [], args);
  }

  /**
   * Gives a lease back with a question to people. The task waits without lease, run time and spent retry; when it is answered
   * it can be claimed again, with `question` and `checkpoint` in the claim. A repeat changes nothing. 400
   * (`InvalidRequest`) if the question cannot be asked, 409 (`Conflict`, `lease_lost`) if the caller does not hold the lease.
   */
  askQuestion(args: { task_id: string; body: Ask } & Repeatable): Promise<{ asked: boolean; attempt: number }> {
    return this.#caller.call("POST", "/api/control-plane/tasks/{task_id}/ask", [], args);
  }

  /** One entry of the audit, by its `entry_id`. 404 (`NotFound`) if the workspace has none of this id. */
  auditLog(args: { log_id: string } & CallOptions): Promise<AuditEntry> {
    return this.#caller.call("GET", "/api/control-plane/audit-logs/{log_id}", [], args);
  }

  /** The entries of the workspace's audit, newest first, as `GET /audit` has them. */
  auditLogs(args: { limit?: number; offset?: number } & CallOptions = {}): Promise<{ entries: Array<AuditEntry>; total: number; total_exact: boolean; query: { limit: number; offset: number } }> {
    return this.#caller.call("GET", "/api/control-plane/audit-logs", ["limit", "offset"], args);
  }

  /**
   * How many entries the workspace has, and the last sealed row of the log with its hash. `retention_days` is null: the
   * workspace has no rule for entries, the oldest go with the log's segments.
   */
  auditStats(args: CallOptions = {}): Promise<{ total_entries: number; total_exact: boolean; last_hash: string | null; sealed_through: number; storage_backend: "postgresql"; retention_days: null }> {
    return this.#caller.call("GET", "/api/control-plane/audit/stats", [], args);
  }

  /**
   * Begins a login of a command line (RFC 8628): a person opens `verification_uri` in any browser and types
   * `user_code`. 404 (`NotFound`) if logins are off, 400 (`InvalidRequest`, `no_device_login`) if the provider has none.
   */
  beginDeviceLogin(args: CallOptions = {}): Promise<{ device_code: string; user_code: string; verification_uri: string; verification_uri_complete: string | null; expires_in: number; interval: number }> {
    return this.#caller.call("POST", "/api/control-plane/auth/device", [], args);
  }

  /**
   * Breakers of the workspace's agents and of the control plane's dependencies (`redis`, and `database` as this replica
   * sees it). A breaker that has never counted a failure is not listed. While the database is away, the stored breakers are
   * listed as they were last read, and `stale` is true.
   */
  breakers(args: CallOptions = {}): Promise<{ breakers: Array<{ name: string; state: string; failure_count: number; success_count: number; last_failure: EpochSeconds | null; reset_timeout_ms: number }>; stale?: boolean }> {
    return this.#caller.call("GET", "/api/control-plane/breakers", [], args);
  }

  /**
   * Takes a webhook (Standard Webhooks: the headers webhook-id, webhook-timestamp, webhook-signature over id, time and body)
   * and starts or signals what the hook says; the same webhook-id gives the same task or run again. The body is JSON. 400
   * (`InvalidRequest`) if the body is none, or lacks what the hook refers to (`input_unresolved`); 401
   * (`Unauthenticated`) if the signature counts for no hook or its time is more than five minutes from ours; 403
   * (`Forbidden`, `PolicyDenied`) if the workspace is suspended or a policy refuses the task; 404 (`NotFound`) if its
   * workflow was deleted, or no run waits for the signal (`signal_not_found`); 409 (`Conflict`) if the hook is paused
   * (`hook_paused`) or the run takes the signal no more; 429 (`RateLimited`) if the hook is called more often than its rate
   * allows.
   */
  callHook(args: { hook_name: string; workspace_id?: string | null } & CallOptions): Promise<{ task_id: string | null; run_id: string | null }> {
    return this.#caller.call("POST", "/api/control-plane/hooks/{hook_name}", ["workspace_id"], args);
  }

  /**
   * Cancels a deliberation and keeps its best answer so far. A repeat gets the same answer. 404 (`NotFound`) if there is no
   * such deliberation, 409 (`Conflict`) if it has ended otherwise.
   */
  cancelDeliberation(args: { request_id: string } & Repeatable): Promise<{ cancelled: boolean }> {
    return this.#caller.call("POST", "/api/control-plane/deliberations/{request_id}/cancel", [], args);
  }

  /**
   * Cancels a run: no step starts any more, its open tasks are cancelled, and it ends when those have. A repeat changes
   * nothing. 404 (`NotFound`) if there is no such run, 409 (`Conflict`, `already_terminal`) if it has ended.
   */
  cancelRun(args: { run_id: string } & Repeatable): Promise<WorkflowRun> {
    return this.#caller.call("POST", "/api/control-plane/workflow-runs/{run_id}/cancel", [], args);
  }

  /**
   * Cancels a task. A waiting task ends at once; the agent of a running task is asked to stop it. A repeat gets the same
   * answer.
   */
  cancelTask(args: { task_id: string } & Repeatable): Promise<{ cancelled: boolean }> {
    return this.#caller.call("POST", "/api/control-plane/tasks/{task_id}/cancel", [], args);
  }

  /**
   * Renames, suspends or resumes a workspace. While it is suspended, reads are answered and what runs may end; nothing else is
   * submitted, claimed or changed but access, and open work waits. A repeat changes nothing. 404 (`NotFound`) if there is no such
   * workspace.
   */
  changeWorkspace(args: { workspace_id: string; body: WorkspaceChange } & Repeatable): Promise<Workspace> {
    return this.#caller.call("PATCH", "/api/control-plane/workspaces/{workspace_id}", [], args);
  }

  /**
   * Claims work for a registered agent. The call waits up to `block_ms` (at most 25 s) for a task; `task` is null if
   * there is none.
   *
   * With `max_tasks` the answer also has the list `tasks`. With `task_types` only tasks of these types are claimed, with
   * `queues` only those of these queues. The same `claim_id` gives the same leases, and the newest call under it is the one
   * that is answered: an older one that still waits ends with 409 (`Conflict`, `superseded`). `cancelling` names tasks that
   * the agent should stop. 404 (`NotFound`) if the agent is not registered. 403 (`Forbidden`, `workspace_suspended`) while the
   * workspace is suspended, or (`residency_violation`) if the agent says that it runs outside of the workspace's zone.
   */
  claimTask(args: { body: Claim } & Repeatable): Promise<{ task: LeasedTask | null; tasks?: Array<LeasedTask>; cancelling?: Array<string> }> {
    return this.#caller.call("POST", "/api/control-plane/tasks/claim", [], args);
  }

  /**
   * Completes a task. With the `lease_token` of the claim, only the holder of that attempt can; for any other attempt the
   * answer is 409 (`Conflict`, `lease_lost`).
   */
  completeTask(args: { task_id: string; body?: Complete | null } & Repeatable): Promise<{ completed: boolean }> {
    return this.#caller.call("POST", "/api/control-plane/tasks/{task_id}/complete", [], args);
  }

  /**
   * Takes up to 1,000 reports in one call, completions and failures. `results` has one answer for each report, in their
   * order; a report that cannot be taken, whatever its shape, fails alone (its `task_id` is null if it names no task).
   */
  completeTasks(args: { body: Reports } & Repeatable): Promise<{ results: Array<{ task_id: string | null; ok: boolean; error?: string; code?: string }>; total: number }> {
    return this.#caller.call("POST", "/api/control-plane/tasks/complete", [], args);
  }

  /**
   * Makes a budget. It counts attempts that start from now on. 400 (`InvalidRequest`) if its fields do not fit together, 409
   * (`Conflict`) if the key was used with another body or for a budget that has been deleted since, or there are 100 budgets.
   */
  createBudget(args: { body: NewBudget } & Repeatable): Promise<Budget> {
    return this.#caller.call("POST", "/api/control-plane/budgets", [], args);
  }

  /**
   * Submits up to 1,000 children of a task for the holder of its lease, in one transaction; all or none. It takes no permission
   * to submit, and submits nothing else: each is a child of this task, and comes after other children of it at most. Policies,
   * budgets and quotas apply as to any submit. An `Idempotency-Key` covers the whole call, and that of the same tasks at
   * `/tasks/batch`. 400 (`InvalidRequest`) if a task is not valid, names another parent, or comes `after` what is no child of
   * this task (`not_a_child`), 403 (`PolicyDenied`, `BudgetExhausted`) if a policy or a budget refuses one, 429 (`QuotaFull`)
   * if a quota has no room for all, 403 (`QuotaExceeded`) if it never has for so many, 409 (`Conflict`, `lease_lost`) if the
   * caller does not hold the lease.
   */
  createChildren(args: { task_id: string; body: CreateChildren } & Repeatable): Promise<{ task_ids: Array<string>; total: number }> {
    return this.#caller.call("POST", "/api/control-plane/tasks/{task_id}/children", [], args);
  }

  /**
   * Puts a question to several agents. Answers 200 with the result, or 202 with a `Location` if the call is asynchronous
   * or takes longer than 24 s. 409 (`Conflict`) if the request id or the key was used with another body, 410 (`Removed`,
   * `deliberation_removed`) if the request id is that of a deliberation that retention has removed.
   */
  createDeliberation(args: { body: Deliberate } & Repeatable): Promise<Decision | { task_id: string; request_id: string; status: string }> {
    return this.#caller.call("POST", "/api/control-plane/deliberations", [], args);
  }

  /**
   * Makes a hook: whoever sends a webhook with a signature of its `secret` to its `path` starts what it says, in the hook's
   * own name. `secret` is shown in this answer only, unless the caller gave it. The same hook again changes nothing. 400
   * (`InvalidRequest`) if it does not say exactly one thing to start, 404 (`NotFound`) if there is no such workflow, 409
   * (`Conflict`) if there is another hook of this name or the workspace has 1,000, the key was used with another body, or
   * ARAGORA_SECRETS_KEY is not set (`no_secrets_key`).
   */
  createHook(args: { body: CreateHook } & Repeatable): Promise<{ name: string; path: string; paused: boolean; task_type: string | null; task?: Record<string, Json> | null; workflow: string | null; signal?: Record<string, Json> | null; version: number | null; metadata?: Record<string, Json> | null; input?: Json; rate_per_minute: number; secrets: Array<{ ends_at: EpochSeconds | null }>; revision: number; created_at: EpochSeconds; created_by: string; changed_at: EpochSeconds; changed_by: string; secret: string | null; notice: string }> {
    return this.#caller.call("POST", "/api/control-plane/hooks", [], args);
  }

  /**
   * Creates an API key. `token` is what its holder sends as a bearer token; it is shown in this answer only. A repeat under
   * the same `Idempotency-Key` is answered with `token` null. 403 (`Forbidden`, `exceeds_own`) if the key could do more than
   * the caller.
   */
  createKey(args: { body: NewKey } & Repeatable): Promise<{ id: string; name: string; state: "valid" | "expired" | "revoked" | "workspace_deleted"; state_detail?: string | null; workspaces: Array<string>; grants: Array<string>; agents: Array<string> | null; created_at: EpochSeconds; created_by: string; expires_at: EpochSeconds | null; revoked_at: EpochSeconds | null; overlap_until: EpochSeconds | null; last_used_at: EpochSeconds | null; token: string | null; notice: string }> {
    return this.#caller.call("POST", "/api/control-plane/keys", [], args);
  }

  /**
   * Makes a policy. It counts for submits that begin after the answer: at this replica at once, at others within a second.
   * `conflicts` names policies that contradict it: a task that both are about could be had by no agent. With
   * `all_workspaces` it takes the permission to change policies of all workspaces. 400 (`InvalidRequest`) if it demands
   * nothing or contradicts itself, 409 (`Conflict`) if the key was used with another body or for a policy that has been deleted
   * since, or there are 200 policies.
   */
  createPolicy(args: { body: PolicyFields } & Repeatable): Promise<{ id: string; name: string; description?: string; created_by: string; updated_by: string; scope: "global" | "task_type" | "capability" | "region" | "workspace"; all_workspaces: boolean; workspaces: Array<string>; task_types: Array<string>; capabilities: Array<string>; agent_allowlist: Array<string>; agent_blocklist: Array<string>; region_constraint: { allowed_regions: Array<string>; blocked_regions: Array<string> }; sla: { max_execution_seconds: number | null }; deny_when: string | null; enforcement_level: "warn" | "soft" | "hard"; enabled: boolean; priority: PolicyPriority; metadata?: Record<string, Json>; version: number; previous_version: number | null; created_at: IsoTime; updated_at: IsoTime; conflicts: Array<PolicyConflict> }> {
    return this.#caller.call("POST", "/api/control-plane/policies", [], args);
  }

  /**
   * Makes a schedule; each run is a task, a deliberation or a run of a workflow, in the caller's name. What deliberates also
   * takes the permission to start a deliberation. 400 (`InvalidRequest`) if the timing cannot be or no run would ever be due,
   * 404 (`NotFound`) if there is no such workflow, 409 (`Conflict`) if the key was used with another body or for a schedule
   * that has been deleted since, or the workspace has 1,000 schedules.
   */
  createSchedule(args: { body: ScheduleFields } & Repeatable): Promise<Schedule> {
    return this.#caller.call("POST", "/api/control-plane/schedules", [], args);
  }

  /**
   * Submits a task; it is durable before this is answered. Send an `Idempotency-Key` to make repeats safe. With `wait` the
   * answer has the `task` too, when it has ended or so many seconds have passed (at most 25), unless it cannot be read; this
   * takes the permission to read tasks. With `policy_override` soft policies do not refuse it; this takes the permission to
   * override them. 400 (`InvalidRequest`) if the fields do not fit together or `after` or `parent_task_id` names an unknown
   * task, 403 (`PolicyDenied`) with `policy_id` and what is `allowed` if a policy refuses it, 403 (`BudgetExhausted`) with
   * `budget_id` and `resets_at` if a budget is used up, 429 (`QuotaFull`) with the `quota` and its `limit` if a quota
   * has no room, 409 (`Conflict`) if the key was used with another body.
   */
  createTask(args: { wait?: number; body: CreateTask } & Repeatable): Promise<{ task_id: string; task?: Task }> {
    return this.#caller.call("POST", "/api/control-plane/tasks", ["wait"], args);
  }

  /**
   * Submits up to 1,000 tasks in one transaction; they wait in the given order. An `Idempotency-Key` covers the whole
   * batch. 400 (`InvalidRequest`) if a task is not valid, 403 (`PolicyDenied`, `BudgetExhausted`) if a policy or a budget
   * refuses one, 429 (`QuotaFull`) if a quota has no room for all, 403 (`QuotaExceeded`) if it never has for so many, 409
   * (`Conflict`) if the key was used with another body.
   */
  createTasks(args: { body: CreateTasks } & Repeatable): Promise<{ task_ids: Array<string>; total: number }> {
    return this.#caller.call("POST", "/api/control-plane/tasks/batch", [], args);
  }

  /**
   * Creates a workspace. Needs the permission in all workspaces. With `zone` it is resident there for good: make it at a
   * region of the zone. 400 (`InvalidRequest`, `unknown_zone`) if no region is in that zone; 409 (`Conflict`) if there is or was
   * a workspace of that id (`workspace_exists`), or no second region of the zone could hold what it has (`zone_too_small`);
   * 503 (`TryLater`, `zone_without_primary`) while only a region outside of the zone writes.
   */
  createWorkspace(args: { body: NewWorkspace } & Repeatable): Promise<Workspace> {
    return this.#caller.call("POST", "/api/control-plane/workspaces", [], args);
  }

  /** One task of the dead letter, with its payload. 404 (`NotFound`) if it is not there. */
  deadLetter(args: { task_id: string } & CallOptions): Promise<DeadTask> {
    return this.#caller.call("GET", "/api/control-plane/dead-letter/{task_id}", [], args);
  }

  /**
   * Tasks that failed with no retries left (`dead_lettered`) or ran out of time (`timeout`), newest first.
   * `replayed=true` includes those that were submitted again.
   */
  deadLetters(args: { task_type?: string | null; queue?: string | null; reason?: DeadReason | null; error_contains?: string | null; ended_after?: number | null; ended_before?: number | null; replayed?: boolean; limit?: number; cursor?: string } & CallOptions = {}): Promise<{ tasks: Array<DeadTask>; total: number; total_exact: boolean; limit: number; next_cursor: string | null }> {
    return this.#caller.call("GET", "/api/control-plane/dead-letter", ["task_type", "queue", "reason", "error_contains", "ended_after", "ended_before", "replayed", "limit", "cursor"], args);
  }

  /**
   * Defines a role of the caller's workspace, or defines it anew: whoever has it may do from then on what it says. A repeat
   * changes nothing. 403 (`Forbidden`, `exceeds_own`) if it allows more than the caller may do.
   */
  defineRole(args: { role_name: string; body: RolePermissions } & Repeatable): Promise<Role> {
    return this.#caller.call("PUT", "/api/control-plane/roles/{role_name}", [], args);
  }

  /**
   * Deletes a budget; what attempts have cost stays. 404 (`NotFound`) if there is no such budget, 409 (`Conflict`) if somebody
   * else changes it at the same moment.
   */
  deleteBudget(args: { budget_id: string } & Repeatable): Promise<{ deleted: boolean }> {
    return this.#caller.call("DELETE", "/api/control-plane/budgets/{budget_id}", [], args);
  }

  /**
   * Deletes a channel; what waits for it is given up. 404 (`NotFound`) if there is no such channel, 409 (`Conflict`) if a rule
   * names it.
   */
  deleteChannel(args: { channel_name: string } & Repeatable): Promise<{ deleted: boolean }> {
    return this.#caller.call("DELETE", "/api/control-plane/notifications/channels/{channel_name}", [], args);
  }

  /**
   * Deletes a credential for good. Calls of agents that name it fail from now on, by a sentence that names it. 404 (`NotFound`)
   * if there is no such credential.
   */
  deleteCredential(args: { credential_name: string } & Repeatable): Promise<{ deleted: boolean }> {
    return this.#caller.call("DELETE", "/api/control-plane/credentials/{credential_name}", [], args);
  }

  /** Deletes a hook with its secrets for good; what it has started goes on. 404 (`NotFound`) if there is no such hook. */
  deleteHook(args: { hook_name: string } & Repeatable): Promise<{ deleted: boolean }> {
    return this.#caller.call("DELETE", "/api/control-plane/hooks/{hook_name}", [], args);
  }

  /**
   * Deletes a policy; its versions and violations stay. Tasks that were submitted before keep what it demanded of their
   * agents. 404 (`NotFound`) if there is no such policy, 409 (`Conflict`) if somebody else changes it at the same moment.
   */
  deletePolicy(args: { policy_id: string } & Repeatable): Promise<{ deleted: boolean }> {
    return this.#caller.call("DELETE", "/api/control-plane/policies/{policy_id}", [], args);
  }

  /** Deletes a rule; what is queued already is sent. 404 (`NotFound`) if there is no such rule. */
  deleteRule(args: { rule_name: string } & Repeatable): Promise<{ deleted: boolean }> {
    return this.#caller.call("DELETE", "/api/control-plane/notifications/rules/{rule_name}", [], args);
  }

  /** Deletes a schedule; runs that have started go on. 404 (`NotFound`) if there is no such schedule. */
  deleteSchedule(args: { schedule_id: string } & Repeatable): Promise<{ deleted: boolean }> {
    return this.#caller.call("DELETE", "/api/control-plane/schedules/{schedule_id}", [], args);
  }

  /**
   * Deletes all versions of a workflow; its runs stay. 404 (`NotFound`) if there is no such workflow, 409 (`Conflict`,
   * `open_work`) while a run of it has not ended.
   */
  deleteWorkflow(args: { name: string } & Repeatable): Promise<{ deleted: boolean }> {
    return this.#caller.call("DELETE", "/api/control-plane/workflows/{name}", [], args);
  }

  /**
   * Deletes a workspace for good: nobody has access to it any more, its open tasks and deliberations are cancelled, and its id
   * is not free again. 409 (`Conflict`, `home_workspace`) if it is the one of this system's settings. 404 (`NotFound`) if there
   * is no such workspace.
   */
  deleteWorkspace(args: { workspace_id: string } & Repeatable): Promise<Workspace> {
    return this.#caller.call("DELETE", "/api/control-plane/workspaces/{workspace_id}", [], args);
  }

  /**
   * Removes an agent and puts the tasks that it holds back into the queue at once. 404 (`NotFound`) if there is no such
   * agent.
   */
  deregisterAgent(args: { agent_id: string } & Repeatable): Promise<{ unregistered: boolean }> {
    return this.#caller.call("DELETE", "/api/control-plane/agents/{agent_id}", [], args);
  }

  /**
   * Every component with its status and latency, and with `warnings` (sentences) if something about it is unusual. The
   * status is 200 even if a component is unhealthy.
   */
  detailedHealth(args: CallOptions = {}): Promise<DetailedHealth> {
    return this.#caller.call("GET", "/health/detailed", [], args);
  }

  /** Drains an agent: it finishes the tasks that it holds and gets no new ones. `drained` is true if it holds none. */
  drainAgent(args: { agent_id: string } & Repeatable): Promise<{ agent_id: string; capabilities: Array<string>; status: "starting" | "ready" | "busy" | "draining" | "paused" | "offline" | "failed"; model: string; provider: string; metadata: Record<string, Json>; registered_at: EpochSeconds; last_heartbeat: EpochSeconds; current_task_id: string | null; tasks_completed: number; tasks_failed: number; avg_latency_ms: number; tags: Array<string>; region_id: string; available_regions: Array<string>; region_latency_ms: Record<string, Json>; last_heartbeat_by_region: Record<string, EpochSeconds>; transport: "pull" | "openai" | "anthropic" | "http" | "a2a" | "import"; endpoint: string | null; max_concurrency: number; version: string | null; running_tasks: number; intent: "active" | "paused" | "draining"; left_out?: Array<"metadata" | "options">; intent_by: "operator" | "agent" | null; liveness: "starting" | "alive" | "suspect" | "offline" | "deaf"; health: "unknown" | "healthy" | "degraded" | "failed"; credential: Record<string, Json> | null; price: Record<string, Json> | null; owner: string | null; rate: Record<string, Json> | null; options?: Record<string, Json>; dedicated: boolean; num_cpus?: number; num_gpus?: number; memory?: number; resources?: Record<string, Json>; status_detail?: string; notice?: string; draining_since: EpochSeconds; drained: boolean }> {
    return this.#caller.call("POST", "/api/control-plane/agents/{agent_id}/drain", [], args);
  }

  /**
   * What a policy would have done to the newest tasks of the workspace, at most 1,000. Nothing is stored. `denied` and
   * `warned` count submits, `agent_refused` those of the others whose agent it would not have allowed, `not_judged` those
   * whose payload or metadata a condition reads and which are too large to be read here, were erased, or come when it has read for
   * 5 s. Such a condition takes the permission to read payloads. 400 (`InvalidRequest`) as when it is made.
   */
  dryRunPolicy(args: { body: DryRun } & Repeatable): Promise<{ tried: number; matched: number; not_judged: number; denied: number; warned: number; agent_refused: number; tasks: Array<{ task_id: string; task_type: string; reason: string }>; conflicts: Array<PolicyConflict> }> {
    return this.#caller.call("POST", "/api/control-plane/policies/dry-run", [], args);
  }

  /**
   * Ends the caller's session on all replicas, and takes the cookie from the browser. `ended` is false if there was
   * none. With a cookie the call needs `X-CSRF-Token`: 403 (`Forbidden`, `csrf`) without it.
   */
  endSession(args: CallOptions = {}): Promise<{ ended: boolean }> {
    return this.#caller.call("POST", "/api/control-plane/auth/logout", [], args);
  }

  /**
   * Erases payloads, results, errors, metadata, journals, outcomes, schedules, hooks, workflows with their runs, of a
   * workspace also its policies, budgets, notifications and credentials, and the words of the log; what the audit's chain
   * covers stays. A call takes at most some 10 s; if `complete` is false, call again with `cursor` set to `next_cursor`.
   * A repeat erases what is left. `not_reached` names copies that are yours to delete. Another workspace than the caller's
   * takes the permission in all workspaces. 400 (`InvalidRequest`) unless exactly one of workspace, task_id and subject is
   * given, 403 (`Forbidden`), 404 (`NotFound`) if there is no such task or workspace, 410 (`Removed`) if retention has removed
   * it with its words, 409 (`Conflict`, `open_work`) while something of it has not ended.
   */
  erase(args: { body: Erase } & Repeatable): Promise<{ erasure_id: string; scope: "workspace" | "task" | "subject"; dry_run: boolean; complete: boolean; next_cursor: string | null; erased: { tasks: number; deliberations: number; outcomes: number; log_rows: number; schedules: number; workflows: number; hooks: number; policies: number; violations: number; notifications: number; credentials: number; budgets: number }; not_reached: Array<string> }> {
    return this.#caller.call("POST", "/api/control-plane/erasures", [], args);
  }

  /**
   * Reasons why a task is not running, and what would change each. A region that does not hear the one which gives out tasks
   * answers by itself that they wait for it (`waiting_region`).
   */
  explainTask(args: { task_id: string } & CallOptions): Promise<Explanation> {
    return this.#caller.call("GET", "/api/control-plane/tasks/{task_id}/explain", [], args);
  }

  /**
   * The entries of the workspace's audit, the oldest first, in one answer of any length: as lines of JSON (each as `GET
   * /audit` has them), CSV or syslog. `after` leaves out entries up to a number, so that a collector goes on where it was. An
   * answer that ends without its end was broken off. The log of all workspaces, which can be verified, is exported by `aragora-cp
   * audit export`. 400 (`InvalidRequest`) if a time is none.
   */
  exportAudit(args: { format?: ExportFormat; start_time?: string | null; end_time?: string | null; after?: number } & CallOptions = {}): Promise<string> {
    return this.#caller.call("GET", "/api/control-plane/audit/export", ["format", "start_time", "end_time", "after"], { ...args, as: "text" });
  }

  /**
   * The same as `GET /spending`, as CSV with a line of names. 400 (`InvalidRequest`) if a day is none, or there are more than
   * 10,000 rows.
   */
  exportSpending(args: { start?: string | null; end?: string | null } & CallOptions = {}): Promise<string> {
    return this.#caller.call("GET", "/api/control-plane/spending/export", ["start", "end"], { ...args, as: "text" });
  }

  /**
   * Renews one lease; a heartbeat renews all leases of an agent. With `percent`, `message` or `checkpoint` it reports
   * progress too, and is answered when that, or a newer report of the same attempt, is durable: a task's is stored once a second
   * at most, and before its attempt ends. 400 (`InvalidRequest`, `invalid_progress`) if the checkpoint is too large, 409
   * (`Conflict`) if `lease_token` belongs to another task or the lease is lost.
   */
  extendLease(args: { task_id: string; body: Extend } & Repeatable): Promise<{ extended: boolean; lease_expires_at: EpochSeconds }> {
    return this.#caller.call("POST", "/api/control-plane/tasks/{task_id}/extend", [], args);
  }

  /**
   * Reports a failed attempt. The task is tried again while it has retries left, unless `requeue` is false or
   * `error_class` is `not_retryable`. With `released` the attempt is given back unfinished: the task is queued again and
   * no retry is spent. 409 (`Conflict`, `lease_lost`) if the caller does not hold the lease.
   */
  failTask(args: { task_id: string; body?: Fail | null } & Repeatable): Promise<{ failed?: boolean; released?: boolean }> {
    return this.#caller.call("POST", "/api/control-plane/tasks/{task_id}/fail", [], args);
  }

  /**
   * The session of a device login that was confirmed; its `token` is a bearer token and is in this answer only. 400
   * (`InvalidRequest`) while it was not (`authorization_pending`, `slow_down`), was denied (`access_denied`) or took
   * too long (`expired_token`); 401 and 403 as for browsers.
   */
  finishDeviceLogin(args: { body: DeviceLogin } & CallOptions): Promise<{ token: string; principal: string; expires_at: EpochSeconds }> {
    return this.#caller.call("POST", "/api/control-plane/auth/device/token", [], args);
  }

  /** Health of the fleet and of every agent. The status is `unknown`, not `healthy`, while there is no data. */
  fleetHealth(args: CallOptions = {}): Promise<{ status: string; agents: Record<string, HealthCheck> }> {
    return this.#caller.call("GET", "/api/control-plane/health", [], args);
  }

  /**
   * Chunks of a task as they are written, new attempts, and the end of the task, with which the stream ends, if the call sends
   * `Accept: text/event-stream`; else the first page of them. Resume with `Last-Event-ID` or `after` (ATTEMPT.N). 404
   * (`NotFound`) if there is no such task, 400 (`InvalidRequest`, `invalid_cursor`) if the cursor has not that form.
   */
  followChunks(args: { task_id: string; after?: string | null } & CallOptions): Promise<ChunkPage> {
    return this.#caller.call("GET", "/api/control-plane/tasks/{task_id}/chunks/stream", ["after"], args);
  }

  /** One agent. */
  getAgent(args: { agent_id: string } & CallOptions): Promise<Agent> {
    return this.#caller.call("GET", "/api/control-plane/agents/{agent_id}", [], args);
  }

  /** Agents that now answer much worse or improbably better than before, and pairs of agents whose errors coincide. */
  getAlarms(args: CallOptions = {}): Promise<{ alarms: Array<Record<string, Json>> }> {
    return this.#caller.call("GET", "/api/control-plane/weights/alarms", [], args);
  }

  /** A budget, with what is spent and reserved of it in its present period. 404 (`NotFound`) if there is no such budget. */
  getBudget(args: { budget_id: string } & CallOptions): Promise<Budget> {
    return this.#caller.call("GET", "/api/control-plane/budgets/{budget_id}", [], args);
  }

  /**
   * One credential, without its secret. 404 (`NotFound`) if there is no such credential, 409 (`Conflict`,
   * `no_secrets_key`) if ARAGORA_SECRETS_KEY is not set.
   */
  getCredential(args: { credential_name: string } & CallOptions): Promise<Credential> {
    return this.#caller.call("GET", "/api/control-plane/credentials/{credential_name}", [], args);
  }

  /**
   * One deliberation with its question, its status and, once it has ended, its result. With `wait`, when it has ended or so
   * many seconds have passed (at most 25), as it is then. 404 (`NotFound`) if there is no such deliberation.
   */
  getDeliberation(args: { request_id: string; wait?: number } & CallOptions): Promise<Deliberation> {
    return this.#caller.call("GET", "/api/control-plane/deliberations/{request_id}", ["wait"], args);
  }

  /** One hook, without its secrets. 404 (`NotFound`) if there is no such hook. */
  getHook(args: { hook_name: string } & CallOptions): Promise<Hook> {
    return this.#caller.call("GET", "/api/control-plane/hooks/{hook_name}", [], args);
  }

  /** The public keys with which this deployment has signed receipts; the one with `current` true signs now. */
  getKeys(args: CallOptions = {}): Promise<{ keys: Array<{ key_id: string; algorithm: string; public_key: string; created_at: EpochSeconds | null; current: boolean }> }> {
    return this.#caller.call("GET", "/api/control-plane/receipts/keys", [], args);
  }

  /** One notification. 404 (`NotFound`) if there is no such notification, or it ended more than 30 days ago. */
  getNotification(args: { notification_id: string } & CallOptions): Promise<Notification> {
    return this.#caller.call("GET", "/api/control-plane/notifications/{notification_id}", [], args);
  }

  /** One policy. 404 (`NotFound`) if there is none of that id. */
  getPolicy(args: { policy_id: string } & CallOptions): Promise<{ id: string; name: string; description?: string; created_by: string; updated_by: string; scope: "global" | "task_type" | "capability" | "region" | "workspace"; all_workspaces: boolean; workspaces: Array<string>; task_types: Array<string>; capabilities: Array<string>; agent_allowlist: Array<string>; agent_blocklist: Array<string>; region_constraint: { allowed_regions: Array<string>; blocked_regions: Array<string> }; sla: { max_execution_seconds: number | null }; deny_when: string | null; enforcement_level: "warn" | "soft" | "hard"; enabled: boolean; priority: PolicyPriority; metadata?: Record<string, Json>; version: number; previous_version: number | null; created_at: IsoTime; updated_at: IsoTime; conflicts: Array<PolicyConflict> }> {
    return this.#caller.call("GET", "/api/control-plane/policies/{policy_id}", [], args);
  }

  /**
   * The signed receipt, the same at every call. 404 (`NotFound`) if there is no such deliberation, 409 (`Conflict`,
   * `not_ended`) while it runs.
   */
  getReceipt(args: { request_id: string } & CallOptions): Promise<Receipt> {
    return this.#caller.call("GET", "/api/control-plane/deliberations/{request_id}/receipt", [], args);
  }

  /**
   * One run with its steps. With `wait` it is answered when the run has ended, or so many seconds have passed (at most 25).
   * With `results` each step that has completed has its `result`, unless those before it are some megabytes. 404
   * (`NotFound`) if there is no such run, 410 (`Removed`) if retention has removed it.
   */
  getRun(args: { run_id: string; wait?: number; results?: boolean } & CallOptions): Promise<WorkflowRun> {
    return this.#caller.call("GET", "/api/control-plane/workflow-runs/{run_id}", ["wait", "results"], args);
  }

  /** One schedule, with what its runs are and when the next one starts. 404 (`NotFound`) if there is no such schedule. */
  getSchedule(args: { schedule_id: string } & CallOptions): Promise<Schedule> {
    return this.#caller.call("GET", "/api/control-plane/schedules/{schedule_id}", [], args);
  }

  /**
   * One snapshot with its calibration; `snapshot_id` is the hash of `document`. 404 (`NotFound`) if there is no such
   * snapshot.
   */
  getSnapshot(args: { snapshot_id: string } & CallOptions): Promise<Snapshot> {
    return this.#caller.call("GET", "/api/control-plane/weights/{snapshot_id}", [], args);
  }

  /** The status of a deliberation. 404 (`NotFound`) if there is no such deliberation. */
  getStatus(args: { request_id: string } & CallOptions): Promise<{ request_id: string; status: string; terminal: string | null; completed_at?: IsoTime }> {
    return this.#caller.call("GET", "/api/control-plane/deliberations/{request_id}/status", [], args);
  }

  /**
   * One task. With `wait`, when it has ended or so many seconds have passed (at most 25), as it is then. 404 (`NotFound`) if
   * there is no such task, 410 (`Removed`, `task_removed`) if retention has removed it.
   */
  getTask(args: { task_id: string; wait?: number } & CallOptions): Promise<Task> {
    return this.#caller.call("GET", "/api/control-plane/tasks/{task_id}", ["wait"], args);
  }

  /** Every step of the journal, in order, with the agents' answers. 404 (`NotFound`) if there is no such deliberation. */
  getTranscript(args: { request_id: string } & CallOptions): Promise<{ request_id: string; status: string; contract?: Record<string, Json>; events: Array<{ n: number; at: IsoTime; kind: string; data?: Record<string, Json> }>; total: number; redacted?: boolean }> {
    return this.#caller.call("GET", "/api/control-plane/deliberations/{request_id}/transcript", [], args);
  }

  /** One violation. 404 (`NotFound`) if there is none of that id. */
  getViolation(args: { violation_id: string } & CallOptions): Promise<{ violation: Violation }> {
    return this.#caller.call("GET", "/api/control-plane/policies/violations/{violation_id}", [], args);
  }

  /** How many violations there are, by status and by type. `resolved` counts those that were resolved, and no others. */
  getViolationStats(args: CallOptions = {}): Promise<{ total: number; open: number; investigating: number; resolved: number; false_positive: number; by_type: { agent: number; region: number; sla: number; condition: number }; open_by_type: { agent: number; region: number; sla: number; condition: number } }> {
    return this.#caller.call("GET", "/api/control-plane/policies/violations/stats", [], args);
  }

  /**
   * The newest snapshot of every panel, the largest panel first; with `agents=a,b` the snapshot that this panel would
   * use. 400 (`InvalidRequest`) if `agents` names none.
   */
  getWeights(args: { agents?: string | null } & CallOptions = {}): Promise<{ snapshots: Array<Snapshot> }> {
    return this.#caller.call("GET", "/api/control-plane/weights", ["agents"], args);
  }

  /** One version of a workflow, the newest if none is given. 404 (`NotFound`) if there is no such workflow or version. */
  getWorkflow(args: { name: string; version?: number | null } & CallOptions): Promise<Workflow> {
    return this.#caller.call("GET", "/api/control-plane/workflows/{name}", ["version"], args);
  }

  /** The JSON Schema of the documents that workflows are. */
  getWorkflowSchema(args: CallOptions = {}): Promise<{ schema: Record<string, Json> }> {
    return this.#caller.call("GET", "/api/control-plane/workflow-schema", [], args);
  }

  /**
   * A heartbeat: it renews every lease of the agent. With `worker_process` it renews no lease of a claim that names another
   * process (a `claim_id` `process:NAME:…`). `cancelling` names tasks that the agent should stop. 404 (`NotFound`) if the
   * agent is not registered.
   */
  heartbeat(args: { agent_id: string; body?: Heartbeat | null } & Repeatable): Promise<{ acknowledged: boolean; cancelling: Array<string> }> {
    return this.#caller.call("POST", "/api/control-plane/agents/{agent_id}/heartbeat", [], args);
  }

  /**
   * Heartbeats of many agents. `unknown` names agents that are not registered; `cancelling` names tasks that their
   * agents should stop. A heartbeat that is not valid is listed in `refused` with its `index`; the others count.
   */
  heartbeats(args: { body: Heartbeats } & Repeatable): Promise<{ acknowledged: number; unknown: Array<string>; cancelling: Array<{ agent_id: string; task_id: string }>; refused?: Array<{ index: number; agent_id: string | null; error: string; code: string }> }> {
    return this.#caller.call("POST", "/api/control-plane/agents/heartbeats", [], args);
  }

  /**
   * Imports outcomes: votes and right answers, each id once. A repeat gets the same answer. An outcome that differs from
   * the recorded one of its id changes nothing and is answered with `conflict`. 400 (`InvalidRequest`) if an outcome is not
   * valid, or if more than 8 different ones are of one id (`too_many_outcomes`); then none is recorded.
   */
  importOutcomes(args: { body: ImportedOutcomes } & Repeatable): Promise<{ results: Array<Record<string, Json>>; recorded: number; conflict: number }> {
    return this.#caller.call("POST", "/api/control-plane/outcomes/batch", [], args);
  }

  /** Liveness: 200 if the process answers. Restart the process only if this fails. */
  isLive(args: CallOptions = {}): Promise<{ status: string }> {
    return this.#caller.call("GET", "/health/live", [], args);
  }

  /**
   * Readiness of this replica: 200 while it can answer at all, within a second. `status` is `degraded` if a store or an
   * actor does not answer, and `degraded` names them. 503 only while the replica starts or drains: its siblings miss the same
   * stores and actors, so taking it out of service would help nobody.
   */
  isReady(args: CallOptions = {}): Promise<{ status: "ok" | "degraded"; degraded: Array<string> }> {
    return this.#caller.call("GET", "/health", [], args);
  }

  /**
   * Agents of the workspace, sorted by id; `available=false` includes those that take no work. `total` counts all
   * matches, not only those that `limit` and `offset` select.
   */
  listAgents(args: { capability?: string | null; available?: boolean; status?: AgentStatus | null; provider?: string | null; region?: string | null; tag?: string | null; limit?: number | null; offset?: number } & CallOptions = {}): Promise<{ agents: Array<Agent>; total: number }> {
    return this.#caller.call("GET", "/api/control-plane/agents", ["capability", "available", "status", "provider", "region", "tag", "limit", "offset"], args);
  }

  /**
   * The entries of the workspace's audit, newest first: each row of the log is one. `entry_hash` and `previous_hash` are
   * null until the row is sealed, within seconds. `actor_types` are what stands before the colon of a principal (`user`, `key`,
   * `system`), `resource_types` what stands before the dot of an action. `total` counts at most 100,000 (`total_exact`).
   * 400 (`InvalidRequest`) if a time is none.
   */
  listAudit(args: { start_time?: string | null; end_time?: string | null; actions?: string | null; actor_types?: string | null; actor_ids?: string | null; resource_types?: string | null; limit?: number; offset?: number } & CallOptions = {}): Promise<{ entries: Array<AuditEntry>; total: number; total_exact: boolean; query: { limit: number; offset: number } }> {
    return this.#caller.call("GET", "/api/control-plane/audit", ["start_time", "end_time", "actions", "actor_types", "actor_ids", "resource_types", "limit", "offset"], args);
  }

  /** All budgets of the workspace, the oldest first, with what is spent and reserved of each in its present period. */
  listBudgets(args: CallOptions = {}): Promise<{ budgets: Array<Budget>; total: number }> {
    return this.#caller.call("GET", "/api/control-plane/budgets", [], args);
  }

  /** The channels of the workspace, by name. */
  listChannels(args: CallOptions = {}): Promise<{ channels: Array<Channel>; total: number }> {
    return this.#caller.call("GET", "/api/control-plane/notifications/channels", [], args);
  }

  /**
   * The workspace's credentials, by name, without their secrets. 409 (`Conflict`, `no_secrets_key`) if ARAGORA_SECRETS_KEY
   * is not set.
   */
  listCredentials(args: CallOptions = {}): Promise<{ credentials: Array<Credential>; total: number }> {
    return this.#caller.call("GET", "/api/control-plane/credentials", [], args);
  }

  /**
   * Deliberations of the workspace, newest first; with `sort=changed` those that ended, else were admitted last.
   * `where` as in the list of tasks: metadata, tags and tenant are those of the context, the type is debate or quick, the
   * agent is one of the panel of a deliberation that has ended. With `where`, `status` or `cursor`, a page may be short
   * or empty while `next_cursor` says that there may be more, and `total` counts the page. 400 (`InvalidRequest`) if a
   * condition cannot be meant, or an `offset` comes with one of these, or a `status` or
   * an `offset` with `sort=changed`; 403 (`Forbidden`) if it asks for metadata, tags or the tenant without
   * `controlplane:payloads.read`.
   */
  listDeliberations(args: { status?: DeliberationStatus | null; sort?: Sort; limit?: number; offset?: number; cursor?: string; where?: Array<string> } & CallOptions = {}): Promise<{ deliberations: Array<Deliberation>; total: number; total_exact: boolean; limit: number; offset: number; has_more: boolean; next_cursor: string | null }> {
    return this.#caller.call("GET", "/api/control-plane/deliberations", ["status", "sort", "limit", "offset", "cursor", "where"], args);
  }

  /** The workspace's hooks, by name, without their secrets. */
  listHooks(args: CallOptions = {}): Promise<{ hooks: Array<Hook>; total: number }> {
    return this.#caller.call("GET", "/api/control-plane/hooks", [], args);
  }

  /**
   * The API keys that act in workspaces that the caller may manage, oldest first, with those that were revoked or have
   * expired. No answer holds a secret.
   */
  listKeys(args: { limit?: number; cursor?: string } & CallOptions = {}): Promise<{ keys: Array<ApiKey>; total: number; total_exact: boolean; limit: number; next_cursor: string | null }> {
    return this.#caller.call("GET", "/api/control-plane/keys", ["limit", "cursor"], args);
  }

  /** Who has which role in a workspace. Those who have one in all workspaces are listed under `*`, and only there. */
  listMembers(args: { workspace_id: string; limit?: number; cursor?: string } & CallOptions): Promise<{ members: Array<Member>; total: number; total_exact: boolean; limit: number; next_cursor: string | null }> {
    return this.#caller.call("GET", "/api/control-plane/workspaces/{workspace_id}/members", ["limit", "cursor"], args);
  }

  /** What was told or is to be told, the newest first, for 30 days after its end. `status` `dead`: what was given up. */
  listNotifications(args: { status?: DeliveryStatus | null; channel?: string | null; event?: string | null; limit?: number; cursor?: string } & CallOptions = {}): Promise<{ notifications: Array<Notification>; total: number; limit: number; next_cursor: string | null }> {
    return this.#caller.call("GET", "/api/control-plane/notifications", ["status", "channel", "event", "limit", "cursor"], args);
  }

  /** All policies that are about the workspace, those of all workspaces too: the highest priority first. */
  listPolicies(args: CallOptions = {}): Promise<{ policies: Array<Policy>; total: number }> {
    return this.#caller.call("GET", "/api/control-plane/policies", [], args);
  }

  /** Versions of a policy that are kept, the newest first; also of one that was deleted. 404 (`NotFound`) if there is none. */
  listPolicyVersions(args: { policy_id: string; limit?: number; offset?: number } & CallOptions): Promise<{ versions: Array<Policy>; total: number; limit: number; offset: number }> {
    return this.#caller.call("GET", "/api/control-plane/policies/{policy_id}/versions", ["limit", "offset"], args);
  }

  /** Tasks that wait for people, newest first, each with its question. */
  listQuestions(args: { limit?: number; cursor?: string } & CallOptions = {}): Promise<{ questions: Array<OpenQuestion>; total: number; total_exact: boolean; limit: number; next_cursor: string | null }> {
    return this.#caller.call("GET", "/api/control-plane/questions", ["limit", "cursor"], args);
  }

  /** The built-in roles, and those that the caller's workspace has defined. */
  listRoles(args: CallOptions = {}): Promise<{ roles: Array<Role>; total: number }> {
    return this.#caller.call("GET", "/api/control-plane/roles", [], args);
  }

  /** The rules of the workspace, by name. */
  listRules(args: CallOptions = {}): Promise<{ rules: Array<NotificationRule>; total: number }> {
    return this.#caller.call("GET", "/api/control-plane/notifications/rules", [], args);
  }

  /** Runs of the workspace, newest first. */
  listRuns(args: { workflow?: string | null; status?: RunStatus | null; limit?: number; offset?: number } & CallOptions = {}): Promise<{ runs: Array<WorkflowRun>; total: number; total_exact: boolean; limit: number; offset: number }> {
    return this.#caller.call("GET", "/api/control-plane/workflow-runs", ["workflow", "status", "limit", "offset"], args);
  }

  /** Schedules of the workspace, newest first. */
  listSchedules(args: { limit?: number; offset?: number } & CallOptions = {}): Promise<{ schedules: Array<Schedule>; total: number; total_exact: boolean; limit: number; offset: number }> {
    return this.#caller.call("GET", "/api/control-plane/schedules", ["limit", "offset"], args);
  }

  /**
   * Tasks of the workspace, newest first; with `sort=changed` those that ended, else began, else were submitted last. With
   * `where`, a page may be short or empty while `next_cursor` says that there may be more, and `total` counts the page.
   * 400 (`InvalidRequest`) if a condition cannot be meant, 403 (`Forbidden`) if it asks for metadata or tags without
   * `controlplane:payloads.read`.
   */
  listTasks(args: { status?: TaskStatus | null; status_detail?: TaskDetail | null; task_type?: string | null; agent_id?: string | null; queue?: string | null; created_after?: number | null; created_before?: number | null; sort?: Sort; limit?: number; offset?: number; cursor?: string; where?: Array<string> } & CallOptions = {}): Promise<{ tasks: Array<Task>; total: number; total_exact: boolean; limit: number; offset: number; has_more: boolean; next_cursor: string | null }> {
    return this.#caller.call("GET", "/api/control-plane/tasks", ["status", "status_detail", "task_type", "agent_id", "queue", "created_after", "created_before", "sort", "limit", "offset", "cursor", "where"], args);
  }

  /** Violations of the workspace's policies, newest first. `total` counts all that match, not those of the page. */
  listViolations(args: { policy_id?: string | null; violation_type?: ViolationType | null; status?: ViolationStatus | null; limit?: number; offset?: number } & CallOptions = {}): Promise<{ violations: Array<Violation>; total: number; limit: number; offset: number }> {
    return this.#caller.call("GET", "/api/control-plane/policies/violations", ["policy_id", "violation_type", "status", "limit", "offset"], args);
  }

  /** Workflows of the workspace by name, each in its newest version. */
  listWorkflows(args: { limit?: number; offset?: number } & CallOptions = {}): Promise<{ workflows: Array<Workflow>; total: number; total_exact: boolean; limit: number; offset: number }> {
    return this.#caller.call("GET", "/api/control-plane/workflows", ["limit", "offset"], args);
  }

  /** The workspaces that the caller may manage, by id, without those that were deleted. */
  listWorkspaces(args: { limit?: number; cursor?: string } & CallOptions = {}): Promise<{ workspaces: Array<Workspace>; total: number; total_exact: boolean; limit: number; next_cursor: string | null }> {
    return this.#caller.call("GET", "/api/control-plane/workspaces", ["limit", "cursor"], args);
  }

  /**
   * A ticket that opens one WebSocket, with `?ticket=`, until `expires_at`: within 30 seconds. It is worth what the
   * credential of this call is worth, in its workspace, when it is used. Every call makes another one, whatever its key. 400
   * (`InvalidRequest`, `ticket_of_certificate`) with a client certificate, 503 while Redis is away.
   */
  makeTicket(args: Repeatable = {}): Promise<{ ticket: string; expires_at: EpochSeconds }> {
    return this.#caller.call("POST", "/api/control-plane/auth/ticket", [], args);
  }

  /**
   * Numbers for a dashboard, as JSON. Prometheus reads `/metrics` at the root. Days are those of UTC; tokens count when
   * their deliberation has ended. 503 (`StoreUnavailable`) if the counting cannot catch up in time.
   */
  metrics(args: CallOptions = {}): Promise<{ active_jobs: number; queued_jobs: number; completed_jobs: number; agents_available: number; agents_busy: number; total_agents: number; documents_processed_today: number; audits_completed_today: number; tokens_used_today: number }> {
    return this.#caller.call("GET", "/api/control-plane/metrics", [], args);
  }

  /**
   * The region's metrics in Prometheus' text format, of all workspaces together; with the traces of slow requests, in the
   * format of OpenMetrics, if the caller accepts `application/openmetrics-text`. 200 within 5 s whatever is away:
   * `aragora_cp_store_readable` is 0 if PostgreSQL cannot be read and the numbers are those last known, and
   * `aragora_cp_metrics_complete` is 0 if the process that counts is away and this replica shows its own figures only. 404
   * (`NotFound`) if metrics are switched off.
   */
  metricsText(args: CallOptions = {}): Promise<string> {
    return this.#caller.call("GET", "/metrics", [], { ...args, as: "text" });
  }

  /** How many notifications were delivered and given up, in all and by channel, and how many wait: of those that are kept. */
  notificationStats(args: CallOptions = {}): Promise<{ total_sent: number; successful: number; failed: number; pending: number; success_rate: number | null; by_channel: Record<string, { total_sent: number; successful: number; failed: number; pending: number }>; channels_configured: number; kept_days: number }> {
    return this.#caller.call("GET", "/api/control-plane/notifications/stats", [], args);
  }

  /**
   * Gives a lease back until the named children of the task have ended. The task waits without lease, run time and spent retry;
   * then it can be claimed again, with the outcomes of these `children` and the `checkpoint` in the claim. A repeat changes
   * nothing. 400 (`InvalidRequest`, `unknown_child`) if a child does not exist, 409 (`Conflict`) if one is not a child of this
   * task (`not_a_child`) or the caller does not hold the lease (`lease_lost`).
   */
  parkTask(args: { task_id: string; body: Park } & Repeatable): Promise<{ parked: boolean; attempt: number }> {
    return this.#caller.call("POST", "/api/control-plane/tasks/{task_id}/park", [], args);
  }

  /** Pauses an agent: it gets no new work until it is resumed, whatever its heartbeats say. A repeat changes nothing. */
  pauseAgent(args: { agent_id: string } & Repeatable): Promise<{ agent_id: string; capabilities: Array<string>; status: "starting" | "ready" | "busy" | "draining" | "paused" | "offline" | "failed"; model: string; provider: string; metadata: Record<string, Json>; registered_at: EpochSeconds; last_heartbeat: EpochSeconds; current_task_id: string | null; tasks_completed: number; tasks_failed: number; avg_latency_ms: number; tags: Array<string>; region_id: string; available_regions: Array<string>; region_latency_ms: Record<string, Json>; last_heartbeat_by_region: Record<string, EpochSeconds>; transport: "pull" | "openai" | "anthropic" | "http" | "a2a" | "import"; endpoint: string | null; max_concurrency: number; version: string | null; running_tasks: number; intent: "active" | "paused" | "draining"; left_out?: Array<"metadata" | "options">; intent_by: "operator" | "agent" | null; liveness: "starting" | "alive" | "suspect" | "offline" | "deaf"; health: "unknown" | "healthy" | "degraded" | "failed"; credential: Record<string, Json> | null; price: Record<string, Json> | null; owner: string | null; rate: Record<string, Json> | null; options?: Record<string, Json>; dedicated: boolean; num_cpus?: number; num_gpus?: number; memory?: number; resources?: Record<string, Json>; status_detail?: string; notice?: string; paused_at: EpochSeconds }> {
    return this.#caller.call("POST", "/api/control-plane/agents/{agent_id}/pause", [], args);
  }

  /**
   * Pauses a hook: its webhooks are refused (409 `hook_paused`) until it is resumed. A repeat changes nothing. 404
   * (`NotFound`) if there is no such hook.
   */
  pauseHook(args: { hook_name: string } & Repeatable): Promise<Hook> {
    return this.#caller.call("POST", "/api/control-plane/hooks/{hook_name}/pause", [], args);
  }

  /**
   * Pauses a queue, task type or tenant: none of its tasks starts until it is resumed; running tasks go on. A repeat
   * changes nothing.
   */
  pauseQueue(args: { body: ControlName } & Repeatable): Promise<Control> {
    return this.#caller.call("POST", "/api/control-plane/queue/pause", [], args);
  }

  /**
   * Pauses a schedule: no run starts until it is resumed, and what is due meanwhile is not made up. A repeat changes
   * nothing. 404 (`NotFound`) if there is no such schedule.
   */
  pauseSchedule(args: { schedule_id: string } & Repeatable): Promise<Schedule> {
    return this.#caller.call("POST", "/api/control-plane/schedules/{schedule_id}/pause", [], args);
  }

  /**
   * Records which answer was right. A repeat changes nothing. 404 (`NotFound`) if there is no such deliberation; 409
   * (`Conflict`) if it has not ended (`not_ended`), recorded no votes and none are sent (`no_votes_recorded`), or has
   * another outcome already (`outcome_conflict`).
   */
  postOutcome(args: { request_id: string; body: DeliberationOutcome } & Repeatable): Promise<{ request_id: string; correct?: Json; agents?: Record<string, Json> }> {
    return this.#caller.call("POST", "/api/control-plane/deliberations/{request_id}/outcome", [], args);
  }

  /**
   * When the next runs are due, and when they start with their jitter, as if nothing were paused. 404 (`NotFound`) if
   * there is no such schedule.
   */
  previewSchedule(args: { schedule_id: string; count?: number } & CallOptions): Promise<{ schedule_id: string; timezone: string; runs: Array<{ due_at: EpochSeconds; due: LocalTime; starts_at: EpochSeconds; starts: IsoTime }> }> {
    return this.#caller.call("GET", "/api/control-plane/schedules/{schedule_id}/preview", ["count"], args);
  }

  /**
   * Changes the priority of a waiting task, or its position among the waiting tasks of the same priority, tenant and queue
   * that the same agents may have.
   */
  prioritizeTask(args: { body: Prioritize } & Repeatable): Promise<{ success: boolean; task: Task }> {
    return this.#caller.call("POST", "/api/control-plane/queue/prioritize", [], args);
  }

  /**
   * Removes tasks from the dead letter and deletes their payloads; their history stays. This cannot be undone. 400
   * (`InvalidRequest`) without ids and filter, or with both.
   */
  purgeDeadLetters(args: { body: Chosen } & Repeatable): Promise<{ dry_run: boolean; total: number; total_exact?: boolean; remaining: number; purged?: number; would_purge?: Array<string> }> {
    return this.#caller.call("POST", "/api/control-plane/dead-letter/purge", [], args);
  }

  /** The oldest running tasks, then the oldest waiting tasks sorted by priority. */
  queue(args: { limit?: number } & CallOptions = {}): Promise<{ jobs: Array<Job>; total: number }> {
    return this.#caller.call("GET", "/api/control-plane/queue", ["limit"], args);
  }

  /** Controls of queues, task types and tenants; those that are not listed have the defaults. */
  queueControls(args: CallOptions = {}): Promise<{ controls: Array<Control>; total: number }> {
    return this.#caller.call("GET", "/api/control-plane/queue/controls", [], args);
  }

  /**
   * How many tasks wait and run now, totals of today (UTC), means of the last hour, and completions of the last minute. A task
   * whose end was answered before the request is counted. 503 (`StoreUnavailable`) if the counting cannot catch up in time.
   */
  queueMetrics(args: CallOptions = {}): Promise<{ pending: number; running: number; completed_today: number; failed_today: number; avg_wait_time_ms: number; avg_execution_time_ms: number; throughput_per_minute: number }> {
    return this.#caller.call("GET", "/api/control-plane/queue/metrics", [], args);
  }

  /**
   * Chunks of a task in the order of their attempts and numbers, after the one that `after` names (ATTEMPT.N). Read on with
   * `after` of the answer. A page has about a megabyte at most. `elsewhere`: another region may have taken some that are not
   * here. 404 (`NotFound`) if there is no such task, 400 (`InvalidRequest`, `invalid_cursor`) if `after` has not that
   * form.
   */
  readChunks(args: { task_id: string; after?: string | null; limit?: number } & CallOptions): Promise<ChunkPage> {
    return this.#caller.call("GET", "/api/control-plane/tasks/{task_id}/chunks", ["after", "limit"], args);
  }

  /**
   * The rows of the log about a task, a deliberation, an agent or a request (by its trace id), oldest first, with the rows
   * that led to them and those that they led to. `cause` is a trace id, `#` and the `seq` of a row, or empty if only the
   * passing of time caused it. `progress` is the last that a task's holder reported. While `has_more` is true, read on with
   * `after` set to the last `seq`. With `archived` the archives of the log are searched too, which takes a second or so for
   * each million rows; their rows have no words, and `searched_from` is the first row that is still there. 404 (`NotFound`) if
   * the log has no such rows, 400 (`InvalidRequest`) if the id is too long, 429 (`Overloaded`) if other searches of archives go
   * on.
   */
  readStory(args: { subject_id: string; after?: number; limit?: number; archived?: boolean } & CallOptions): Promise<{ id: string; events: Array<{ seq: number; timestamp: EpochSeconds; type: string; entity: string; attempt: number | null; principal: string; cause: string; data: EventData }>; progress?: Progress; has_more: boolean; searched_from?: number }> {
    return this.#caller.call("GET", "/api/control-plane/story/{subject_id}", ["after", "limit", "archived"], args);
  }

  /**
   * Registers an agent. If it exists, its description is replaced and its counters are kept. A `draining` or `paused` that
   * the agent itself had reported ends; one that an operator set stays, and `notice` in the answer says so. An agent that the
   * control plane calls or runs (`endpoint`, `import_path`) needs `controlplane:agents.write` besides. 400 (`InvalidRequest`)
   * if the fields do not fit together, 403 (`QuotaExceeded`) if the workspace has as many agents as it may or (`Forbidden`,
   * `residency_violation`) the agent says that it runs outside of the workspace's zone, 409 (`Conflict`)
   * if the key was used with another body or the agent is unregistered at the same time.
   */
  registerAgent(args: { body: RegisterAgent } & Repeatable): Promise<Agent> {
    return this.#caller.call("POST", "/api/control-plane/agents", [], args);
  }

  /**
   * Registers up to 1,000 agents in one transaction; of several entries for one agent the last counts. 400
   * (`InvalidRequest`) if the fields of an agent do not fit together, 403 (`QuotaExceeded`) if the workspace may not have so
   * many or (`Forbidden`, `residency_violation`) an agent says that it runs outside of the workspace's zone, 409 (`Conflict`)
   * if the key was used with another body or an agent is unregistered at the same time.
   */
  registerAgents(args: { body: RegisterAgents } & Repeatable): Promise<{ agents: Array<Agent>; total: number }> {
    return this.#caller.call("POST", "/api/control-plane/agents/batch", [], args);
  }

  /**
   * Takes a role in a workspace from a subject. `removed` is false if it did not have it. 409 (`Conflict`, `last_admin`)
   * if nobody could administer access afterwards.
   */
  removeMember(args: { workspace_id: string; subject: string; role: string } & Repeatable): Promise<{ removed: boolean }> {
    return this.#caller.call("DELETE", "/api/control-plane/workspaces/{workspace_id}/members", ["subject", "role"], args);
  }

  /**
   * Removes a role of the caller's workspace. `removed` is false if there was none. 409 (`Conflict`, `role_in_use`) while
   * a member or a valid key has it.
   */
  removeRole(args: { role_name: string } & Repeatable): Promise<{ removed: boolean }> {
    return this.#caller.call("DELETE", "/api/control-plane/roles/{role_name}", [], args);
  }

  /**
   * Submits dead tasks again as new tasks. Each is replayed once, however often you call this. `dry_run` only lists
   * them. 400 (`InvalidRequest`) without ids and filter, with both payload and payload_patch, or if the patch does not fit.
   */
  replayMany(args: { body: ReplayDead } & Repeatable): Promise<{ dry_run: boolean; total: number; total_exact?: boolean; remaining: number; replayed?: Array<{ task_id: string; replayed_as: string }>; would_replay?: Array<{ task_id: string; payload?: Json }> }> {
    return this.#caller.call("POST", "/api/control-plane/dead-letter/replay", [], args);
  }

  /**
   * Sends a notification that was given up anew, under the same id. 404 (`NotFound`) if there is no such notification, 409
   * (`Conflict`) if it is not dead, or its channel is deleted.
   */
  replayNotification(args: { notification_id: string } & Repeatable): Promise<Notification> {
    return this.#caller.call("POST", "/api/control-plane/notifications/{notification_id}/replay", [], args);
  }

  /**
   * Submits one dead task again; a repeat gets the same answer. 404 (`NotFound`) if the task is not in the dead letter, 400
   * (`InvalidRequest`) with both payload and payload_patch, or if the patch does not fit.
   */
  replayOne(args: { task_id: string; body?: ReplayDead | null } & Repeatable): Promise<{ dry_run: boolean; task_id: string; replayed_as?: string; payload?: Json }> {
    return this.#caller.call("POST", "/api/control-plane/dead-letter/{task_id}/replay", [], args);
  }

  /**
   * Starts a run of the same version and input that keeps what an ended run has done, but for `from_step` and what comes
   * after it, and what did not complete. Signals that kept steps had are kept. 400 (`InvalidRequest`, `unknown_step`), 404
   * (`NotFound`) if there is no such run or its workflow was deleted, 409 (`Conflict`) if it has not ended (`open_work`), or
   * nothing would run (`nothing_to_replay`), 410 (`Removed`) if retention has removed what is to be kept.
   */
  replayRun(args: { run_id: string; body: ReplayRun } & Repeatable): Promise<WorkflowRun> {
    return this.#caller.call("POST", "/api/control-plane/workflow-runs/{run_id}/replay", [], args);
  }

  /**
   * Ends a pause or a drain that an operator set. `status` then follows from the agent's liveness, health and load. What
   * the agent itself has reported (`paused`, `draining`) stays until it reports `ready` or registers again; `notice` in the
   * answer says so.
   */
  resumeAgent(args: { agent_id: string } & Repeatable): Promise<{ agent_id: string; capabilities: Array<string>; status: "starting" | "ready" | "busy" | "draining" | "paused" | "offline" | "failed"; model: string; provider: string; metadata: Record<string, Json>; registered_at: EpochSeconds; last_heartbeat: EpochSeconds; current_task_id: string | null; tasks_completed: number; tasks_failed: number; avg_latency_ms: number; tags: Array<string>; region_id: string; available_regions: Array<string>; region_latency_ms: Record<string, Json>; last_heartbeat_by_region: Record<string, EpochSeconds>; transport: "pull" | "openai" | "anthropic" | "http" | "a2a" | "import"; endpoint: string | null; max_concurrency: number; version: string | null; running_tasks: number; intent: "active" | "paused" | "draining"; left_out?: Array<"metadata" | "options">; intent_by: "operator" | "agent" | null; liveness: "starting" | "alive" | "suspect" | "offline" | "deaf"; health: "unknown" | "healthy" | "degraded" | "failed"; credential: Record<string, Json> | null; price: Record<string, Json> | null; owner: string | null; rate: Record<string, Json> | null; options?: Record<string, Json>; dedicated: boolean; num_cpus?: number; num_gpus?: number; memory?: number; resources?: Record<string, Json>; status_detail?: string; notice?: string; resumed_at: EpochSeconds }> {
    return this.#caller.call("POST", "/api/control-plane/agents/{agent_id}/resume", [], args);
  }

  /** Resumes a hook. A repeat changes nothing. 404 (`NotFound`) if there is no such hook. */
  resumeHook(args: { hook_name: string } & Repeatable): Promise<Hook> {
    return this.#caller.call("POST", "/api/control-plane/hooks/{hook_name}/resume", [], args);
  }

  /** Resumes a queue, task type or tenant. A repeat changes nothing. */
  resumeQueue(args: { body: ControlName } & Repeatable): Promise<Control> {
    return this.#caller.call("POST", "/api/control-plane/queue/resume", [], args);
  }

  /**
   * Resumes a schedule with the next run that is due. A repeat changes nothing. 404 (`NotFound`) if there is no such
   * schedule.
   */
  resumeSchedule(args: { schedule_id: string } & Repeatable): Promise<Schedule> {
    return this.#caller.call("POST", "/api/control-plane/schedules/{schedule_id}/resume", [], args);
  }

  /**
   * Revokes a key for good, on all replicas within a second. A repeat changes nothing. 404 (`NotFound`) if there is no such
   * key, 409 (`Conflict`, `last_admin`) if nobody could administer access afterwards.
   */
  revokeKey(args: { key_id: string } & Repeatable): Promise<ApiKey> {
    return this.#caller.call("DELETE", "/api/control-plane/keys/{key_id}", [], args);
  }

  /**
   * Makes the next version of a policy, which says what an earlier one said. 404 (`NotFound`) if there is no such policy or
   * version, 409 (`Conflict`) if somebody else changes it at the same moment.
   */
  rollBackPolicy(args: { policy_id: string; body: Rollback } & Repeatable): Promise<{ id: string; name: string; description?: string; created_by: string; updated_by: string; scope: "global" | "task_type" | "capability" | "region" | "workspace"; all_workspaces: boolean; workspaces: Array<string>; task_types: Array<string>; capabilities: Array<string>; agent_allowlist: Array<string>; agent_blocklist: Array<string>; region_constraint: { allowed_regions: Array<string>; blocked_regions: Array<string> }; sla: { max_execution_seconds: number | null }; deny_when: string | null; enforcement_level: "warn" | "soft" | "hard"; enabled: boolean; priority: PolicyPriority; metadata?: Record<string, Json>; version: number; previous_version: number | null; created_at: IsoTime; updated_at: IsoTime; conflicts: Array<PolicyConflict> }> {
    return this.#caller.call("POST", "/api/control-plane/policies/{policy_id}/rollback", [], args);
  }

  /**
   * Gives a credential a new secret. For `overlap_seconds` an agent that refuses it (401) is sent the one of before. The
   * secret that it has already changes nothing. 404 (`NotFound`) if there is no such credential, 409 (`Conflict`) if the key
   * was used with another body, the secret is the one of before (`credential_rotated`), or ARAGORA_SECRETS_KEY is not set.
   */
  rotateCredential(args: { credential_name: string; body: CredentialRotation } & Repeatable): Promise<Credential> {
    return this.#caller.call("POST", "/api/control-plane/credentials/{credential_name}/rotate", [], args);
  }

  /**
   * Gives a hook a new `secret`, which is shown in this answer only, unless the caller gave it. The ones of before count for
   * `overlap_seconds` more, a day if they are left out; with 0 they end now. 404 (`NotFound`) if there is no such hook, 409
   * (`Conflict`) if it has this secret already, eight of them count, or ARAGORA_SECRETS_KEY is not set (`no_secrets_key`).
   */
  rotateHook(args: { hook_name: string; body?: RotateHook | null } & Repeatable): Promise<{ name: string; path: string; paused: boolean; task_type: string | null; task?: Record<string, Json> | null; workflow: string | null; signal?: Record<string, Json> | null; version: number | null; metadata?: Record<string, Json> | null; input?: Json; rate_per_minute: number; secrets: Array<{ ends_at: EpochSeconds | null }>; revision: number; created_at: EpochSeconds; created_by: string; changed_at: EpochSeconds; changed_by: string; secret: string | null; notice: string }> {
    return this.#caller.call("POST", "/api/control-plane/hooks/{hook_name}/rotate", [], args);
  }

  /**
   * Gives a key a new secret; the one of before counts for `overlap_seconds` more, an hour if they are left out. `token` is
   * shown in this answer only; a repeat under the same `Idempotency-Key` is answered with `token` null. 404 (`NotFound`) if
   * there is no such key, 409 (`Conflict`) if it was revoked, has expired, or its workspaces were deleted, 403 (`Forbidden`,
   * `exceeds_own`) if it could do more than the caller.
   */
  rotateKey(args: { key_id: string; body?: Rotation | null } & Repeatable): Promise<{ id: string; name: string; state: "valid" | "expired" | "revoked" | "workspace_deleted"; state_detail?: string | null; workspaces: Array<string>; grants: Array<string>; agents: Array<string> | null; created_at: EpochSeconds; created_by: string; expires_at: EpochSeconds | null; revoked_at: EpochSeconds | null; overlap_until: EpochSeconds | null; last_used_at: EpochSeconds | null; token: string | null; notice: string }> {
    return this.#caller.call("POST", "/api/control-plane/keys/{key_id}/rotate", [], args);
  }

  /**
   * Asks for a pass over the workspace now, which begins within seconds; `GET /retention` tells when it has ended. With
   * `dry_run` it counts what a pass would remove, for at most some 10 s; `complete` is false if there is more.
   */
  runRetention(args: { body: RunRetention } & Repeatable): Promise<{ dry_run: boolean; run_requested: boolean; complete: boolean; tasks: number | null; deliberations: number | null; workflow_runs: number | null }> {
    return this.#caller.call("POST", "/api/control-plane/retention/run", [], args);
  }

  /**
   * Starts a run at once, whatever is due, paused or running; `run_id` is its task, deliberation or run of a
   * workflow. Send an `Idempotency-Key` to make repeats safe. 404 (`NotFound`) if there is no such schedule, or its workflow
   * was deleted.
   */
  runSchedule(args: { schedule_id: string } & Repeatable): Promise<{ schedule_id: string; run_id: string }> {
    return this.#caller.call("POST", "/api/control-plane/schedules/{schedule_id}/run", [], args);
  }

  /**
   * Queues a test of a channel, which is sent within seconds; what comes of it is in the notification. 404 (`NotFound`) if
   * there is no such channel.
   */
  sendTest(args: { channel_name: string } & Repeatable): Promise<Notification> {
    return this.#caller.call("POST", "/api/control-plane/notifications/channels/{channel_name}/test", [], args);
  }

  /**
   * Makes a channel, or replaces the one of this name. One that names a credential also takes the permission to use
   * credentials. 400 (`InvalidRequest`, `EndpointForbidden`) if its fields do not fit its kind, there is no such credential, or
   * its address is forbidden, 409 (`Conflict`) if the workspace has 100 channels or the key was used with another body.
   */
  setChannel(args: { body: ChannelFields } & Repeatable): Promise<Channel> {
    return this.#caller.call("POST", "/api/control-plane/notifications/channels", [], args);
  }

  /** Sets the rate and burst of a queue, or the weight of a tenant. The scheduler applies it within a second. */
  setControl(args: { body: ControlSettings } & Repeatable): Promise<Control> {
    return this.#caller.call("PUT", "/api/control-plane/queue/controls", [], args);
  }

  /**
   * Makes a credential, or gives it this secret and no other: the one of before counts no more. 400 (`InvalidRequest`) if an
   * origin is none, 409 (`Conflict`) if the workspace has 1,000 credentials, the key was used with another body, or
   * ARAGORA_SECRETS_KEY is not set (`no_secrets_key`).
   */
  setCredential(args: { body: CredentialFields } & Repeatable): Promise<Credential> {
    return this.#caller.call("POST", "/api/control-plane/credentials", [], args);
  }

  /**
   * Sets quotas of the workspace; null removes one, and what is left out stays. At this replica they count from now on, at
   * others within a second. What is beyond a quota already stays: nothing is stopped. 400 (`InvalidRequest`) without any field,
   * 409 (`Conflict`) if somebody else changes them at the same moment.
   */
  setQuotas(args: { body: SetQuotas } & Repeatable): Promise<Quotas> {
    return this.#caller.call("PUT", "/api/control-plane/quotas", [], args);
  }

  /**
   * Changes what the workspace keeps; fields that are left out stay as they are, and those that were never named are the
   * deployment's. What it does not keep any more is removed
   * with the next pass, within a quarter of an hour. 400 (`InvalidRequest`) without any field.
   */
  setRetention(args: { body: SetRetention } & Repeatable): Promise<{ workspace: string; task_days: number; task_count: number; deliberation_days: number; deliberation_count: number; workflow_run_days: number; workflow_run_count: number; spending_days: number; violation_days: number; policy_version_days: number; is_default: boolean; run_requested: boolean; last_run: { ended_at: EpochSeconds; tasks: number; deliberations: number; workflow_runs: number } | null }> {
    return this.#caller.call("PUT", "/api/control-plane/retention", [], args);
  }

  /**
   * Makes a rule, or replaces the one of this name: which events go to which channels, from now on. 400 (`InvalidRequest`) if
   * there is no such event or time zone, or repeats and a digest are asked for, 404 (`NotFound`) if there is no such channel, 409
   * (`Conflict`) if the workspace has 100 rules or the key was used with another body.
   */
  setRule(args: { body: RuleFields } & Repeatable): Promise<NotificationRule> {
    return this.#caller.call("POST", "/api/control-plane/notifications/rules", [], args);
  }

  /**
   * Who calls, the workspace that the call acts in, the caller's roles and permissions there, and the workspaces that it can
   * name in `X-Aragora-Workspace` (at most 1,000). `workspace` is null for a caller that has several and names none. 401
   * (`Unauthenticated`) if the caller proves no identity, 403 (`Forbidden`) if it has nothing in the workspace that it names.
   */
  showCaller(args: CallOptions = {}): Promise<{ principal: string; workspace: string | null; roles: Array<string>; permissions: Array<string>; suspended: boolean; workspaces: Array<string> }> {
    return this.#caller.call("GET", "/api/control-plane/auth/caller", [], args);
  }

  /**
   * The workspace's quotas, null where it has none, and how many agents, tasks that wait and tasks that run it has. These are
   * counted up to 100,000, or up to the highest quota if that is more.
   */
  showQuotas(args: CallOptions = {}): Promise<Quotas> {
    return this.#caller.call("GET", "/api/control-plane/quotas", [], args);
  }

  /**
   * How this region and its zone stand, as the region's leader knows it: who is primary, under which epoch, which regions are
   * in sync, and how many rows each lacks. `enabled` is false for a region alone. A secondary knows its own lag only: for how
   * long it has heard nothing of the primary. 503 (`ActorUnavailable`) while the leader does not answer.
   */
  showRegions(args: CallOptions = {}): Promise<{ enabled: boolean; region: string; is_led: boolean; zone: string | null; role: string | null; phase: string | null; primary: string | null; mode: string | null; etcd_leader: string | null; no_writes: string | null; problem: string | null; epoch: number | null; trusted_until: EpochSeconds | null; head: number | null; in_sync: Array<string>; members: Array<{ region: string; holds_data: boolean; residency: string | null }>; lag: Array<{ region: string; rows: number | null; silent_seconds: number | null; is_stale: boolean | null }>; surplus_rows: number; warnings: Array<string> }> {
    return this.#caller.call("GET", "/api/control-plane/regions", [], args);
  }

  /** What the workspace keeps, and when this region went through it last. `is_default`: it has set nothing itself. */
  showRetention(args: CallOptions = {}): Promise<{ workspace: string; task_days: number; task_count: number; deliberation_days: number; deliberation_count: number; workflow_run_days: number; workflow_run_count: number; spending_days: number; violation_days: number; policy_version_days: number; is_default: boolean; run_requested: boolean; last_run: { ended_at: EpochSeconds; tasks: number; deliberations: number; workflow_runs: number } | null }> {
    return this.#caller.call("GET", "/api/control-plane/retention", [], args);
  }

  /**
   * The caller's session, with the `csrf_token` that a page sends in `X-CSRF-Token` with each change. Without a
   * session, its fields are null. 401 (`Unauthenticated`) if it has ended.
   */
  showSession(args: CallOptions = {}): Promise<{ enabled: boolean; principal: string | null; groups: Array<string> | null; expires_at: EpochSeconds | null; csrf_token: string | null }> {
    return this.#caller.call("GET", "/api/control-plane/auth/session", [], args);
  }

  /**
   * Sends a run a signal, whose value is the result of the steps that wait for it, now or later. The same value again
   * changes nothing. 400 (`InvalidRequest`, `limit_exceeded`) if the value is too long, 404 (`NotFound`) if there is no such
   * run or none of its steps waits for such a signal, 409 (`Conflict`) if it was sent with another value
   * (`already_signalled`), or no step waits for it any more (`already_terminal`).
   */
  signalRun(args: { run_id: string; signal: string; body: SendSignal } & Repeatable): Promise<{ run_id: string; signal: string }> {
    return this.#caller.call("POST", "/api/control-plane/workflow-runs/{run_id}/signals/{signal}", [], args);
  }

  /**
   * What attempts have cost that a budget counted, by the day on which they started, agent and task type: from the day
   * `start` until before the day `end`, at most 366 days; the present month if neither is given. `truncated`: there are more
   * than 10,000 rows, and the last ones are left out. 400 (`InvalidRequest`) if a day is none.
   */
  spending(args: { start?: string | null; end?: string | null } & CallOptions = {}): Promise<{ start: string; end: string; spending: Array<Spending>; total_spent_usd: Usd; total_reserved_usd: Usd; truncated: boolean }> {
    return this.#caller.call("GET", "/api/control-plane/spending", ["start", "end"], args);
  }

  /**
   * Starts a run, whose tasks are submitted in the caller's name. One that deliberates also takes the permission to start a
   * deliberation. Send an `Idempotency-Key` to make repeats safe. 404 (`NotFound`) if there is no such workflow or version,
   * 409 (`Conflict`) if the key was used with another body.
   */
  startRun(args: { name: string; body: StartRun } & Repeatable): Promise<WorkflowRun> {
    return this.#caller.call("POST", "/api/control-plane/workflows/{name}/runs", [], args);
  }

  /**
   * Numbers of the fleet, its health and the scheduler, without URLs and secrets. The health is that of the agents that are
   * not offline; `unknown` if all are. `total` counts the tasks that there ever were. `by_type` names at most 256 task
   * types and counts the rest as `(other)`. 503 (`StoreUnavailable`) if the counting cannot catch up in time.
   */
  stats(args: CallOptions = {}): Promise<{ registry: Record<string, Json>; health: Record<string, Json>; scheduler: Record<string, Json>; config: Record<string, Json> }> {
    return this.#caller.call("GET", "/api/control-plane/stats", [], args);
  }

  /**
   * Reports that the agent has stopped a task that is being cancelled. The lease ends at once, not after the grace.
   * 409 (`Conflict`, `lease_lost`) if the caller does not hold it.
   */
  stoppedTask(args: { task_id: string; body?: CancelAcknowledgement | null } & Repeatable): Promise<{ stopped: boolean }> {
    return this.#caller.call("POST", "/api/control-plane/tasks/{task_id}/stopped", [], args);
  }

  /**
   * Events as they are committed, if the call sends `Accept: text/event-stream`; else a description of the stream. Resume
   * with `Last-Event-ID` or `after`. 400 (`InvalidRequest`) if that is not the id of an event, 410 (`CursorLost`)
   * if the events after it are not kept any more.
   */
  streamInfo(args: { task_id?: string | null; agent_id?: string | null; deliberation_id?: string | null; after?: string | null } & CallOptions = {}): Promise<{ sse: Record<string, Json>; websocket: Record<string, Json>; filters: Array<string>; frame: Record<string, Json>; last_event_id: number }> {
    return this.#caller.call("GET", "/api/control-plane/stream", ["task_id", "agent_id", "deliberation_id", "after"], args);
  }

  /**
   * What the workspace's tasks do now, and how the machine of the replica that answers is; the latter takes the permission to
   * read what concerns all workspaces. `load_1m` is the mean number of processes that want a core. 503 (`StoreUnavailable`)
   * if the counting cannot catch up in time.
   */
  systemMetrics(args: CallOptions = {}): Promise<{ cpu?: { cores?: number; load_1m?: number }; memory?: { total_bytes?: number; available_bytes?: number; replica_bytes?: number }; uptime_seconds: number; pending: number; running: number; throughput_per_minute: number }> {
    return this.#caller.call("GET", "/api/control-plane/metrics/system", [], args);
  }

  /**
   * Events of a task, oldest first. `n` counts them from 1 without gaps; read on with `after` set to the last `n`.
   * 404 (`NotFound`) if there is no such task.
   */
  taskEvents(args: { task_id: string; after?: number; limit?: number } & CallOptions): Promise<{ task_id: string; events: Array<TaskEvent>; total: number; has_more: boolean }> {
    return this.#caller.call("GET", "/api/control-plane/tasks/{task_id}/events", ["after", "limit"], args);
  }

  /**
   * Tasks that have ended, newest first; `where` as in the list of tasks. 400 (`InvalidRequest`) if `status` is that of an
   * open task.
   */
  taskHistory(args: { status?: TaskStatus | null; status_detail?: TaskDetail | null; task_type?: string | null; agent_id?: string | null; queue?: string | null; created_after?: number | null; created_before?: number | null; sort?: Sort; limit?: number; offset?: number; cursor?: string; where?: Array<string> } & CallOptions = {}): Promise<{ history: Array<HistoryEntry>; total: number; total_exact: boolean; limit: number; offset: number; has_more: boolean; next_cursor: string | null }> {
    return this.#caller.call("GET", "/api/control-plane/tasks/history", ["status", "status_detail", "task_type", "agent_id", "queue", "created_after", "created_before", "sort", "limit", "offset", "cursor", "where"], args);
  }

  /**
   * Numbers of the workspace's tasks: how all of them ended that there ever were, and the means of the last hour.
   * `completion_rate` is the share of completed ones among those that were not cancelled, null if none has ended.
   * `by_type` names at most 256 task types and counts the rest as `(other)`. 503 (`StoreUnavailable`) if the counting cannot
   * catch up in time.
   */
  taskMetrics(args: CallOptions = {}): Promise<{ total: number; by_status: { pending: number; running: number; completed: number; failed: number; cancelled: number; timeout: number }; by_type: Record<string, number>; completion_rate: number | null; avg_duration_ms: number; avg_wait_time_ms: number; throughput_per_minute: number; completed_today: number; failed_today: number }> {
    return this.#caller.call("GET", "/api/control-plane/metrics/tasks", [], args);
  }

  /**
   * Changes a budget's name, mode, limit or estimate; what is left out stays. What it is about and its period are for good.
   * 400 (`InvalidRequest`) if its fields do not fit together, 404 (`NotFound`) if there is no such budget, 409 (`Conflict`) if
   * somebody else changes it at the same moment.
   */
  updateBudget(args: { budget_id: string; body: BudgetChange } & Repeatable): Promise<Budget> {
    return this.#caller.call("PUT", "/api/control-plane/budgets/{budget_id}", [], args);
  }

  /**
   * Replaces what a hook starts, its input and its rate; its secrets stay. 400 (`InvalidRequest`) as when it is made, 404
   * (`NotFound`) if there is no such hook or workflow.
   */
  updateHook(args: { hook_name: string; body: HookFields } & Repeatable): Promise<Hook> {
    return this.#caller.call("PUT", "/api/control-plane/hooks/{hook_name}", [], args);
  }

  /**
   * Changes a policy; fields that are left out stay as they are. Each change is a version. Tasks that were submitted before
   * keep what policies demanded of their agents then. 400 (`InvalidRequest`) as when it is made, 404 (`NotFound`) if there is
   * no such policy, 409 (`Conflict`) if somebody else changes it at the same moment.
   */
  updatePolicy(args: { policy_id: string; body: PolicyFields } & Repeatable): Promise<{ id: string; name: string; description?: string; created_by: string; updated_by: string; scope: "global" | "task_type" | "capability" | "region" | "workspace"; all_workspaces: boolean; workspaces: Array<string>; task_types: Array<string>; capabilities: Array<string>; agent_allowlist: Array<string>; agent_blocklist: Array<string>; region_constraint: { allowed_regions: Array<string>; blocked_regions: Array<string> }; sla: { max_execution_seconds: number | null }; deny_when: string | null; enforcement_level: "warn" | "soft" | "hard"; enabled: boolean; priority: PolicyPriority; metadata?: Record<string, Json>; version: number; previous_version: number | null; created_at: IsoTime; updated_at: IsoTime; conflicts: Array<PolicyConflict> }> {
    return this.#caller.call("PUT", "/api/control-plane/policies/{policy_id}", [], args);
  }

  /**
   * Changes a schedule; fields that are left out stay as they are. Runs start in the caller's name from now on. 400
   * (`InvalidRequest`) as when it is made, 404 (`NotFound`) if there is no such schedule or workflow.
   */
  updateSchedule(args: { schedule_id: string; body: ScheduleFields } & Repeatable): Promise<Schedule> {
    return this.#caller.call("PUT", "/api/control-plane/schedules/{schedule_id}", [], args);
  }

  /**
   * Says what people made of a violation. Who resolved it and when is kept until it is opened again; notes that are left out
   * stay. 404 (`NotFound`) if there is no such violation, 409 (`Conflict`) if somebody else changes it at the same moment.
   */
  updateViolation(args: { violation_id: string; body: UpdateViolation } & Repeatable): Promise<{ updated: boolean; violation_id: string; status: "open" | "investigating" | "resolved" | "false_positive"; message: string }> {
    return this.#caller.call("PATCH", "/api/control-plane/policies/violations/{violation_id}", [], args);
  }

  /**
   * Whether rows of the log are what was sealed: its order, each row's content, and the checkpoints in the database. All
   * workspaces have one chain, so it is verified whole; no row is shown. A call checks at most 20,000 rows and says in `end_seq`
   * how far it came. Checkpoints that were pushed out of the database prove more: `aragora-cp audit verify --checkpoint FILE`. 400
   * (`InvalidRequest`) if `end_seq` is before `start_seq`.
   */
  verifyAudit(args: { start_seq?: number; end_seq?: number | null } & CallOptions = {}): Promise<{ valid: boolean; start_seq: number; end_seq: number; message: string; first_bad_seq: number | null; self_signed: boolean }> {
    return this.#caller.call("GET", "/api/control-plane/audit/verify", ["start_seq", "end_seq"], args);
  }

  /**
   * Adds chunks (text or JSON) to the output of a running task; whoever holds its lease may. They are numbered from 1 in each
   * attempt and written in order; `next` is the number that comes next. A repeat is answered like the first call. 409
   * (`Conflict`): `lease_lost`; `chunk_gap` if a number is left out without `skip`; `chunk_changed` if a number was taken
   * with another content. 413 (`TooLarge`): `chunk_too_large`, `chunks_too_large` for the whole call, `chunks_full` for the
   * task. 429 (`RateLimited`): `chunks_too_fast`. 404 (`NotFound`) if there is no such task.
   */
  writeChunks(args: { task_id: string; body: WriteChunks } & Repeatable): Promise<{ next: number }> {
    return this.#caller.call("POST", "/api/control-plane/tasks/{task_id}/chunks", [], args);
  }
}
