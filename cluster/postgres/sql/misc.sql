-- name: acquire_lease
-- The fence if the lease is ours now, null while another holds it.
select acquire_lease($1, $2, $3)

-- name: release_lease
-- Gives a lease up early; its fence stays for the next holder to exceed.
update leases set until = clock_timestamp() where name = $1 and holder = $2

-- name: held_leases
-- Leases with a prefix that somebody holds now.
select name from leases where starts_with(name, $1) and until > clock_timestamp() order by name

-- name: end_unrenewed_lease
-- Ends a lease whose holder has not renewed it in time; null if it is over already, or has been.
update leases set until = clock_timestamp()
where name = $1 and until > clock_timestamp() and until < clock_timestamp() + make_interval(secs => $2)
returning true

-- name: forget_leases
-- Drops what has been over for long.
delete from leases where starts_with(name, $1) and until < clock_timestamp() - make_interval(secs => $2)

-- name: load_telemetry
-- A follower's cursor and snapshot.
select cursor, snapshot::text as snapshot from telemetry where name = $1

-- name: save_telemetry
-- Snapshot, cursor and agents' counters, once per cursor.
select save_telemetry($1, $2, $3, $4, $5, $6, $7, $8)

-- name: actor_name
-- Who plays a role now.
select role, name, fingerprint from actor_names where role = $1

-- name: publish_actor
-- Makes an actor the one that plays its role.
insert into actor_names (role, name, fingerprint) values ($1, $2, $3)
on conflict (role) do update set name = excluded.name, fingerprint = excluded.fingerprint

-- name: withdraw_actor
-- Its role is played by nobody now.
delete from actor_names where name = $1

-- name: recall_answer
-- What the first call under a key was asked and answered.
select digest, answer from idempotency where workspace = $1 and route = $2 and key = $3

-- name: remember_answer
-- Keeps the first answer under a key.
insert into idempotency (workspace, route, key, digest, answer, created_at) values ($1, $2, $3, $4, $5, $6)
on conflict do nothing
