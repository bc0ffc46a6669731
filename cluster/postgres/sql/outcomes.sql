-- name: record_outcomes
-- One commit of outcomes.
select seq, replayed, conflict from record_outcomes_of_kinds($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

-- name: recent_outcomes
-- The newest outcomes whose panel has all (or, if $4, any) of the given agents, newest first.
select n, votes::text as votes, right_answer, options::text as options, kind
from outcomes where workspace = $1 and case when $4 then panel && $2 else panel @> $2 end order by n desc limit $3

-- name: count_outcomes
-- How many such outcomes came after the n-th, counted up to a bound.
select count(*) from (
    select 1 from outcomes where workspace = $1 and n > $2 and case when $5 then panel && $3 else panel @> $3 end
    order by n desc limit $4) newest

-- name: known_agents
-- Agents on the panels of the newest outcomes, the most frequent first.
select agent, count(*) as times from (
    select panel from outcomes where workspace = $1 order by n desc limit $2) newest, unnest(panel) as agent
group by agent order by times desc, agent

-- name: save_snapshots
-- One commit of snapshots.
select save_snapshots($1, $2, $3, $4, $5, $6, $7, $8)

-- name: newest_snapshots
-- The newest version of every panel's snapshot, the largest panel first.
select * from (
    select distinct on (panel_key) id, panel, version, through_n, created_at, document::text as document,
           alarms::text as alarms
    from weight_snapshots where workspace = $1 order by panel_key, version desc) newest
order by cardinality(panel) desc, created_at desc

-- name: newest_heads
-- As newest_snapshots, without the documents.
select * from (
    select distinct on (panel_key) id, panel, version, through_n
    from weight_snapshots where workspace = $1 order by panel_key, version desc) newest
order by cardinality(panel) desc, id

-- name: get_snapshot
-- One snapshot by id.
select id, panel, version, through_n, created_at, document::text as document, alarms::text as alarms
from weight_snapshots where workspace = $1 and id = $2

-- name: covering_snapshot
-- The id of the newest snapshot of the smallest panel that has all of the given agents.
select id from weight_snapshots where workspace = $1 and panel @> $2
order by cardinality(panel), through_n desc, version desc limit 1
