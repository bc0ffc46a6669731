-- Questions to people. What a shard needs to know of an open one is in two columns; what people wrote is apart, in words.

-- ``attempt`` asked it; 0 is the question of a submit, whose answer is the task's result. ``verdict`` is null until it is answered.
create table task_questions (
    task_id         text not null,
    attempt         integer not null,
    workspace       text not null,
    asked_at        double precision not null,
    asked_by        text not null,
    answerers       json not null,
    time_limit_s    double precision,
    has_default     boolean not null,
    words           json not null,
    verdict         text,
    answered_at     double precision,
    answered_by     text,
    answer          json,
    reason          text,
    primary key (task_id, attempt)
);
-- Words stay out of the statistics, from which nothing erases them.
alter table task_questions alter column reason set statistics 0;

-- The open questions of a workspace. Few tasks wait for people, and the others have no entry.
create index tasks_asking on tasks (workspace, created_at, id) where status_detail = 'input_required';

create function keep_question(
    p_task text, p_attempt integer, p_workspace text, p_at double precision, p_principal text, p_question json
) returns void language sql as $$
    insert into task_questions (
        task_id, attempt, workspace, asked_at, asked_by, answerers, time_limit_s, has_default, words)
    values (
        p_task, p_attempt, p_workspace, p_at, p_principal, p_question -> 'answerers',
        (p_question ->> 'time_limit_s')::double precision, (p_question ->> 'has_default')::boolean, p_question -> 'words')
$$;

-- As submit_tasks, with the questions of those tasks that have one.
create function submit_asking_tasks(
    p_region text, p_epoch bigint, p_now double precision, p_all_or_none boolean,
    t_shard smallint[], t_queue text[], t_task_type text[], t_priority smallint[], t_detail text[],
    t_max_retries integer[], t_timeout_s double precision[], t_run_at double precision[], t_target_agent text[],
    t_target_region text[], t_routing text[], t_origin text[], t_fallback text[], t_required text[], t_payload text[],
    t_metadata text[], t_rules text[], i_route text[], i_key text[], i_digest bytea[], l log_rows, t_question text[]
) returns table (task_id text, seq bigint, replayed boolean, conflict boolean) language plpgsql as $$
#variable_conflict use_column
declare
    v_outcome record;
    v_n integer := 0;
begin
    for v_outcome in select * from submit_tasks(
        p_region, p_epoch, p_now, p_all_or_none, t_shard, t_queue, t_task_type, t_priority, t_detail, t_max_retries,
        t_timeout_s, t_run_at, t_target_agent, t_target_region, t_routing, t_origin, t_fallback, t_required, t_payload,
        t_metadata, t_rules, i_route, i_key, i_digest, l)
    loop
        v_n := v_n + 1;
        if t_question[v_n] is not null and not v_outcome.replayed and not v_outcome.conflict then
            perform keep_question(l.entity[v_n], 0, l.workspace[v_n], l.at[v_n], l.principal[v_n], t_question[v_n]::json);
        end if;
        return query select v_outcome.task_id, v_outcome.seq, v_outcome.replayed, v_outcome.conflict;
    end loop;
end $$;

-- As decide_tasks, with what is asked and answered: a question is that of the attempt that ends, an answer that to the question of the
-- present attempt. An answer of a default is the one that was stored with its question.
create function decide_questions(
    p_region text, p_epoch bigint, p_shard text, p_generation bigint,
    d_expect_status text[], d_expect_attempt integer[], d_status text[], d_detail text[], d_retries integer[],
    d_priority smallint[], d_run_at double precision[], d_agent text[], d_claim text[], d_holder text[],
    d_started double precision[], d_completed double precision[], d_result text[], d_error text[], d_want boolean[],
    d_place text[], l log_rows, d_question text[], d_answer text[]
) returns table (applied boolean, seq bigint, payload text, metadata text) language plpgsql as $$
#variable_conflict use_column
declare
    v_outcome record;
    v_n integer := 0;
    v_answer json;
    v_default json;
begin
    for v_outcome in select * from decide_tasks(
        p_region, p_epoch, p_shard, p_generation, d_expect_status, d_expect_attempt, d_status, d_detail, d_retries,
        d_priority, d_run_at, d_agent, d_claim, d_holder, d_started, d_completed, d_result, d_error, d_want, d_place, l)
    loop
        v_n := v_n + 1;
        if v_outcome.applied and d_question[v_n] is not null then
            perform keep_question(
                l.entity[v_n], d_expect_attempt[v_n], l.workspace[v_n], l.at[v_n], l.principal[v_n], d_question[v_n]::json);
        end if;
        if v_outcome.applied and d_answer[v_n] is not null then
            v_answer := d_answer[v_n]::json;
            update task_questions q set
                verdict = v_answer ->> 'verdict', answered_at = l.at[v_n], answered_by = v_answer ->> 'principal',
                reason = v_answer ->> 'reason',
                answer = case v_answer ->> 'verdict' when 'default' then q.words -> 'default' else v_answer -> 'value' end
            where q.task_id = l.entity[v_n] and q.attempt = d_expect_attempt[v_n]
            returning q.words -> 'default' into v_default;
            if v_answer ->> 'verdict' = 'default' and d_status[v_n] = 'completed' then
                update tasks t set result = v_default where t.id = l.entity[v_n];
            end if;
        end if;
        return query select v_outcome.applied, v_outcome.seq, v_outcome.payload, v_outcome.metadata;
    end loop;
end $$;

-- As before (0024), and what was asked and answered goes too: erase_tasks, remove_tasks and follow_erasures call it for tasks whose words
-- go.
create or replace function forget_chunks(p_task text[]) returns void language sql as $$
    delete from task_chunks where task_id = any (p_task);
    delete from task_chunk_totals where task_id = any (p_task);
    delete from task_questions where task_id = any (p_task);
$$;
