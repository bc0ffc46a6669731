-- name: recall_answer
-- What the first call under a key was asked and answered.
select digest, answer from idempotency where workspace = $1 and route = $2 and key = $3

-- name: remember_answer
-- Keeps the first answer under a key.
insert into idempotency (workspace, route, key, digest, answer, created_at) values ($1, $2, $3, $4, $5, $6)
on conflict do nothing
