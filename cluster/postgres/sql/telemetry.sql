-- name: load_telemetry
-- A follower's cursor and snapshot.
select cursor, snapshot::text as snapshot from telemetry where name = $1

-- name: save_telemetry
-- Snapshot, cursor and agents' counters, once per cursor.
select save_telemetry($1, $2, $3, $4, $5, $6, $7, $8)
