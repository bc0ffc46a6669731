-- Retention of runs of workflows, as of tasks (0031): what ended long ago goes, and leaves a stub.
create table workflow_run_stubs (
    id              text primary key,
    workspace       text not null,
    status          text not null,
    created_at      double precision not null,
    completed_at    double precision not null,
    removed_at      double precision not null
);

alter table retention_passes add column workflow_runs bigint not null default 0;

-- Removes the runs that the row lists, but for those that have not ended, and returns how many that were.
create function remove_runs(p_region text, p_epoch bigint, l log_rows) returns integer language plpgsql as $$
declare
    v_listed text[] := listed_ids(l.data[1]::json, 'run_ids');
    v_done text[];
begin
    with ended as materialized (
        select r.id from workflow_runs r
        where r.id = any (v_listed) and r.workspace || '' = l.workspace[1] and r.ended_at is not null
        order by r.id for update
    ), removed as (
        delete from workflow_runs r using ended e where r.id = e.id
        returning r.id, r.workspace, r.status, r.created_at, r.ended_at
    ), kept as (
        insert into workflow_run_stubs (id, workspace, status, created_at, completed_at, removed_at)
        select r.id, r.workspace, r.status, r.created_at, r.ended_at, l.at[1] from removed r
        on conflict do nothing
    )
    select coalesce(array_agg(id), '{}') into v_done from removed;
    if v_done = '{}' then
        return 0;
    end if;
    perform forget_words(l.workspace[1], v_done);
    perform log_append(p_region, p_epoch, array[true], l);
    return cardinality(v_done);
end $$;
