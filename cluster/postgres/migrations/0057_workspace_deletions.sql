-- Who deleted a workspace, and the row that says so: what still runs there is ended in their name, also after a restart. A table of
-- its own, because builds before this one read every column of ``workspaces``.
create table workspace_deletions (
    workspace   text primary key,
    principal   text not null,
    seq         bigint not null
);

insert into workspace_deletions
select distinct on (w.id) w.id, r.principal, r.seq
from workspaces w join log r on r.entity = w.id and r.kind = 'access.workspace_changed'
where w.state = 'deleted'
order by w.id, r.seq desc;

-- As before (0013), and notes who deleted the workspace.
create or replace function put_workspace(
    p_region text, p_epoch bigint, p_new boolean, p_id text, p_name text, p_state text, p_at double precision, l log_rows
) returns text language plpgsql as $$
declare
    v_old workspaces;
    v_seq bigint[];
begin
    perform region_lock(p_region);
    select * into v_old from workspaces w where w.id = p_id;
    if found = p_new then
        return case when p_new then 'exists' else 'absent' end;
    elsif v_old.state = 'deleted' then
        return 'absent';
    elsif (v_old.name, v_old.state) is not distinct from (p_name, p_state) then
        return 'done';
    end if;
    insert into workspaces as w values (p_id, p_name, p_state, p_at, p_at)
    on conflict (id) do update set name = excluded.name, state = excluded.state, changed_at = excluded.changed_at;
    v_seq := log_append(p_region, p_epoch, array[true], l);
    if p_state = 'deleted' then
        insert into workspace_deletions values (p_id, l.principal[1], v_seq[1]);
    end if;
    return 'done';
end $$;
