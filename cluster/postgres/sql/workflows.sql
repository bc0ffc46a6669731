-- name: apply_workflow
-- One commit of the next version of a workflow.
select apply_workflow($1, $2, $3, $4, $5)

-- name: newest_workflow
-- The newest version of a workflow.
select w.*, w.document::text as document_text, w.templates::text as templates_text
from workflows w where w.workspace = $1 and w.name = $2 order by w.version desc limit 1

-- name: get_workflow
-- One version of a workflow.
select w.*, w.document::text as document_text, w.templates::text as templates_text
from workflows w where w.workspace = $1 and w.name = $2 and w.version = $3

-- name: list_workflows
-- A page of the workflows of a workspace, each in its newest version.
select distinct on (w.name) w.*, w.document::text as document_text, w.templates::text as templates_text
from workflows w where w.workspace = $1 order by w.name, w.version desc limit $2 offset $3

-- name: count_workflows
-- How many workflows a workspace has.
select count(distinct name) from workflows where workspace = $1

-- name: start_run
-- One commit of a new run.
select start_run($1, $2, $3, $4, $5, $6, $7)

-- name: get_runs
-- Some runs of a workspace, without what they were given.
select r.id, r.workspace, r.name, r.version, r.principal, r.metadata::text as metadata_text, r.status,
       r.state::text as state_text, r.created_at, r.changed_at, r.ended_at, r.started_row, r.due_at, r.replays
from workflow_runs r where r.workspace = $1 and r.id = any ($2)

-- name: run_stub
-- What is left of a removed run.
select id, status, created_at, completed_at, removed_at from workflow_run_stubs where id = $2 and workspace = $1

-- name: list_runs
-- A page of the runs of a workspace, the newest first.
select r.id, r.workspace, r.name, r.version, r.principal, r.metadata::text as metadata_text, r.status,
       r.state::text as state_text, r.created_at, r.changed_at, r.ended_at, r.started_row, r.due_at, r.replays
from workflow_runs r
where r.workspace = $1 and ($4::text is null or r.name = $4) and ($5::text is null or r.status = $5)
order by r.created_at desc, r.id desc limit $2 offset $3

-- name: count_runs
-- How many runs match.
select count(*) from workflow_runs
where workspace = $1 and ($2::text is null or name = $2) and ($3::text is null or status = $3)

-- name: run_input
-- What a run was given.
select input::text from workflow_runs where workspace = $1 and id = $2

-- name: due_runs
-- Runs with a step whose time has come.
select r.id, r.workspace, r.name, r.version, r.principal, r.metadata::text as metadata_text, r.status,
       r.state::text as state_text, r.created_at, r.changed_at, r.ended_at, r.started_row, r.due_at, r.replays
from workflow_runs r where r.due_at <= $1 and r.id <> all ($3) order by r.due_at limit $2

-- name: run_waits
-- The steps of a run that wait for a signal; null if its workflow was deleted.
select case when w.name is not null then array(
    select s.value ->> 'id' from json_array_elements(w.document -> 'steps') s
    where s.value -> 'signal' ->> 'name' = $3) end as steps
from workflow_runs r
left join workflows w on w.workspace = r.workspace and w.name = r.name and w.version = r.version
where r.workspace = $1 and r.id = $2

-- name: signal_run
-- One commit of a signal.
select signal_run($1, $2, $3, $4, $5, $6, $7)

-- name: run_signals
-- What a run was sent.
select signals::text from workflow_runs where workspace = $1 and id = $2

-- name: step_results
-- Results of the tasks and deliberations of steps, which are numbered from 1 to $4, with the characters of each step. The texts of a
-- step are there only if there is room for them beside those of the steps before it, of $5 characters in all; a row without an id says
-- how many characters a step has. A deliberation that was erased is none.
with recursive found as materialized (
    select a.step, t.id, null as terminal, coalesce(length(t.result::text), 0) as chars
    from unnest($2::text[], $3::integer[]) as a (id, step) join tasks t on t.id = a.id and t.workspace || '' = $1
    union all
    select a.step, d.request_id, d.terminal, coalesce(length(d.result::text), 0)
    from unnest($2::text[], $3::integer[]) as a (id, step) join deliberations d on d.request_id = a.id and d.workspace || '' = $1
    where d.terminal is not null and d.erased_at is null
), sized as materialized (
    select s.step, coalesce(sum(f.chars), 0)::bigint as chars
    from generate_series(1, $4::integer) as s (step) left join found f on f.step = s.step group by s.step
), fitting as (
    select 0 as step, 0::bigint as chars, $5::bigint as room, false as fits
    union all
    select s.step, s.chars, case when s.chars <= f.room then f.room - s.chars else f.room end, s.chars <= f.room
    from fitting f join sized s on s.step = f.step + 1
)
select f.step, f.chars, null as id, null as result, null as terminal, null::float8 as admitted_at, null::float8 as completed_at,
       null as rounds, null as mode
from fitting f where f.step > 0
union all
select f.step, f.chars, t.id, t.result::text, null, null, null, null, null
from fitting f join found r on r.step = f.step and r.terminal is null join tasks t on t.id = r.id where f.fits
union all
select f.step, f.chars, d.request_id, d.result::text, d.terminal, d.admitted_at, d.completed_at,
       d.contract ->> 'rounds', d.contract ->> 'mode'
from fitting f join found r on r.step = f.step and r.terminal is not null join deliberations d on d.request_id = r.id where f.fits

-- name: kept_work
-- Those of some tasks and deliberations that are there.
select id from tasks where workspace || '' = $1 and id = any ($2)
union all
select request_id from deliberations where workspace || '' = $1 and request_id = any ($2) and erased_at is null

-- name: begin_advancing
-- From where to advance runs under this epoch.
select begin_advancing($1, $2)

-- name: advance_runs
-- One commit that moves the cursor and runs.
select advance_runs($1, $2, $3, $4, $5, $6)

-- name: remove_workflows
-- One commit of deletions.
select remove_workflows($1, $2, $3)

-- name: runs_of_subject
-- Runs that hold a subject's words, and whether they have not ended; a null subject chooses all.
select id, ended_at is null as open from workflow_runs
where workspace = $1 and ($2::text is null or metadata ->> 'subject' = $2)
order by ended_at is null desc, id limit $3

-- name: workflows_of_subject
-- Workflows a version of which holds a subject's words; a null subject chooses all.
select distinct name from workflows
where workspace = $1 and ($2::text is null or exists (
    select from json_each(templates) t where t.value -> 'task' -> 'metadata' ->> 'subject' = $2) or exists (
    select from json_array_elements(document -> 'steps') s
    where coalesce(s.value -> 'deliberation', s.value -> 'map' -> 'deliberation') -> 'context' ->> 'subject' = $2))
order by name limit $3

-- name: run_rows
-- Rows about runs after a cursor: their own, the ends of their tasks, and deletions of workflows; then a row without a kind that has the last number of
-- the same snapshot.
with head as (
    select log_last() as seq
), page as (
    select seq, kind, entity, workspace, data::text as data from log
    where seq > $1 and (kind like 'workflow.run\_%' or kind = 'workflow.deleted' or (kind = any ($3) and starts_with(entity, $4)))
    order by seq limit $2
)
select * from page
union all
select seq, null, null, null, null from head
