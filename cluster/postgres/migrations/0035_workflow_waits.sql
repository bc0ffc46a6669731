-- Steps that wait for a signal or a time. ``due_at``: when the first of a run's steps that wait is over; ``signals``: the values that
-- the run was sent, by name, null for none.
alter table workflow_runs add column due_at double precision, add column signals json;
alter table workflow_runs alter column signals set statistics 0;
create index workflow_runs_due on workflow_runs (due_at) where due_at is not null;

-- Stores the value of a signal, if one of p_steps, which wait for it, has not ended. Returns `absent`, `repeated` (it has that value),
-- `other`, `late`, `full`, or `taken`.
create function signal_run(
    p_region text, p_epoch bigint, p_name text, p_value text, p_steps text[], p_most integer, l log_rows
) returns text language plpgsql as $$
declare
    v_run workflow_runs;
begin
    perform region_lock(p_region);
    select r.* into v_run from workflow_runs r where r.id = l.entity[1] and r.workspace = l.workspace[1];
    if not found then
        return 'absent';
    elsif (v_run.signals -> p_name) is not null then
        return case when (v_run.signals -> p_name)::text = p_value then 'repeated' else 'other' end;
    elsif v_run.status <> 'running' or not exists (
        select from unnest(p_steps) as s (id)
        where coalesce(v_run.state -> 'steps' -> s.id ->> 'status', 'waiting') in ('waiting', 'running')) then
        return 'late';
    elsif coalesce(length(v_run.signals::text), 0) + length(p_value) > p_most then
        return 'full';
    end if;
    -- Not by way of jsonb, which refuses what json takes (\u0000).
    update workflow_runs r set signals = (
        select json_object_agg(s.name, s.value)
        from (select * from json_each(v_run.signals) union all select p_name, p_value::json) as s (name, value))
    where r.id = v_run.id;
    perform log_append(p_region, p_epoch, array[true], l);
    return 'taken';
end $$;

-- As before (0028), and a run keeps when it is due. A signal that a run has given up (``missed``) must not have come meanwhile.
create or replace function advance_runs(
    p_region text, p_epoch bigint, p_from bigint, p_to bigint, p_runs text, l log_rows
) returns boolean language plpgsql as $$
declare
    v_changed integer;
begin
    perform region_lock(p_region);
    update workflow_cursors c set seq = p_to where c.region = p_region and c.epoch = p_epoch and c.seq = p_from;
    if not found then
        raise exception 'runs were advanced by another process' using errcode = 'AG002';
    end if;
    if exists (
        select from json_to_recordset(p_runs::json) as n (id text, missed text[])
        cross join unnest(n.missed) as m (name) join workflow_runs r on r.id = n.id
        where (r.signals -> m.name) is not null) then
        raise exception 'a run was signalled' using errcode = 'AG009';
    end if;
    perform log_append(p_region, p_epoch, array(select true from unnest(l.entity)), l);
    update workflow_runs r set
        status = n.status, state = n.state, changed_at = n.changed_at, ended_at = n.ended_at, due_at = n.due_at
    from json_populate_recordset(null::workflow_runs, p_runs::json) n
    where r.id = n.id and r.workspace = n.workspace;
    get diagnostics v_changed = row_count;
    if v_changed <> json_array_length(p_runs::json) then
        raise exception 'a run was deleted' using errcode = 'AG009';
    end if;
    return true;
end $$;
