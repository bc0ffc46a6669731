-- name: submit_tasks
-- One commit of new tasks with their keys and log rows.
select task_id, seq, replayed, conflict from submit_tasks(
    $1, $2, $3, $4, $5::text::smallint[], $6::text::text[], $7::text::text[], $8::text::smallint[], $9::text::text[],
    $10::text::integer[], $11::text::double precision[], $12::text::double precision[], $13::text::text[],
    $14::text::text[], $15::text::text[], $16::text::text[], $17::text::text[], $18::text::text[], $19, $20,
    $21::text::text[], $22::text::text[], $23::text::text[], $24, row($25::smallint, $26::text::double precision[],
    $27::text::text[], $28::text::text[], $29::text::text[], $30::text::integer[], $31::text::text[],
    $32::text::text[], $33::text[], $34::text[], $35::bytea[], $36::bytea[])::log_rows)

-- name: submit_asking_tasks
-- The same of tasks some of which have questions.
select task_id, seq, replayed, conflict from submit_asking_tasks(
    $1, $2, $3, $4, $5::text::smallint[], $6::text::text[], $7::text::text[], $8::text::smallint[], $9::text::text[],
    $10::text::integer[], $11::text::double precision[], $12::text::double precision[], $13::text::text[],
    $14::text::text[], $15::text::text[], $16::text::text[], $17::text::text[], $18::text::text[], $19, $20,
    $21::text::text[], $22::text::text[], $23::text::text[], $24, row($25::smallint, $26::text::double precision[],
    $27::text::text[], $28::text::text[], $29::text::text[], $30::text::integer[], $31::text::text[],
    $32::text::text[], $33::text[], $34::text[], $35::bytea[], $36::bytea[])::log_rows, $37)

-- name: submit_within_quotas
-- The same of tasks whose workspaces may have a quota on tasks that wait.
select task_id, seq, replayed, conflict, most, waiting from submit_within_quotas(
    $1, $2, $3, $4, $5::text::smallint[], $6::text::text[], $7::text::text[], $8::text::smallint[], $9::text::text[],
    $10::text::integer[], $11::text::double precision[], $12::text::double precision[], $13::text::text[],
    $14::text::text[], $15::text::text[], $16::text::text[], $17::text::text[], $18::text::text[], $19, $20,
    $21::text::text[], $22::text::text[], $23::text::text[], $24, row($25::smallint, $26::text::double precision[],
    $27::text::text[], $28::text::text[], $29::text::text[], $30::text::integer[], $31::text::text[],
    $32::text::text[], $33::text[], $34::text[], $35::bytea[], $36::bytea[])::log_rows, $37)

-- name: decide
-- One commit of a shard's decisions.
select applied, seq from decide(
    $1, $2, $3, $4, $5::text::text[], $6::text::integer[], $7::text::text[], $8::text::text[], $9::text::integer[],
    $10::text::smallint[], $11::text::double precision[], $12::text::text[], $13::text::text[], $14::text::text[],
    $15::text::double precision[], $16::text::double precision[], $17, $18, $19::text::text[],
    row($20::smallint, $21::text::double precision[], $22::text::text[], $23::text::text[], $24::text::text[],
    $25::text::integer[], $26::text::text[], $27::text::text[], $28::text[], $29::text[], $30::bytea[],
    $31::bytea[])::log_rows, $32)

-- name: store_progress
-- One commit of what holders have reported of their progress.
select store_progress($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)

-- name: take_generation
-- Takes a new generation for a shard. Decisions under older ones fail from now on.
select take_generation($1, $2, $3)

-- name: is_owner
-- Whether a generation of a shard, under a region's epoch, is the one that may decide at this moment.
select exists (
    select from shards s, region_state r
    where s.shard = $3 and s.generation = $4
      and r.region = $1 and r.epoch = $2 and r.role = 'primary' and r.trusted_until > clock_timestamp()
)

-- name: open_tasks
-- The open tasks from which a shard builds its index, oldest first, without their bodies; of those that ask, or will when they are
-- blocked no more, what decides about their questions; of those that wait for their children, which these are; and how many attempts in
-- a row ended without a report, which the log tells: each has cost a retry.
select id, workspace, queue, task_type, priority, status, status_detail, attempt, retries, max_retries, timeout_s,
       created_at, run_at, started_at, assigned_agent, claim_id, holder, target_agent,
       required_capabilities::text as required_capabilities, rules::text as rules, place,
       case when status_detail in ('input_required', 'blocked') then (
           select json_build_object('time_limit_seconds', q.time_limit_s, 'has_default', q.has_default)::text
           from task_questions q where q.task_id = tasks.id and q.attempt = tasks.attempt
       ) end as asking,
       case when status_detail = 'waiting_children' then (
           select k.children::text from task_parks k where k.task_id = tasks.id and k.attempt = tasks.attempt
       ) end as children,
       case when retries = 0 then 0 else (
           select count(*) from log l
           where l.entity = tasks.id and l.workspace = tasks.workspace and l.kind = 'task.requeued'
             and l.data ->> 'reason' in ('lease_expired', 'agent_offline')
             and l.seq > coalesce((
                 select max(r.seq) from log r where r.entity = tasks.id and r.workspace = tasks.workspace
                 and (r.kind in ('task.retried', 'task.asked', 'task.parked') or r.data ->> 'reason' = 'given_back')), 0)
       )::integer end as lost
from tasks where status in ('pending', 'running') order by created_at, id

-- name: task_statuses
-- The statuses of tasks by id within a workspace, also of those that retention has removed.
select id, status from tasks where workspace || '' = $1 and id = any ($2)
union all
select id, status from task_stubs where workspace = $1 and id = any ($2)

-- name: task_rules
-- The rules of tasks by id within a workspace, of those that are there.
select id, rules::text as rules from tasks where workspace || '' = $1 and id = any ($2)

-- name: task_subjects
-- Whom tasks are about, by id within a workspace, of those that say so.
select id, metadata ->> 'subject' as subject from tasks
where workspace || '' = $1 and id = any ($2) and metadata ->> 'subject' is not null

-- name: tasks_by_id
-- The ids of tasks of a workspace, of those that are there.
select id from tasks where workspace || '' = $1 and id = any ($2)

-- name: task_stub
-- What is left of a removed task.
select id, status, created_at, completed_at, removed_at from task_stubs where id = $2 and workspace = $1

-- name: held_leases
-- The leases of one principal, found by the index of running tasks.
select workspace, assigned_agent, id, claim_id from tasks where status = 'running' and holder = $1

-- name: named_tasks
-- Open tasks that name one of the given agents. Running ones too, since they may have to be tried again.
select t.workspace, t.target_agent, t.id
from unnest($1::text[], $2::text[]) as k (workspace, agent_id)
join tasks t on t.workspace = k.workspace and t.target_agent = k.agent_id
where t.status in ('pending', 'running') and t.target_agent is not null

-- name: task_bodies
-- Payload and metadata, which leases leave out. ``workspace || ''`` keeps the planner from an index that begins with the
-- workspace, and would be read from end to end; the tasks are found by their ids.
select id, payload::text as payload, metadata::text as metadata from tasks where workspace || '' = $1 and id = any ($2)

-- name: submit_causes
-- The row of each task's submit and what led to it, by the index of the log's entities.
select entity, seq, cause from log where entity = any ($1) and kind = 'task.submitted'

-- name: count_task_terms
-- The terms of a search, the rarest first, as far as a page can tell.
select u.term from unnest($1::bytea[]) as u (term)
cross join lateral (select count(*) as found from (select from task_terms k where k.term = u.term limit $2) as first) as c
order by c.found, u.term

-- name: oldest_tasks
-- The ids of open tasks of one status, oldest first. The constant condition on the status makes the index of open tasks usable.
select id from tasks
where status in ('pending', 'running') and status = $2 and workspace = $1
order by created_at, id
limit $3

-- name: open_questions
-- The ids of tasks that wait for people, the newest first.
select id from tasks
where status_detail = 'input_required' and workspace = $1 and ($2::float8 is null or (created_at, id) < ($2, $3))
order by created_at desc, id desc limit $4

-- name: count_open_questions
-- How many tasks of a workspace wait for people.
select count(*) from tasks where status_detail = 'input_required' and workspace = $1

-- name: waiting_tasks
-- How many tasks wait, by priority, found by the index of open tasks.
select priority, sum(tasks)::bigint as tasks from open_task_counts(null) where status = 'pending' group by priority

-- name: task_events
-- Log rows of one task after its n-th, in order.
select * from log where entity = $2 and workspace = $1 and starts_with(kind, 'task.')
order by seq offset $3 limit $4

-- name: count_task_events
-- How many log rows a task has.
select count(*) from log where entity = $2 and workspace = $1 and starts_with(kind, 'task.')

-- name: forget_keys
-- Deletes at most $2 expired idempotency keys, the oldest first, and returns how many.
with expired as (
    delete from idempotency where ctid = any (
        array(select ctid from idempotency where created_at < $1 order by created_at limit $2)
    ) returning 1
)
select count(*) from expired

-- name: dead_letters
-- The ids of a page of the dead letter, newest first. A filter that is null matches everything. A task that asked people has no work
-- that could be tried again.
select id from tasks
where workspace = $1 and status_detail in ('dead_lettered', 'timeout') and purged_at is null
  and not exists (select from task_questions q where q.task_id = tasks.id and q.attempt = 0)
  and ($2::text[] is null or id = any ($2))
  and ($3::text is null or task_type = $3)
  and ($4::text is null or queue = $4)
  and ($5::text is null or status_detail = $5)
  and ($6::text is null or position(lower($6) in lower(error)) > 0)
  and ($7::float8 is null or completed_at >= $7)
  and ($8::float8 is null or completed_at < $8)
  and ($9 or replayed_as is null)
  and ($10::float8 is null or (completed_at, id) < ($10, $11))
order by completed_at desc, id desc
limit $12

-- name: matching_dead_letters
-- The entries of the dead letter that match the filters of a page, to be counted.
select 1 from tasks
where workspace = $1 and status_detail in ('dead_lettered', 'timeout') and purged_at is null
  and not exists (select from task_questions q where q.task_id = tasks.id and q.attempt = 0)
  and ($2::text[] is null or id = any ($2))
  and ($3::text is null or task_type = $3)
  and ($4::text is null or queue = $4)
  and ($5::text is null or status_detail = $5)
  and ($6::text is null or position(lower($6) in lower(error)) > 0)
  and ($7::float8 is null or completed_at >= $7)
  and ($8::float8 is null or completed_at < $8)
  and ($9 or replayed_as is null)

-- name: referring_payloads
-- Those of some payloads that refer to large values.
select id, payload::text as payload from tasks
where workspace || '' = $1 and id = any ($2) and starts_with(payload::text, $3)

-- name: replay_tasks
-- Submits tasks of the dead letter again, once each.
select replay_tasks($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

-- name: purge_tasks
-- Removes tasks from the dead letter.
select purge_tasks($1, $2, $3, $4, $5)

-- name: put_control
-- Stores a control of a queue, a task type or a tenant.
select put_control($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

-- name: controls
-- Controls of a workspace; of all if it is null.
select workspace, kind, name, paused, rate_per_s, burst, weight, seq, changed_at, principal
from controls where $1::text is null or workspace = $1 order by workspace, kind, name
