-- Workflows: documents by name and version, and runs of them. ``templates``: the tasks of the steps, checked; ``digest``: of the
-- document, so that the same one again is no new version.
create table workflows (
    workspace   text not null,
    name        text not null,
    version     integer not null,
    principal   text not null,
    document    json not null,
    templates   json not null,
    digest      bytea not null,
    created_at  double precision not null,
    primary key (workspace, name, version)
);

-- ``input`` is null for JSON's null; ``state``: where the steps are, without words but for reasons; ``started_row``: the row of the
-- log that says that it was started.
create table workflow_runs (
    id          text primary key,
    workspace   text not null,
    name        text not null,
    version     integer not null,
    principal   text not null,
    input       json,
    metadata    json not null,
    status      text not null,
    state       json not null,
    created_at  double precision not null,
    changed_at  double precision not null,
    ended_at    double precision,
    started_row bigint not null
);
create index workflow_runs_of on workflow_runs (workspace, created_at desc, id desc);
create index workflow_runs_open on workflow_runs (started_row) where ended_at is null;

-- Up to which row of the log runs have been advanced, under which epoch. One row: whoever advances runs states it.
create table workflow_cursors (
    region  text primary key,
    epoch   bigint not null,
    seq     bigint not null
);

alter table workflows
    alter column document set statistics 0, alter column templates set statistics 0;
alter table workflow_runs
    alter column input set statistics 0, alter column metadata set statistics 0, alter column state set statistics 0;

-- The functions take the region's lock first, so that all rows are locked in one order.

-- Stores the next version of a workflow; false if another one has been stored meanwhile.
create function apply_workflow(
    p_region text, p_epoch bigint, p_most integer, p_workflow text, l log_rows
) returns boolean language plpgsql as $$
declare
    v_new workflows;
    v_last integer;
begin
    perform region_lock(p_region);
    v_new := json_populate_record(null::workflows, p_workflow::json);
    select coalesce(max(w.version), 0) into v_last from workflows w
    where w.workspace = v_new.workspace and w.name = v_new.name;
    if v_last <> v_new.version - 1 then
        return false;
    elsif v_last = 0 and (
        select count(distinct w.name) from workflows w where w.workspace = v_new.workspace) >= p_most then
        raise exception 'too many workflows' using errcode = 'AG008';
    end if;
    perform log_append(p_region, p_epoch, array[true], l);
    insert into workflows select v_new.*;
    return true;
end $$;

-- Stores a new run; the id that is returned is an earlier call's if the key was used before.
create function start_run(
    p_region text, p_epoch bigint, p_run text, i_route text[], i_key text[], i_digest bytea[], l log_rows
) returns text language plpgsql as $$
declare
    v_seq bigint[];
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
    end if;
    perform idempotency_claim(l, i_route, i_key, i_digest, l.entity);
    v_seq := log_append(p_region, p_epoch, array[true], l);
    insert into workflow_runs select * from json_populate_record(null::workflow_runs, p_run::json);
    update workflow_runs r set started_row = v_seq[1] where r.id = l.entity[1];
    return l.entity[1];
end $$;

-- From where to advance runs under this epoch: the first row of any open run if runs were advanced under another one, since that
-- cursor may be of another region. Rows that are read again change nothing.
create function begin_advancing(p_region text, p_epoch bigint) returns bigint language plpgsql as $$
declare
    v_seq bigint;
begin
    perform region_lock(p_region);
    perform log_append(p_region, p_epoch, '{}', null::log_rows);
    insert into workflow_cursors as c (region, epoch, seq)
    values (p_region, p_epoch, coalesce(
        (select min(r.started_row) - 1 from workflow_runs r where r.ended_at is null), (select max(seq) from log), 0))
    on conflict (region) do update set epoch = excluded.epoch, seq = excluded.seq where c.epoch <> excluded.epoch;
    select c.seq into v_seq from workflow_cursors c where c.region = p_region;
    return v_seq;
end $$;

-- Moves the cursor, and the runs that its rows are about. The tasks that start with them are submitted by the same statement.
create function advance_runs(
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
    perform log_append(p_region, p_epoch, array(select true from unnest(l.entity)), l);
    update workflow_runs r set
        status = n.status, state = n.state, changed_at = n.changed_at, ended_at = n.ended_at
    from json_populate_recordset(null::workflow_runs, p_runs::json) n
    where r.id = n.id and r.workspace = n.workspace;
    get diagnostics v_changed = row_count;
    if v_changed <> json_array_length(p_runs::json) then
        raise exception 'a run was deleted' using errcode = 'AG009';
    end if;
    return true;
end $$;

-- Deletes runs that have ended, or workflows (by name, with all versions) without open runs, and the remembered answers that show
-- them; returns the entities of those that there were.
create function remove_workflows(p_region text, p_epoch bigint, l log_rows) returns text[] language plpgsql as $$
declare
    v_done text[];
begin
    perform region_lock(p_region);
    with runs as (
        delete from workflow_runs r using unnest(l.kind, l.entity, l.workspace) as d (kind, id, workspace)
        where d.kind = 'workflow.run_deleted' and r.id = d.id and r.workspace = d.workspace and r.ended_at is not null
        returning r.id
    ), documents as (
        delete from workflows w using unnest(l.kind, l.entity, l.workspace) as d (kind, id, workspace)
        where d.kind = 'workflow.deleted' and w.name = d.id and w.workspace = d.workspace
          and not exists (
              select from workflow_runs r where r.workspace = w.workspace and r.name = w.name and r.ended_at is null)
        returning w.name
    )
    select coalesce(array_agg(distinct id), '{}') into v_done
    from (select id from runs union all select name from documents) as removed (id);
    if v_done = '{}' then
        return v_done;
    end if;
    perform forget_answers(l.workspace[1], v_done);
    perform log_append(
        p_region, p_epoch,
        array(select r.id = any (v_done) from unnest(l.entity) with ordinality as r (id, ord) order by r.ord), l);
    return v_done;
end $$;
