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
-- What the entries of each budget in its window come to, and the highest level that was told of the present limit. The entries are
-- summed once for each window, of which a workspace has two, and not for each budget.
with w as (
    select b.id, b.workspace, b.limit_nanos, w.starts, w.ends
    from unnest($1::text[], $2::text[], $3::double precision[], $4::double precision[]) as w (id, workspace, starts, ends)
    join budgets b on b.id = w.id and b.workspace = w.workspace
), sums as materialized (
    select d.starts, d.ends, c.id, sum(e.spent) as spent, sum(e.reserved) filter (where e.spent is null) as reserved,
           count(*) as attempts, count(*) filter (where e.spent is not null and not e.known) as unknown
    from (select distinct workspace, starts, ends from w) d
    join budget_entries e on e.workspace = d.workspace and e.at >= d.starts and e.at < d.ends
    cross join lateral unnest(e.budgets) as c (id)
    group by d.starts, d.ends, c.id
)
select w.id, coalesce(s.spent, 0)::bigint as spent, coalesce(s.reserved, 0)::bigint as reserved,
       coalesce(s.attempts, 0) as attempts, coalesce(s.unknown, 0) as unknown,
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
-- What attempts that started in a window have cost, by day, agent and task type.
select to_char(to_timestamp(at) at time zone 'UTC', 'YYYY-MM-DD') as day, agent_id, task_type, count(*) as attempts,
       coalesce(sum(spent), 0)::bigint as spent, coalesce(sum(reserved) filter (where spent is null), 0)::bigint as reserved,
       count(*) filter (where spent is not null and not known) as unknown
from budget_entries where workspace = $1 and at >= $2 and at < $3
group by 1, 2, 3 order by 1, 2, 3 limit $4

-- name: tell_budget_levels
-- One commit of levels that budgets have reached.
select tell_budget_levels($1, $2, $3, $4)
