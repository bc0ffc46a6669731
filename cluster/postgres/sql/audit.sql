-- name: seal_rows
-- Stores the checkpoint that follows the last one; false if another sealer was first.
select seal_rows($1, $2, $3, $4, $5, $6, $7, $8)

-- name: last_checkpoint
-- The last checkpoint.
select head, public_key, signature, entries from audit_checkpoints order by last_seq desc limit 1

-- name: checkpoints_after
-- Checkpoints that cover a row after a cursor, in order.
select head, public_key, signature, entries from audit_checkpoints where last_seq > $1 order by last_seq limit $2

-- name: rows_to_seal
-- What is sealed of the rows from a number on, in order. Their content is not read: their digests cover it.
select seq, at, v, digest from log where seq >= $1 order by seq limit $2

-- name: entry_hashes
-- The entry hashes of rows and of those before them; null while a row is not sealed.
select s.seq, substr(c.entries, 32 * (s.seq - c.first_seq)::integer + 1, 32) as entry,
       case when s.seq > c.first_seq then substr(c.entries, 32 * (s.seq - c.first_seq - 1)::integer + 1, 32)
            when s.seq > 1 then decode(c.head::json ->> 'previous', 'hex') end as previous
from unnest($1::bigint[]) s (seq)
join lateral (
    select * from audit_checkpoints where last_seq >= s.seq order by last_seq limit 1
) c on c.first_seq <= s.seq

-- name: audit_totals
-- How many rows are sealed, and the last entry hash.
select coalesce(max(last_seq), 0) as sealed,
       (select head::json ->> 'chain' from audit_checkpoints order by last_seq desc limit 1) as chain
from audit_checkpoints
