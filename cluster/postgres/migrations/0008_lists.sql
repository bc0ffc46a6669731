-- Lists of tasks with filters read what they show, not what they leave out, however old the workspace is. Ended tasks have an
-- entry in these indexes, open ones have not: a task is written three times, and is indexed here once. The details of the end
-- stand before the time, so a list of one detail, or of one type and one detail, is a range of its index in the list's order; a
-- list of several is merged from as many ranges (cluster/postgres/task_lists.py).
create index tasks_by_detail on tasks (workspace, status_detail, created_at desc, id desc)
    where status not in ('pending', 'running');
create index tasks_by_type on tasks (workspace, task_type, status_detail, created_at desc, id desc)
    where status not in ('pending', 'running');
create index tasks_by_agent on tasks (workspace, assigned_agent, status_detail, created_at desc, id desc)
    where status not in ('pending', 'running');
create index tasks_by_queue on tasks (workspace, queue, status_detail, created_at desc, id desc)
    where status not in ('pending', 'running');
-- Open tasks are bounded by the queue. Those of one workspace are found without the others and without the ended ones.
create index tasks_open_page on tasks (workspace, created_at desc, id desc) where status in ('pending', 'running');

-- How many findings a result has; null if it has no list of them.
create function findings_of(result json) returns integer language sql immutable parallel safe as $$
    select case when json_typeof(result) = 'object' then
        case when json_typeof(result -> 'findings') = 'array' then json_array_length(result -> 'findings') end
    end
$$;
-- The sum for an agent reads only tasks with findings, and no result.
create index tasks_findings on tasks (workspace, assigned_agent, findings_of(result))
    where status = 'completed' and findings_of(result) is not null;
