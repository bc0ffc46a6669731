-- name: read_access
-- What decides access, of one snapshot of the database: all of it (null), or what is named.
select log_last() as cursor,
       (select json_agg(w)
        from (select w.*, z.zone from workspaces w left join workspace_zones z on z.workspace = w.id) w
        where $1::text[] is null or w.id = any ($1))::text as workspaces,
       (select json_agg(b order by b.workspace, b.role) from role_bindings b
        where $2::text[] is null or b.subject = any ($2))::text as bindings,
       (select json_agg(r) from custom_roles r
        where $3::text[] is null
           or (r.workspace, r.name) in (select * from unnest($3::text[], $4::text[])))::text as roles,
       (select json_agg(k order by k.created_at, k.id)
        from (select k.*, (select a.agents from api_key_agents a where a.key_id = k.id) from api_keys k) k
        where $5::text[] is null or k.id = any ($5))::text as keys,
       (select json_agg(v) from revocations v where $6::text[] is null or v.subject = any ($6))::text as revocations,
       (select json_agg(s) from sessions s where $7::text[] is null or s.id = any ($7))::text as sessions

-- name: list_workspaces
-- A page of the workspaces, by id, without those that were deleted.
select w.*, z.zone from workspaces w left join workspace_zones z on z.workspace = w.id
where w.state <> 'deleted' and w.id > $1 order by w.id limit $2

-- name: all_workspaces
-- Those of which the former is a page.
select w.id from workspaces w where w.state <> 'deleted'

-- name: list_members
-- A page of the bindings of a workspace.
select b.* from role_bindings b
where b.workspace = $1 and (b.subject, b.role) > ($2::text, $3::text) order by b.subject, b.role limit $4

-- name: all_members
-- Those of which the former is a page.
select b.subject from role_bindings b where b.workspace = $1

-- name: list_keys
-- A page of all keys, the oldest first.
select row_to_json(f)::text as found from (
    select k.*, (select a.agents from api_key_agents a where a.key_id = k.id) from api_keys k
    where (k.created_at, k.id) > ($1::float8, $2::text) order by k.created_at, k.id limit $3
) f order by f.created_at, f.id

-- name: all_keys
-- Those of which the former is a page.
select k.id from api_keys k

-- name: list_keys_of
-- A page of the keys that act in a workspace by its name, the oldest first.
select row_to_json(f)::text as found from (
    select k.*, (select a.agents from api_key_agents a where a.key_id = k.id) from api_keys k
    where k.workspaces @> array[$1::text] and (k.created_at, k.id) > ($2::float8, $3::text) order by k.created_at, k.id limit $4
) f order by f.created_at, f.id

-- name: all_keys_of
-- Those of which the former is a page.
select k.id from api_keys k where k.workspaces @> array[$1::text]

-- name: closed_workspaces
-- Workspaces in which nothing starts, and who deleted those that were deleted.
select w.id, w.state, d.principal, d.seq
from workspaces w left join workspace_deletions d on d.workspace = w.id
where w.state <> 'active'

-- name: put_workspace
-- One commit of a workspace.
select put_workspace($1, $2, $3, $4, $5, $6, $7, $8)

-- name: create_resident_workspace
-- One commit of a new workspace that is resident in a zone.
select create_resident_workspace($1, $2, $3, $4, $5, $6, $7)

-- name: put_binding
-- One commit of a role binding.
select put_binding($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: remove_binding
-- One commit of a binding's removal.
select remove_binding($1, $2, $3, $4, $5, $6, $7)

-- name: put_role
-- One commit of a custom role.
select put_role($1, $2, $3, $4, $5, $6)

-- name: remove_role
-- One commit of a custom role's removal.
select remove_role($1, $2, $3, $4, $5, $6)

-- name: create_key
-- One commit of a new key.
select create_bound_key($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)

-- name: change_key
-- One commit of a key's rotation or revocation.
select change_key($1, $2, $3, $4, $5, $6, $7, $8)

-- name: keys_used
-- Stores when keys were last used. Sorted, so that all lock the rows in the same order.
with u as (
    select id, max(at) as at from unnest($1::text[], $2::double precision[]) as u (id, at) group by id order by id
)
update api_keys k set last_used_at = u.at from u where k.id = u.id and coalesce(k.last_used_at, 0) < u.at

-- name: revoke_access
-- One commit of a revocation.
select revoke_access($1, $2, $3, $4, $5, $6, $7)

-- name: sessions_since
-- The sessions of a principal that began at a time or later.
select id from sessions where principal = $1 and began_at >= $2 order by id

-- name: begin_session
-- One commit of a login.
select begin_session($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)

-- name: end_session
-- One commit of a logout.
select end_session($1, $2, $3, $4)

-- name: begin_login
-- A login that has begun. Those whose time is over go; of two calls at once, each takes what the other has not locked.
with gone as (
    delete from logins where digest in (select digest from logins where expires_at <= $3 limit 100 for update skip locked)
)
insert into logins (digest, target, expires_at) values ($1, $2, $4) on conflict do nothing

-- name: take_login
-- Ends a login, once.
delete from logins where digest = $1 and expires_at > $2 returning target
