-- Erasing a workspace takes what people wrote beside its work too: policies, violations, notifications and credentials.

-- Deletes what the rows name by their kinds: policies with all their versions, also of such as were deleted before, rules and channels
-- of notifications, credentials. Returns of which rows there was something; those are appended.
create function erase_rules(p_region text, p_epoch bigint, l log_rows) returns boolean[] language plpgsql as $$
declare
    v_done boolean[];
begin
    perform region_lock(p_region);
    update notifications n set status = 'dead', next_at = null, ended_at = r.at, error = 'The channel was deleted.'
    from unnest(l.kind, l.workspace, l.entity, l.at) as r (kind, workspace, entity, at)
    where r.kind = 'notification.channel_deleted'
      and n.workspace = r.workspace and n.channel = r.entity and n.status = 'pending';
    with named as (
        select * from unnest(l.kind, l.workspace, l.entity) with ordinality as r (kind, workspace, entity, ord)
    ), no_policies as (
        delete from policies p using named r
        where r.kind = 'policy.erased' and p.workspace = r.workspace and p.id = r.entity returning r.ord
    ), no_versions as (
        delete from policy_versions v using named r
        where r.kind = 'policy.erased' and v.workspace = r.workspace and v.policy_id = r.entity returning r.ord
    ), no_rules as (
        delete from notification_rules n using named r
        where r.kind = 'notification.rule_deleted' and n.workspace = r.workspace and n.name = r.entity returning r.ord
    ), no_channels as (
        delete from notification_channels c using named r
        where r.kind = 'notification.channel_deleted' and c.workspace = r.workspace and c.name = r.entity returning r.ord
    ), no_credentials as (
        delete from secrets s using named r
        where r.kind = 'credential.deleted' and s.workspace = r.workspace
          and s.name = 'credential/' || r.workspace || '/' || r.entity returning r.ord
    ), no_budgets as (
        delete from budgets b using named r
        where r.kind = 'budget.deleted' and b.workspace = r.workspace and b.id = r.entity returning r.ord
    ), done as (
        select ord from no_budgets union select ord from no_policies union select ord from no_versions union select ord from no_rules
        union select ord from no_channels union select ord from no_credentials
    )
    select array_agg(d.ord is not null order by r.ord) into v_done from named r left join done d using (ord);
    perform log_append(p_region, p_epoch, v_done, l);
    return v_done;
end $$;

-- Deletes what is written of the violations that the row lists. What was counted stays. Returns of how many there was something.
create function erase_violations(p_region text, p_epoch bigint, l log_rows) returns integer language plpgsql as $$
declare
    v_erased integer;
begin
    perform region_lock(p_region);
    update policy_violations v set policy_name = '', description = '', resolution_notes = '', revision = v.revision + 1
    where v.id = any (listed_ids(l.data[1]::json, 'violation_ids')) and v.workspace = l.workspace[1]
      and (v.policy_name, v.description, v.resolution_notes) <> ('', '', '');
    get diagnostics v_erased = row_count;
    if v_erased > 0 then
        perform log_append(p_region, p_epoch, array[true], l);
    end if;
    return v_erased;
end $$;

-- As before (0031). The words of runs that another region's retention took go too, and of a workspace that was erased what each
-- region keeps for itself.
create or replace function follow_erasures(p_after bigint) returns void language sql as $$
    update log l set private = null from log e
    where e.seq > p_after and e.kind in ('task.erased', 'deliberation.erased', 'outcome.erased')
      and l.entity = e.entity and l.workspace = e.workspace and l.private is not null;
    update log l set private = null from log e
    where e.seq > p_after and e.kind = 'erasure.words'
      and l.seq > (e.data ->> 'after')::bigint and l.seq <= (e.data ->> 'through')::bigint
      and l.workspace = e.workspace and l.private is not null;
    select forget_words(e.workspace, listed_ids(e.data, case e.kind
        when 'retention.tasks_removed' then 'task_ids' when 'retention.runs_removed' then 'run_ids' else 'request_ids' end))
    from log e
    where e.seq > p_after and e.kind in ('retention.tasks_removed', 'retention.deliberations_removed', 'retention.runs_removed');
    select forget_chunks(coalesce((
        select array_agg(i.id) from (
            select e.entity as id from log e where e.seq > p_after and e.kind = 'task.erased'
            union all
            select unnest(listed_ids(e.data, 'task_ids')) from log e
            where e.seq > p_after and e.kind = 'retention.tasks_removed'
        ) i), '{}'));
    delete from secrets s using log e
    where e.seq > p_after and e.kind = 'erasure.completed' and e.data ->> 'scope' = 'workspace' and s.workspace = e.workspace;
    delete from notifications n using log e
    where e.seq > p_after and e.kind = 'erasure.completed' and e.data ->> 'scope' = 'workspace' and n.workspace = e.workspace;
    select forget_answers(e.workspace, null), forget_probes(e.workspace) from log e
    where e.seq > p_after and e.kind = 'erasure.completed' and e.data ->> 'scope' = 'workspace';
$$;

-- As before (0005), and with the payload goes what was reported of the task, and what people were asked and answered.
create or replace function purge_tasks(
    p_region text, p_epoch bigint, p_now double precision, p_workspace text, l log_rows
) returns integer language plpgsql as $$
declare
    r_id text[] := l.entity;
    v_done text[];
begin
    with purged as (
        update tasks t set purged_at = p_now, payload = 'null'
        from (select * from unnest(r_id) as r (id) order by r.id) r
        where t.id = r.id and t.workspace = p_workspace and t.purged_at is null
          and t.status_detail in ('dead_lettered', 'timeout')
        returning t.id
    )
    select array(select id from purged) into v_done;
    delete from task_progress where task_id = any (v_done);
    delete from task_questions where task_id = any (v_done);
    perform log_append(
        p_region, p_epoch,
        array(select r.id = any (v_done) from unnest(r_id) with ordinality as r (id, ord) order by r.ord),
        l);
    return coalesce(array_length(v_done, 1), 0);
end $$;
