-- Replays of runs. ``replays``: the run that it is a replay of; ``refers``: the runs whose tasks it refers to.
alter table workflow_runs add column replays text, add column refers text[];
create index workflow_runs_referring on workflow_runs (workspace) where ended_at is null and refers is not null;

-- As before (0028); a replay has the input of the run that it replays, and those of its signals that `kept_signals` names.
create or replace function start_run(
    p_region text, p_epoch bigint, p_run text, i_route text[], i_key text[], i_digest bytea[], l log_rows
) returns text language plpgsql as $$
declare
    v_seq bigint[];
    v_first idempotency;
    v_new workflow_runs;
begin
    perform region_lock(p_region);
    select s.* into v_first from idempotency s
    where s.workspace = l.workspace[1] and s.route = i_route[1] and s.key = i_key[1];
    if found then
        if v_first.digest <> i_digest[1] then
            raise exception 'idempotency conflict' using errcode = 'AG003';
        end if;
        return v_first.answer;
    end if;
    v_new := json_populate_record(null::workflow_runs, p_run::json);
    if v_new.replays is not null then
        select o.input, (
            select json_object_agg(s.key, s.value) from json_each(o.signals) s
            where s.key = any (listed_ids(p_run::json, 'kept_signals')))
        into v_new.input, v_new.signals
        from workflow_runs o where o.id = v_new.replays and o.workspace = v_new.workspace;
        if not found then
            raise exception 'a run was deleted' using errcode = 'AG009';
        end if;
    end if;
    perform idempotency_claim(l, i_route, i_key, i_digest, l.entity);
    v_seq := log_append(p_region, p_epoch, array[true], l);
    v_new.started_row := v_seq[1];
    insert into workflow_runs select v_new.*;
    return l.entity[1];
end $$;
