-- name: source_state
-- What the sending database is for a zone, and the first number of its log.
select (select max(version) from schema_migrations) as schema_version, s.role, s.epoch,
       coalesce((select min(seq) from log), 1) as first
from (values ($1::text)) as z (zone) left join region_state s on s.region = z.zone

-- name: log_positions
-- The rows of the log with these numbers, and its last one.
select epoch, seq, digest::text as digest from log where seq = any ($1::bigint[]) or seq = (select max(seq) from log)

-- name: replica_state
-- What the receiving database is for a zone, and how far it is.
select (select max(version) from schema_migrations) as schema_version, s.role, s.epoch,
       coalesce(r.images_at, 0) as images_at, r.copying::text as copying
from (values ($1::text)) as z (zone) left join region_state s on s.region = z.zone left join replicas r on r.zone = z.zone

-- name: replica_lock
-- The lock of the zone's commits.
select region_lock($1)

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
insert into replicas as r (zone, images_at, copying) values ($1, $2, $3::text::json)
on conflict (zone) do update set images_at = excluded.images_at, copying = excluded.copying

-- name: identity_moves
-- The next number of an identity column comes after one that was received.
select setval(pg_get_serial_sequence($1, $2)::regclass,
              greatest($3::bigint, coalesce(pg_sequence_last_value(pg_get_serial_sequence($1, $2)::regclass), 1)))

-- name: set_region_role
-- Sets what this database is for a zone; null if it knows a later epoch.
select set_region_role($1, $2, $3, $4)
