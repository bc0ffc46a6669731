-- Credentials: secrets that belong to a workspace. Those of the deployment have no workspace and no revision.
alter table secrets add column workspace text, add column revision bigint;
create index secrets_of on secrets (workspace, name) where workspace is not null;

-- Stores a credential that was sealed, if it is still at the revision before. Returns 'done', 'changed' or 'too_many'.
create function put_credential(
    p_region text, p_epoch bigint, p_most integer, p_name text, p_sealed bytea, p_revision bigint, l log_rows
) returns text language plpgsql as $$
begin
    perform region_lock(p_region);
    if p_revision > 1 then
        update secrets s set sealed = p_sealed, revision = p_revision, changed_at = now()
        where s.name = p_name and s.workspace = l.workspace[1] and s.revision = p_revision - 1;
    elsif (select count(*) from secrets s where s.workspace = l.workspace[1]) >= p_most then
        return 'too_many';
    else
        insert into secrets (name, sealed, workspace, revision) values (p_name, p_sealed, l.workspace[1], p_revision)
        on conflict do nothing;
    end if;
    if not found then
        return 'changed';
    end if;
    perform log_append(p_region, p_epoch, array[true], l);
    return 'done';
end $$;

-- Deletes a credential; returns whether there was one.
create function remove_credential(p_region text, p_epoch bigint, p_name text, l log_rows) returns boolean
language plpgsql as $$
begin
    perform region_lock(p_region);
    delete from secrets s where s.name = p_name and s.workspace = l.workspace[1];
    if not found then
        return false;
    end if;
    perform log_append(p_region, p_epoch, array[true], l);
    return true;
end $$;

-- Which credential is sent to an agent, how and to which origin.
alter table agents add column credential json;

drop function register_agents(
    text, bigint, double precision, text[], text[], text[], text[], text[], text[], text[], text[], text[], integer[], text[], text[],
    text[], text[], bytea[], log_rows
);
create function register_agents(
    p_region text, p_epoch bigint, p_now double precision,
    a_capabilities text[], a_model text[], a_provider text[], a_metadata text[], a_tags text[], a_region_id text[],
    a_available text[], a_transport text[], a_endpoint text[], a_max_concurrency integer[], a_options text[], a_dedicated text[],
    a_credential text[], i_route text[], i_key text[], i_digest bytea[], l log_rows
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
            available_regions, transport, endpoint, max_concurrency, options, dedicated, credential, intent, liveness,
            health, registered_at, updated_at)
        select n.workspace, n.agent_id, n.principal, n.capabilities::json, n.model, n.provider, n.metadata::json,
               n.tags::json, n.region_id, n.available::json, n.transport, n.endpoint, n.max_concurrency,
               n.options::json, n.dedicated::json, n.credential::json, 'active',
               case when n.transport in ('pull', 'import') then 'alive' else 'starting' end,
               'unknown', n.at, n.at
        from unnest(
            v_ok, a_workspace, a_agent_id, a_principal, a_capabilities, a_model, a_provider, a_metadata, a_tags,
            a_region_id, a_available, a_transport, a_endpoint, a_max_concurrency, a_options, a_dedicated,
            a_credential, a_at
        ) as n (
            ok, workspace, agent_id, principal, capabilities, model, provider, metadata, tags, region_id, available,
            transport, endpoint, max_concurrency, options, dedicated, credential, at
        )
        where n.ok
        order by n.workspace, n.agent_id
        on conflict (workspace, agent_id) do update set
            principal = excluded.principal, capabilities = excluded.capabilities, model = excluded.model,
            provider = excluded.provider, metadata = excluded.metadata, tags = excluded.tags,
            region_id = excluded.region_id, available_regions = excluded.available_regions,
            transport = excluded.transport, endpoint = excluded.endpoint,
            max_concurrency = excluded.max_concurrency, options = excluded.options, dedicated = excluded.dedicated,
            credential = excluded.credential,
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
