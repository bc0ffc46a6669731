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
-- Rows of an entity or a request, those that led to them and those that they led to, in order. What a deliberation's
-- request caused belongs to the deliberation; a task shares its request with all that were submitted by it.
with own as materialized (
    select seq, kind, cause from log where workspace = $1 and entity = $2
    union
    select seq, kind, cause from log where workspace = $1 and cause = $2
), asked as materialized (
    select cause from own where kind = 'deliberation.admitted' and cause <> '' limit 1
), story as (
    select seq from own
    union
    select seq from log where workspace = $1 and cause = (select cause from asked)
    union
    select substr(cause, 2)::bigint from own where cause ~ '^#[0-9]{1,18}$'
    union
    select seq from log
    where workspace = $1 and left(cause, 1) = '#' and cause = any (array(select '#' || seq from own))
)
select seq, at, workspace, kind, entity, attempt, principal, data::text as data, digest, epoch, cause, zone, private,
       private_digest, v
from log
where workspace = $1 and seq > $3 and seq in (select seq from story)
order by seq
limit $4
