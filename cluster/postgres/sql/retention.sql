-- name: retention_state
-- What is stored about a workspace: its rule, a request, and the last pass.
select r.rule::text as rule, r.requested_at, p.ended_at, p.requested_at as answered, p.tasks, p.deliberations,
       p.workflow_runs
from (values ($1::text)) as w (id)
left join retention r on r.workspace = w.id left join retention_passes p on p.workspace = w.id

-- name: put_retention
-- One commit that stores a rule or a request.
select put_retention($1, $2, $3, $4, $5)

-- name: retention_workspaces
-- Every workspace with tasks, deliberations, runs of workflows or a request. It goes from one workspace to the next by the indexes of lists, and reads
-- no more of them.
with recursive found (id) as (
    select least((select min(workspace) from tasks), (select min(workspace) from deliberations),
                 (select min(workspace) from workflow_runs))
    union all
    select least((select min(t.workspace) from tasks t where t.workspace > f.id),
                 (select min(d.workspace) from deliberations d where d.workspace > f.id),
                 (select min(r.workspace) from workflow_runs r where r.workspace > f.id))
    from found f where f.id is not null
)
select id from found where id is not null
union
select workspace from retention where requested_at is not null
order by 1

-- name: retention_requested
-- The workspaces for which somebody waits for a pass.
select r.workspace as id from retention r left join retention_passes p on p.workspace = r.workspace
where r.requested_at is not null and r.requested_at is distinct from p.requested_at order by 1

-- name: too_many_tasks
-- Of a workspace's tasks, the newest one after so many others.
select created_at as at, id from tasks where workspace = $1 order by created_at desc, id desc offset $2 limit 1

-- name: too_many_deliberations
-- The same of its deliberations.
select admitted_at as at, request_id as id from deliberations
where workspace = $1 order by admitted_at desc, request_id desc offset $2 limit 1

-- name: too_many_runs
-- The same of its runs of workflows.
select created_at as at, id from workflow_runs where workspace = $1 order by created_at desc, id desc offset $2 limit 1

-- name: tasks_to_remove
-- A window of a workspace's tasks, oldest first, by the index of its list: which of them may go. What was submitted after both
-- bounds has not ended before them, so it is not read. What agents, or a person, were asked for a deliberation stays while one is open that was
-- admitted before.
select t.id, t.created_at as at,
       t.status not in ('pending', 'running') and t.completed_at < $4
       and (t.completed_at < $5::float8 or (t.created_at, t.id) <= ($6::float8, $7::text))
       and (t.task_type <> all ($9) or not exists (
           select from deliberations d where d.terminal is null and d.workspace = $1 and d.admitted_at <= t.created_at))
       as chosen
from tasks t
where t.workspace = $1 and (t.created_at, t.id) > ($2::float8, $3::text) and t.created_at < $4
  and t.created_at <= greatest($5::float8, $6::float8)
order by t.created_at, t.id limit $8

-- name: deliberations_to_remove
-- The same of its deliberations.
select d.request_id as id, d.admitted_at as at,
       d.terminal is not null and d.completed_at < $4
       and (d.completed_at < $5::float8 or (d.admitted_at, d.request_id) <= ($6::float8, $7::text)) as chosen
from deliberations d
where d.workspace = $1 and (d.admitted_at, d.request_id) > ($2::float8, $3::text) and d.admitted_at < $4
  and d.admitted_at <= greatest($5::float8, $6::float8)
order by d.admitted_at, d.request_id limit $8

-- name: runs_to_remove
-- The same of its runs of workflows.
select r.id, r.created_at as at,
       r.ended_at is not null and r.ended_at < $4
       and (r.ended_at < $5::float8 or (r.created_at, r.id) <= ($6::float8, $7::text)) as chosen
from workflow_runs r
where r.workspace = $1 and (r.created_at, r.id) > ($2::float8, $3::text) and r.created_at < $4
  and r.created_at <= greatest($5::float8, $6::float8)
order by r.created_at, r.id limit $8

-- name: referred_tasks
-- Those of some tasks that an open task comes after, or is the parent of, or a schedule names, or that an open run has or refers to. It reads the open tasks that
-- come after any.
select e.value ->> 0 as id
from tasks o cross join lateral json_array_elements(o.rules -> 'after') as e (value)
where o.workspace = $1 and o.status in ('pending', 'running') and (o.rules -> 'after') is not null
  and e.value ->> 0 = any ($2)
union
select c.id from tasks c join tasks p on p.id = c.rules ->> 'parent'
where c.id = any ($2) and c.workspace || '' = $1 and p.status in ('pending', 'running')
union
select s.last_run from schedules s where s.workspace = $1 and s.last_run = any ($2)
union
select r.id from schedules s cross join lateral json_array_elements_text(s.runs) as r (id)
where s.workspace = $1 and r.id = any ($2)
union
select t.id from unnest($2::text[]) as t (id) join workflow_runs w on w.id = split_part(t.id, '.', 1)
where w.workspace = $1 and w.ended_at is null
union
select t.id from workflow_runs w join unnest($2::text[]) as t (id) on split_part(t.id, '.', 1) = any (w.refers)
where w.workspace = $1 and w.ended_at is null and w.refers is not null

-- name: referred_deliberations
-- Those of some deliberations that a schedule names, or that an open run has or refers to.
select s.last_run as id from schedules s where s.workspace = $1 and s.last_run = any ($2)
union
select r.id from schedules s cross join lateral json_array_elements_text(s.runs) as r (id)
where s.workspace = $1 and r.id = any ($2)
union
select d.id from unnest($2::text[]) as d (id) join workflow_runs w on w.id = split_part(d.id, '.', 1)
where w.workspace = $1 and w.ended_at is null
union
select d.id from workflow_runs w join unnest($2::text[]) as d (id) on split_part(d.id, '.', 1) = any (w.refers)
where w.workspace = $1 and w.ended_at is null and w.refers is not null

-- name: referred_runs
-- Those of some runs that a schedule names, that an open one replays, or to whose tasks it refers.
select w.replays as id from workflow_runs w where w.workspace = $1 and w.ended_at is null and w.replays = any ($2)
union
select r.id from workflow_runs w cross join lateral unnest(w.refers) as r (id)
where w.workspace = $1 and w.ended_at is null and w.refers is not null and r.id = any ($2)
union
select s.last_run from schedules s where s.workspace = $1 and s.last_run = any ($2)
union
select r.id from schedules s cross join lateral json_array_elements_text(s.runs) as r (id)
where s.workspace = $1 and r.id = any ($2)

-- name: remove_tasks
-- One commit that removes tasks.
select remove_tasks($1, $2, $3)

-- name: remove_deliberations
-- One commit that removes deliberations.
select remove_deliberations($1, $2, $3)

-- name: remove_runs
-- One commit that removes runs of workflows.
select remove_runs($1, $2, $3)

-- name: passed
-- A pass has ended. It concerns this region alone.
insert into retention_passes (workspace, ended_at, requested_at, tasks, deliberations, workflow_runs)
values ($1, $2, $3, $4, $5, $6)
on conflict (workspace) do update set ended_at = excluded.ended_at, requested_at = excluded.requested_at,
    tasks = excluded.tasks, deliberations = excluded.deliberations, workflow_runs = excluded.workflow_runs
