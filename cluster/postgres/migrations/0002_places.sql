-- Where a task was put in its line by hand, instead of where its age puts it: "time|text", null for nearly every task.
alter table tasks add column place text;

-- As before, with the places of those that were moved; null for all of them if nobody was. The function without places
-- stays for shards of the version before, which may still run while a new one takes over.
create function decide_tasks(
    p_region text, p_epoch bigint, p_shard text, p_generation bigint,
    d_id text[], d_expect_status text[], d_expect_attempt integer[],
    d_status text[], d_detail text[], d_attempt integer[], d_retries integer[], d_priority smallint[],
    d_run_at double precision[], d_agent text[], d_claim text[], d_holder text[], d_started double precision[],
    d_completed double precision[], d_result text[], d_error text[], d_want boolean[], d_place text[],
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
