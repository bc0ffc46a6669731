-- name: create_budget
-- One commit of a new budget.
select create_budget($1, $2, $3, $4, $5, $6, $7, $8)

-- name: change_budget
-- One commit of a budget's next version.
select change_budget($1, $2, $3, $4)

-- name: remove_budget
-- One commit of a deletion.
select remove_budget($1, $2, $3, $4, $5)

-- name: get_budget
-- One budget of a workspace.
select * from budgets where id = $2 and workspace = $1

-- name: list_budgets
-- All budgets of a workspace.
select * from budgets where workspace = $1 order by created_at, id

-- name: all_budgets
-- All budgets of all workspaces.
select * from budgets order by id

-- name: named_budgets
-- Budgets by their ids.
select * from budgets where id = any ($1)

-- name: budget_sums
-- What the entries of each budget in its window come to, with the days to which older ones were added, and the highest level that was
-- told of the present limit. They are summed once for each window, of which a workspace has two, and not for each budget. Windows
-- begin and end at midnight UTC.
with w as (
    select b.id, b.workspace, b.limit_nanos, w.starts, w.ends
    from unnest($1::text[], $2::text[], $3::double precision[], $4::double precision[]) as w (id, workspace, starts, ends)
    join budgets b on b.id = w.id and b.workspace = w.workspace
), sums as materialized (
    select d.starts, d.ends, c.id, sum(e.spent) as spent, sum(e.reserved) as reserved, sum(e.attempts) as attempts,
           sum(e.unknown) as unknown
    from (select distinct workspace, starts, ends from w) d
    cross join lateral (
        select e.budgets, e.spent, case when e.spent is null then e.reserved end as reserved, 1 as attempts,
               (e.spent is not null and not e.known)::integer as unknown
        from budget_entries e where e.workspace = d.workspace and e.at >= d.starts and e.at < d.ends
        union all
        select t.budgets, t.spent, null, t.attempts, t.unknown
        from budget_days t
        where t.workspace = d.workspace and t.day >= to_char(to_timestamp(d.starts) at time zone 'UTC', 'YYYY-MM-DD')
          and t.day < to_char(to_timestamp(d.ends) at time zone 'UTC', 'YYYY-MM-DD')
    ) e
    cross join lateral unnest(e.budgets) as c (id)
    group by d.starts, d.ends, c.id
)
select w.id, coalesce(s.spent, 0)::bigint as spent, coalesce(s.reserved, 0)::bigint as reserved,
       coalesce(s.attempts, 0)::bigint as attempts, coalesce(s.unknown, 0)::bigint as unknown,
       coalesce((
           select max(t.level) from budget_levels t
           where t.budget_id = w.id and t.period_start = w.starts and t.limit_nanos = w.limit_nanos
       ), 0) as told
from w left join sums s on s.id = w.id and s.starts = w.starts and s.ends = w.ends

-- name: open_reservations
-- The entries of attempts that run.
select task_id, attempt, workspace, budgets, agent_id, task_type, at, reserved as nanos
from budget_entries where spent is null

-- name: spending
-- What attempts that started in a window of whole days have cost, by day, agent and task type.
select day, agent_id, task_type, sum(attempts)::bigint as attempts, coalesce(sum(spent), 0)::bigint as spent,
       coalesce(sum(reserved), 0)::bigint as reserved, sum(unknown)::bigint as unknown
from (
    select to_char(to_timestamp(at) at time zone 'UTC', 'YYYY-MM-DD') as day, agent_id, task_type, spent,
           case when spent is null then reserved end as reserved, 1 as attempts,
           (spent is not null and not known)::integer as unknown
    from budget_entries where workspace = $1 and at >= $2 and at < $3
    union all
    select day, agent_id, task_type, spent, null, attempts, unknown from budget_days
    where workspace = $1 and day >= to_char(to_timestamp($2) at time zone 'UTC', 'YYYY-MM-DD')
      and day < to_char(to_timestamp($3) at time zone 'UTC', 'YYYY-MM-DD')
) e
group by 1, 2, 3 order by 1, 2, 3 limit $4

-- name: settled_entries
-- Some entries of attempts that ended before a time, workspace by workspace.
select workspace, task_id, attempt, to_char(to_timestamp(at) at time zone 'UTC', 'YYYY-MM-DD') as day
from budget_entries where spent is not null and settled_at < $1
order by workspace, at limit $2

-- name: fold_entries
-- One commit that adds entries to their days.
select fold_entries($1, $2, $3, $4, $5)

-- name: spending_workspaces
-- Every workspace of which days are kept.
with recursive found (id) as (
    select min(workspace) from budget_days
    union all
    select (select min(d.workspace) from budget_days d where d.workspace > f.id) from found f where f.id is not null
)
select id from found where id is not null

-- name: old_days
-- The days of a workspace before another one.
select distinct day from budget_days where workspace = $1 and day < $2 order by day limit $3

-- name: remove_spending
-- One commit that deletes what some days have cost.
select remove_spending($1, $2, $3, $4)

-- name: level_workspaces
-- The workspaces with levels that budgets have reached.
select distinct workspace as id from budget_levels order by id

-- name: old_levels
-- The budgets of a workspace with levels of periods that began before a time.
select distinct budget_id from budget_levels where workspace = $1 and period_start < $2 order by budget_id limit $3

-- name: remove_budget_levels
-- One commit that deletes levels of old periods.
select remove_budget_levels($1, $2, $3, $4, $5)

-- name: tell_budget_levels
-- One commit of levels that budgets have reached.
select tell_budget_levels($1, $2, $3, $4)
