-- name: write_chunks
-- One commit of chunks of several tasks: what became of each call.
select verdict, next, wait_s
from write_chunks($1, $2, $3::text::text[], $4::text::text[], $5::text::integer[], $6::text::text[], $7::text::integer[],
                  $8::text::boolean[], $9::text::double precision[], $10::text::integer[], $11, $12, $13, $14, $15, $16)

-- name: read_chunks
-- A task's state and its chunks after one of them, in order, as they are in one snapshot: at most so many, and the first ones of so
-- many bytes. A null epoch: the task cannot have been worked on in another region.
with page as (
    select c.attempt, c.n, c.at, c.size, c.content from task_chunks c
    where c.task_id = $2 and (c.attempt, c.n) > ($3::integer, $4::integer)
    order by c.attempt, c.n limit $5
), sized as (
    select p.*, sum(p.size) over (order by p.attempt, p.n) - p.size as before from page p
)
select t.status, t.attempt as task_attempt, coalesce(s.attempt, 0) as last_attempt, coalesce(s.n, 0) as last_n,
       $7::bigint is not null and exists (
           select from log l where l.entity = t.id and l.kind = 'task.claimed' and l.epoch < $7) as elsewhere,
       c.attempt, c.n, c.at, c.content
from tasks t
left join task_chunk_totals s on s.task_id = t.id
left join sized c on c.before < $6
where t.id = $2 and t.workspace || '' = $1
order by c.attempt, c.n

-- name: chunk_marks
-- How far some tasks are: it differs when there is something new to read.
select t.workspace, t.id, t.status, t.attempt, s.attempt as last_attempt, s.n
from unnest($1::text[], $2::text[]) as f (workspace, id)
join tasks t on t.id = f.id and t.workspace || '' = f.workspace
left join task_chunk_totals s on s.task_id = t.id
