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

-- name: read_credentials
-- Sealed credentials by their names.
select name, sealed from secrets where name = any ($1) and workspace is not null

-- name: list_credentials
-- Every sealed credential of a workspace.
select name, sealed from secrets where workspace = $1 order by name

-- name: put_credential
-- One commit of a credential.
select put_credential($1, $2, $3, $4, $5, $6, $7)

-- name: remove_credential
-- One commit of a removal.
select remove_credential($1, $2, $3, $4)
