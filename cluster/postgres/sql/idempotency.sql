-- name: recall_answer
-- The digest of the body and the answer of the first call under a key.
select digest, answer from idempotency where workspace = $1 and route = $2 and key = $3

-- name: remember_answer
-- Stores an answer, unless there is one under the key.
insert into idempotency (workspace, route, key, digest, answer, created_at) values ($1, $2, $3, $4, $5, $6)
on conflict do nothing
