-- Replication between the databases of regions: who may write here, how far this database is with what it receives, and rows of
-- the log for the changes that had none.

-- ``role``: what this database is for the zone. ``trusted_until``: until when its primary may write without asking again, by this
-- database's own clock; a group of one region never asks.
alter table region_state
    add column role text not null default 'primary' check (role in ('primary', 'secondary', 'fenced')),
    add column trusted_until timestamptz not null default 'infinity';

-- How far this database is with what it receives for a zone. Where it is in the log, the log itself says. ``images_at``: the row up to
-- which the images are, which is later than the log's last one while a long tail is cut. ``copying``: where a full copy is, null if
-- there is none under way.
create table replicas (
    zone        text primary key,
    images_at   bigint not null,
    copying     json
);

-- Sets what this database is for a zone; null if it knows a later epoch. Under the lock of the commits, so that a commit is before or
-- after it. ``p_trusted_s``: from now on; null for ever.
create function set_region_role(p_zone text, p_role text, p_epoch bigint, p_trusted_s double precision) returns bigint
language plpgsql as $$
declare
    v_epoch bigint;
begin
    perform region_lock(p_zone);
    insert into region_state as s (region, epoch, role, trusted_until)
    values (p_zone, p_epoch, p_role, coalesce(clock_timestamp() + make_interval(secs => p_trusted_s), 'infinity'))
    on conflict (region) do update set
        epoch = excluded.epoch, role = excluded.role, trusted_until = excluded.trusted_until
    where s.epoch <= excluded.epoch
    returning s.epoch into v_epoch;
    return v_epoch;
end $$;

-- The last step of every commit, in both forms: as before, and refused unless this database is the zone's primary and still trusted.
create or replace function log_append(
    p_region text, p_epoch bigint, p_ok boolean[],
    l_at double precision[], l_workspace text[], l_kind text[], l_entity text[], l_attempt integer[],
    l_principal text[], l_data text[], l_digest bytea[]
) returns bigint[] language plpgsql as $$
declare
    v_state record;
    v_last bigint;
begin
    perform region_lock(p_region);
    select epoch, role, trusted_until into v_state from region_state where region = p_region;
    if v_state.epoch is distinct from p_epoch then
        raise exception 'epoch % was replaced by %', p_epoch, v_state.epoch using errcode = 'AG001';
    elsif v_state.role <> 'primary' or v_state.trusted_until <= clock_timestamp() then
        raise exception 'role %, trusted until %', v_state.role, v_state.trusted_until using errcode = 'AG005';
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

create or replace function log_append(p_region text, p_epoch bigint, p_ok boolean[], l log_rows) returns bigint[]
language plpgsql as $$
declare
    v_state record;
    v_last bigint;
begin
    perform region_lock(p_region);
    select epoch, role, trusted_until into v_state from region_state where region = p_region;
    if v_state.epoch is distinct from p_epoch then
        raise exception 'epoch % was replaced by %', p_epoch, v_state.epoch using errcode = 'AG001';
    elsif v_state.role <> 'primary' or v_state.trusted_until <= clock_timestamp() then
        raise exception 'role %, trusted until %', v_state.role, v_state.trusted_until using errcode = 'AG005';
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

-- As before, but each key has the time of its item's row in the log, by which another region finds it.
create function idempotency_claim(
    l log_rows, i_route text[], i_key text[], i_digest bytea[], i_answer text[]
) returns boolean[] language plpgsql as $$
begin
    if array_position(array(select k is null from unnest(i_key) k), false) is null then
        return array(select true from unnest(i_answer));
    end if;
    insert into idempotency (workspace, route, key, digest, answer, created_at)
    select i.workspace, i.route, i.key, i.digest, i.answer, i.at
    from unnest(l.workspace, i_route, i_key, i_digest, i_answer, l.at)
         with ordinality as i (workspace, route, key, digest, answer, at, ord)
    where i.key is not null
    order by i.workspace, i.route, i.key, i.ord
    on conflict do nothing;
    return array(
        select i.key is null or s.answer = i.answer
        from unnest(l.workspace, i_route, i_key, i_answer) with ordinality as i (workspace, route, key, answer, ord)
        left join idempotency s using (workspace, route, key)
        order by i.ord
    );
end $$;

-- The functions that claim keys, as before.

create or replace function submit_tasks(
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
    v_ok := idempotency_claim(l, i_route, i_key, i_digest, t_id);
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
    perform idempotency_claim(l, i_route, i_key, i_digest, a_agent_id);
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

create or replace function admit_deliberations(
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
    v_ok := idempotency_claim(l, i_route, i_key, i_digest, d_request_id);
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
    -- Only an admission is remembered: a key of a call that admitted nothing would be a change without a row.
    delete from idempotency s
    using unnest(v_ok, d_task_id, d_workspace, i_route, i_key) as i (new, task_id, workspace, route, key)
    where i.new and not i.task_id = any (v_new)
      and s.workspace = i.workspace and s.route = i.route and s.key = i.key;
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

create or replace function remove_agents(
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
        l, i_route, i_key, i_digest, array(select gen_random_uuid()::text from unnest(r_agent_id)));
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

-- Publishes the public half of a key, with a row that says so. With a seed, the deployment's own: the first candidate becomes it, and all
-- get it. Under the region's lock, since two candidates at once must not both be published.
create function publish_signing_key(
    p_region text, p_epoch bigint, p_key_id text, p_public_key bytea, p_seed bytea, l log_rows
) returns bytea language plpgsql as $$
declare
    v_seed bytea;
begin
    select seed into v_seed from signing_keys where seed is not null;
    if p_seed is not null and v_seed is not null then
        return v_seed;
    end if;
    perform region_lock(p_region);
    select seed into v_seed from signing_keys where seed is not null;
    if p_seed is not null and v_seed is not null then
        return v_seed;
    end if;
    insert into signing_keys (key_id, public_key, seed) values (p_key_id, p_public_key, p_seed) on conflict do nothing;
    if found then
        perform log_append(p_region, p_epoch, array[true], l);
    end if;
    return p_seed;
end $$;
