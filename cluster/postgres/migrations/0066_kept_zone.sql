-- A schema of its own for a zone of residency keeps that zone's log and no other's. A database of an earlier version keeps none of them.
create table kept_zone (
    only_row    boolean primary key default true check (only_row),
    zone        text not null
);

-- The zone that is kept here from now on, which is an earlier one if there is one; null if there is none, and none is given.
create function keep_zone(p_zone text) returns text language sql as $$
    insert into kept_zone (zone) select p_zone where p_zone is not null on conflict do nothing;
    select zone from kept_zone
$$;

-- Whoever was opened for another zone, such as a process whose settings are wrong, gets no epoch here, so that its commits are refused.
-- A trigger costs commits nothing: they only read the row.
create function refuse_other_zone() returns trigger language plpgsql as $$
declare
    v_kept text := (select zone from kept_zone);
begin
    if v_kept <> new.region then
        raise exception 'this is kept for zone %, not for %', v_kept, new.region using errcode = 'AG005';
    end if;
    return new;
end $$;

create trigger region_state_of_kept_zone before insert or update of region, role on region_state
    for each row when (new.role = 'primary') execute function refuse_other_zone();
