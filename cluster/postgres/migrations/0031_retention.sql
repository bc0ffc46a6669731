-- Retention: tasks and deliberations that ended long ago go, in small commits. What is left of each is a stub, so that its id has an answer
-- and whoever waits for it learns how it ended. Rows of the log stay, without words.

create table task_stubs (
    id              text primary key,
    workspace       text not null,
    status          text not null,
    created_at      double precision not null,
    completed_at    double precision not null,
    removed_at      double precision not null
);

create table deliberation_stubs (
    id              text primary key,
    workspace       text not null,
    status          text not null,
    created_at      double precision not null,
    completed_at    double precision not null,
    removed_at      double precision not null
);

-- Open tasks that come after others, which stay for them. Most tasks come after none and have no entry.
create index tasks_after on tasks (workspace) where status in ('pending', 'running') and (rules -> 'after') is not null;

-- A workspace's own rule (null: the deployment's), and when somebody asked for a run that need not wait for the next pass.
create table retention (
    workspace       text primary key,
    rule            json,
    requested_at    double precision
);

-- The last pass over a workspace in this region, and the request that it answered.
create table retention_passes (
    workspace       text primary key,
    ended_at        double precision not null,
    requested_at    double precision,
    tasks           bigint not null,
    deliberations   bigint not null
);

-- The ids of a list in a row's data. The functions below read them from there, so that a row and its commit cannot disagree.
create function listed_ids(p_data json, p_name text) returns text[] language sql immutable as $$
    select array(select json_array_elements_text(p_data -> p_name))
$$;

-- Removes the tasks that the row lists, but for those that have not ended, and returns how many that were. `workspace || ''`: they are
-- found by their ids, not by an index of the workspace's tasks.
create function remove_tasks(p_region text, p_epoch bigint, l log_rows) returns integer language plpgsql as $$
declare
    v_listed text[] := listed_ids(l.data[1]::json, 'task_ids');
    v_done text[];
begin
    with ended as materialized (
        select t.id from tasks t
        where t.id = any (v_listed) and t.workspace || '' = l.workspace[1] and t.status not in ('pending', 'running')
        order by t.id for update
    ), removed as (
        delete from tasks t using ended e where t.id = e.id
        returning t.id, t.workspace, t.status, t.created_at, t.completed_at
    ), kept as (
        insert into task_stubs (id, workspace, status, created_at, completed_at, removed_at)
        select r.id, r.workspace, r.status, r.created_at, coalesce(r.completed_at, r.created_at), l.at[1] from removed r
        on conflict do nothing
    )
    select coalesce(array_agg(id), '{}') into v_done from removed;
    if v_done = '{}' then
        return 0;
    end if;
    delete from task_progress where task_id = any (v_done);
    perform forget_chunks(v_done);
    perform forget_words(l.workspace[1], v_done);
    perform log_append(p_region, p_epoch, array[true], l);
    return cardinality(v_done);
end $$;

-- The same of deliberations, with their journals.
create function remove_deliberations(p_region text, p_epoch bigint, l log_rows) returns integer language plpgsql as $$
declare
    v_listed text[] := listed_ids(l.data[1]::json, 'request_ids');
    v_done text[];
begin
    with ended as materialized (
        select d.request_id from deliberations d
        where d.request_id = any (v_listed) and d.workspace || '' = l.workspace[1] and d.terminal is not null
        order by d.request_id for update
    ), removed as (
        delete from deliberations d using ended e where d.request_id = e.request_id
        returning d.request_id as id, d.workspace, d.terminal, d.admitted_at, d.completed_at
    ), kept as (
        insert into deliberation_stubs (id, workspace, status, created_at, completed_at, removed_at)
        select r.id, r.workspace, r.terminal, r.admitted_at, coalesce(r.completed_at, r.admitted_at), l.at[1] from removed r
        on conflict do nothing
    )
    select coalesce(array_agg(id), '{}') into v_done from removed;
    if v_done = '{}' then
        return 0;
    end if;
    delete from deliberation_events where request_id = any (v_done);
    perform forget_words(l.workspace[1], v_done);
    perform log_append(p_region, p_epoch, array[true], l);
    return cardinality(v_done);
end $$;

-- Stores a workspace's rule (p_rule, if it is not null) or the request of a run (p_requested_at).
create function put_retention(
    p_region text, p_epoch bigint, p_rule text, p_requested_at double precision, l log_rows
) returns void language plpgsql as $$
begin
    insert into retention as r (workspace, rule, requested_at) values (l.workspace[1], p_rule::json, p_requested_at)
    on conflict (workspace) do update set
        rule = coalesce(excluded.rule, r.rule), requested_at = coalesce(excluded.requested_at, r.requested_at);
    perform log_append(p_region, p_epoch, array[true], l);
end $$;

-- As before (0024), and what another region's retention took goes too.
create or replace function follow_erasures(p_after bigint) returns void language sql as $$
    update log l set private = null from log e
    where e.seq > p_after and e.kind in ('task.erased', 'deliberation.erased', 'outcome.erased')
      and l.entity = e.entity and l.workspace = e.workspace and l.private is not null;
    update log l set private = null from log e
    where e.seq > p_after and e.kind = 'erasure.words'
      and l.seq > (e.data ->> 'after')::bigint and l.seq <= (e.data ->> 'through')::bigint
      and l.workspace = e.workspace and l.private is not null;
    select forget_words(e.workspace, listed_ids(e.data, case e.kind when 'retention.tasks_removed' then 'task_ids' else 'request_ids' end))
    from log e
    where e.seq > p_after and e.kind in ('retention.tasks_removed', 'retention.deliberations_removed');
    select forget_chunks(coalesce((
        select array_agg(i.id) from (
            select e.entity as id from log e where e.seq > p_after and e.kind = 'task.erased'
            union all
            select unnest(listed_ids(e.data, 'task_ids')) from log e
            where e.seq > p_after and e.kind = 'retention.tasks_removed'
        ) i), '{}'));
$$;
