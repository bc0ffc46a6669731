-- Retention of the log in several regions (docs/adr/0060). Everything here is of this database: it is replicated nowhere.

-- How far the other data regions are with the log, as the primary's leader tells under an epoch. ``seq``: the last row that one has
-- said to hold; null while it has not asked since the leader came to know it. ``dropped``: the log does not wait for it any more,
-- until it has got further. The primary has a row of its own: without one of its epoch, nobody has told yet.
create table replication_cursors (
    region  text primary key,
    epoch   bigint not null,
    seq     bigint,
    dropped boolean not null default false
);

-- Of a region that follows: what went from its log. The columns are those of log_archives, which has what went from the primary's;
-- segments are each database's own, so bounds differ.
create table followed_archives (
    first_seq   bigint not null,
    last_seq    bigint not null,
    at          double precision not null,
    name        text not null,
    digest      bytea not null,
    entry       bytea not null,
    epochs      json not null,
    first_form  boolean not null,
    primary key (first_seq, last_seq)
);

-- What of the log is in an archive and not in the table any more, whoever has removed it.
create function archived_log() returns setof followed_archives language plpgsql stable as $$
begin
    return query
        select a.first_seq, a.last_seq, a.at, a.name, a.digest, a.entry, a.epochs, a.first_form from log_archives a
        union all
        select * from followed_archives;
end $$;

-- Removes a segment as drop_cursors_and_segment does (0065), and does not wait for some regions any more.
create function remove_segment(
    p_region text, p_epoch bigint, p_number integer, p_archive text, p_dropped text[], p_regions text[], l log_rows
) returns boolean language plpgsql as $$
begin
    if not drop_cursors_and_segment(p_region, p_epoch, p_number, p_archive, p_dropped, l) then
        return false;
    end if;
    update replication_cursors set dropped = true where region = any (p_regions);
    return true;
end $$;

-- Removes the oldest segments up to one from the log of a region that follows, and returns whether it did: not if it does not follow,
-- the rows are not those of its archive or not all in an archive of the primary, or somebody reads the log for longer than the next batch
-- may wait. Checkpoints that this region has signed as primary end before rows that went: the next ones begin with what is left.
create function trim_followed_log(p_zone text, p_number integer, p_archive text) returns boolean language plpgsql as $$
declare
    v_new followed_archives;
    v_end bigint;
    v_number integer;
begin
    perform region_lock(p_zone);
    v_new := json_populate_record(null::followed_archives, p_archive::json);
    select end_seq into v_end from log_segments where number = p_number;
    if not found or log_last() < v_end
       or (select role from region_state where region = p_zone) is distinct from 'secondary'
       or exists (select from replicas where zone = p_zone and copying is not null)
       or (select min(seq) from log) is distinct from v_new.first_seq
       or (select max(seq) from log where seq < v_end) is distinct from v_new.last_seq
       or coalesce((select max(last_seq) from log_archives), 0) < v_new.last_seq then
        return false;
    end if;
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
    insert into followed_archives select v_new.*;
    if (select max(last_seq) from audit_checkpoints) < v_new.last_seq then
        delete from audit_checkpoints;
    end if;
    return true;
end $$;

-- Stores a checkpoint as seal_rows does (0052); the first one begins after what is in archives, also if this region has removed it while
-- it followed.
create function seal_log(
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
        (select max(a.last_seq) from archived_log() a where a.last_seq < (select min(seq) from log)), 0)
    on conflict do nothing;
    return found;
end $$;
