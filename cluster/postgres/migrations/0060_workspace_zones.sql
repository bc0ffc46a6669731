-- The zones that workspaces are resident in; one that is not here is resident nowhere. A table of its own, because builds before this
-- one read every column of ``workspaces``.
create table workspace_zones (
    workspace   text primary key,
    zone        text not null
);

-- Creates a workspace that is resident in a zone. What it refuses is what put_workspace refuses.
create function create_resident_workspace(
    p_region text, p_epoch bigint, p_id text, p_name text, p_zone text, p_at double precision, l log_rows
) returns text language plpgsql as $$
declare
    v_outcome text := put_workspace(p_region, p_epoch, true, p_id, p_name, 'active', p_at, l);
begin
    if v_outcome = 'done' then
        insert into workspace_zones values (p_id, p_zone);
    end if;
    return v_outcome;
end $$;
