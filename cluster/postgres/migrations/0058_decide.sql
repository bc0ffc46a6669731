-- One commit of a shard's decisions. It replaces decide_tasks and the three functions around it, which builds before this one call.
-- p_more is a list of what few decisions have, each with the number n of its decision, and null if none has any:
--   question, answer: what the attempt asked that the decision ends, and the answer to it
--   entry: what the attempt reserves that it starts, or what the one cost that it ends
--   children: what the attempt that it ends waits for.
create function decide(
    p_region text, p_epoch bigint, p_shard text, p_generation bigint,
    d_expect_status text[], d_expect_attempt integer[], d_status text[], d_detail text[], d_retries integer[],
    d_priority smallint[], d_run_at double precision[], d_agent text[], d_claim text[], d_holder text[],
    d_started double precision[], d_completed double precision[], d_result text[], d_error text[], d_place text[],
    l log_rows, p_more text
) returns table (applied boolean, seq bigint) language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    d_id text[] := l.entity;
    d_attempt integer[] := l.attempt;
    v_done text[];
    v_ok boolean[];
    v_seq bigint[];
    v_more json := p_more::json;
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
    if cardinality(v_done) = cardinality(d_id) then
        v_ok := array_fill(true, array[cardinality(d_id)]);
    else
        v_ok := array(select i.id = any (v_done) from unnest(d_id) with ordinality as i (id, ord) order by i.ord);
    end if;
    v_seq := log_append(p_region, p_epoch, v_ok, l);
    -- Under the region's lock, which taking a generation needs too: exact, without a row lock per commit.
    if not exists (select 1 from shards s where s.shard = p_shard and s.generation = p_generation) then
        raise exception 'generation % of % was replaced', p_generation, p_shard using errcode = 'AG002';
    end if;
    if v_more is not null then
        perform keep_question(
            l.entity[m.n], d_expect_attempt[m.n], l.workspace[m.n], l.at[m.n], l.principal[m.n], m.question)
        from json_to_recordset(v_more) as m (n integer, question json)
        where m.question is not null and v_ok[m.n];
        update task_questions q set
            verdict = m.answer ->> 'verdict', answered_at = l.at[m.n], answered_by = m.answer ->> 'principal',
            reason = m.answer ->> 'reason',
            answer = case m.answer ->> 'verdict' when 'default' then q.words -> 'default' else m.answer -> 'value' end
        from json_to_recordset(v_more) as m (n integer, answer json)
        where m.answer is not null and v_ok[m.n] and q.task_id = l.entity[m.n] and q.attempt = d_expect_attempt[m.n];
        update tasks t set result = q.words -> 'default'
        from json_to_recordset(v_more) as m (n integer, answer json), task_questions q
        where m.answer ->> 'verdict' = 'default' and v_ok[m.n] and d_status[m.n] = 'completed'
          and q.task_id = l.entity[m.n] and q.attempt = d_expect_attempt[m.n] and t.id = l.entity[m.n];
        insert into budget_entries (task_id, attempt, workspace, budgets, agent_id, task_type, at, reserved)
        select l.entity[m.n], l.attempt[m.n], l.workspace[m.n],
               array(select json_array_elements_text(m.entry -> 'budgets')), m.entry ->> 'agent_id',
               m.entry ->> 'task_type', l.at[m.n], (m.entry ->> 'reserved')::bigint
        from json_to_recordset(v_more) as m (n integer, entry json)
        where m.entry ->> 'reserved' is not null and v_ok[m.n];
        update budget_entries b set
            spent = (m.entry ->> 'spent')::bigint, known = (m.entry ->> 'known')::boolean, settled_at = l.at[m.n]
        from json_to_recordset(v_more) as m (n integer, entry json)
        where m.entry ->> 'spent' is not null and v_ok[m.n]
          and b.task_id = l.entity[m.n] and b.attempt = d_expect_attempt[m.n] and b.spent is null;
        insert into task_parks (task_id, attempt, workspace, at, children)
        select l.entity[m.n], d_expect_attempt[m.n], l.workspace[m.n], l.at[m.n], m.children
        from json_to_recordset(v_more) as m (n integer, children json)
        where m.children is not null and v_ok[m.n];
    end if;
    return query select v_ok[i.n], v_seq[i.n] from generate_subscripts(v_ok, 1) as i (n) order by i.n;
end $$;
