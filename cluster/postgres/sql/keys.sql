-- name: publish_signing_key
-- One commit of the public half of a key. With a candidate for the deployment's own seed, returns the seed.
select publish_signing_key($1, $2, $3, $4, $5, $6)

-- name: published_signing_keys
-- Public halves, oldest first.
select key_id, public_key, extract(epoch from created_at)::double precision as created_at
from signing_keys order by created_at, key_id

-- name: unsealed_seed
-- The deployment's own seed as versions stored it that did not seal it, and as it is stored while no key seals.
select seed from signing_keys where seed is not null

-- name: remove_unsealed_seed
-- The seed is sealed among the secrets. Its key stays published.
update signing_keys set seed = null where seed is not null

-- name: is_sealed
-- Whether there is a secret of a name.
select exists (select from secrets where name = $1)
