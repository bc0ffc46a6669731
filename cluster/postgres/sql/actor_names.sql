-- name: actor_name
-- The actor that plays a role now.
select role, name, fingerprint from actor_names where role = $1

-- name: publish_actor
-- Makes an actor the one that plays its role.
insert into actor_names (role, name, fingerprint) values ($1, $2, $3)
on conflict (role) do update set name = excluded.name, fingerprint = excluded.fingerprint

-- name: withdraw_actor
-- Removes an actor's name, so that nobody plays its role.
delete from actor_names where name = $1
