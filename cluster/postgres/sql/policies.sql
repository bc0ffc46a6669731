-- name: create_policy
-- One commit of a new policy.
select create_policy($1, $2, $3, $4, $5, $6, $7, $8)

-- name: change_policy
-- One commit of a policy's next version.
select change_policy($1, $2, $3, $4)

-- name: remove_policy
-- One commit of a deletion.
select remove_policy($1, $2, $3, $4, $5)

-- name: get_policy
-- One policy that is about a workspace.
select p.*, p.content::text as content_text from policies p where p.id = $2 and p.workspace in ($1, '*')

-- name: list_policies
-- All policies that are about a workspace.
select p.*, p.content::text as content_text from policies p where p.workspace in ($1, '*')
order by (p.content ->> 'priority')::bigint desc, p.created_at, p.id

-- name: all_policies
-- All policies of all workspaces.
select p.*, p.content::text as content_text from policies p

-- name: named_policies
-- Policies by their ids.
select p.*, p.content::text as content_text from policies p where p.id = any ($1)

-- name: policy_version
-- One version of a policy.
select v.*, v.policy_id as id, v.content::text as content_text
from policy_versions v where v.policy_id = $2 and v.workspace in ($1, '*') and v.version = $3

-- name: page_policy_versions
-- Some versions of a policy, the newest first.
select v.*, v.policy_id as id, v.content::text as content_text
from policy_versions v where v.policy_id = $2 and v.workspace in ($1, '*') order by v.version desc limit $3 offset $4

-- name: count_policy_versions
-- How many versions of a policy there are.
select count(*) from policy_versions v where v.policy_id = $2 and v.workspace in ($1, '*')

-- name: version_workspaces
-- Every workspace with a version of a policy that does not count any more.
select distinct v.workspace as id from policy_versions v
where not exists (select from policies p where p.id = v.policy_id and p.version = v.version) order by id

-- name: old_policy_versions
-- Some versions of a workspace's policies that were replaced or deleted before a time and that no violation names. When a policy
-- was deleted is in the log, or longer ago than that reaches.
select v.policy_id, v.version
from policy_versions v
left join policy_versions n on n.policy_id = v.policy_id and n.version = v.version + 1
left join policies p on p.id = v.policy_id
where v.workspace = $1 and (p.version is null or p.version > v.version)
  and coalesce(
      n.changed_at,
      (select max(o.at) from log o where o.entity = v.policy_id and o.kind = 'policy.deleted'),
      v.changed_at) < $2
  and not exists (
      select from policy_violations o
      where o.policy_id = v.policy_id and o.policy_version = v.version and (o.workspace = $1 or $1 = '*'))
order by v.policy_id, v.version limit $3

-- name: remove_policy_versions
-- One commit that deletes versions of policies.
select remove_policy_versions($1, $2, $3, $4, $5)

-- name: record_violations
-- One commit of violations.
select record_violations($1, $2, $3, $4)

-- name: change_violation
-- One commit of what people made of a violation.
select change_violation($1, $2, $3, $4)

-- name: get_violation
-- One violation.
select * from policy_violations where id = $2 and workspace = $1

-- name: list_violations
-- A page of a workspace's violations, the newest first.
select * from policy_violations
where workspace = $1 and ($2::text is null or policy_id = $2) and ($3::text is null or violation_type = $3)
  and ($4::text is null or status = $4)
order by at desc, id desc limit $5 offset $6

-- name: count_violations
-- How many violations match.
select count(*) from policy_violations
where workspace = $1 and ($2::text is null or policy_id = $2) and ($3::text is null or violation_type = $3)
  and ($4::text is null or status = $4)

-- name: violation_counts
-- How many violations there are of each type in each status.
select violation_type, status, count(*) as entries from policy_violations where workspace = $1 group by 1, 2

-- name: violation_workspaces
-- Every workspace with violations, by their index.
with recursive found (id) as (
    select min(workspace) from policy_violations
    union all
    select (select min(v.workspace) from policy_violations v where v.workspace > f.id) from found f where f.id is not null
)
select id from found where id is not null

-- name: old_violations
-- Some violations of a workspace that are older than a time.
select id from policy_violations where workspace = $1 and at < $2 order by at, id limit $3

-- name: remove_violations
-- One commit that deletes violations.
select remove_violations($1, $2, $3, $4)
