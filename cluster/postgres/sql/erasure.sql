-- name: task_family
-- A task with its children, and those that these replay and that replay these, to any depth.
with recursive family (id) as (
    select id from tasks where workspace = $1 and id = $2
    union
    select o.id from family f cross join lateral (
        select t.replayed_as as id from tasks t where t.id = f.id and t.replayed_as is not null
        union all
        select l.data ->> 'replay_of' from log l
        where l.entity = f.id and l.kind = 'task.submitted' and l.data ->> 'replay_of' is not null
        union all
        select t.id from tasks t where t.rules ->> 'parent' = f.id and t.workspace = $1
    ) o
)
select t.id, t.status in ('pending', 'running') as open, t.erased_at is not null as erased
from family join tasks t using (id) where t.workspace = $1 order by t.id

-- name: tasks_to_erase
-- A window of a workspace's tasks, oldest first, by the index of its list: which of them are chosen. A null subject chooses all.
select id, created_at, status not in ('pending', 'running') and erased_at is null
       and ($2::text is null or metadata ->> 'subject' = $2) as chosen
from tasks
where workspace = $1 and (created_at, id) > ($3::float8, $4::text) and created_at <= $5::float8
order by created_at, id limit $6

-- name: deliberations_to_erase
-- The same of its deliberations.
select request_id as id, admitted_at as created_at, terminal is not null and erased_at is null
       and ($2::text is null or contract -> 'context' ->> 'subject' = $2) as chosen
from deliberations
where workspace = $1 and (admitted_at, request_id) > ($3::float8, $4::text) and admitted_at <= $5::float8
order by admitted_at, request_id limit $6

-- name: pull_calls
-- The tasks that asked agents, or a person, for a deliberation, by the key of each call, which begins with its id.
select id, status in ('pending', 'running') as open
from tasks
where workspace = $1 and task_type = any ($2) and created_at >= $3::float8 and created_at <= $4::float8
  and starts_with(payload ->> 'idempotency_key', $5)
order by id

-- name: open_work
-- Some tasks and deliberations of a workspace that have not ended. A null subject chooses all.
(select id from tasks
 where workspace = $1 and status in ('pending', 'running') and ($2::text is null or metadata ->> 'subject' = $2) limit $3)
union all
(select request_id from deliberations
 where workspace = $1 and terminal is null and ($2::text is null or contract -> 'context' ->> 'subject' = $2) limit $3)

-- name: outcomes_to_erase
-- Some outcomes of a workspace after an id.
select id from outcomes where workspace = $1 and id > $2 order by id limit $3

-- name: log_words
-- How many rows of a workspace in a range of the log have words.
select count(*) from log where seq > $2 and seq <= $3 and workspace = $1 and private is not null

-- name: last_row
-- The number of the log's last row, and whether its first one, or one in an archive, is of the first form, whose words are part of its
-- data.
select log_last() as seq,
       coalesce((select v = 1 from log order by seq limit 1), false) or exists (select from log_archives where first_form) as first_form

-- name: erase_tasks
-- One commit that erases tasks.
select erase_tasks($1, $2, $3)

-- name: erase_deliberation
-- One commit that erases a deliberation.
select erase_deliberation($1, $2, $3, $4, $5, $6)

-- name: erase_outcomes
-- One commit that erases outcomes.
select erase_outcomes($1, $2, $3)

-- name: erase_log_words
-- One commit that deletes the words of a range of the log.
select erase_log_words($1, $2, $3, $4, $5)

-- name: rules_to_erase
-- Some of what people made beside the work, by the kind of the row that says that it is gone; what names others comes before them.
(select distinct 'policy.erased' as kind, policy_id as entity from policy_versions where workspace = $1 limit $2)
union all
(select 'notification.rule_deleted', name from notification_rules where workspace = $1 limit $2)
union all
(select 'notification.channel_deleted', name from notification_channels where workspace = $1 limit $2)
union all
(select 'credential.deleted', substr(name, length('credential/' || workspace || '/') + 1) from secrets
 where workspace = $1 and starts_with(name, 'credential/') limit $2)
union all
(select 'budget.deleted', id from budgets where workspace = $1 limit $2)
limit $2

-- name: erase_rules
-- One commit that deletes some of them.
select erase_rules($1, $2, $3)

-- name: violations_to_erase
-- A window of a workspace's violations, oldest first: which of them say something.
select id, at as created_at, (policy_name, description, resolution_notes) <> ('', '', '') as chosen
from policy_violations
where workspace = $1 and (at, id) > ($2::float8, $3::text)
order by at, id limit $4

-- name: erase_violations
-- One commit that deletes what is written of violations.
select erase_violations($1, $2, $3)

-- name: count_told
-- How many notifications of a workspace are kept.
select count(*) from notifications where workspace = $1

-- name: erase_told
-- Deletes some notifications of a workspace, and returns how many, and its pushes. It is no commit of the log, as their end is none.
with pushed as (
    delete from pushes where workspace = $1
), chosen as (
    select id from notifications where workspace = $1 limit $2 for update
), removed as (
    delete from notifications n using chosen c where n.id = c.id returning n.id
)
select count(*) from removed

-- name: forget_rest
-- Deletes the remembered answers of a workspace, but for ids, and the error texts of its probes.
select forget_answers($1, null), forget_probes($1)
