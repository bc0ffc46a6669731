-- name: own_secret
-- Returns the secret of a name. If there is none yet, the candidate becomes it. The update changes nothing: it returns the row
-- also if another process has made it at the same time.
insert into secrets (name, sealed) values ($1, $2)
on conflict (name) do update set name = excluded.name
returning sealed

-- name: all_secrets
-- Every secret, by its name.
select name, sealed from secrets order by name

-- name: replace_secret
-- Stores a secret that was sealed anew, if it is still the one that was read.
update secrets set sealed = $3, changed_at = now() where name = $1 and sealed = $2
