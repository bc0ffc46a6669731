-- name: create_schedule
-- One commit of a new schedule.
select create_schedule($1, $2, $3, $4, $5, $6, $7, $8)

-- name: change_schedules
-- One commit of next revisions and their rows.
select change_schedules($1, $2, $3, $4, $5)

-- name: remove_schedules
-- One commit of deletions.
select remove_schedules($1, $2, $3)

-- name: get_schedule
-- One schedule.
select s.*, s.plan::text as plan_text, s.template::text as template_text, s.runs::text as runs_text
from schedules s where s.id = $2 and s.workspace = $1

-- name: list_schedules
-- A page of a workspace's schedules, the newest first.
select s.*, s.plan::text as plan_text, s.template::text as template_text, s.runs::text as runs_text
from schedules s where s.workspace = $1 order by s.created_at desc, s.id desc limit $2 offset $3

-- name: count_schedules
-- How many schedules a workspace has.
select count(*) from schedules where workspace = $1

-- name: due_schedules
-- Schedules whose next run is to start, of workspaces in which work may start.
select s.*, s.plan::text as plan_text, s.template::text as template_text, s.runs::text as runs_text
from schedules s
where s.fire_at <= $1
  and not exists (select from workspaces w where w.id = s.workspace and w.state <> 'active')
order by s.fire_at, s.id limit $2

-- name: schedules_of_subject
-- Schedules that hold a subject's words; a null subject chooses all.
select id from schedules
where workspace = $1
  and ($2::text is null or template -> 'task' -> 'metadata' ->> 'subject' = $2
       or template -> 'deliberation' -> 'given' -> 'context' ->> 'subject' = $2
       or template -> 'workflow' -> 'metadata' ->> 'subject' = $2)
order by id limit $3

-- name: open_runs
-- Those of the runs that have not ended.
select id from tasks where workspace || '' = $1 and id = any ($2) and status in ('pending', 'running')
union all
select request_id from deliberations where workspace || '' = $1 and request_id = any ($2) and terminal is null
union all
select id from workflow_runs where workspace || '' = $1 and id = any ($2) and ended_at is null

-- name: has_run
-- Whether a run has started, ended or not.
select exists (select from tasks where id = $2 and workspace || '' = $1)
    or exists (select from deliberations where request_id = $2 and workspace || '' = $1)
    or exists (select from workflow_runs where id = $2 and workspace || '' = $1)
