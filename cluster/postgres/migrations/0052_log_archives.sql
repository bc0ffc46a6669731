-- What of the log is in an archive and not in the table any more (docs/adr/0045). It says with which entry hash the chain goes on, so
-- that the rows that are left verify without those that went.
create table log_archives (
    first_seq   bigint not null,
    last_seq    bigint not null,
    -- When the rows went, as epoch seconds.
    at          double precision not null,
    -- Of the file, which the directory of archives has, and the SHA-256 of its bytes.
    name        text not null,
    digest      bytea not null,
    -- Of the last row.
    entry       bytea not null,
    -- Pairs of an epoch and its last row: by these two logs are compared from their first row on.
    epochs      json not null,
    -- Whether a row is of the first form, whose words are among its data.
    first_form  boolean not null,
    primary key (first_seq, last_seq)
);

-- As before (0019), and the first checkpoint begins after what is in archives, if the log has been copied from one that had lost rows
-- to them already.
create or replace function seal_rows(
    p_zone text, p_epoch bigint, p_first bigint, p_last bigint, p_head text, p_public_key bytea, p_signature bytea,
    p_entries bytea
) returns boolean language plpgsql as $$
declare
    v_state record;
begin
    select epoch, role into v_state from region_state where region = p_zone for share;
    if v_state.epoch is distinct from p_epoch then
        raise exception 'epoch % was replaced by %', p_epoch, v_state.epoch using errcode = 'AG001';
    elsif v_state.role <> 'primary' then
        raise exception 'role %', v_state.role using errcode = 'AG005';
    end if;
    insert into audit_checkpoints (last_seq, first_seq, head, public_key, signature, entries)
    select p_last, p_first, p_head, p_public_key, p_signature, p_entries
    where p_first = 1 + coalesce(
        (select max(last_seq) from audit_checkpoints),
        (select max(a.last_seq) from log_archives a where a.last_seq < (select min(seq) from log)), 0)
    on conflict do nothing;
    return found;
end $$;

-- Removes the segments up to the given one, whose rows are in an archive, and returns whether it did: not if others than the archive's
-- rows are there, or somebody reads the log just now and goes on for longer than commits may wait. The row names the archive.
create function remove_log_segment(
    p_region text, p_epoch bigint, p_number integer, p_archive text, l log_rows
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
    perform log_append(p_region, p_epoch, array[true], l);
    return true;
end $$;
