-- name: load_telemetry
-- A follower's cursor and snapshot.
select cursor, snapshot::text as snapshot from telemetry where name = $1

-- name: save_telemetry
-- Stores a snapshot and its cursor, and adds to agents' counters; does nothing if the cursor would not move forward.
select save_telemetry($1, $2, $3, $4, $5, $6, $7, $8)
