-- Lists of the tasks that failed, were cancelled or ran out of time read what they show, however many have completed. Those have an
-- entry here, and no others: a task that completes costs nothing. An index for each filter (type, agent, queue) was built and
-- rejected: five indexes took a ninth of the scheduler's rate.
create index tasks_uncommon_end on tasks (workspace, status_detail, created_at desc, id desc)
    where status in ('failed', 'cancelled', 'timeout');

-- How many findings a result has; null if it has no list of them.
create function findings_of(result json) returns integer language sql immutable parallel safe as $$
    select case when json_typeof(result) = 'object' then
        case when json_typeof(result -> 'findings') = 'array' then json_array_length(result -> 'findings') end
    end
$$;
-- The sum for an agent reads only tasks with findings, and no result.
create index tasks_findings on tasks (workspace, assigned_agent, findings_of(result))
    where status = 'completed' and findings_of(result) is not null;
