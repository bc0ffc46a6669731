-- name: read_log
-- Rows after a cursor in order; filters that are null match everything.
select seq, at, workspace, kind, entity, attempt, principal, data::text as data, digest, epoch, cause, zone, private,
       private_digest, v
from log
where seq > $1
  and ($3::text is null or workspace = $3)
  and ($4::text[] is null or entity = any ($4))
  and ($5::text is null or starts_with(kind, $5))
order by seq
limit $2

-- name: read_log_all
-- Rows after a cursor in order, unfiltered: the plan of every follower.
select seq, at, workspace, kind, entity, attempt, principal, data::text as data, digest, epoch, cause, zone, private,
       private_digest, v
from log where seq > $1 order by seq limit $2

-- name: page_log
-- Matching rows after a cursor in order, and as the last one, of no kind, the log's head in the same snapshot.
with head as (
    select coalesce(max(seq), 0) as seq from log
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
select coalesce(max(seq), 0) from log

-- name: append_log
-- Rows that belong to no other change.
select log_append($1, $2, $3, $4)

-- name: region_epoch
-- The region's epoch; the row is made on first use.
with made as (
    insert into region_state (region, epoch) values ($1, 1) on conflict do nothing returning epoch
)
select epoch from made union all select epoch from region_state where region = $1 limit 1

-- name: raise_epoch
-- Fences every write that states an older epoch.
select raise_epoch($1, $2, $3, $4)

-- name: story
-- Rows of an entity or a request, with those that led to them and those that they led to, in order.
select seq, at, workspace, kind, entity, attempt, principal, data::text as data, digest, epoch, cause, zone, private,
       private_digest, v
from log_story($1, $2, $3, $4)
