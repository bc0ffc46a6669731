-- What is asked often is counted without going through the whole table: open tasks by an index of their own, ended ones by a
-- fold of the log (cluster/domain/tasks/tally.py), whose first state is made here by one scan.

create index tasks_counted on tasks (workspace, status, task_type, priority) where status in ('pending', 'running');

-- Open tasks by status, type and priority, of one workspace or (null) of all. Without sequential scans: after a long queue was
-- worked off, the planner's statistics still have the queue, and would choose one.
create function open_task_counts(p_workspace text)
returns table (status text, task_type text, priority smallint, tasks bigint)
language sql stable set enable_seqscan = off as $$
    select t.status, t.task_type, t.priority, count(*) from tasks t
    where t.status in ('pending', 'running') and (p_workspace is null or t.workspace = p_workspace)
    group by t.status, t.task_type, t.priority
$$;

-- One statement, so that tasks and cursor are of one moment. What is counted by minutes and seconds begins now.
insert into telemetry (name, cursor, snapshot)
select 'tasks', (select coalesce(max(seq), 0) from log), json_build_object(
    'ended', coalesce((
        select json_agg(json_build_array(c.workspace, c.status, c.task_type, c.priority, c.n)) from (
            select workspace, status, task_type, priority, count(*) as n from tasks
            where status not in ('pending', 'running') group by workspace, status, task_type, priority
        ) c), '[]'),
    'hours', coalesce((
        select json_agg(json_build_array(h.workspace, h.hour, h.what, h.n)) from (
            select workspace, floor(completed_at / 3600)::bigint as hour, status as what, count(*) as n from tasks
            where status not in ('pending', 'running')
              and completed_at >= extract(epoch from clock_timestamp()) - 48 * 3600
            group by workspace, hour, status
            union all
            select workspace, floor(completed_at / 3600)::bigint, 'tokens', sum(coalesce((result ->> 'tokens')::numeric, 0))
            from deliberations
            where terminal is not null and completed_at >= extract(epoch from clock_timestamp()) - 48 * 3600
            group by 1, 2
        ) h), '[]'))
on conflict (name) do nothing;
