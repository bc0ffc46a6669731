-- name: source_state
-- What the sending database is for a zone, and the first number of its log.
select (select max(version) from schema_migrations) as schema_version, s.role, s.epoch,
       coalesce((select min(seq) from log), 1) as first
from (values ($1::text)) as z (zone) left join region_state s on s.region = z.zone

-- name: log_positions
-- The rows of the log with these numbers, and its last one.
select epoch, seq, digest::text as digest from log where seq = any ($1::bigint[]) or seq = (select max(seq) from log)

-- name: log_history
-- The log's epochs, each with its last row. It reads the whole log, as the copy does that follows. Those of rows that went are in the
-- archives' rows.
select epoch, max(seq) as seq
from (
    select epoch, seq from log
    union all
    select (e.pair ->> 0)::bigint, (e.pair ->> 1)::bigint
    from archived_log() a cross join json_array_elements(a.epochs) as e (pair)
    where a.last_seq < (select min(seq) from log)
) as rows
group by epoch order by epoch

-- name: withheld_workspaces
-- What a region of a zone (null: of none) must not hold.
select workspace from workspace_zones where zone is distinct from $1 order by workspace

-- name: log_sums
-- How many rows a range of the log has, and a sum over their numbers and digests, which needs no order.
select count(*) as count, coalesce(sum(hashtextextended(seq || ' ' || digest::text, 0)::numeric), 0)::text as digest
from log where seq > $1 and seq <= $2

-- name: replica_state
-- What the receiving database is for a zone, how far it is, and whether something is resident outside of the region's zone ($2).
select (select max(version) from schema_migrations) as schema_version, s.role, s.epoch,
       coalesce(r.images_at, 0) as images_at, r.copying::text as copying,
       exists (select from workspace_zones where zone is distinct from $2) as lacks_payloads
from (values ($1::text)) as z (zone) left join region_state s on s.region = z.zone left join replicas r on r.zone = z.zone

-- name: lacks_payloads
-- Whether a workspace is resident in another zone than that of this region.
select exists (select from workspace_zones where zone is distinct from $1)

-- name: replica_lock
-- The lock of the zone's commits.
select region_lock($1)

-- name: replica_room
-- Makes a segment of the log for rows up to a number.
select log_make_room($1)

-- name: replica_epoch
-- A later epoch of the sender's is this database's too.
update region_state set epoch = $2 where region = $1 and epoch < $2

-- name: replica_images
-- Up to which row the images are.
insert into replicas as r (zone, images_at) values ($1, $2)
on conflict (zone) do update set images_at = greatest(r.images_at, excluded.images_at)

-- name: replica_copying
-- Where a full copy is, and up to which row its pieces are.
insert into replicas as r (zone, images_at, copying) values ($1, $2, $3::text::json)
on conflict (zone) do update set
    images_at = greatest(r.images_at, excluded.images_at), copying = excluded.copying

-- name: replica_begins
-- A full copy begins: what was received before counts no more.
insert into replicas as r (zone, images_at, copying, copies) values ($1, $2, $3::text::json, 1)
on conflict (zone) do update set images_at = excluded.images_at, copying = excluded.copying, copies = r.copies + 1

-- name: follow_erasures
-- Deletes the words that received rows after a number say are erased.
select follow_erasures($1)

-- name: identity_moves
-- The next number of an identity column comes after one that was received.
select setval(pg_get_serial_sequence($1, $2)::regclass,
              greatest($3::bigint, coalesce(pg_sequence_last_value(pg_get_serial_sequence($1, $2)::regclass), 1)))

-- name: set_region_role
-- Sets what this database is for a zone; null if it knows a later epoch.
select set_region_role($1, $2, $3, $4)

-- name: zone_role
-- What this database may do for a zone, and until when.
select role, epoch, case when role = 'primary' and isfinite(trusted_until)
                         then extract(epoch from trusted_until)::double precision end as trusted_until
from region_state where region = $1

-- name: keep_zone
-- Which zone of residency alone this schema is kept for from now on; null if for none.
select keep_zone($1)

-- name: known_version
-- The last version of the group's record that this database was told.
select version from region_state where region = $1

-- name: database_clock
-- The clock by which trust ends.
select extract(epoch from clock_timestamp())::double precision

-- name: open_writes
-- Makes this database primary under a later epoch, if it is whole and trusted, and lacks nothing that is resident outside of the
-- region's zone ($5); null if not. In the transaction that has the lock.
update region_state set epoch = $2, role = 'primary', trusted_until = to_timestamp($3), leader = $4, raised_at = now()
where region = $1 and epoch < $2 and clock_timestamp() < to_timestamp($3)
  and not exists (
      select from replicas where zone = $1
      and (copying is not null or images_at > coalesce((select max(seq) from log), 0)))
  and not exists (select from workspace_zones where zone is distinct from $5)
returning epoch

-- name: close_writes
-- Nothing is committed after this.
update region_state set role = 'fenced' where region = $1 and role = 'primary'

-- name: move_trust
-- An answer may have been overtaken by a later one, so trust never moves back.
update region_state set trusted_until = greatest(trusted_until, to_timestamp($3))
where region = $1 and epoch = $2 and role = 'primary'

-- name: remember_version
-- A later version of the group's record.
insert into region_state as s (region, epoch, role, version) values ($1, 0, 'fenced', $2)
on conflict (region) do update set version = excluded.version where s.version < excluded.version

-- name: tell_status
-- What the leader of this region knows; $6: for how many seconds it has not heard of the primary, null if it never has.
insert into replication_status as t (zone, epoch, watermark, primary_region, refusal, heard_at)
values ($1, $2, $3, $4, $5, clock_timestamp() - make_interval(secs => $6))
on conflict (zone) do update set epoch = excluded.epoch, watermark = excluded.watermark,
    primary_region = excluded.primary_region, refusal = excluded.refusal, heard_at = excluded.heard_at

-- name: tell_cursors
-- How far the other regions are under an epoch. One that is unknown is where it was, and one that was given up counts again once it has
-- got further.
with others as (delete from replication_cursors where region <> all ($2::text[]))
insert into replication_cursors as c (region, epoch, seq) select region, $1, seq from unnest($2::text[], $3::bigint[]) as t (region, seq)
on conflict (region) do update set epoch = excluded.epoch, seq = coalesce(excluded.seq, c.seq),
    dropped = c.dropped and coalesce(excluded.seq <= c.seq, excluded.seq is null)

-- name: replication_status
-- What this database may do for a zone, how far it is, and what the leader told last, of one snapshot. Trust for ever is that of a
-- region alone, from before it had peers.
select case when s.role = 'primary' and (s.trusted_until <= clock_timestamp() or not isfinite(s.trusted_until))
            then 'fenced' else s.role end as role,
       s.epoch, greatest(l.head, r.images_at) as head, r.copying is null as whole, coalesce(r.copies, 0) as copies,
       t.epoch as told_epoch, t.watermark, t.primary_region, t.refusal,
       extract(epoch from clock_timestamp() - t.heard_at)::double precision as silent_s
from region_state s
cross join (select log_last() as head) l
left join replicas r on r.zone = s.region
left join replication_status t on t.zone = s.region
where s.region = $1
