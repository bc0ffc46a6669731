-- Chunks: what the holder of a running task tells of its work. They are not rows of the log and not replicated, so a commit of them
-- takes no lock of the region; it takes a share of the rows of the tasks, so that it is before or after each end and each erasure.

create table task_chunks (
    task_id  text not null,
    attempt  integer not null,
    n        integer not null,
    at       double precision not null,
    size     integer not null,
    content  text not null,
    primary key (task_id, attempt, n)
);
-- No sample of words stays in the statistics (see 0021).
alter table task_chunks alter column content set statistics 0;

-- Of each task with chunks: the last one, how many there are of all attempts and their bytes, and until when (epoch seconds) its
-- allowance of chunks per second is used up.
create table task_chunk_totals (
    task_id     text primary key,
    attempt     integer not null,
    n           integer not null,
    chunks      integer not null,
    bytes       bigint not null,
    paid_until  double precision not null
);

-- Writes some calls, each with consecutive chunks of one attempt from number p_first on: p_count of p_content. Each is written whole
-- or refused whole. ``verdict``: written, unknown, lost, gap, changed, full, fast; ``next``: the number that comes next, or that has
-- another content; ``wait_s``: when a call that was too fast may be made again.
create function write_chunks(
    p_region text, p_epoch bigint, p_workspace text[], p_task text[], p_attempt integer[], p_agent text[],
    p_first integer[], p_skip boolean[], p_at double precision[], p_count integer[], p_content text[],
    p_most integer, p_most_bytes bigint, p_per_s double precision, p_bytes_per_s double precision, p_burst_s double precision
) returns table (verdict text, next integer, wait_s double precision) language plpgsql as $$
declare
    v_state record;
    v_task record;
    v_total record;
    v_from integer := 1;
    v_given text[];
    v_last integer;
    v_known integer;
    v_size bigint;
    v_paid double precision;
begin
    select s.epoch, s.role, s.trusted_until into v_state from region_state s where s.region = p_region;
    if v_state.epoch is distinct from p_epoch then
        raise exception 'epoch % was replaced by %', p_epoch, v_state.epoch using errcode = 'AG001';
    elsif v_state.role <> 'primary' or v_state.trusted_until <= clock_timestamp() then
        raise exception 'role %, trusted until %', v_state.role, v_state.trusted_until using errcode = 'AG005';
    end if;
    perform from tasks t where t.id = any (p_task) order by t.id for share;
    insert into task_chunk_totals (task_id, attempt, n, chunks, bytes, paid_until)
    select t.id, 0, 0, 0, 0, 0 from tasks t where t.id = any (p_task) and t.status = 'running' order by t.id
    on conflict do nothing;
    perform from task_chunk_totals s where s.task_id = any (p_task) order by s.task_id for update;
    for i in 1 .. cardinality(p_task) loop
        v_given := p_content[v_from : v_from + p_count[i] - 1];
        v_from := v_from + p_count[i];
        next := null;
        wait_s := 0;
        select t.status, t.attempt, t.assigned_agent into v_task from tasks t
        where t.id = p_task[i] and t.workspace = p_workspace[i];
        if not found then
            verdict := 'unknown';
            return next;
            continue;
        elsif v_task.status <> 'running' or v_task.attempt <> p_attempt[i]
              or v_task.assigned_agent is distinct from p_agent[i] then
            verdict := 'lost';
            return next;
            continue;
        end if;
        select * into v_total from task_chunk_totals s where s.task_id = p_task[i];
        v_last := case when v_total.attempt = p_attempt[i] then v_total.n else 0 end;
        v_known := least(greatest(v_last - p_first[i] + 1, 0), p_count[i]);
        select min(p_first[i] + g.ord - 1) into next
        from unnest(v_given[1 : v_known]) with ordinality as g (content, ord)
        left join task_chunks c on c.task_id = p_task[i] and c.attempt = p_attempt[i] and c.n = p_first[i] + g.ord - 1
        where c.content is distinct from g.content;
        if next is not null then
            verdict := 'changed';
        elsif v_known = p_count[i] then
            verdict := 'written';
            next := v_last + 1;
        elsif p_first[i] > v_last + 1 and not p_skip[i] then
            verdict := 'gap';
            next := v_last + 1;
        else
            v_given := v_given[v_known + 1 :];
            v_size := (select sum(octet_length(g)) from unnest(v_given) g);
            v_paid := least(greatest(v_total.paid_until, p_at[i]), p_at[i] + p_burst_s)
                      + greatest(cardinality(v_given) / p_per_s, v_size / p_bytes_per_s);
            if v_total.chunks + cardinality(v_given) > p_most or v_total.bytes + v_size > p_most_bytes then
                verdict := 'full';
            elsif v_paid - p_at[i] - p_burst_s > 0.001 then
                verdict := 'fast';
                wait_s := v_paid - p_at[i] - p_burst_s;
            else
                verdict := 'written';
                next := p_first[i] + p_count[i];
                insert into task_chunks (task_id, attempt, n, at, size, content)
                select p_task[i], p_attempt[i], p_first[i] + v_known + g.ord - 1, p_at[i], octet_length(g.content), g.content
                from unnest(v_given) with ordinality as g (content, ord);
                update task_chunk_totals s set
                    attempt = p_attempt[i], n = next - 1, chunks = s.chunks + cardinality(v_given),
                    bytes = s.bytes + v_size, paid_until = v_paid
                where s.task_id = p_task[i];
            end if;
        end if;
        return next;
    end loop;
end $$;

-- Deletes the chunks of tasks that are erased or gone.
create function forget_chunks(p_task text[]) returns void language sql as $$
    delete from task_chunks where task_id = any (p_task);
    delete from task_chunk_totals where task_id = any (p_task);
$$;

-- As before, and what holders have reported (0023) and told goes too.
create or replace function erase_tasks(p_region text, p_epoch bigint, l log_rows) returns text[] language plpgsql as $$
declare
    v_done text[];
begin
    with erased as (
        update tasks t set
            payload = 'null', metadata = '{}', result = null, error = null, erased_at = r.at,
            purged_at = case when t.status_detail in ('dead_lettered', 'timeout') then coalesce(t.purged_at, r.at)
                        else t.purged_at end
        from (select * from unnest(l.entity, l.workspace, l.at) as r (id, workspace, at) order by r.id) r
        where t.id = r.id and t.workspace = r.workspace and t.status not in ('pending', 'running')
          and t.erased_at is null
        returning t.id
    )
    select coalesce(array_agg(id), '{}') into v_done from erased;
    if v_done = '{}' then
        return v_done;
    end if;
    delete from task_progress where task_id = any (v_done);
    perform forget_chunks(v_done);
    perform forget_words(l.workspace[1], v_done);
    perform forget_answers(l.workspace[1], v_done);
    perform log_append(
        p_region, p_epoch,
        array(select r.id = any (v_done) from unnest(l.entity) with ordinality as r (id, ord) order by r.ord), l);
    return v_done;
end $$;

-- As before, and the chunks that this region had taken go too.
create or replace function follow_erasures(p_after bigint) returns void language sql as $$
    update log l set private = null from log e
    where e.seq > p_after and e.kind in ('task.erased', 'deliberation.erased', 'outcome.erased')
      and l.entity = e.entity and l.workspace = e.workspace and l.private is not null;
    update log l set private = null from log e
    where e.seq > p_after and e.kind = 'erasure.words'
      and l.seq > (e.data ->> 'after')::bigint and l.seq <= (e.data ->> 'through')::bigint
      and l.workspace = e.workspace and l.private is not null;
    select forget_chunks(coalesce((select array_agg(e.entity) from log e where e.seq > p_after and e.kind = 'task.erased'), '{}'));
$$;
