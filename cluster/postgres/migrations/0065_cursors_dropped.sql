-- Removes a segment as remove_log_segment does (0052), and moves the cursors of followers that hold the log longer than it waits for them
-- to its last row. ``l`` has a row for each of them, behind that of the archive. A follower that goes on from its old cursor is refused
-- once, and reads the new one.
create function drop_cursors_and_segment(
    p_region text, p_epoch bigint, p_number integer, p_archive text, p_dropped text[], l log_rows
) returns boolean language plpgsql as $$
declare
    v_new log_archives;
    v_end bigint;
    v_number integer;
begin
    perform region_lock(p_region);
    perform log_append(p_region, p_epoch, '{}', null::log_rows);
    v_new := json_populate_record(null::log_archives, p_archive::json);
    select end_seq into v_end from log_segments where number = p_number;
    if not found or log_last() < v_end or (select min(seq) from log) <> v_new.first_seq
       or (select max(seq) from log where seq < v_end) <> v_new.last_seq then
        return false;
    end if;
    -- Commits wait behind this lock. Who changes the log has taken the table before the region's lock, and waits for us then. Of the
    -- segments only those that go are locked: autovacuum is often in the newest, and gives way after a second only.
    perform set_config('lock_timeout', '50ms', true);
    begin
        lock table only log in access exclusive mode;
        for v_number in select number from log_segments where number <= p_number order by number loop
            execute format('lock table %I in access exclusive mode', 'log_' || v_number);
        end loop;
    exception when lock_not_available then
        return false;
    end;
    begin
        for v_number in select number from log_segments where number <= p_number loop
            execute format('drop table %I', 'log_' || v_number);
        end loop;
    exception when dependent_objects_still_exist then
        raise exception 'log_% is used by others: %', v_number, sqlerrm using errcode = 'AG011';
    end;
    delete from log_segments where number <= p_number;
    insert into log_archives select v_new.* on conflict (first_seq, last_seq) do update set
        at = excluded.at, name = excluded.name, digest = excluded.digest, entry = excluded.entry, epochs = excluded.epochs,
        first_form = excluded.first_form;
    if 'telemetry' = any (p_dropped) then
        update telemetry set cursor = v_new.last_seq where cursor < v_new.last_seq;
    end if;
    if 'notifications' = any (p_dropped) then
        insert into notification_cursors as c (region, epoch, seq) values (p_region, p_epoch, v_new.last_seq)
        on conflict (region) do update set epoch = excluded.epoch, seq = excluded.seq
        where c.epoch <> excluded.epoch or c.seq < excluded.seq;
    end if;
    if 'workflows' = any (p_dropped) then
        insert into workflow_cursors as c (region, epoch, seq) values (p_region, p_epoch, v_new.last_seq)
        on conflict (region) do update set epoch = excluded.epoch, seq = excluded.seq
        where c.epoch <> excluded.epoch or c.seq < excluded.seq;
    end if;
    perform log_append(p_region, p_epoch, array(select true from unnest(l.entity)), l);
    return true;
end $$;
