-- name: submit_tasks
-- One commit of new tasks with their keys and log rows.
select task_id, seq, replayed, conflict from submit_tasks(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24,
    $25, $26, $27, $28, $29, $30, $31, $32)

-- name: decide_tasks
-- One commit of a shard's decisions.
select applied, seq, payload, metadata from decide_tasks(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24,
    $25, $26, $27, $28)

-- name: take_generation
-- A new generation for a shard; older ones can no longer write.
select take_generation($1, $2, $3)

-- name: open_tasks
-- Everything that a shard's index is built from, oldest first; bodies are left out.
select id, workspace, queue, task_type, priority, status, status_detail, attempt, retries, max_retries, timeout_s,
       created_at, run_at, started_at, assigned_agent, claim_id, holder, target_agent,
       required_capabilities::text as required_capabilities
from tasks where status in ('pending', 'running') order by created_at, id

-- name: get_tasks
-- Whole tasks by id within a workspace.
select t.*, t.fallback_regions::text as fallback_regions_text, t.required_capabilities::text as required_text,
       t.payload::text as payload_text, t.metadata::text as metadata_text, t.result::text as result_text
from tasks t where workspace = $1 and id = any ($2)

-- name: task_bodies
-- What a lease does not carry.
select id, payload::text as payload, metadata::text as metadata from tasks where workspace = $1 and id = any ($2)

-- name: list_tasks
-- A page, newest first; filters that are null match everything.
select t.*, t.fallback_regions::text as fallback_regions_text, t.required_capabilities::text as required_text,
       t.payload::text as payload_text, t.metadata::text as metadata_text, t.result::text as result_text
from tasks t
where workspace = $1
  and ($2::text[] is null or status = any ($2))
  and ($3::text is null or task_type = $3)
  and ($4::text is null or assigned_agent = $4)
  and ($5::float8 is null or (created_at, id) < ($5, $6))
order by created_at desc, id desc
limit $7 offset $8

-- name: count_tasks
-- The true total behind a page.
select count(*) from tasks
where workspace = $1
  and ($2::text[] is null or status = any ($2))
  and ($3::text is null or task_type = $3)
  and ($4::text is null or assigned_agent = $4)

-- name: task_counts
-- How many tasks by status, type and priority.
select status, task_type, priority, count(*) as tasks
from tasks where $1::text is null or workspace = $1 group by status, task_type, priority

-- name: queue_metrics
-- What the queue did lately: totals of today (UTC) and rates of the last hour.
select
    count(*) filter (where status = 'pending') as pending,
    count(*) filter (where status = 'running') as running,
    count(*) filter (where status = 'completed' and completed_at >= $2) as completed_today,
    count(*) filter (where status in ('failed', 'timeout') and completed_at >= $2) as failed_today,
    coalesce(avg((started_at - created_at) * 1000) filter (where started_at >= $3), 0) as avg_wait_time_ms,
    coalesce(avg((completed_at - started_at) * 1000)
        filter (where status = 'completed' and completed_at >= $3), 0) as avg_execution_time_ms,
    count(*) filter (where status = 'completed' and completed_at >= $4) as completed_last_minute
from tasks where workspace = $1

-- name: forget_keys
-- Expired idempotency keys.
delete from idempotency where created_at < $1
