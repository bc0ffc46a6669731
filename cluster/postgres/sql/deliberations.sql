-- name: admit_deliberations
-- One commit of admissions.
select request_id, seq, replayed, conflict from admit_deliberations(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)

-- name: append_deliberations
-- One commit of journal events, records and log rows.
select append_deliberations(
    $1, $2, $3::text::text[], $4::text::bigint[], $5::text::integer[], $6::text::integer[], $7::text::text[],
    $8::text::text[], $9, $10::text::double precision[], $11::text::text[], $12::text::integer[],
    $13::text::double precision[], $14::text::text[], $15, row($16::smallint, $17::text::double precision[],
    $18::text::text[], $19::text::text[], $20::text::text[], $21::text::integer[], $22::text::text[],
    $23::text::text[], $24::text[], $25::text[], $26::bytea[], $27::bytea[])::log_rows)

-- name: cancel_deliberation
-- Asks a deliberation's worker to stop.
select cancel_deliberation($1, $2, $3, $4, $5)

-- name: take_deliberations
-- Makes a worker the owner under a higher fence. Those that have ended are left out.
with mine as (
    select request_id from deliberations where request_id = any ($1) and terminal is null order by request_id for update
)
update deliberations d set owner = $2, fence = d.fence + 1 from mine where d.request_id = mine.request_id
returning d.*, d.contract::text as contract_text, d.result::text as result_text

-- name: journals
-- All events of the given deliberations, in order.
select request_id, n, at, kind, data::text as data
from deliberation_events where request_id = any ($1) order by request_id, n

-- name: open_deliberations
-- Deliberations that have not ended, oldest first.
select request_id, owner from deliberations where terminal is null order by admitted_at, request_id

-- name: journal
-- Events of one deliberation of a workspace after its n-th, in order.
select n, at, kind, data::text as data from deliberation_events
where request_id = $2 and n > $3 and exists (select from deliberations where request_id = $2 and workspace = $1)
order by n

-- name: get_deliberation
-- One deliberation. A null workspace matches any.
select d.*, d.contract::text as contract_text, d.result::text as result_text
from deliberations d where request_id = $1 and ($2::text is null or workspace = $2)

-- name: deliberation_stub
-- What is left of a removed deliberation.
select id, status, created_at, completed_at, removed_at from deliberation_stubs where id = $2 and workspace = $1

-- name: list_deliberations
-- A page, newest first.
select d.*, d.contract::text as contract_text, d.result::text as result_text
from deliberations d where workspace = $1 order by admitted_at desc, request_id desc limit $2 offset $3

-- name: changed_deliberations
-- A page, those that ended or were admitted last first. (Infinity is before all that there are.)
select d.*, d.contract::text as contract_text, d.result::text as result_text
from deliberations d
where workspace = $1
  and (coalesce(completed_at, admitted_at), request_id collate "C")
      < (coalesce($2::double precision, 'infinity'), coalesce($3::text, ''))
order by coalesce(completed_at, admitted_at) desc, request_id collate "C" desc limit $4

-- name: matching_deliberations
-- The deliberations of a workspace, to be counted.
select 1 from deliberations where workspace = $1

-- name: count_deliberation_terms
-- The terms of a search, the rarest first, as far as a page can tell.
select u.term from unnest($1::bytea[]) as u (term)
cross join lateral (select count(*) as found from (select from deliberation_terms k where k.term = u.term limit $2) as first) as c
order by c.found, u.term
