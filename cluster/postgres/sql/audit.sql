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

-- name: audit_entries
-- The newest rows of a workspace that match, with the checkpoint that covers each. An empty array matches everything.
select l.seq, l.at, l.workspace, l.kind, l.entity, l.attempt, l.principal, l.data, l.digest, l.epoch, l.cause, l.zone,
       l.private, l.private_digest, l.v, e.entry, e.previous
from log l
left join lateral entry_hashes(l.seq) e on true
where l.workspace = $1
  and ($2::double precision is null or l.at >= $2)
  and ($3::double precision is null or l.at <= $3)
  and ($4::text[] = '{}' or l.kind = any ($4))
  and ($5::text[] = '{}' or l.principal = any ($5))
  and ($6::text[] = '{}' or split_part(l.principal, ':', 1) = any ($6))
  and ($7::text[] = '{}' or split_part(l.kind, '.', 1) = any ($7))
  and l.kind not like all ($8::text[])
order by l.seq desc
limit $9 offset $10

-- name: audit_range
-- The rows of a workspace in a range of numbers, in order, with the checkpoint that covers each.
select l.*, e.entry, e.previous
from log l
left join lateral entry_hashes(l.seq) e on true
where l.seq > $5 and l.seq <= $6 and l.workspace = $1
  and ($2::double precision is null or l.at >= $2)
  and ($3::double precision is null or l.at <= $3)
  and l.kind not like all ($4::text[])
order by l.seq

-- name: audit_count
-- How many rows match, at most $9.
select count(*) from (
    select from log l
    where l.workspace = $1
      and ($2::double precision is null or l.at >= $2)
      and ($3::double precision is null or l.at <= $3)
      and ($4::text[] = '{}' or l.kind = any ($4))
      and ($5::text[] = '{}' or l.principal = any ($5))
      and ($6::text[] = '{}' or split_part(l.principal, ':', 1) = any ($6))
      and ($7::text[] = '{}' or split_part(l.kind, '.', 1) = any ($7))
      and l.kind not like all ($8::text[])
    limit $9
) found

-- name: audit_entry
-- A row of a workspace, with its place in the chain.
select l.*, e.entry, e.previous
from log l
left join lateral entry_hashes(l.seq) e on true
where l.workspace = $1 and l.seq = $2

-- name: audit_totals
-- How many rows are sealed, and the last entry hash.
select coalesce(max(last_seq), 0) as sealed,
       (select head::json ->> 'chain' from audit_checkpoints order by last_seq desc limit 1) as chain
from audit_checkpoints
