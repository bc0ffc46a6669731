-- name: put_push
-- One commit of a push.
select put_push($1, $2, $3, $4, $5, $6, $7)

-- name: remove_push
-- One commit of a removal.
select remove_push($1, $2, $3)

-- name: list_pushes
-- The pushes of a task.
select p.push_id, p.id, p.url, p.created_at, p.status, p.error from pushes p
where p.workspace = $1 and p.task_id = $2 order by p.id

-- name: tell_push
-- Lets a push that knows no state tell of one: its task had begun before it was there.
update pushes p set state = $3, at = $4, status = 'pending', next_at = $5
where p.workspace = $1 and p.push_id = $2 and p.state is null

-- name: changed_rows
-- The rows of some kinds that are about tasks with a push, after a cursor and up to a row.
select l.seq, l.at, l.workspace, l.kind, l.entity from log l
where l.seq > $1::bigint and l.seq <= $2::bigint and l.kind = any ($3)
  and exists (select from pushes p where p.workspace = l.workspace and p.task_id = l.entity)
order by l.seq

-- name: missed_rows
-- The newest row of some kinds about each task with a push that does not know of it: those behind the cursor of another epoch.
select l.seq, l.at, l.workspace, l.kind, l.entity
from pushes p
cross join lateral (
    select o.* from log o
    where o.entity = p.task_id and o.workspace = p.workspace and o.seq > p.seq and o.seq <= $1::bigint and o.kind = any ($2)
    order by o.seq desc limit 1
) l

-- name: claim_pushes
-- One commit that begins attempts.
select claim_pushes($1, $2, $3, $4, $5, $6, $7)

-- name: get_pushes
-- Some pushes by their ids, each with the conversation of its task, or else its id.
select p.*, coalesce(
    (select t.metadata ->> $2 from tasks t where p.in_context and t.id = p.task_id and t.workspace = p.workspace),
    (select d.contract -> 'context' ->> $2 from deliberations d
     where p.in_context and d.request_id = p.task_id and d.workspace = p.workspace),
    p.task_id) as context_id
from pushes p where p.push_id = any ($1) order by p.seq, p.push_id

-- name: settle_pushes
-- Stores what came of attempts. It is no commit of the log, as with notifications.
select settle_pushes($1, $2)

-- name: forget_pushes
-- Deletes some of which nothing was heard for long, and returns how many.
with old as (
    select push_id from pushes where coalesce(at, created_at) < $1 limit $2 for update skip locked
), removed as (
    delete from pushes p using old o where p.push_id = o.push_id returning p.push_id
)
select count(*) from removed
