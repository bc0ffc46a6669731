-- A workspace is deleted with its open work.

-- Creates a workspace (p_new) or changes it. One that was deleted stays so, since its rows and its log stay.
-- Open work is no obstacle to a deletion: whoever owns it ends it when it reads the row.
create or replace function put_workspace(
    p_region text, p_epoch bigint, p_new boolean, p_id text, p_name text, p_state text, p_at double precision, l log_rows
) returns text language plpgsql as $$
declare
    v_old workspaces;
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
    perform log_append(p_region, p_epoch, array[true], l);
    return 'done';
end $$;
