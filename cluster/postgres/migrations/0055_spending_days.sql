-- What attempts have cost, by the day on which they started: entries of attempts that have ended are added to it and go, so that sums
-- are those of few rows. Money is in nano-dollars.
create table budget_days (
    workspace   text not null,
    day         text not null,              -- of UTC, as 2026-01-31
    agent_id    text not null,
    task_type   text not null,
    budgets     text[] not null,            -- the ids of those that count these attempts
    attempts    bigint not null,
    spent       bigint not null,
    unknown     bigint not null,            -- attempts of which nobody said the cost
    primary key (workspace, day, agent_id, task_type, budgets)
);

-- Adds the entries of these attempts to their days, and deletes them. What still runs, and what was added before, is left out. Returns
-- how many it were.
create function fold_entries(p_region text, p_epoch bigint, p_tasks text[], p_attempts integer[], l log_rows)
returns integer language plpgsql as $$
declare
    v_folded integer;
begin
    perform region_lock(p_region);
    with folded as (
        delete from budget_entries b using unnest(p_tasks, p_attempts) as f (task_id, attempt)
        where b.task_id = f.task_id and b.attempt = f.attempt and b.workspace = l.workspace[1] and b.spent is not null
        returning b.workspace, b.at, b.agent_id, b.task_type, b.budgets, b.spent, b.known
    ), added as (
        insert into budget_days as d (workspace, day, agent_id, task_type, budgets, attempts, spent, unknown)
        select f.workspace, to_char(to_timestamp(f.at) at time zone 'UTC', 'YYYY-MM-DD'), f.agent_id, f.task_type, f.budgets,
               count(*), sum(f.spent), count(*) filter (where not f.known)
        from folded f group by 1, 2, 3, 4, 5
        on conflict (workspace, day, agent_id, task_type, budgets) do update set
            attempts = d.attempts + excluded.attempts, spent = d.spent + excluded.spent,
            unknown = d.unknown + excluded.unknown
    )
    select count(*) into v_folded from folded;
    if v_folded > 0 then
        perform log_append(p_region, p_epoch, array[true], l);
    end if;
    return v_folded;
end $$;

-- Deletes what a workspace's attempts of these days have cost. Returns of how many rows.
create function remove_spending(p_region text, p_epoch bigint, p_days text[], l log_rows)
returns integer language plpgsql as $$
declare
    v_removed integer;
begin
    perform region_lock(p_region);
    delete from budget_days d where d.workspace = l.workspace[1] and d.day = any (p_days);
    get diagnostics v_removed = row_count;
    if v_removed > 0 then
        perform log_append(p_region, p_epoch, array[true], l);
    end if;
    return v_removed;
end $$;

-- Deletes violations of a workspace. Returns how many.
create function remove_violations(p_region text, p_epoch bigint, p_ids text[], l log_rows)
returns integer language plpgsql as $$
declare
    v_removed integer;
begin
    perform region_lock(p_region);
    delete from policy_violations v where v.workspace = l.workspace[1] and v.id = any (p_ids);
    get diagnostics v_removed = row_count;
    if v_removed > 0 then
        perform log_append(p_region, p_epoch, array[true], l);
    end if;
    return v_removed;
end $$;
