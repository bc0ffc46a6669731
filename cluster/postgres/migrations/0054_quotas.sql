-- Quotas: how much of the system a workspace may use. It has a row from the first change on; null: that is not bounded.
create table quotas (
    workspace          text primary key,
    agents             integer,
    queued_tasks       integer,
    running_tasks      integer,
    submits_per_minute integer,
    version            integer not null,
    changed_at         double precision not null,
    changed_by         text not null
);

-- Stores the next version of a workspace's quotas; returns whether the one before was still the newest.
create function put_quotas(p_region text, p_epoch bigint, p_quotas text, l log_rows)
returns boolean language plpgsql as $$
declare
    v_new quotas := json_populate_record(null::quotas, p_quotas::json);
begin
    perform region_lock(p_region);
    if v_new.version = 1 then
        insert into quotas select v_new.* on conflict do nothing;
    else
        update quotas q set
            agents = v_new.agents, queued_tasks = v_new.queued_tasks, running_tasks = v_new.running_tasks,
            submits_per_minute = v_new.submits_per_minute, version = v_new.version, changed_at = v_new.changed_at,
            changed_by = v_new.changed_by
        where q.workspace = v_new.workspace and q.version = v_new.version - 1;
    end if;
    if not found then
        return false;
    end if;
    perform log_append(p_region, p_epoch, array[true], l);
    return true;
end $$;

-- Makes the commits that a quota of these workspaces bounds wait for each other, so that each counts what the others have stored.
-- Commits take it before the region's lock and in one order. Locks of two numbers are never those of one, as the region's is.
create function quota_lock(p_workspaces text[]) returns void language plpgsql as $$
declare
    v_lock integer;
begin
    for v_lock in
        select distinct hashtext(current_schema() || ':quota:' || w) from unnest(p_workspaces) w order by 1
    loop
        perform pg_advisory_xact_lock(54, v_lock);
    end loop;
end $$;

-- As submit_asking_tasks, for tasks of workspaces that may have a quota on tasks that wait. What does not fit is not stored, and
-- its key stays free: most and waiting are then the quota and how many wait, up to it. p_all_or_none: all of the call are refused
-- if one is. Repeats are not new, so they count nothing. It seldom happens that only some fit, which are then stored one by one.
create function submit_within_quotas(
    p_region text, p_epoch bigint, p_now double precision, p_all_or_none boolean,
    t_shard smallint[], t_queue text[], t_task_type text[], t_priority smallint[], t_detail text[], t_max_retries integer[],
    t_timeout_s double precision[], t_run_at double precision[], t_target_agent text[], t_target_region text[], t_routing
    text[], t_origin text[], t_fallback text[], t_required text[], t_payload text[], t_metadata text[], t_rules text[],
    i_route text[], i_key text[], i_digest bytea[], l log_rows,
    t_question text[]
) returns table (task_id text, seq bigint, replayed boolean, conflict boolean, most integer, waiting integer)
language plpgsql set enable_seqscan = off as $$
#variable_conflict use_column
declare
    v_fits boolean[];
    v_most integer[];
    v_waiting integer[];
begin
    perform quota_lock(l.workspace);
    with room as materialized (
        select q.workspace, q.queued_tasks as most, c.waiting::integer
        from quotas q cross join lateral (
            select count(*) as waiting from (
                select from tasks t where t.workspace = q.workspace and t.status = 'pending' limit q.queued_tasks
            ) w
        ) c
        where q.workspace = any (l.workspace) and q.queued_tasks is not null
    ), items as (
        select i.ord, i.workspace, i.route, i.key,
               s.key is null
               and (i.key is null or row_number() over (partition by i.workspace, i.route, i.key order by i.ord) = 1) as fresh
        from unnest(l.workspace, i_route, i_key) with ordinality as i (workspace, route, key, ord)
        left join idempotency s on s.workspace = i.workspace and s.route = i.route and s.key = i.key
    ), counted as (
        select i.*, r.most, r.waiting,
               r.most is null or not i.fresh
               or r.waiting + count(*) filter (where i.fresh) over (partition by i.workspace order by i.ord) <= r.most as fits
        from items i left join room r on r.workspace = i.workspace
    ), fated as (
        select ord, most, waiting,
               case when key is null then fits
                    else first_value(fits) over (partition by workspace, route, key order by ord) end as fits
        from counted
    )
    select array_agg(fits order by ord), array_agg(most order by ord), array_agg(waiting order by ord)
    into v_fits, v_most, v_waiting from fated;
    if true = all (v_fits) then
        return query
            select s.*, null::integer, null::integer from submit_asking_tasks(
                p_region, p_epoch, p_now, p_all_or_none,
                t_shard, t_queue, t_task_type, t_priority, t_detail, t_max_retries, t_timeout_s, t_run_at,
                t_target_agent, t_target_region, t_routing, t_origin, t_fallback, t_required, t_payload, t_metadata,
                t_rules, i_route, i_key, i_digest, l, t_question) s;
        return;
    end if;
    for n in 1 .. cardinality(v_fits) loop
        if p_all_or_none or not v_fits[n] then
            return query select l.entity[n], null::bigint, false, false, v_most[n], v_waiting[n];
        else
            return query
                select s.*, null::integer, null::integer from submit_asking_tasks(
                    p_region, p_epoch, p_now, false,
                    array[t_shard[n]], array[t_queue[n]], array[t_task_type[n]], array[t_priority[n]],
                    array[t_detail[n]], array[t_max_retries[n]], array[t_timeout_s[n]], array[t_run_at[n]],
                    array[t_target_agent[n]], array[t_target_region[n]], array[t_routing[n]], array[t_origin[n]],
                    array[t_fallback[n]], array[t_required[n]], array[t_payload[n]], array[t_metadata[n]],
                    array[t_rules[n]], array[i_route[n]], array[i_key[n]], array[i_digest[n]],
                    row(l.v, array[l.at[n]], array[l.workspace[n]], array[l.kind[n]], array[l.entity[n]],
                        array[l.attempt[n]], array[l.principal[n]], array[l.cause[n]], array[l.data[n]],
                        array[l.private[n]], array[l.private_digest[n]], array[l.digest[n]]
                    )::log_rows, array[t_question[n]]) s;
        end if;
    end loop;
end $$;

-- As register_agents, for agents of one workspace that may have a quota on agents: if not all of them fit, none is stored, and
-- most and agents are the quota and how many there are, up to it. Agents that are registered again are not new.
create function register_within_quotas(
    p_region text, p_epoch bigint, p_now double precision,
    a_capabilities text[], a_model text[], a_provider text[], a_metadata text[], a_tags text[], a_region_id text[],
    a_available text[], a_transport text[], a_endpoint text[], a_max_concurrency integer[], a_options text[],
    a_dedicated text[], a_credential text[], i_route text[], i_key text[], i_digest bytea[], l log_rows
) returns table (seq bigint, created boolean, conflict boolean, most integer, agents integer) language plpgsql as $$
#variable_conflict use_column
declare
    v_workspace text := l.workspace[1];
    v_most integer;
    v_agents integer;
    v_new integer;
begin
    perform quota_lock(l.workspace);
    select q.agents into v_most from quotas q where q.workspace = v_workspace and q.agents is not null;
    if found then
        select count(*) into v_agents from (
            select from agents a where a.workspace = v_workspace limit v_most
        ) a;
        select count(*) into v_new from unnest(l.entity, i_route, i_key) as i (agent_id, route, key)
        where not exists (select from agents a where a.workspace = v_workspace and a.agent_id = i.agent_id)
          and not exists (
              select from idempotency s where s.workspace = v_workspace and s.route = i.route and s.key = i.key);
        if v_new > 0 and v_agents + v_new > v_most then
            return query select null::bigint, false, false, v_most, v_agents from unnest(l.entity);
            return;
        end if;
    end if;
    return query
        select r.*, null::integer, null::integer from register_agents(
            p_region, p_epoch, p_now,
            a_capabilities, a_model, a_provider, a_metadata, a_tags, a_region_id, a_available, a_transport,
            a_endpoint, a_max_concurrency, a_options, a_dedicated, a_credential, i_route, i_key, i_digest, l) r;
end $$;
