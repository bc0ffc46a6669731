-- Pushes: URLs that clients of A2A want to be called at when the state of a task changes. One row for each URL and task, which has the
-- newest state that is to be told: a receiver that is away makes no queue. ``task_id`` is that of a task or of a deliberation.
-- in_context: whether whoever made it knows the conversation of the task, which is then told. seq: the row of the log that the state follows from, and before the first one the row that made the push.
create table pushes (
    push_id     text primary key,
    workspace   text not null,
    task_id     text not null,
    id          text not null,
    principal   text not null,
    created_at  double precision not null,
    url         text not null,
    origin      text not null,
    in_context  boolean not null,
    sealed      bytea,
    seq         bigint not null,
    state       text,
    at          double precision,
    status      text not null,
    attempts    integer not null,
    next_at     double precision,
    ended_at    double precision,
    error       text
);
create unique index pushes_of on pushes (workspace, task_id, id);
create index pushes_due on pushes (next_at) where status = 'pending';

-- The functions take the region's lock first, so that all rows are locked in one order.

-- Makes or replaces a push. Returns 'done', 'too_many', or 'too_many_of_task'.
create function put_push(
    p_region text, p_epoch bigint, p_most integer, p_most_of_task integer, p_push text, p_sealed bytea, l log_rows
) returns text language plpgsql as $$
declare
    v_new pushes;
    v_seq bigint[];
begin
    perform region_lock(p_region);
    v_new := json_populate_record(null::pushes, p_push::json);
    if not exists (select from pushes p where p.push_id = v_new.push_id) then
        if (select count(*) from pushes p where p.workspace = v_new.workspace) >= p_most then
            return 'too_many';
        elsif (select count(*) from pushes p where p.workspace = v_new.workspace and p.task_id = v_new.task_id)
            >= p_most_of_task then
            return 'too_many_of_task';
        end if;
    end if;
    v_seq := log_append(p_region, p_epoch, array[true], l);
    v_new.seq := v_seq[1];
    v_new.sealed := p_sealed;
    insert into pushes select v_new.*
    on conflict (push_id) do update set
        principal = excluded.principal, created_at = excluded.created_at, url = excluded.url, origin = excluded.origin,
        in_context = excluded.in_context, sealed = excluded.sealed, seq = excluded.seq, state = excluded.state, at = excluded.at, status = excluded.status,
        attempts = excluded.attempts, next_at = excluded.next_at, ended_at = excluded.ended_at, error = excluded.error;
    return 'done';
end $$;

-- Deletes a push; returns whether there was one.
create function remove_push(p_region text, p_epoch bigint, l log_rows) returns boolean language plpgsql as $$
begin
    perform region_lock(p_region);
    delete from pushes p where p.workspace = l.workspace[1] and p.push_id = l.entity[1];
    if not found then
        return false;
    end if;
    perform log_append(p_region, p_epoch, array[true], l);
    return true;
end $$;

-- Notes the newest states of tasks at their pushes: who waits for another attempt gets the newer state by it.
create function queue_pushes(p_changes text, p_now double precision) returns boolean language plpgsql as $$
begin
    update pushes p set
        seq = c.seq, state = c.state, at = c.at, status = 'pending', ended_at = null,
        attempts = case when p.status = 'pending' then p.attempts else 0 end,
        next_at = case when p.status = 'pending' then p.next_at else p_now end
    from (
        select distinct on (n.workspace, n.task_id) n.*
        from json_to_recordset(p_changes::json) as n (
            workspace text, task_id text, seq bigint, state text, at double precision)
        order by n.workspace, n.task_id, n.seq desc
    ) c
    where p.workspace = c.workspace and p.task_id = c.task_id and p.seq < c.seq;
    return true;
end $$;

-- Begins an attempt at some pushes that are due, but for those of busy receivers, and returns their ids.
create function claim_pushes(
    p_region text, p_epoch bigint, p_now double precision, p_until double precision, p_limit integer,
    b_workspace text[], b_origin text[]
) returns text[] language plpgsql as $$
declare
    v_due text[];
    v_ids text[];
begin
    v_due := array(
        select p.push_id from pushes p
        where p.status = 'pending' and p.next_at <= p_now
          and not exists (
              select from unnest(b_workspace, b_origin) as b (workspace, origin)
              where b.workspace = p.workspace and b.origin = p.origin)
        order by p.next_at, p.push_id limit p_limit);
    if v_due = '{}' then
        return v_due;
    end if;
    perform region_lock(p_region);
    perform log_append(p_region, p_epoch, '{}', null::log_rows);
    with claimed as (
        update pushes p set attempts = p.attempts + 1, next_at = p_until
        where p.push_id = any (v_due) and p.status = 'pending' and p.next_at <= p_now
        returning p.push_id
    )
    select coalesce(array_agg(push_id), '{}') into v_ids from claimed;
    return v_ids;
end $$;

-- Stores what came of attempts, of those that are still the last ones. If the state has changed meanwhile, it is due unless the
-- receiver is left alone for a while. A push whose task has ended and was told so has nothing more to tell, and is deleted.
create function settle_pushes(p_ended text, p_ends text[]) returns boolean language plpgsql as $$
declare
    e pushes;
    v_seq bigint;
    v_state text;
begin
    for e in
        select * from json_populate_recordset(null::pushes, p_ended::json) r order by r.push_id
    loop
        select p.seq, p.state into v_seq, v_state from pushes p
        where p.push_id = e.push_id and p.status = 'pending' and p.attempts = e.attempts for update of p;
        if not found then
            continue;
        elsif v_seq > e.seq and e.status <> 'pending' then
            update pushes p set attempts = 0, next_at = e.ended_at, error = e.error where p.push_id = e.push_id;
        elsif e.status = 'delivered' and v_state = any (p_ends) then
            delete from pushes p where p.push_id = e.push_id;
        else
            update pushes p set
                status = case when e.status = 'delivered' then 'idle' else e.status end,
                next_at = e.next_at, ended_at = e.ended_at, error = e.error
            where p.push_id = e.push_id;
        end if;
    end loop;
    return true;
end $$;
