-- The log's rows in their second form: what led to a row (cause), under which epoch and in whose numbers (zone) it was
-- written, and apart from its data the words that somebody wrote (private). The digest binds those by their hash alone,
-- so that they can be deleted. v names the form of the digest. What the first form did not say is 0 and ''. All defaults
-- are constants: no row is rewritten.
alter table log
    add column epoch bigint not null default 0,
    add column cause text not null default '',
    add column zone text not null default '',
    add column private text,
    add column private_digest bytea,
    add column v smallint not null default 1;

-- What a request led to. Trace ids have no order, so a B-tree on them is written all over; this one has an entry for some
-- hundred rows, and the newest rows, which have none yet, are read.
create index log_cause on log using brin (cause text_bloom_ops (n_distinct_per_range = 800))
    with (pages_per_range = 32, autosummarize = on);
-- What a row led to: few rows have another row as their cause.
create index log_led on log (cause) where left(cause, 1) = '#';

-- The request that a deliberation was admitted by, for the rows of all that follows from it.
alter table deliberations add column cause text not null default '';

-- Rows on their way to the log, column by column: one argument, so that another column is no change of the functions
-- that pass it on. private and private_digest are null as a whole where no row has words.
create type log_rows as (
    v               smallint,
    at              double precision[],
    workspace       text[],
    kind            text[],
    entity          text[],
    attempt         integer[],
    principal       text[],
    cause           text[],
    data            text[],
    private         text[],
    private_digest  bytea[],
    digest          bytea[]
);

-- Last step of every commit, as before. The functions without log_rows stay for processes of the version before, which
-- may still run while new ones take over; what they write is of the first form.
create function log_append(p_region text, p_epoch bigint, p_ok boolean[], l log_rows) returns bigint[]
language plpgsql as $$
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
    insert into log (
        seq, epoch, at, workspace, kind, entity, attempt, principal, cause, zone, data, private, private_digest, digest,
        v)
    select v_last + row_number() over (order by r.ord),
           p_epoch, r.at, r.workspace, r.kind, r.entity, r.attempt, r.principal, r.cause, p_region, r.data::json,
           r.private, r.private_digest, r.digest, l.v
    from unnest(
        p_ok, l.at, l.workspace, l.kind, l.entity, l.attempt, l.principal, l.cause, l.data, l.private, l.private_digest,
        l.digest
    ) with ordinality as r (
        ok, at, workspace, kind, entity, attempt, principal, cause, data, private, private_digest, digest, ord
    )
    where r.ok;
    return array(
        select case when o.ok then v_last + count(*) filter (where o.ok) over (order by o.ord) end
        from unnest(p_ok) with ordinality as o (ok, ord) order by o.ord
    );
end $$;

-- Rows of an entity or a request, those that led to them and those that they led to, in order. What a deliberation's
-- request caused belongs to the deliberation; a task shares its request with all that were submitted by it. The planner
-- takes a block range index on values without order for useless, whatever its filters could spare; and what is left to
-- read is less than what parallel workers cost.
create function log_story(p_workspace text, p_of text, p_after bigint, p_limit integer) returns setof log
language sql stable set enable_seqscan = off set max_parallel_workers_per_gather = 0 as $$
    with own as materialized (
        select seq, kind, cause from log where workspace = p_workspace and entity = p_of
        union
        select seq, kind, cause from log where workspace = p_workspace and cause = p_of
    ), asked as materialized (
        select cause from own where kind = 'deliberation.admitted' and cause <> '' limit 1
    ), story as (
        select seq from own
        union
        select seq from log where workspace = p_workspace and cause = (select cause from asked)
        union
        select substr(cause, 2)::bigint from own where cause ~ '^#[0-9]{1,18}$'
        union
        select seq from log
        where workspace = p_workspace and left(cause, 1) = '#' and cause = any (array(select '#' || seq from own))
    )
    select * from log
    where workspace = p_workspace and seq > p_after and seq in (select seq from story)
    order by seq
    limit p_limit
$$;

-- Raises the region's epoch to the one after p_from and logs it: null if it is another one already. The row's digest
-- covers the epoch, so who raises has to know which one it will be.
create function raise_epoch(p_region text, p_leader text, p_from bigint, l log_rows) returns bigint
language plpgsql as $$
declare
    v_epoch bigint;
begin
    perform region_lock(p_region);
    insert into region_state (region, epoch, leader) values (p_region, p_from + 1, p_leader)
    on conflict (region) do update set epoch = p_from + 1, leader = excluded.leader, raised_at = now()
    where region_state.epoch = p_from
    returning epoch into v_epoch;
    if v_epoch is not null then
        perform log_append(p_region, v_epoch, array[true], l);
    end if;
    return v_epoch;
end $$;

-- The functions of the commit protocol as they were, but that ids, workspaces, principals and times are those of their
-- rows, which say them already.

create function submit_tasks(
    p_region text, p_epoch bigint, p_now double precision, p_all_or_none boolean,
    t_shard smallint[], t_queue text[], t_task_type text[], t_priority smallint[], t_detail text[],
    t_max_retries integer[], t_timeout_s double precision[], t_run_at double precision[], t_target_agent text[],
    t_target_region text[], t_routing text[], t_origin text[], t_fallback text[], t_required text[], t_payload text[],
    t_metadata text[], t_rules text[], i_route text[], i_key text[], i_digest bytea[], l log_rows
) returns table (task_id text, seq bigint, replayed boolean, conflict boolean) language plpgsql as $$
declare
    t_id text[] := l.entity;
    t_workspace text[] := l.workspace;
    t_principal text[] := l.principal;
    t_created_at double precision[] := l.at;
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
    v_seq := log_append(p_region, p_epoch, v_ok, l);
    return query
        select coalesce(s.answer, i.id), v_seq[i.ord], not v_ok[i.ord] and s.digest = i.digest,
               not v_ok[i.ord] and s.digest <> i.digest
        from unnest(t_id, t_workspace, i_route, i_key, i_digest)
             with ordinality as i (id, workspace, route, key, digest, ord)
        left join idempotency s on s.workspace = i.workspace and s.route = i.route and s.key = i.key
        order by i.ord;
end $$;

create function decide_tasks(
    p_region text, p_epoch bigint, p_shard text, p_generation bigint,
    d_expect_status text[], d_expect_attempt integer[], d_status text[], d_detail text[], d_retries integer[],
    d_priority smallint[], d_run_at double precision[], d_agent text[], d_claim text[], d_holder text[],
    d_started double precision[], d_completed double precision[], d_result text[], d_error text[], d_want boolean[],
    d_place text[], l log_rows
) returns table (applied boolean, seq bigint, payload text, metadata text) language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    d_id text[] := l.entity;
    d_attempt integer[] := l.attempt;
    v_done text[];
    v_ok boolean[];
    v_seq bigint[];
begin
    with d as (
        select * from unnest(
            d_id, d_expect_status, d_expect_attempt, d_status, d_detail, d_attempt, d_retries, d_priority, d_run_at,
            d_agent, d_claim, d_holder, d_started, d_completed, d_result, d_error, d_place
        ) as d (
            id, expect_status, expect_attempt, status, detail, attempt, retries, priority, run_at,
            agent, claim, holder, started, completed, result, error, place
        ) order by d.id
    ), changed as (
        update tasks t set
            status = d.status, status_detail = d.detail, attempt = d.attempt, retries = d.retries,
            priority = d.priority, run_at = d.run_at, assigned_agent = d.agent, claim_id = d.claim,
            holder = d.holder, started_at = d.started, completed_at = d.completed,
            result = coalesce(d.result::json, t.result), error = coalesce(d.error, t.error),
            place = coalesce(d.place, t.place)
        from d
        -- Not t.status: the planner must not be offered the index of open tasks, every entry of which it would read.
        where t.id = d.id and t.status = d.expect_status and t.attempt = d.expect_attempt
          and d.expect_status in ('pending', 'running')
        returning t.id
    )
    select array(select id from changed) into v_done;
    v_ok := array(select i.id = any (v_done) from unnest(d_id) with ordinality as i (id, ord) order by i.ord);
    v_seq := log_append(p_region, p_epoch, v_ok, l);
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

-- The rows of the log are those of the new tasks, followed by those of the old ones.
create function replay_tasks(
    p_region text, p_epoch bigint, p_now double precision, p_workspace text,
    r_of text[], r_id text[], r_principal text[], r_payload text[], r_rules text[], l log_rows
) returns text[] language plpgsql as $$
declare
    v_done text[];
    v_ok boolean[];
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
    perform log_append(p_region, p_epoch, v_ok || v_ok, l);
    return array(
        select t.replayed_as from unnest(r_of) with ordinality as r (of, ord)
        left join tasks t on t.id = r.of and t.workspace = p_workspace and t.purged_at is null
        order by r.ord
    );
end $$;

create function purge_tasks(
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
    perform log_append(
        p_region, p_epoch,
        array(select r.id = any (v_done) from unnest(r_id) with ordinality as r (id, ord) order by r.ord),
        l);
    return coalesce(array_length(v_done, 1), 0);
end $$;

create function put_control(
    p_region text, p_epoch bigint, p_workspace text, p_kind text, p_name text, p_paused boolean,
    p_rate double precision, p_burst integer, p_weight double precision, l log_rows
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
    v_seq := log_append(p_region, p_epoch, array[true], l);
    insert into controls as c
    values (p_workspace, p_kind, p_name, p_paused, p_rate, p_burst, p_weight, v_seq[1], l.at[1], l.principal[1])
    on conflict (workspace, kind, name) do update set
        paused = excluded.paused, rate_per_s = excluded.rate_per_s, burst = excluded.burst, weight = excluded.weight,
        seq = excluded.seq, changed_at = excluded.changed_at, principal = excluded.principal;
    return v_seq[1];
end $$;

create function register_agents(
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

create function change_agents(
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
            intent = coalesce(c.intent, a.intent), liveness = coalesce(c.liveness, a.liveness),
            health = coalesce(c.health, a.health), updated_at = c.at,
            -- Nobody holds an active agent back, so nobody is remembered for it.
            intent_by = case when coalesce(c.intent, a.intent) = 'active' then 'operator'
                             else coalesce(c.intent_by, a.intent_by) end
        from c
        where a.workspace = c.workspace and a.agent_id = c.agent_id
          and (coalesce(c.intent_by, 'operator') = 'operator' or a.intent_by = 'agent' or a.intent = 'active')
          and (coalesce(c.intent, a.intent), coalesce(c.liveness, a.liveness), coalesce(c.health, a.health),
               case when coalesce(c.intent, a.intent) = 'active' then 'operator'
                    else coalesce(c.intent_by, a.intent_by) end)
              is distinct from (a.intent, a.liveness, a.health, a.intent_by)
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

create function remove_agents(
    p_region text, p_epoch bigint, l log_rows, i_route text[], i_key text[], i_digest bytea[]
) returns boolean[] language plpgsql as $$
declare
    r_workspace text[] := l.workspace;
    r_agent_id text[] := l.entity;
    v_new boolean[];
    v_removed text[];
    v_ok boolean[];
begin
    -- An answer that no other call has: a repeat finds the first call's, and removes nothing.
    v_new := idempotency_claim(
        l.at[1], r_workspace, i_route, i_key, i_digest, array(select gen_random_uuid()::text from unnest(r_agent_id)));
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
    perform log_append(p_region, p_epoch, v_ok, l);
    return array(select ok or not new from unnest(v_ok, v_new) with ordinality as o (ok, new, ord) order by ord);
end $$;

create function save_breakers(
    p_region text, p_epoch bigint,
    b_workspace text[], b_name text[], b_agent_id text[], b_state text[], b_threshold integer[],
    b_reset_s double precision[], b_failures integer[], b_successes integer[], b_last_failure double precision[],
    b_changed_at double precision[], l log_rows
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
    perform log_append(p_region, p_epoch, array(select true from unnest(l.entity)), l);
end $$;

create function admit_deliberations(
    p_region text, p_epoch bigint, p_now double precision, p_soft_s double precision,
    d_task_id text[], d_deadline_at double precision[], d_contract text[], d_contract_digest bytea[], d_mode text[],
    i_route text[], i_key text[], i_digest bytea[], l log_rows
) returns table (request_id text, seq bigint, replayed boolean, conflict boolean) language plpgsql as $$
declare
    d_request_id text[] := l.entity;
    d_workspace text[] := l.workspace;
    d_principal text[] := l.principal;
    d_admitted_at double precision[] := l.at;
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
            state, cause)
        select d.request_id, d.task_id, d.workspace, d.principal, d.admitted_at, d.deadline_at, d.contract::json,
               d.contract_digest, d.mode, 'ADMITTED', d.cause
        from unnest(
            v_ok, d_request_id, d_task_id, d_workspace, d_principal, d_admitted_at, d_deadline_at, d_contract,
            d_contract_digest, d_mode, l.cause
        ) as d (
            ok, request_id, task_id, workspace, principal, admitted_at, deadline_at, contract, contract_digest, mode,
            cause
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
        l);
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

create function append_deliberations(
    p_region text, p_epoch bigint,
    a_request_id text[], a_fence bigint[], a_first integer[], a_events integer[], a_state text[], a_terminal text[],
    a_result text[], a_completed_at double precision[],
    e_request_id text[], e_n integer[], e_at double precision[], e_kind text[], e_data text[], l log_rows
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
        array(select r = any (v_done) from unnest(l.entity) with ordinality as r (r, ord) order by ord),
        l);
    return array(select r = any (v_done) from unnest(a_request_id) with ordinality as r (r, ord) order by ord);
end $$;

create function cancel_deliberation(
    p_region text, p_epoch bigint, p_workspace text, p_request_id text, l log_rows
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
    perform log_append(p_region, p_epoch, array[not v_before], l);
    return true;
end $$;

create function record_outcomes(
    p_region text, p_epoch bigint,
    o_source text[], o_panel text[], o_votes text[], o_right text[], o_options text[], o_content bytea[], l log_rows
) returns table (seq bigint, replayed boolean, conflict boolean) language plpgsql as $$
declare
    o_workspace text[] := l.workspace;
    o_id text[] := l.entity;
    o_at double precision[] := l.at;
    o_principal text[] := l.principal;
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
        l);
    return query
        select v_seq[i.ord], v_seq[i.ord] is null and s.digest = i.content,
               v_seq[i.ord] is null and s.digest <> i.content
        from unnest(o_workspace, o_id, o_content) with ordinality as i (workspace, id, content, ord)
        join outcomes s on s.workspace = i.workspace and s.id = i.id
        order by i.ord;
end $$;

create function save_snapshots(
    p_region text, p_epoch bigint,
    s_panel_key text[], s_panel text[], s_through bigint[], s_document text[], s_alarms text[],
    l log_rows
) returns boolean[] language plpgsql as $$
declare
    s_workspace text[] := l.workspace;
    s_id text[] := l.entity;
    v_new text[];
    v_ok boolean[];
begin
    perform region_lock(p_region);
    with inserted as (
        insert into weight_snapshots (
            workspace, id, panel_key, panel, version, through_n, created_at, document, alarms)
        select s.workspace, s.id, s.panel_key, array(select json_array_elements_text(s.panel::json)),
               coalesce(newest.version, 0) + 1, s.through_n, s.at, s.document::json, s.alarms::json
        from unnest(s_workspace, s_id, s_panel_key, s_panel, s_through, l.at, s_document, s_alarms)
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
    perform log_append(p_region, p_epoch, v_ok, l);
    return v_ok;
end $$;
