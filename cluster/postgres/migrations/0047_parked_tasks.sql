-- Tasks that wait for their children without a lease. ``attempt`` gave its lease back to wait.
create table task_parks (
    task_id         text not null,
    attempt         integer not null,
    workspace       text not null,
    at              double precision not null,
    children        json not null,
    primary key (task_id, attempt)
);

-- As decide_spending, with what tasks wait for: d_children is a list of ids for a decision that parks its task, and null for others.
create function decide_parked(
    p_region text, p_epoch bigint, p_shard text, p_generation bigint,
    d_expect_status text[], d_expect_attempt integer[], d_status text[], d_detail text[], d_retries integer[],
    d_priority smallint[], d_run_at double precision[], d_agent text[], d_claim text[], d_holder text[],
    d_started double precision[], d_completed double precision[], d_result text[], d_error text[], d_want boolean[],
    d_place text[], l log_rows, d_question text[], d_answer text[], p_entries text, d_children text[]
) returns table (applied boolean, seq bigint, payload text, metadata text) language plpgsql as $$
#variable_conflict use_column
declare
    v_outcome record;
    v_n integer := 0;
begin
    for v_outcome in select * from decide_spending(
        p_region, p_epoch, p_shard, p_generation, d_expect_status, d_expect_attempt, d_status, d_detail, d_retries,
        d_priority, d_run_at, d_agent, d_claim, d_holder, d_started, d_completed, d_result, d_error, d_want, d_place, l,
        d_question, d_answer, p_entries)
    loop
        v_n := v_n + 1;
        if v_outcome.applied and d_children[v_n] is not null then
            insert into task_parks (task_id, attempt, workspace, at, children)
            values (l.entity[v_n], d_expect_attempt[v_n], l.workspace[v_n], l.at[v_n], d_children[v_n]::json);
        end if;
        return query select v_outcome.applied, v_outcome.seq, v_outcome.payload, v_outcome.metadata;
    end loop;
end $$;

-- As before (0034), and what a task waited for goes with it.
create or replace function forget_chunks(p_task text[]) returns void language sql as $$
    delete from task_chunks where task_id = any (p_task);
    delete from task_chunk_totals where task_id = any (p_task);
    delete from task_questions where task_id = any (p_task);
    delete from task_parks where task_id = any (p_task);
$$;
