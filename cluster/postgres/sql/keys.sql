-- name: publish_signing_key
-- One commit of the public half of a key. With a candidate for the deployment's own seed, returns the seed.
select publish_signing_key($1, $2, $3, $4, $5, $6)

-- name: published_signing_keys
-- Public halves, oldest first.
select key_id, public_key, extract(epoch from created_at)::double precision as created_at
from signing_keys order by created_at, key_id
