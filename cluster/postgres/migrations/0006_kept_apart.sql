-- What pauses an agent is kept apart: what its operator wants and what it wants itself. ``intent`` and ``intent_by`` stay what
-- follows from both. And a breaker keeps when its agent wants to be called again.

alter table breakers add column retry_at double precision;

-- The function without retry_at stays for processes of the version before, whose breakers have none.
create function save_breakers(
    p_region text, p_epoch bigint,
    b_workspace text[], b_name text[], b_agent_id text[], b_state text[], b_threshold integer[],
    b_reset_s double precision[], b_failures integer[], b_successes integer[], b_last_failure double precision[],
    b_changed_at double precision[], b_retry_at double precision[], l log_rows
) returns void language plpgsql as $$
begin
    insert into breakers as s (
        workspace, name, agent_id, state, threshold, reset_s, failures, successes, last_failure, changed_at, retry_at)
    select * from unnest(
        b_workspace, b_name, b_agent_id, b_state, b_threshold, b_reset_s, b_failures, b_successes, b_last_failure,
        b_changed_at, b_retry_at
    ) as b (
        workspace, name, agent_id, state, threshold, reset_s, failures, successes, last_failure, changed_at, retry_at)
    order by b.workspace, b.name
    on conflict (workspace, name) do update set
        state = excluded.state, threshold = excluded.threshold, reset_s = excluded.reset_s,
        failures = excluded.failures, successes = excluded.successes, last_failure = excluded.last_failure,
        changed_at = excluded.changed_at, retry_at = excluded.retry_at;
    perform log_append(p_region, p_epoch, array(select true from unnest(l.entity)), l);
end $$;

-- What the agent wants itself. The operator's wish is ``intent`` where ``intent_by`` is the operator, else active.
alter table agents add column own_intent text not null default 'active';
update agents set own_intent = intent where intent_by = 'agent';

create type intents as (operator text, own text);

-- What the operator and the agent want after one of them, or nobody, has said something. Each replaces its own wish alone.
create function intents_said(p_intent text, p_intent_by text, p_own text, p_said text, p_by text)
returns intents language sql immutable as $$
    select case when p_said is not null and coalesce(p_by, 'operator') = 'operator' then p_said
                when p_intent_by = 'operator' then p_intent else 'active' end,
           case when p_said is not null and p_by = 'agent' then p_said else p_own end
$$;

-- As before, but an agent that registers again ends its own wish only.
create or replace function register_agents(
    p_region text, p_epoch bigint, p_now double precision,
    a_capabilities text[], a_model text[], a_provider text[], a_metadata text[], a_tags text[], a_region_id text[],
    a_available text[], a_transport text[], a_endpoint text[], a_max_concurrency integer[], a_options text[], a_dedicated text[],
    i_route text[], i_key text[], i_digest bytea[], l log_rows
) returns table (seq bigint, created boolean, conflict boolean) language plpgsql as $$
declare
    a_workspace text[] := l.workspace;
    a_agent_id text[] := l.entity;
    a_principal text[] := l.principal;
    a_at double precision[] := l.at;
    v_conflict boolean[];
    v_new text[];
    v_ok boolean[];
    v_seq bigint[];
begin
    perform idempotency_claim(p_now, a_workspace, i_route, i_key, i_digest, a_agent_id);
    v_conflict := array(
        select coalesce(s.digest <> i.digest, false)
        from unnest(a_workspace, i_route, i_key, i_digest) with ordinality as i (workspace, route, key, digest, ord)
        left join idempotency s using (workspace, route, key)
        order by i.ord
    );
    v_ok := array(select not c from unnest(v_conflict) with ordinality as c (c, ord) order by ord);
    with inserted as (
        insert into agents as a (
            workspace, agent_id, principal, capabilities, model, provider, metadata, tags, region_id,
            available_regions, transport, endpoint, max_concurrency, options, dedicated, intent, liveness,
            health, registered_at, updated_at)
        select n.workspace, n.agent_id, n.principal, n.capabilities::json, n.model, n.provider, n.metadata::json,
               n.tags::json, n.region_id, n.available::json, n.transport, n.endpoint, n.max_concurrency,
               n.options::json, n.dedicated::json, 'active',
               case when n.transport in ('pull', 'import') then 'alive' else 'starting' end,
               'unknown', n.at, n.at
        from unnest(
            v_ok, a_workspace, a_agent_id, a_principal, a_capabilities, a_model, a_provider, a_metadata, a_tags,
            a_region_id, a_available, a_transport, a_endpoint, a_max_concurrency, a_options, a_dedicated, a_at
        ) as n (
            ok, workspace, agent_id, principal, capabilities, model, provider, metadata, tags, region_id, available,
            transport, endpoint, max_concurrency, options, dedicated, at
        )
        where n.ok
        order by n.workspace, n.agent_id
        on conflict (workspace, agent_id) do update set
            principal = excluded.principal, capabilities = excluded.capabilities, model = excluded.model,
            provider = excluded.provider, metadata = excluded.metadata, tags = excluded.tags,
            region_id = excluded.region_id, available_regions = excluded.available_regions,
            transport = excluded.transport, endpoint = excluded.endpoint,
            max_concurrency = excluded.max_concurrency, options = excluded.options, dedicated = excluded.dedicated,
            intent = case when a.intent_by = 'agent' then 'active' else a.intent end,
            intent_by = 'operator',
            own_intent = 'active',
            liveness = case
                when excluded.transport in ('pull', 'import') then 'alive'
                when a.endpoint is distinct from excluded.endpoint or a.transport <> excluded.transport then 'starting'
                else a.liveness end,
            health = case when a.endpoint is not distinct from excluded.endpoint then a.health else 'unknown' end,
            updated_at = excluded.updated_at
        returning a.workspace || ':' || a.agent_id as key, xmax = 0 as fresh
    )
    select array(select key from inserted where fresh) into v_new;
    v_seq := log_append(p_region, p_epoch, v_ok, l);
    return query
        select v_seq[i.ord], i.workspace || ':' || i.agent_id = any (v_new), v_conflict[i.ord]
        from unnest(a_workspace, a_agent_id) with ordinality as i (workspace, agent_id, ord)
        order by i.ord;
end $$;

-- As before, but what an agent says of itself is kept beside what its operator says, and comes into force again when the
-- operator resumes the agent.
create or replace function change_agents(
    p_region text, p_epoch bigint,
    c_intent text[], c_intent_by text[], c_liveness text[], c_health text[], l log_rows
) returns boolean[] language plpgsql as $$
declare
    c_workspace text[] := l.workspace;
    c_agent_id text[] := l.entity;
    v_known boolean[];
    v_changed text[];
begin
    with c as (
        select * from unnest(c_workspace, c_agent_id, c_intent, c_intent_by, c_liveness, c_health, l.at)
             as c (workspace, agent_id, intent, intent_by, liveness, health, at)
        order by c.workspace, c.agent_id
    ), changed as (
        update agents a set
            (intent, intent_by, own_intent) = (
                select case when s.operator <> 'active' then s.operator else s.own end,
                       case when s.operator = 'active' and s.own <> 'active' then 'agent' else 'operator' end,
                       s.own
                from intents_said(a.intent, a.intent_by, a.own_intent, c.intent, c.intent_by) as s
            ),
            liveness = coalesce(c.liveness, a.liveness), health = coalesce(c.health, a.health), updated_at = c.at
        from c
        where a.workspace = c.workspace and a.agent_id = c.agent_id
          and (coalesce(c.liveness, a.liveness), coalesce(c.health, a.health),
               intents_said(a.intent, a.intent_by, a.own_intent, c.intent, c.intent_by))
              is distinct from (a.liveness, a.health,
               intents_said(a.intent, a.intent_by, a.own_intent, null, null))
        returning a.workspace || ':' || a.agent_id as key
    )
    select array(select key from changed) into v_changed;
    v_known := array(
        select a.agent_id is not null
        from unnest(c_workspace, c_agent_id) with ordinality as i (workspace, agent_id, ord)
        left join agents a using (workspace, agent_id)
        order by i.ord
    );
    perform log_append(
        p_region, p_epoch,
        array(
            select i.workspace || ':' || i.agent_id = any (v_changed)
            from unnest(c_workspace, c_agent_id) with ordinality as i (workspace, agent_id, ord) order by i.ord
        ),
        l);
    return v_known;
end $$;
