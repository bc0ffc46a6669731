-- Tables of one region, and the functions of its commit protocol. Names are relative to the schema of the search path.
-- Times are epoch seconds as double precision, so that a value comes back as it was sent.
--
-- The commit protocol: one call of one function per batch. It changes rows in id order, then, as its last step, takes
-- the region's advisory lock, checks the epoch, and numbers its log rows from max(seq). The lock is held until the
-- commit, so sequence order is commit order, without gaps.

create table region_state (
    region      text primary key,
    epoch       bigint not null,
    leader      text,
    raised_at   timestamptz not null default now()
);

create table log (
    seq         bigint primary key,
    at          double precision not null,
    workspace   text not null,
    kind        text not null,
    entity      text not null,
    attempt     integer,
    principal   text not null,
    data        json not null,
    digest      bytea not null
);
create index log_entity on log (entity, seq);

create table shards (
    shard       text primary key,
    generation  bigint not null,
    owner       text not null,
    taken_at    timestamptz not null default now()
);

create table idempotency (
    workspace   text not null,
    route       text not null,
    key         text not null,
    digest      bytea not null,
    answer      text not null,
    created_at  double precision not null,
    primary key (workspace, route, key)
);
create index idempotency_age on idempotency (created_at);

create table tasks (
    id                      text primary key,
    workspace               text not null,
    shard                   smallint not null,
    queue                   text not null,
    task_type               text not null,
    priority                smallint not null,
    status                  text not null,
    status_detail           text not null,
    attempt                 integer not null,
    retries                 integer not null,
    max_retries             integer not null,
    timeout_s               double precision not null,
    created_at              double precision not null,
    run_at                  double precision not null,
    started_at              double precision,
    completed_at            double precision,
    assigned_agent          text,
    claim_id                text,
    holder                  text,
    principal               text not null,
    target_agent            text,
    target_region           text,
    region_routing_mode     text not null,
    origin_region           text not null,
    fallback_regions        json not null,
    required_capabilities   json not null,
    payload                 json not null,
    metadata                json not null,
    rules                   json,
    result                  json,
    error                   text,
    replayed_as             text,
    purged_at               double precision
) with (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
create index tasks_open on tasks (created_at, id) where status in ('pending', 'running');
create index tasks_page on tasks (workspace, created_at desc, id desc);
create index tasks_running on tasks (workspace, assigned_agent) where status = 'running';
create index tasks_dead on tasks (workspace, completed_at desc, id desc)
    where status_detail in ('dead_lettered', 'timeout') and purged_at is null;
-- Tasks end in about the order in which their rows lie, so block ranges find the recent ones, at no cost per write.
create index tasks_ended on tasks using brin (completed_at) with (pages_per_range = 16, autosummarize = on);

-- What operators set for a queue, a task type or a tenant. seq is the log row that says so.
create table controls (
    workspace   text not null,
    kind        text not null,
    name        text not null,
    paused      boolean not null,
    rate_per_s  double precision,
    burst       integer not null,
    weight      double precision not null,
    seq         bigint not null,
    changed_at  double precision not null,
    principal   text not null,
    primary key (workspace, kind, name)
);

create table agents (
    workspace           text not null,
    agent_id            text not null,
    principal           text not null,
    capabilities        json not null,
    model               text not null,
    provider            text not null,
    metadata            json not null,
    tags                json not null,
    region_id           text not null,
    available_regions   json not null,
    transport           text not null,
    endpoint            text,
    max_concurrency     integer not null,
    options             json not null,
    intent              text not null,
    intent_by           text not null default 'operator',
    liveness            text not null,
    health              text not null,
    registered_at       double precision not null,
    updated_at          double precision not null,
    last_seen_at        double precision,
    tasks_completed     bigint not null default 0,
    tasks_failed        bigint not null default 0,
    latency_ms_sum      double precision not null default 0,
    -- What the agent's own actor declares to Ray; null for agents that hosts carry.
    dedicated           json,
    primary key (workspace, agent_id)
);
create index agents_dedicated on agents (workspace, agent_id) where dedicated is not null;

-- What a breaker and a probe remember over restarts. The workspace of a dependency's breaker is empty.
create table breakers (
    workspace       text not null,
    name            text not null,
    agent_id        text,
    state           text not null,
    threshold       integer not null,
    reset_s         double precision not null,
    failures        integer not null,
    successes       integer not null,
    last_failure    double precision,
    changed_at      double precision not null,
    primary key (workspace, name)
);

create table agent_probes (
    workspace   text not null,
    agent_id    text not null,
    health      text not null,
    failures    integer not null,
    successes   integer not null,
    latency_s   double precision,
    error       text,
    at          double precision,
    primary key (workspace, agent_id)
);

create table deliberations (
    request_id          text primary key,
    task_id             text not null,
    workspace           text not null,
    principal           text not null,
    admitted_at         double precision not null,
    deadline_at         double precision not null,
    contract            json not null,
    contract_digest     bytea not null,
    mode                text not null,
    state               text not null,
    terminal            text,
    result              json,
    completed_at        double precision,
    owner               text,
    fence               bigint not null default 0,
    events              integer not null default 0,
    cancel_requested    boolean not null default false
);
create index deliberations_open on deliberations (admitted_at) where terminal is null;
create index deliberations_page on deliberations (workspace, admitted_at desc, request_id desc);

create table deliberation_events (
    request_id  text not null,
    n           integer not null,
    at          double precision not null,
    kind        text not null,
    data        json not null,
    primary key (request_id, n)
);

create table leases (
    name    text primary key,
    holder  text not null,
    fence   bigint not null,
    until   timestamptz not null
);

create table telemetry (
    name        text primary key,
    cursor      bigint not null,
    snapshot    json not null
);

create table actor_names (
    role        text primary key,
    name        text not null,
    fingerprint text not null
);

-- The region's lock: commits and everything that must not run beside one take it, as their last lock.
create function region_lock(p_region text) returns void language sql as $$
    select pg_advisory_xact_lock(hashtextextended(current_schema() || ':' || p_region, 0))
$$;

-- Last step of every commit. Rows whose p_ok is true get the next numbers, in order; answers one number per row.
create function log_append(
    p_region text, p_epoch bigint, p_ok boolean[],
    l_at double precision[], l_workspace text[], l_kind text[], l_entity text[], l_attempt integer[],
    l_principal text[], l_data text[], l_digest bytea[]
) returns bigint[] language plpgsql as $$
declare
    v_epoch bigint;
    v_last bigint;
begin
    perform region_lock(p_region);
    select epoch into v_epoch from region_state where region = p_region;
    if v_epoch is distinct from p_epoch then
        raise exception 'epoch % was replaced by %', p_epoch, v_epoch using errcode = 'AG001';
    end if;
    select coalesce(max(seq), 0) into v_last from log;
    insert into log (seq, at, workspace, kind, entity, attempt, principal, data, digest)
    select v_last + row_number() over (order by r.ord),
           r.at, r.workspace, r.kind, r.entity, r.attempt, r.principal, r.data::json, r.digest
    from unnest(p_ok, l_at, l_workspace, l_kind, l_entity, l_attempt, l_principal, l_data, l_digest)
         with ordinality as r (ok, at, workspace, kind, entity, attempt, principal, data, digest, ord)
    where r.ok;
    return array(
        select case when o.ok then v_last + count(*) filter (where o.ok) over (order by o.ord) end
        from unnest(p_ok) with ordinality as o (ok, ord) order by o.ord
    );
end $$;

-- Claims keys for the items that have one. True where the item may be applied: no key, or the key is new (its answer
-- is this item's). A key that another transaction is writing is waited for. Keys are taken in order.
create function idempotency_claim(
    p_now double precision, i_workspace text[], i_route text[], i_key text[], i_digest bytea[], i_answer text[]
) returns boolean[] language plpgsql as $$
begin
    if array_position(array(select k is null from unnest(i_key) k), false) is null then
        return array(select true from unnest(i_answer));
    end if;
    insert into idempotency (workspace, route, key, digest, answer, created_at)
    select i.workspace, i.route, i.key, i.digest, i.answer, p_now
    from unnest(i_workspace, i_route, i_key, i_digest, i_answer)
         with ordinality as i (workspace, route, key, digest, answer, ord)
    where i.key is not null
    order by i.workspace, i.route, i.key, i.ord
    on conflict do nothing;
    return array(
        select i.key is null or s.answer = i.answer
        from unnest(i_workspace, i_route, i_key, i_answer) with ordinality as i (workspace, route, key, answer, ord)
        left join idempotency s using (workspace, route, key)
        order by i.ord
    );
end $$;

-- Submits tasks. A replayed key answers the first task; another body under it is a conflict and changes nothing.
create function submit_tasks(
    p_region text, p_epoch bigint, p_now double precision, p_all_or_none boolean,
    t_id text[], t_workspace text[], t_shard smallint[], t_queue text[], t_task_type text[], t_priority smallint[],
    t_detail text[], t_max_retries integer[], t_timeout_s double precision[], t_created_at double precision[],
    t_run_at double precision[], t_principal text[], t_target_agent text[], t_target_region text[],
    t_routing text[], t_origin text[], t_fallback text[], t_required text[], t_payload text[], t_metadata text[], t_rules text[],
    i_route text[], i_key text[], i_digest bytea[],
    l_at double precision[], l_kind text[], l_attempt integer[], l_data text[], l_digest bytea[]
) returns table (task_id text, seq bigint, replayed boolean, conflict boolean) language plpgsql as $$
declare
    v_ok boolean[];
    v_seq bigint[];
begin
    v_ok := idempotency_claim(p_now, t_workspace, i_route, i_key, i_digest, t_id);
    if p_all_or_none and exists (
        select 1 from unnest(t_workspace, i_route, i_key, i_digest) as i (workspace, route, key, digest)
        join idempotency s using (workspace, route, key) where s.digest <> i.digest
    ) then
        raise exception 'idempotency conflict' using errcode = 'AG003';
    end if;
    insert into tasks (
        id, workspace, shard, queue, task_type, priority, status, status_detail, attempt, retries, max_retries,
        timeout_s, created_at, run_at, principal, target_agent, target_region, region_routing_mode, origin_region,
        fallback_regions, required_capabilities, payload, metadata, rules)
    select t.id, t.workspace, t.shard, t.queue, t.task_type, t.priority, 'pending', t.detail, 0, 0, t.max_retries,
           t.timeout_s, t.created_at, t.run_at, t.principal, t.target_agent, t.target_region, t.routing, t.origin,
           t.fallback::json, t.required::json, t.payload::json, t.metadata::json,
           t.rules::json
    from unnest(
        v_ok, t_id, t_workspace, t_shard, t_queue, t_task_type, t_priority, t_detail, t_max_retries, t_timeout_s,
        t_created_at, t_run_at, t_principal, t_target_agent, t_target_region, t_routing, t_origin, t_fallback,
        t_required, t_payload, t_metadata, t_rules
    ) as t (
        ok, id, workspace, shard, queue, task_type, priority, detail, max_retries, timeout_s, created_at, run_at,
        principal, target_agent, target_region, routing, origin, fallback, required, payload, metadata, rules
    )
    where t.ok
    order by t.id;
    v_seq := log_append(
        p_region, p_epoch, v_ok, l_at, t_workspace, l_kind, t_id, l_attempt, t_principal, l_data, l_digest);
    return query
        select coalesce(s.answer, i.id), v_seq[i.ord], not v_ok[i.ord] and s.digest = i.digest,
               not v_ok[i.ord] and s.digest <> i.digest
        from unnest(t_id, t_workspace, i_route, i_key, i_digest)
             with ordinality as i (id, workspace, route, key, digest, ord)
        left join idempotency s on s.workspace = i.workspace and s.route = i.route and s.key = i.key
        order by i.ord;
end $$;

-- Writes a shard's decisions. Each applies only if the row has the expected status and attempt and is not terminal;
-- all of them only if the shard's generation is still the stated one. No task may appear twice in one call.
-- Tasks are found by their key alone, whatever the statistics of a young or fast-growing table say: scanning it looks
-- cheap to the planner when it is small, and stays in the cached plan when it is not.
create function decide_tasks(
    p_region text, p_epoch bigint, p_shard text, p_generation bigint,
    d_id text[], d_expect_status text[], d_expect_attempt integer[],
    d_status text[], d_detail text[], d_attempt integer[], d_retries integer[], d_priority smallint[],
    d_run_at double precision[], d_agent text[], d_claim text[], d_holder text[], d_started double precision[],
    d_completed double precision[], d_result text[], d_error text[], d_want boolean[],
    l_at double precision[], l_workspace text[], l_kind text[], l_attempt integer[], l_principal text[],
    l_data text[], l_digest bytea[]
) returns table (applied boolean, seq bigint, payload text, metadata text) language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    v_done text[];
    v_ok boolean[];
    v_seq bigint[];
begin
    with d as (
        select * from unnest(
            d_id, d_expect_status, d_expect_attempt, d_status, d_detail, d_attempt, d_retries, d_priority, d_run_at,
            d_agent, d_claim, d_holder, d_started, d_completed, d_result, d_error
        ) as d (
            id, expect_status, expect_attempt, status, detail, attempt, retries, priority, run_at,
            agent, claim, holder, started, completed, result, error
        ) order by d.id
    ), changed as (
        update tasks t set
            status = d.status, status_detail = d.detail, attempt = d.attempt, retries = d.retries,
            priority = d.priority, run_at = d.run_at, assigned_agent = d.agent, claim_id = d.claim,
            holder = d.holder, started_at = d.started, completed_at = d.completed,
            result = coalesce(d.result::json, t.result), error = coalesce(d.error, t.error)
        from d
        -- Not t.status: the planner must not be offered the index of open tasks, every entry of which it would read.
        where t.id = d.id and t.status = d.expect_status and t.attempt = d.expect_attempt
          and d.expect_status in ('pending', 'running')
        returning t.id
    )
    select array(select id from changed) into v_done;
    v_ok := array(select i.id = any (v_done) from unnest(d_id) with ordinality as i (id, ord) order by i.ord);
    v_seq := log_append(
        p_region, p_epoch, v_ok, l_at, l_workspace, l_kind, d_id, l_attempt, l_principal, l_data, l_digest);
    -- Under the region's lock, which taking a generation needs too: exact, without a row lock per commit.
    if not exists (select 1 from shards s where s.shard = p_shard and s.generation = p_generation) then
        raise exception 'generation % of % was replaced', p_generation, p_shard using errcode = 'AG002';
    end if;
    return query
        select v_ok[i.ord], v_seq[i.ord], t.payload::text, t.metadata::text
        from unnest(d_id, d_want) with ordinality as i (id, want, ord)
        left join tasks t on i.want and t.id = i.id
        order by i.ord;
end $$;

-- Submits dead tasks again as new ones, once each: answers the id that each was replayed as, now or before, and null
-- where there is no such task. New rows are copies with another id, origin and, where given, payload.
create function replay_tasks(
    p_region text, p_epoch bigint, p_now double precision, p_workspace text,
    r_of text[], r_id text[], r_principal text[], r_payload text[], r_rules text[],
    l_at double precision[], l_kind text[], l_attempt integer[], l_principal text[], l_data text[], l_digest bytea[],
    o_at double precision[], o_kind text[], o_attempt integer[], o_principal text[], o_data text[], o_digest bytea[]
) returns text[] language plpgsql as $$
declare
    v_done text[];
    v_ok boolean[];
    v_workspaces text[] := array(select p_workspace from unnest(r_of));
begin
    with marked as (
        update tasks t set replayed_as = r.id
        from (select * from unnest(r_of, r_id) as r (of, id) order by r.of) r
        where t.id = r.of and t.workspace = p_workspace and t.status in ('failed', 'timeout')
          and t.replayed_as is null and t.purged_at is null
        returning r.id
    )
    select array(select id from marked) into v_done;
    insert into tasks (
        id, workspace, shard, queue, task_type, priority, status, status_detail, attempt, retries, max_retries,
        timeout_s, created_at, run_at, principal, target_agent, target_region, region_routing_mode, origin_region,
        fallback_regions, required_capabilities, payload, metadata, rules)
    select r.id, t.workspace, t.shard, t.queue, t.task_type, t.priority, 'pending', 'queued', 0, 0, t.max_retries,
           t.timeout_s, p_now, p_now, r.principal, t.target_agent, t.target_region, t.region_routing_mode,
           t.origin_region, t.fallback_regions, t.required_capabilities, coalesce(r.payload::json, t.payload),
           t.metadata, r.rules::json
    from unnest(r_of, r_id, r_principal, r_payload, r_rules) as r (of, id, principal, payload, rules)
    join tasks t on t.id = r.of
    where r.id = any (v_done)
    order by r.id;
    v_ok := array(select r.id = any (v_done) from unnest(r_id) with ordinality as r (id, ord) order by r.ord);
    perform log_append(
        p_region, p_epoch, v_ok || v_ok, l_at || o_at, v_workspaces || v_workspaces, l_kind || o_kind, r_id || r_of,
        l_attempt || o_attempt, l_principal || o_principal, l_data || o_data, l_digest || o_digest);
    return array(
        select t.replayed_as from unnest(r_of) with ordinality as r (of, ord)
        left join tasks t on t.id = r.of and t.workspace = p_workspace and t.purged_at is null
        order by r.ord
    );
end $$;

-- Takes dead tasks off the dead letter and throws their payloads away. Answers how many.
create function purge_tasks(
    p_region text, p_epoch bigint, p_now double precision, p_workspace text, r_id text[],
    l_at double precision[], l_kind text[], l_attempt integer[], l_principal text[], l_data text[], l_digest bytea[]
) returns integer language plpgsql as $$
declare
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
    perform log_append(
        p_region, p_epoch,
        array(select r.id = any (v_done) from unnest(r_id) with ordinality as r (id, ord) order by r.ord),
        l_at, array(select p_workspace from unnest(r_id)), l_kind, r_id, l_attempt, l_principal, l_data, l_digest);
    return coalesce(array_length(v_done, 1), 0);
end $$;

-- Stores a setting and logs it; answers the seq of the row that says so, which is an older one if it was so already.
create function put_control(
    p_region text, p_epoch bigint, p_workspace text, p_kind text, p_name text, p_paused boolean,
    p_rate double precision, p_burst integer, p_weight double precision,
    l_at double precision[], l_kind text[], l_entity text[], l_principal text[], l_data text[], l_digest bytea[]
) returns bigint language plpgsql as $$
declare
    v_old controls;
    v_seq bigint[];
begin
    perform region_lock(p_region);
    select * into v_old from controls c where c.workspace = p_workspace and c.kind = p_kind and c.name = p_name;
    if found and (v_old.paused, v_old.rate_per_s, v_old.burst, v_old.weight)
        is not distinct from (p_paused, p_rate, p_burst, p_weight) then
        return v_old.seq;
    end if;
    v_seq := log_append(
        p_region, p_epoch, array[true], l_at, array[p_workspace], l_kind, l_entity, array[null::integer], l_principal,
        l_data, l_digest);
    insert into controls as c
    values (p_workspace, p_kind, p_name, p_paused, p_rate, p_burst, p_weight, v_seq[1], l_at[1], l_principal[1])
    on conflict (workspace, kind, name) do update set
        paused = excluded.paused, rate_per_s = excluded.rate_per_s, burst = excluded.burst, weight = excluded.weight,
        seq = excluded.seq, changed_at = excluded.changed_at, principal = excluded.principal;
    return v_seq[1];
end $$;

create function take_generation(p_region text, p_shard text, p_owner text) returns bigint language plpgsql as $$
declare
    v_generation bigint;
begin
    perform region_lock(p_region);
    insert into shards (shard, generation, owner) values (p_shard, 1, p_owner)
    on conflict (shard) do update
        set generation = shards.generation + 1, owner = excluded.owner, taken_at = now()
    returning generation into v_generation;
    return v_generation;
end $$;

-- Registers agents: replaces what a registration describes, keeps counters and intent, revives.
-- No agent may appear twice in one call.
create function register_agents(
    p_region text, p_epoch bigint, p_now double precision,
    a_workspace text[], a_agent_id text[], a_principal text[], a_capabilities text[], a_model text[],
    a_provider text[], a_metadata text[], a_tags text[], a_region_id text[], a_available text[], a_transport text[],
    a_endpoint text[], a_max_concurrency integer[], a_options text[], a_dedicated text[], a_at double precision[],
    i_route text[], i_key text[], i_digest bytea[],
    l_kind text[], l_data text[], l_digest bytea[]
) returns table (seq bigint, created boolean, conflict boolean) language plpgsql as $$
declare
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
            liveness = case
                when excluded.transport in ('pull', 'import') then 'alive'
                when a.endpoint is distinct from excluded.endpoint or a.transport <> excluded.transport then 'starting'
                else a.liveness end,
            health = case when a.endpoint is not distinct from excluded.endpoint then a.health else 'unknown' end,
            updated_at = excluded.updated_at
        returning a.workspace || ':' || a.agent_id as key, xmax = 0 as fresh
    )
    select array(select key from inserted where fresh) into v_new;
    v_seq := log_append(
        p_region, p_epoch, v_ok, a_at, a_workspace, l_kind, a_agent_id,
        array(select null::integer from unnest(a_agent_id)), a_principal, l_data, l_digest);
    return query
        select v_seq[i.ord], i.workspace || ':' || i.agent_id = any (v_new), v_conflict[i.ord]
        from unnest(a_workspace, a_agent_id) with ordinality as i (workspace, agent_id, ord)
        order by i.ord;
end $$;

-- Sets the given facts of agents; logs only real changes. Answers whether each agent exists.
create function change_agents(
    p_region text, p_epoch bigint,
    c_workspace text[], c_agent_id text[], c_intent text[], c_intent_by text[], c_liveness text[], c_health text[],
    l_at double precision[], l_kind text[], l_principal text[], l_data text[], l_digest bytea[]
) returns boolean[] language plpgsql as $$
declare
    v_known boolean[];
    v_changed text[];
begin
    with c as (
        select * from unnest(c_workspace, c_agent_id, c_intent, c_intent_by, c_liveness, c_health, l_at)
             as c (workspace, agent_id, intent, intent_by, liveness, health, at)
        order by c.workspace, c.agent_id
    ), changed as (
        update agents a set
            intent = coalesce(c.intent, a.intent), liveness = coalesce(c.liveness, a.liveness),
            health = coalesce(c.health, a.health), intent_by = coalesce(c.intent_by, a.intent_by), updated_at = c.at
        from c
        where a.workspace = c.workspace and a.agent_id = c.agent_id
          and (coalesce(c.intent, a.intent), coalesce(c.liveness, a.liveness), coalesce(c.health, a.health))
              is distinct from (a.intent, a.liveness, a.health)
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
        l_at, c_workspace, l_kind, c_agent_id, array(select null::integer from unnest(c_agent_id)),
        l_principal, l_data, l_digest);
    return v_known;
end $$;

create function remove_agents(
    p_region text, p_epoch bigint, r_workspace text[], r_agent_id text[],
    l_at double precision[], l_kind text[], l_principal text[], l_data text[], l_digest bytea[],
    i_route text[], i_key text[], i_digest bytea[]
) returns boolean[] language plpgsql as $$
declare
    v_new boolean[];
    v_removed text[];
    v_ok boolean[];
begin
    -- An answer that no other call has: a repeat finds the first call's, and removes nothing.
    v_new := idempotency_claim(
        l_at[1], r_workspace, i_route, i_key, i_digest, array(select gen_random_uuid()::text from unnest(r_agent_id)));
    with removed as (
        delete from agents a using unnest(v_new, r_workspace, r_agent_id) as r (new, workspace, agent_id)
        where r.new and a.workspace = r.workspace and a.agent_id = r.agent_id
        returning a.workspace || ':' || a.agent_id as key
    )
    select array(select key from removed) into v_removed;
    delete from breakers b where b.workspace || ':' || b.agent_id = any (v_removed);
    delete from agent_probes p where p.workspace || ':' || p.agent_id = any (v_removed);
    v_ok := array(
        select i.workspace || ':' || i.agent_id = any (v_removed)
        from unnest(r_workspace, r_agent_id) with ordinality as i (workspace, agent_id, ord) order by i.ord
    );
    -- Only a removal is remembered: a refused call leaves its key free.
    delete from idempotency s
    using unnest(v_new, v_ok, r_workspace, i_route, i_key) as i (new, ok, workspace, route, key)
    where i.new and not i.ok and s.workspace = i.workspace and s.route = i.route and s.key = i.key;
    perform log_append(
        p_region, p_epoch, v_ok, l_at, r_workspace, l_kind, r_agent_id,
        array(select null::integer from unnest(r_agent_id)), l_principal, l_data, l_digest);
    return array(select ok or not new from unnest(v_ok, v_new) with ordinality as o (ok, new, ord) order by ord);
end $$;

create function save_breakers(
    p_region text, p_epoch bigint,
    b_workspace text[], b_name text[], b_agent_id text[], b_state text[], b_threshold integer[],
    b_reset_s double precision[], b_failures integer[], b_successes integer[], b_last_failure double precision[],
    b_changed_at double precision[],
    l_at double precision[], l_workspace text[], l_kind text[], l_entity text[], l_principal text[], l_data text[],
    l_digest bytea[]
) returns void language plpgsql as $$
begin
    insert into breakers as s (
        workspace, name, agent_id, state, threshold, reset_s, failures, successes, last_failure, changed_at)
    select * from unnest(
        b_workspace, b_name, b_agent_id, b_state, b_threshold, b_reset_s, b_failures, b_successes, b_last_failure,
        b_changed_at
    ) as b (workspace, name, agent_id, state, threshold, reset_s, failures, successes, last_failure, changed_at)
    order by b.workspace, b.name
    on conflict (workspace, name) do update set
        state = excluded.state, threshold = excluded.threshold, reset_s = excluded.reset_s,
        failures = excluded.failures, successes = excluded.successes, last_failure = excluded.last_failure,
        changed_at = excluded.changed_at;
    perform log_append(
        p_region, p_epoch, array(select true from unnest(l_entity)), l_at, l_workspace, l_kind, l_entity,
        array(select null::integer from unnest(l_entity)), l_principal, l_data, l_digest);
end $$;

-- Admits deliberations: one per request id, one per idempotency key. A soft key (made from the body because the
-- caller sent none) is forgotten once its deliberation has been over for p_soft_s.
create function admit_deliberations(
    p_region text, p_epoch bigint, p_now double precision, p_soft_s double precision,
    d_request_id text[], d_task_id text[], d_workspace text[], d_principal text[], d_admitted_at double precision[],
    d_deadline_at double precision[], d_contract text[], d_contract_digest bytea[], d_mode text[],
    i_route text[], i_key text[], i_digest bytea[],
    l_kind text[], l_data text[], l_digest bytea[]
) returns table (request_id text, seq bigint, replayed boolean, conflict boolean) language plpgsql as $$
declare
    v_ok boolean[];
    v_new text[];
    v_seq bigint[];
begin
    delete from idempotency s
    using unnest(d_workspace, i_route, i_key) as i (workspace, route, key), deliberations d
    where s.workspace = i.workspace and s.route = i.route and s.key = i.key and s.route = 'deliberations:body'
      and d.request_id = s.answer and d.completed_at < p_now - p_soft_s;
    v_ok := idempotency_claim(p_now, d_workspace, i_route, i_key, i_digest, d_request_id);
    with inserted as (
        insert into deliberations (
            request_id, task_id, workspace, principal, admitted_at, deadline_at, contract, contract_digest, mode,
            state)
        select d.request_id, d.task_id, d.workspace, d.principal, d.admitted_at, d.deadline_at, d.contract::json,
               d.contract_digest, d.mode, 'ADMITTED'
        from unnest(
            v_ok, d_request_id, d_task_id, d_workspace, d_principal, d_admitted_at, d_deadline_at, d_contract,
            d_contract_digest, d_mode
        ) as d (
            ok, request_id, task_id, workspace, principal, admitted_at, deadline_at, contract, contract_digest, mode
        )
        where d.ok
        order by d.request_id
        on conflict do nothing
        returning deliberations.task_id
    )
    select array(select i.task_id from inserted i) into v_new;
    v_seq := log_append(
        p_region, p_epoch,
        array(select t = any (v_new) from unnest(d_task_id) with ordinality as t (t, ord) order by ord),
        d_admitted_at, d_workspace, l_kind, d_request_id, array(select null::integer from unnest(d_request_id)),
        d_principal, l_data, l_digest);
    return query
        select coalesce(s.answer, i.request_id), v_seq[i.ord],
               not i.task_id = any (v_new)
                   and (case when s.digest is not null then s.digest = i.digest
                        else e.workspace = i.workspace and e.contract_digest = i.contract_digest end),
               not i.task_id = any (v_new)
                   and (case when s.digest is not null then s.digest <> i.digest
                        else e.workspace <> i.workspace or e.contract_digest <> i.contract_digest end)
        from unnest(d_request_id, d_task_id, d_workspace, d_contract_digest, i_route, i_key, i_digest)
             with ordinality as i (request_id, task_id, workspace, contract_digest, route, key, digest, ord)
        left join idempotency s on s.workspace = i.workspace and s.route = i.route and s.key = i.key
        left join deliberations e on e.request_id = i.request_id
        order by i.ord;
end $$;

-- Appends journal events under workers' fences. An item whose fence was replaced, or that does not continue its
-- journal, is not applied. No deliberation may appear twice in one call.
create function append_deliberations(
    p_region text, p_epoch bigint,
    a_request_id text[], a_fence bigint[], a_first integer[], a_events integer[], a_state text[], a_terminal text[],
    a_result text[], a_completed_at double precision[],
    e_request_id text[], e_n integer[], e_at double precision[], e_kind text[], e_data text[],
    l_at double precision[], l_workspace text[], l_kind text[], l_entity text[], l_principal text[], l_data text[],
    l_digest bytea[]
) returns boolean[] language plpgsql as $$
declare
    v_done text[];
begin
    with a as (
        select * from unnest(
            a_request_id, a_fence, a_first, a_events, a_state, a_terminal, a_result, a_completed_at
        ) as a (request_id, fence, first, events, state, terminal, result, completed_at)
        order by a.request_id
    ), changed as (
        update deliberations d set
            events = a.first - 1 + a.events, state = coalesce(a.state, d.state),
            terminal = coalesce(a.terminal, d.terminal), result = coalesce(a.result::json, d.result),
            completed_at = coalesce(a.completed_at, d.completed_at)
        from a
        where d.request_id = a.request_id and d.fence = a.fence and d.events = a.first - 1 and d.terminal is null
        returning d.request_id
    )
    select array(select request_id from changed) into v_done;
    insert into deliberation_events (request_id, n, at, kind, data)
    select e.request_id, e.n, e.at, e.kind, e.data::json
    from unnest(e_request_id, e_n, e_at, e_kind, e_data) as e (request_id, n, at, kind, data)
    where e.request_id = any (v_done)
    order by e.request_id, e.n;
    perform log_append(
        p_region, p_epoch,
        array(select l = any (v_done) from unnest(l_entity) with ordinality as l (l, ord) order by ord),
        l_at, l_workspace, l_kind, l_entity, array(select null::integer from unnest(l_entity)), l_principal, l_data,
        l_digest);
    return array(select r = any (v_done) from unnest(a_request_id) with ordinality as r (r, ord) order by ord);
end $$;

create function cancel_deliberation(
    p_region text, p_epoch bigint, p_workspace text, p_request_id text,
    l_at double precision[], l_kind text[], l_principal text[], l_data text[], l_digest bytea[]
) returns boolean language plpgsql as $$
declare
    v_before boolean;
begin
    select d.cancel_requested into v_before from deliberations d
    where d.request_id = p_request_id and d.workspace = p_workspace and d.terminal is null
    for update;
    if not found then
        return false;
    end if;
    update deliberations set cancel_requested = true where request_id = p_request_id;
    perform log_append(
        p_region, p_epoch, array[not v_before], l_at, array[p_workspace], l_kind, array[p_request_id],
        array[null::integer], l_principal, l_data, l_digest);
    return true;
end $$;

-- Raises the region's epoch under the lock of the commit protocol and logs it.
create function raise_epoch(
    p_region text, p_leader text, l_at double precision[], l_workspace text[], l_kind text[], l_principal text[],
    l_data text[], l_digest bytea[]
) returns bigint language plpgsql as $$
declare
    v_epoch bigint;
begin
    perform region_lock(p_region);
    insert into region_state (region, epoch, leader) values (p_region, 1, p_leader)
    on conflict (region) do update set epoch = region_state.epoch + 1, leader = excluded.leader, raised_at = now()
    returning epoch into v_epoch;
    perform log_append(
        p_region, v_epoch, array[true], l_at, l_workspace, l_kind, array[p_region], array[null::integer],
        l_principal, l_data, l_digest);
    return v_epoch;
end $$;

create function acquire_lease(p_name text, p_holder text, p_ttl_s double precision) returns bigint
language sql as $$
    insert into leases as l (name, holder, fence, until)
    values (p_name, p_holder, 1, clock_timestamp() + make_interval(secs => p_ttl_s))
    on conflict (name) do update set
        fence = l.fence + case when l.holder = excluded.holder and l.until > clock_timestamp() then 0 else 1 end,
        holder = excluded.holder, until = excluded.until
    where l.holder = excluded.holder or l.until <= clock_timestamp()
    returning fence
$$;

-- Saves a follower's snapshot and adds its counters to the agents, once per cursor.
create function save_telemetry(
    p_name text, p_cursor bigint, p_snapshot text,
    c_workspace text[], c_agent_id text[], c_completed bigint[], c_failed bigint[], c_latency double precision[]
) returns boolean language plpgsql as $$
begin
    insert into telemetry as t (name, cursor, snapshot) values (p_name, p_cursor, p_snapshot::json)
    on conflict (name) do update set cursor = excluded.cursor, snapshot = excluded.snapshot
    where t.cursor < excluded.cursor;
    if not found then
        return false;
    end if;
    update agents a set
        tasks_completed = a.tasks_completed + c.completed, tasks_failed = a.tasks_failed + c.failed,
        latency_ms_sum = a.latency_ms_sum + c.latency
    from (
        select * from unnest(c_workspace, c_agent_id, c_completed, c_failed, c_latency)
             as c (workspace, agent_id, completed, failed, latency) order by c.workspace, c.agent_id
    ) c
    where a.workspace = c.workspace and a.agent_id = c.agent_id;
    return true;
end $$;

-- --- receipts --------------------------------------------------------------------------------------------------------

-- Every key that has signed receipts. The seed is there for the one that this deployment made for itself, and null for
-- those whose private half a setting holds.
create table signing_keys (
    key_id      text primary key,
    public_key  bytea not null,
    seed        bytea,
    created_at  timestamptz not null default clock_timestamp()
);
create unique index signing_keys_own on signing_keys ((true)) where seed is not null;

-- The deployment's own seed. The first candidate becomes it: the index holds up all others until that one has committed.
create function own_signing_key(p_key_id text, p_public_key bytea, p_seed bytea) returns bytea language plpgsql as $$
declare
    v_seed bytea;
begin
    select seed into v_seed from signing_keys where seed is not null;
    if v_seed is null then
        insert into signing_keys (key_id, public_key, seed) values (p_key_id, p_public_key, p_seed)
        on conflict do nothing;
        select seed into v_seed from signing_keys where seed is not null;
    end if;
    return v_seed;
end $$;

-- Outcomes: who answered what and what turned out to be right; and the weights that were learned from them.
create table outcomes (
    workspace       text not null,
    id              text not null,
    n               bigint generated always as identity,
    recorded_at     double precision not null,
    principal       text not null,
    source          text not null,
    panel           text[] not null,
    votes           json not null,
    right_answer    text not null,
    options         json not null,
    digest          bytea not null,
    primary key (workspace, id)
);
create index outcomes_recent on outcomes (workspace, n desc);

-- Never changed and never deleted: contracts and receipts name them. ``through_n`` is the last outcome that was fitted.
create table weight_snapshots (
    workspace       text not null,
    id              text not null,
    panel_key       text not null,
    panel           text[] not null,
    version         integer not null,
    through_n       bigint not null,
    created_at      double precision not null,
    document        json not null,
    alarms          json not null,
    primary key (workspace, id),
    unique (workspace, panel_key, version)
);

-- Records outcomes: one per id. The same content again is a replay, another one a conflict that changes nothing. No id
-- may appear twice in one call.
create function record_outcomes(
    p_region text, p_epoch bigint,
    o_workspace text[], o_id text[], o_at double precision[], o_principal text[], o_source text[], o_panel text[],
    o_votes text[], o_right text[], o_options text[], o_content bytea[],
    l_kind text[], l_data text[], l_digest bytea[]
) returns table (seq bigint, replayed boolean, conflict boolean) language plpgsql as $$
declare
    v_new text[];
    v_seq bigint[];
begin
    with inserted as (
        insert into outcomes (
            workspace, id, recorded_at, principal, source, panel, votes, right_answer, options, digest)
        select o.workspace, o.id, o.at, o.principal, o.source, array(select json_array_elements_text(o.panel::json)),
               o.votes::json, o.right_answer, o.options::json, o.content
        from unnest(
            o_workspace, o_id, o_at, o_principal, o_source, o_panel, o_votes, o_right, o_options, o_content
        ) with ordinality as o (
            workspace, id, at, principal, source, panel, votes, right_answer, options, content, ord
        )
        order by o.workspace, o.id
        on conflict do nothing
        returning outcomes.workspace || ':' || outcomes.id as key
    )
    select array(select key from inserted) into v_new;
    v_seq := log_append(
        p_region, p_epoch,
        array(
            select i.workspace || ':' || i.id = any (v_new)
            from unnest(o_workspace, o_id) with ordinality as i (workspace, id, ord) order by i.ord
        ),
        o_at, o_workspace, l_kind, o_id, array(select null::integer from unnest(o_id)), o_principal, l_data, l_digest);
    return query
        select v_seq[i.ord], v_seq[i.ord] is null and s.digest = i.content,
               v_seq[i.ord] is null and s.digest <> i.content
        from unnest(o_workspace, o_id, o_content) with ordinality as i (workspace, id, content, ord)
        join outcomes s on s.workspace = i.workspace and s.id = i.id
        order by i.ord;
end $$;

-- Saves snapshots as the next versions of their panels; one that knows no more than the newest is not written. Takes the
-- region's lock first, so that two that fit at once cannot both make the same version. No panel may appear twice.
create function save_snapshots(
    p_region text, p_epoch bigint,
    s_workspace text[], s_id text[], s_panel_key text[], s_panel text[], s_through bigint[], s_document text[],
    s_alarms text[],
    l_at double precision[], l_kind text[], l_principal text[], l_data text[], l_digest bytea[]
) returns boolean[] language plpgsql as $$
declare
    v_new text[];
    v_ok boolean[];
begin
    perform region_lock(p_region);
    with inserted as (
        insert into weight_snapshots (
            workspace, id, panel_key, panel, version, through_n, created_at, document, alarms)
        select s.workspace, s.id, s.panel_key, array(select json_array_elements_text(s.panel::json)),
               coalesce(newest.version, 0) + 1, s.through_n, s.at, s.document::json, s.alarms::json
        from unnest(s_workspace, s_id, s_panel_key, s_panel, s_through, l_at, s_document, s_alarms)
             as s (workspace, id, panel_key, panel, through_n, at, document, alarms)
        left join lateral (
            select w.version, w.through_n from weight_snapshots w
            where w.workspace = s.workspace and w.panel_key = s.panel_key order by w.version desc limit 1
        ) newest on true
        where newest.through_n is null or newest.through_n < s.through_n
        on conflict do nothing
        returning weight_snapshots.workspace || ':' || weight_snapshots.id as key
    )
    select array(select key from inserted) into v_new;
    v_ok := array(
        select i.workspace || ':' || i.id = any (v_new)
        from unnest(s_workspace, s_id) with ordinality as i (workspace, id, ord) order by i.ord
    );
    perform log_append(
        p_region, p_epoch, v_ok, l_at, s_workspace, l_kind, s_id, array(select null::integer from unnest(s_id)),
        l_principal, l_data, l_digest);
    return v_ok;
end $$;
