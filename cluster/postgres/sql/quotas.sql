-- name: put_quotas
-- One commit of the next version of a workspace's quotas.
select put_quotas($1, $2, $3, $4)

-- name: get_quotas
-- The quotas of a workspace.
select * from quotas where workspace = $1

-- name: all_quotas
-- The quotas of all workspaces that have some.
select * from quotas order by workspace

-- name: named_quotas
-- Those of some workspaces.
select * from quotas where workspace = any ($1)

-- name: quota_use
-- What a workspace uses of what quotas bound, each up to $2: the index of open tasks is read no further.
select (select count(*) from (select from agents a where a.workspace = $1 limit $2) a) as agents,
       (select count(*) from (select from tasks t where t.workspace = $1 and t.status = 'pending' limit $2) t) as queued_tasks,
       (select count(*) from (select from tasks t where t.workspace = $1 and t.status = 'running' limit $2) t) as running_tasks
