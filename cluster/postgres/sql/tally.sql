-- name: tally_page
-- The next rows that count, the last number, and the open tasks of a workspace, all of one snapshot.
with page as (
    select seq, at, workspace, kind, data from log where seq > $1 and kind = any ($2) order by seq limit $3
)
select seq, at, workspace, kind, data::text as text, null::smallint as priority, null::bigint as tasks from page
union all
select coalesce(max(seq), 0), null, null, null, null, null, null from log
union all
select null, null, null, status, task_type, priority, tasks from open_task_counts($4)
