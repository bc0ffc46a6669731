-- Where somebody has changed a checkpoint, lists of the audit show what is left of it instead of failing: its head is not parsed (the
-- entry hash before its first row stands in the canonical text that the sealer has written), and one whose numbers do not fit its
-- entry hashes covers no row. The numbers may be any, so they are counted as numerics, which do not overflow.
create or replace function entry_hashes(p_seq bigint) returns table (entry bytea, previous bytea) language sql stable as $$
    select substr(c.entries, 32 * (p_seq - c.first_seq)::integer + 1, 32),
           case when p_seq > c.first_seq then substr(c.entries, 32 * (p_seq - c.first_seq - 1)::integer + 1, 32)
                when p_seq > 1 then decode(substring(c.head from '"previous":"([0-9a-f]{64})"'), 'hex') end
    from (select * from audit_checkpoints where last_seq >= p_seq order by last_seq limit 1) c
    where c.first_seq <= p_seq and octet_length(c.entries) = 32 * (c.last_seq::numeric - c.first_seq + 1)
$$;
