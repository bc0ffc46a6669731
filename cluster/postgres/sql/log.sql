-- name: read_log
-- Rows after a cursor, in order. A filter that is null matches everything.
select * from log
where seq > $1
  and ($3::text is null or workspace = $3)
  and ($4::text[] is null or entity = any ($4))
  and ($5::text is null or starts_with(kind, $5))
order by seq
limit $2

-- name: read_log_all
-- All rows after a cursor, in order.
select * from log where seq > $1 order by seq limit $2

-- name: page_log
-- Matching rows after a cursor, in order; then a row without a kind that has the last number of the same snapshot.
-- Names its columns, as the two parts of a union must have the same ones, also after a migration has added some.
with head as (
    select log_last() as seq
), page as (
    select seq, at, workspace, kind, entity, attempt, principal, data::text as data, digest, epoch, cause, zone, private,
           private_digest, v
    from log
    where seq > $1
      and ($3::text is null or workspace = $3)
      and ($4::text[] is null or entity = any ($4))
      and ($5::text[] is null or kind like any ($5))
    order by seq
    limit $2
)
select * from page
union all
select seq, null, null, null, null, null, null, null, null, null, null, null, null, null, null from head

-- name: log_head
-- The last committed number.
select log_last()

-- name: log_first
-- The first number that is there; 1 for an empty log.
select coalesce(min(seq), 1) from log

-- name: append_log
-- Writes rows that belong to no other change.
select log_append($1, $2, $3, $4)

-- name: region_epoch
-- The region's epoch. The first call stores the row.
with made as (
    insert into region_state (region, epoch) values ($1, 1) on conflict do nothing returning epoch
)
select epoch from made union all select epoch from region_state where region = $1 limit 1

-- name: primary_epoch
-- The epoch under which one region of several may write; none elsewhere, and none if the trust has no end: that is a region's that
-- was alone. The leader stores the row.
select epoch from region_state where region = $1 and role = 'primary' and isfinite(trusted_until)

-- name: raise_epoch
-- Raises the epoch by one; null if it is not the given one any more. Writes that state an older epoch fail from now on.
select raise_epoch($1, $2, $3, $4)

-- name: story
-- Rows of an entity or a request, those that led to them and those that they led to, in order.
select * from log_story($1, $2, $3, $4)
