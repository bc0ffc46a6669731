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

-- name: oldest_work
-- When the oldest work of a workspace that is there began, by the indexes of lists.
select least(
    (select min(created_at) from tasks where workspace = $1), (select min(admitted_at) from deliberations where workspace = $1),
    (select min(created_at) from workflow_runs where workspace = $1))

-- name: entry_of
-- The entry hash of a sealed row.
select entry from entry_hashes($1)

-- name: remove_log_segment
-- One commit that removes the oldest segment.
select remove_log_segment($1, $2, $3, $4, $5)

-- name: drop_cursors_and_segment
-- The same, and it moves cursors that have held it for too long.
select drop_cursors_and_segment($1, $2, $3, $4, $5, $6)

-- name: log_archives
-- What went into archives, in order.
select first_seq, last_seq, name, digest, entry, epochs::text as epochs, first_form, at from log_archives
order by first_seq, last_seq
