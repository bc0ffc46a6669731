-- name: own_signing_key
-- The deployment's own seed, made of the candidate if there is none.
select own_signing_key($1, $2, $3)

-- name: publish_signing_key
-- Keeps the public half of a key.
insert into signing_keys (key_id, public_key) values ($1, $2) on conflict do nothing

-- name: published_signing_keys
-- Public halves, oldest first.
select key_id, public_key, extract(epoch from created_at)::double precision as created_at
from signing_keys order by created_at, key_id
