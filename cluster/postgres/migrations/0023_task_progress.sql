-- What the holders of tasks report while they work. A table of its own: an update of a task's row, which is wide and in many indexes,
-- costs more, and other regions would copy the payload with it.

-- ``attempt`` reported last, at ``at``; percent and message are its own, the checkpoint may be of an earlier one.
create table task_progress (
    task_id     text primary key,
    workspace   text not null,
    attempt     integer not null,
    at          double precision not null,
    percent     double precision,
    message     text,
    checkpoint  json
);
-- Words stay out of the statistics, from which nothing erases them.
alter table task_progress alter column message set statistics 0;

-- Stores reports of different tasks. What a report leaves out stays as it was; a report of an earlier attempt changes nothing.
create function store_progress(
    p_region text, p_epoch bigint, p_shard text, p_generation bigint,
    r_task text[], r_workspace text[], r_attempt integer[], r_at double precision[], r_percent double precision[],
    r_message text[], r_checkpoint text[], l log_rows
) returns void language plpgsql as $$
begin
    insert into task_progress as p (task_id, workspace, attempt, at, percent, message, checkpoint)
    select r.task, r.workspace, r.attempt, r.at, r.percent, r.message, r.checkpoint::json
    from unnest(r_task, r_workspace, r_attempt, r_at, r_percent, r_message, r_checkpoint)
         as r (task, workspace, attempt, at, percent, message, checkpoint)
    order by r.task
    on conflict (task_id) do update set
        attempt = excluded.attempt, at = excluded.at,
        percent = case when p.attempt = excluded.attempt then coalesce(excluded.percent, p.percent)
                  else excluded.percent end,
        message = case when p.attempt = excluded.attempt then coalesce(excluded.message, p.message)
                  else excluded.message end,
        checkpoint = coalesce(excluded.checkpoint, p.checkpoint)
    where p.attempt <= excluded.attempt;
    perform log_append(p_region, p_epoch, array(select true from unnest(l.entity)), l);
    -- Under the region's lock, as in decide_tasks.
    if not exists (select 1 from shards s where s.shard = p_shard and s.generation = p_generation) then
        raise exception 'generation % of % was replaced', p_generation, p_shard using errcode = 'AG002';
    end if;
end $$;
