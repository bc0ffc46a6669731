-- Removes a segment as remove_log_segment does (0052), and moves the cursors of followers that hold the log longer than it waits for them
-- to its last row. ``l`` has a row for each of them, behind that of the archive. A follower that goes on from its old cursor is refused
-- once, and reads the new one.
create function drop_cursors_and_segment(
    p_region text, p_epoch bigint, p_number integer, p_archive text, p_dropped text[], l log_rows
) returns boolean language plpgsql as $$
declare
    v_last bigint := (p_archive::json ->> 'last_seq')::bigint;
begin
    if not remove_log_segment(p_region, p_epoch, p_number, p_archive, l) then
        return false;
    end if;
    if 'telemetry' = any (p_dropped) then
        update telemetry set cursor = v_last where cursor < v_last;
    end if;
    if 'notifications' = any (p_dropped) then
        insert into notification_cursors as c (region, epoch, seq) values (p_region, p_epoch, v_last)
        on conflict (region) do update set epoch = excluded.epoch, seq = excluded.seq
        where c.epoch <> excluded.epoch or c.seq < excluded.seq;
    end if;
    if 'workflows' = any (p_dropped) then
        insert into workflow_cursors as c (region, epoch, seq) values (p_region, p_epoch, v_last)
        on conflict (region) do update set epoch = excluded.epoch, seq = excluded.seq
        where c.epoch <> excluded.epoch or c.seq < excluded.seq;
    end if;
    perform log_append(
        p_region, p_epoch, array(select r.ord > 1 from unnest(l.entity) with ordinality as r (entity, ord) order by r.ord), l);
    return true;
end $$;
