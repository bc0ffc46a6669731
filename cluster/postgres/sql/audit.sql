-- name: seal_log
-- Stores the checkpoint that follows the last one; false if another sealer was first.
select seal_log($1, $2, $3, $4, $5, $6, $7, $8)

-- name: last_checkpoint
-- The last checkpoint.
select first_seq, last_seq, head, public_key, signature, entries from audit_checkpoints order by last_seq desc limit 1

-- name: checkpoints_after
-- Checkpoints that cover a row after a cursor, in order.
select first_seq, last_seq, head, public_key, signature, entries
from audit_checkpoints where last_seq > $1 order by last_seq limit $2

-- name: rows_to_seal
-- What is sealed of the rows from a number on, in order. Their content is not read: their digests cover it.
select seq, epoch, at, v, digest from log where seq >= $1 order by seq limit $2

-- name: audit_entries
-- The newest rows of a workspace that match, each with its place in the chain, and how many there are, at most $9. An empty array
-- matches everything. Of a page without rows, one row without a number tells how many there are.
with matching as materialized (
    select seq from log
    where workspace = $1
      and ($2::double precision is null or at >= $2)
      and ($3::double precision is null or at <= $3)
      and ($4::text[] = '{}' or kind = any ($4))
      and ($5::text[] = '{}' or principal = any ($5))
      and ($6::text[] = '{}' or split_part(principal, ':', 1) = any ($6))
      and ($7::text[] = '{}' or split_part(kind, '.', 1) = any ($7))
      and kind not like all ($8::text[])
    order by seq desc
    limit greatest($9::bigint, $10::bigint + $11::bigint)
)
select found.total, l.seq, l.at, l.workspace, l.kind, l.entity, l.attempt, l.principal, l.data, l.digest, l.epoch, l.cause,
       l.zone, l.private, l.private_digest, l.v, e.entry, e.previous
from (select least(count(*), $9::bigint) as total from matching) found
left join (select seq from matching order by seq desc limit $10::bigint offset $11::bigint) page on true
left join log l on l.seq = page.seq
left join lateral entry_hashes(l.seq) e on true
order by l.seq desc

-- name: audit_next
-- Of the next $7 rows after a number those of a workspace that match, in order, each with its place in the chain, and how far that
-- is: $6 if no row follows. Of a page without rows, one row without a number tells it.
with passed as materialized (select seq from log where seq > $5 and seq <= $6 order by seq limit $7)
select reached.seq as reached, l.*, e.entry, e.previous
from (select case when count(*) < $7 then $6::bigint else max(seq) end as seq from passed) reached
left join log l on l.seq > $5 and l.seq <= reached.seq and l.workspace = $1
  and ($2::double precision is null or l.at >= $2)
  and ($3::double precision is null or l.at <= $3)
  and l.kind not like all ($4::text[])
left join lateral entry_hashes(l.seq) e on true
order by l.seq

-- name: audit_entry
-- A row of a workspace, with its place in the chain.
select l.*, e.entry, e.previous
from log l
left join lateral entry_hashes(l.seq) e on true
where l.workspace = $1 and l.seq = $2

-- name: audit_totals
-- How many rows are sealed, and the last entry hash, which stands last among those of the last checkpoint.
select coalesce(max(last_seq), 0) as sealed,
       (select case when octet_length(entries) >= 32 then encode(substr(entries, octet_length(entries) - 31), 'hex') end
        from audit_checkpoints order by last_seq desc limit 1) as chain
from audit_checkpoints

-- name: audit_unsealed
-- How many rows the primary of a zone has still to seal, and when the first of them was written. No row if there are none.
select (select max(seq) from log) - s.seq as count, l.at
from (select coalesce(max(last_seq), 0) as seq from audit_checkpoints) s
join lateral (select at from log where seq > s.seq order by seq limit 1) l on true
where exists (select from region_state where region = $1 and role = 'primary')

-- name: log_base
-- The last row that went before the first one that is there, and its entry hash.
select last_seq as seq, entry from archived_log()
where last_seq < coalesce((select min(seq) from log), 0) order by last_seq desc limit 1
