-- What the sealer has sealed of the log. One row per checkpoint holds the entry hashes of all rows that it covers. The last
-- checkpoint is also the sealer's cursor: what is sealed and how far the sealer came are one write.
create table audit_checkpoints (
    last_seq    bigint primary key,
    first_seq   bigint not null unique,
    head        text not null,
    public_key  bytea not null,
    signature   bytea not null,
    entries     bytea not null
);
-- Hashes do not compress, and one of them is read without the others if they are stored as they are.
alter table audit_checkpoints alter column entries set storage external;

-- Stores the checkpoint that follows the last one; false, and nothing is stored, if another sealer was first. The share lock holds up
-- whoever raises the epoch or takes the role, for the time of one insert, and no commit: those only read the row.
create function seal_rows(
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
    where p_first = 1 + (select coalesce(max(last_seq), 0) from audit_checkpoints)
    on conflict do nothing;
    return found;
end $$;

-- The entry hash of a row and the one before it: no row while it is not sealed, and null before the log's first row.
create function entry_hashes(p_seq bigint) returns table (entry bytea, previous bytea) language sql stable as $$
    select substr(c.entries, 32 * (p_seq - c.first_seq)::integer + 1, 32),
           case when p_seq > c.first_seq then substr(c.entries, 32 * (p_seq - c.first_seq - 1)::integer + 1, 32)
                when p_seq > 1 then decode(c.head::json ->> 'previous', 'hex') end
    from (select * from audit_checkpoints where last_seq >= p_seq order by last_seq limit 1) c
    where c.first_seq <= p_seq
$$;
