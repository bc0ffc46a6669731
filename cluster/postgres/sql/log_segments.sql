-- name: oldest_segments
-- The oldest segments, and whether the next row may still be of each. One without rows is made by a copy that begins later.
select number, end_seq, log_last() < end_seq as is_newest from log_segments order by number

-- name: segment_ends
-- The first and the last row of a range of numbers; no row if there is none.
select f.seq as first_seq, l.seq as last_seq, l.at as last_at
from (select seq from log where seq < $1 order by seq limit 1) f
cross join (select seq, at from log where seq < $1 order by seq desc limit 1) l

-- name: log_holds
-- Who still needs rows. Cursors of another epoch are not those of this region's readers: they begin anew.
select (select coalesce(max(last_seq), 0) from audit_checkpoints) as sealed,
       (select min(cursor) from telemetry) as counts,
       (select c.seq from notification_cursors c join region_state s using (region, epoch) where s.region = $1) as notifications,
       (select c.seq from workflow_cursors c join region_state s using (region, epoch) where s.region = $1) as workflows

-- name: region_cursors
-- How far other regions are, as far as the log waits for them; whether this region's leader has told, or has none to tell of.
select coalesce(not isfinite(s.trusted_until), true) or exists (select from replication_cursors c where c.epoch = s.epoch) as told,
       coalesce((
           select json_object_agg(c.region, c.seq) from replication_cursors c where c.epoch = s.epoch and not c.dropped
       ), '{}')::text as regions
from (values ($1::text)) as z (region) left join region_state s using (region)

-- name: oldest_work
-- When the oldest work of a workspace that is there began, by the indexes of lists.
select least(
    (select min(created_at) from tasks where workspace = $1), (select min(admitted_at) from deliberations where workspace = $1),
    (select min(created_at) from workflow_runs where workspace = $1))

-- name: entry_of
-- The entry hash of a sealed row, or of the last one that went before those that are there.
select coalesce((select entry from entry_hashes($1)), (select entry from archived_log() where last_seq = $1 limit 1))

-- name: remove_log_segment
-- One commit that removes the oldest segment.
select remove_log_segment($1, $2, $3, $4, $5)

-- name: remove_segment
-- The same, and it does not wait any more for cursors and regions that have held it for too long.
select remove_segment($1, $2, $3, $4, $5, $6, $7)

-- name: trim_followed_log
-- One commit that removes the oldest segment from the log of a region that follows.
select trim_followed_log($1, $2, $3)

-- name: log_archives
-- What went into archives, in order.
select first_seq, last_seq, name, digest, entry, epochs::text as epochs, first_form, at from archived_log()
order by first_seq, last_seq
