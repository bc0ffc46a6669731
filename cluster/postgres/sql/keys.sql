-- name: own_signing_key
-- Returns the deployment's own seed. If there is none yet, the candidate becomes it.
select own_signing_key($1, $2, $3)

-- name: publish_signing_key
-- Stores the public half of a key.
insert into signing_keys (key_id, public_key) values ($1, $2) on conflict do nothing

-- name: published_signing_keys
-- Public halves, oldest first.
select key_id, public_key, extract(epoch from created_at)::double precision as created_at
from signing_keys order by created_at, key_id
