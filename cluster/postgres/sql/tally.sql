-- name: tally_page
-- The next rows that count, the last number, and the open tasks of a workspace, all of one snapshot. Open tasks are counted by
-- the types that are kept ($5) and by the $6 most frequent others; the rest goes under one name ($7).
with page as (
    select seq, at, workspace, kind, data from log where seq > $1 and kind = any ($2) order by seq limit $3
), open as materialized (
    select * from open_task_counts($4)
), others as (
    select task_type from open where task_type <> all ($5::text[]) and task_type <> $7
    group by task_type order by sum(tasks) desc, task_type collate "C" limit $6
), named as (
    select o.status, o.priority, o.tasks,
           case when o.task_type = any ($5) or n.task_type is not null then o.task_type else $7 end as task_type
    from open o left join others n using (task_type)
)
select seq, at, workspace, kind, data::text as text, null::smallint as priority, null::bigint as tasks from page
union all
select log_last(), null, null, null, null, null, null
union all
select null, null, null, status, task_type, priority, sum(tasks)::bigint from named
group by status, task_type, priority
