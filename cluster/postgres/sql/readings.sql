-- name: waiting_by_queue
-- Waiting tasks of all workspaces by the name of their queue, and how long the oldest has waited of those that could start at once. It
-- reads all that waits: an index by queue was rejected, which every submit and claim would pay for.
select queue, count(*) as waiting,
       greatest(0, $1::float8 - coalesce(min(greatest(created_at, run_at)) filter (
           where status_detail in ('queued', 'delayed', 'retrying') and run_at <= $1::float8), $1::float8)) as oldest_s
from tasks where status = 'pending' group by queue

-- name: breakers_by_state
-- Breakers by state. One that is open lets a call through when its time is over, though nobody has stored that yet.
select case when state = 'open' and changed_at + reset_s <= $1::float8 then 'half_open' else state end as state, count(*) as count
from breakers group by 1

-- name: bytes_by_table
-- Bytes of each table with its indexes, those of all segments as the log's.
select coalesce(p.relname, c.relname)::text as name, sum(pg_total_relation_size(c.oid))::bigint as bytes
from pg_class c
left join pg_inherits i on i.inhrelid = c.oid
left join pg_class p on p.oid = i.inhparent
where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r'
group by 1

-- name: open_runs
-- Runs of workflows that have not ended, and how long ago the one that waits longest has moved, or should have: one that waits for a
-- time is late after it.
select count(*) as open,
       greatest(0, $1::float8 - coalesce(min(greatest(changed_at, due_at)), $1::float8)) as stalled_s
from workflow_runs where ended_at is null

-- name: count_dead_letters
-- Entries of the dead letter of all workspaces, up to a bound: more than that say nothing new.
select count(*) from (
    select from tasks where status_detail in ('dead_lettered', 'timeout') and purged_at is null limit 100000
) as counted

-- name: count_used_up
-- Budgets that have told that all of their present limit is used in the present day ($1) or month ($2).
select count(*) from budgets b where exists (
    select from budget_levels l
    where l.budget_id = b.id and l.limit_nanos = b.limit_nanos and l.level >= 100
      and l.period_start = case b.period when 'day' then $1::float8 else $2::float8 end)

-- name: last_retention_pass
-- When retention last ended a pass over a workspace; null before the first.
select max(ended_at) from retention_passes

-- name: notifications_told
-- Notifications and pushes that wait, those that ended in the last hour, and how long the one that is late most has been due.
select (select count(*) from notifications where status = 'pending') as notifications,
       (select count(*) from pushes where status = 'pending') as pushes,
       (select count(*) from notifications where ended_at > $1::float8 - 3600 and status = 'delivered') as delivered,
       (select count(*) from notifications where ended_at > $1::float8 - 3600 and status = 'dead') as dead,
       greatest(0, $1::float8 - coalesce(least(
           (select min(next_at) from notifications where status = 'pending'),
           (select min(next_at) from pushes where status = 'pending')), $1::float8)) as late_s

-- name: unread_by_cursor
-- How many rows of the log each stored cursor has not passed, which keep what they are in from going (log_holds). Cursors of another
-- epoch hold nothing back.
select c.reader, greatest(0, log_last() - c.seq) as count
from (select 'counts' as reader, min(cursor) as seq from telemetry
      union all
      select 'notifications', n.seq from notification_cursors n join region_state s using (region, epoch) where s.region = $1
      union all
      select 'workflows', w.seq from workflow_cursors w join region_state s using (region, epoch) where s.region = $1) c
where c.seq is not null
