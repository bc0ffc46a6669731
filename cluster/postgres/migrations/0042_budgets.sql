-- Budgets, what attempts have cost, and the levels that people were told of. Money is in nano-dollars.

create table budgets (
    id              text primary key,
    workspace       text not null,
    name            text not null,
    scope           text not null,
    subject         text not null,          -- the agent or task type of the scope; empty for the workspace
    period          text not null,
    mode            text not null,
    limit_nanos     bigint not null,
    estimate_nanos  bigint not null,
    version         integer not null,
    created_at      double precision not null,
    created_by      text not null,
    changed_at      double precision not null,
    changed_by      text not null
);
create index budgets_of on budgets (workspace);
-- What people wrote: statistics keep no samples of it.
alter table budgets alter column name set statistics 0;

-- One row per attempt that a budget counts: inserted with the claim, settled with the attempt's end. No row sums them: a counter row
-- would make all claims of a workspace wait for each other, and the shard, their only writer, has the sums in memory.
create table budget_entries (
    task_id     text not null,
    attempt     integer not null,
    workspace   text not null,
    budgets     text[] not null,            -- the ids of those that count it
    agent_id    text not null,
    task_type   text not null,
    at          double precision not null,  -- when the attempt started, which decides on the period
    reserved    bigint not null,
    spent       bigint,                     -- null while it runs
    known       boolean not null default false, -- whether its holder said what it cost
    settled_at  double precision,
    primary key (task_id, attempt)
);
create index budget_entries_of on budget_entries (workspace, at);
create index budget_entries_open on budget_entries (task_id) where spent is null;

create table budget_levels (
    budget_id       text not null,
    period_start    double precision not null,
    limit_nanos     bigint not null,
    level           smallint not null,
    workspace       text not null,
    at              double precision not null,
    primary key (budget_id, period_start, limit_nanos, level)
);

-- As decide_questions, with what attempts reserve and have cost: p_entries is a list of {n, budgets, agent_id, task_type, reserved} for
-- those that start and {n, spent, known} for those that end; n is the decision's number, from 1.
create function decide_spending(
    p_region text, p_epoch bigint, p_shard text, p_generation bigint,
    d_expect_status text[], d_expect_attempt integer[], d_status text[], d_detail text[], d_retries integer[],
    d_priority smallint[], d_run_at double precision[], d_agent text[], d_claim text[], d_holder text[],
    d_started double precision[], d_completed double precision[], d_result text[], d_error text[], d_want boolean[],
    d_place text[], l log_rows, d_question text[], d_answer text[], p_entries text
) returns table (applied boolean, seq bigint, payload text, metadata text) language plpgsql as $$
#variable_conflict use_column
declare
    v_outcome record;
    v_applied boolean[] := '{}';
begin
    for v_outcome in select * from decide_questions(
        p_region, p_epoch, p_shard, p_generation, d_expect_status, d_expect_attempt, d_status, d_detail, d_retries,
        d_priority, d_run_at, d_agent, d_claim, d_holder, d_started, d_completed, d_result, d_error, d_want, d_place, l,
        d_question, d_answer)
    loop
        v_applied := v_applied || v_outcome.applied;
        return query select v_outcome.applied, v_outcome.seq, v_outcome.payload, v_outcome.metadata;
    end loop;
    insert into budget_entries (task_id, attempt, workspace, budgets, agent_id, task_type, at, reserved)
    select l.entity[e.n], l.attempt[e.n], l.workspace[e.n],
           array(select json_array_elements_text(e.budgets)), e.agent_id, e.task_type, l.at[e.n], e.reserved
    from json_to_recordset(p_entries::json)
        as e (n integer, budgets json, agent_id text, task_type text, reserved bigint)
    where e.reserved is not null and v_applied[e.n];
    update budget_entries b set spent = e.spent, known = e.known, settled_at = l.at[e.n]
    from json_to_recordset(p_entries::json) as e (n integer, spent bigint, known boolean)
    where e.spent is not null and v_applied[e.n]
      and b.task_id = l.entity[e.n] and b.attempt = d_expect_attempt[e.n] and b.spent is null;
end $$;

-- The functions below take the region's lock first, so that all rows are locked in one order.

-- Stores a new budget; the id that is returned is an earlier call's if the key was used before.
create function create_budget(
    p_region text, p_epoch bigint, p_most integer, p_budget text, i_route text[], i_key text[], i_digest bytea[],
    l log_rows
) returns text language plpgsql as $$
declare
    v_new budgets := json_populate_record(null::budgets, p_budget::json);
    v_first idempotency;
begin
    perform region_lock(p_region);
    select s.* into v_first from idempotency s
    where s.workspace = l.workspace[1] and s.route = i_route[1] and s.key = i_key[1];
    if found then
        if v_first.digest <> i_digest[1] then
            raise exception 'idempotency conflict' using errcode = 'AG003';
        end if;
        return v_first.answer;
    elsif (select count(*) from budgets b where b.workspace = v_new.workspace) >= p_most then
        return null;
    end if;
    perform idempotency_claim(l, i_route, i_key, i_digest, l.entity);
    insert into budgets select v_new.*;
    perform log_append(p_region, p_epoch, array[true], l);
    return l.entity[1];
end $$;

-- Stores the next version of a budget; returns whether the one before was still the newest.
create function change_budget(p_region text, p_epoch bigint, p_budget text, l log_rows)
returns boolean language plpgsql as $$
declare
    v_new budgets := json_populate_record(null::budgets, p_budget::json);
begin
    perform region_lock(p_region);
    update budgets b set
        name = v_new.name, mode = v_new.mode, limit_nanos = v_new.limit_nanos, estimate_nanos = v_new.estimate_nanos,
        version = v_new.version, changed_at = v_new.changed_at, changed_by = v_new.changed_by
    where b.id = v_new.id and b.workspace = v_new.workspace and b.version = v_new.version - 1;
    if not found then
        return false;
    end if;
    perform log_append(p_region, p_epoch, array[true], l);
    return true;
end $$;

-- Deletes a budget, if it has this version, and the remembered answers that show it; returns whether it did. Its entries stay.
create function remove_budget(p_region text, p_epoch bigint, p_workspace text, p_version integer, l log_rows)
returns boolean language plpgsql as $$
begin
    perform region_lock(p_region);
    delete from budgets b where b.id = l.entity[1] and b.workspace = p_workspace and b.version = p_version;
    if not found then
        return false;
    end if;
    perform forget_answers(l.workspace[1], l.entity);
    perform log_append(p_region, p_epoch, array[true], l);
    return true;
end $$;

-- Stores levels that budgets have reached, each with its row; one that is stored already is left as it is, and has no second row.
create function tell_budget_levels(p_region text, p_epoch bigint, p_levels text, l log_rows)
returns integer language plpgsql as $$
declare
    v_new integer[];
begin
    perform region_lock(p_region);
    with told as (
        insert into budget_levels
        select (json_populate_record(null::budget_levels, r.level)).*
        from json_array_elements(p_levels::json) with ordinality as r (level, ord)
        on conflict do nothing
        returning budget_id, level
    )
    select coalesce(array_agg(r.ord::integer), '{}') into v_new
    from json_array_elements(p_levels::json) with ordinality as r (level, ord)
    join told t on t.budget_id = r.level ->> 'budget_id' and t.level = (r.level ->> 'level')::smallint;
    if v_new <> '{}' then
        perform log_append(
            p_region, p_epoch,
            array(select n = any (v_new) from generate_subscripts(l.entity, 1) n order by n), l);
    end if;
    return cardinality(v_new);
end $$;
