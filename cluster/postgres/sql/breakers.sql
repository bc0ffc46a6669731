-- name: save_breakers
-- One commit of breakers that changed.
select save_breakers($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)

-- name: load_breakers
-- Breakers of a workspace and of the control plane; all breakers if it is null.
select workspace, name, agent_id, state, threshold, reset_s, failures, successes, last_failure, changed_at, retry_at
from breakers
where $1::text is null or workspace in ($1, '')
order by workspace, name

-- name: save_probes
-- Stores last probes, some time after they were made. Those of agents that no longer exist are left out by the join.
insert into agent_probes as p (workspace, agent_id, health, failures, successes, latency_s, error, at)
select n.* from unnest(
    $1::text[], $2::text[], $3::text[], $4::integer[], $5::integer[], $6::double precision[], $7::text[],
    $8::double precision[]
) as n (workspace, agent_id, health, failures, successes, latency_s, error, at)
join agents a using (workspace, agent_id)
order by n.workspace, n.agent_id
on conflict (workspace, agent_id) do update set
    health = excluded.health, failures = excluded.failures, successes = excluded.successes,
    latency_s = excluded.latency_s, error = excluded.error, at = excluded.at

-- name: load_probes
-- Last probes of a workspace's agents; of all agents if it is null.
select workspace, agent_id, health, failures, successes, latency_s, error, at
from agent_probes
where $1::text is null or workspace = $1

-- name: waiting_work
-- The kinds of work among the oldest 1,000 tasks that wait. Bounded, so that a long queue costs no more than a short one.
select o.workspace, o.target_agent, o.required, min(o.since) as since
from (
    select workspace, target_agent, required_capabilities::text as required, greatest(run_at, created_at) as since
    from tasks
    where status = 'pending' and created_at < $1 and run_at < $1
    order by created_at, id
    limit 1000
) o
group by 1, 2, 3
