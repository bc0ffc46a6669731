-- name: clock
-- The server's clock, as epoch seconds.
select extract(epoch from clock_timestamp())::double precision

-- name: table_sizes
-- Bytes of each table with its indexes, and its rows by estimate: living, and dead ones whose place is not free yet. The segments of
-- the log are parts of one table.
select coalesce(p.relname, c.relname)::text as name, sum(pg_total_relation_size(c.oid))::bigint as bytes,
       coalesce(sum(s.n_live_tup), 0)::bigint as living, coalesce(sum(s.n_dead_tup), 0)::bigint as dead
from pg_class c
left join pg_stat_all_tables s on s.relid = c.oid
left join pg_inherits i on i.inhrelid = c.oid
left join pg_class p on p.oid = i.inhparent
where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r'
group by 1
order by 2 desc

-- name: log_ends
-- The first and the last number of the log; nulls while it is empty.
select min(seq) as first, max(seq) as last from log

-- name: log_time
-- When the first row from a number on was written.
select at from log where seq >= $1 order by seq limit 1

-- name: last_head
-- What the last checkpoint of the audit says, as text; no row before there is one.
select head from audit_checkpoints order by last_seq desc limit 1
