-- name: register_agents
-- One commit of registrations.
select seq, created, conflict from register_agents(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)

-- name: register_within_quotas
-- The same of agents whose workspace may have a quota on agents.
select seq, created, conflict, most, agents from register_within_quotas(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)

-- name: change_agents
-- One commit of changes.
select change_agents($1, $2, $3, $4, $5, $6, $7)

-- name: remove_agents
-- One commit of removals.
select remove_agents($1, $2, $3, $4, $5, $6)

-- name: get_agents
-- Agents by (workspace, id), each with the ids of its running tasks.
select a.*, a.capabilities::text as capabilities_text, a.metadata::text as metadata_text, a.tags::text as tags_text,
       a.available_regions::text as available_text, a.options::text as options_text,
       a.dedicated::text as dedicated_text, a.credential::text as credential_text, r.running
from unnest($1::text[], $2::text[]) as k (workspace, agent_id)
join agents a using (workspace, agent_id)
left join lateral (
    select array_agg(t.id order by t.started_at) as running from tasks t
    where t.status = 'running' and t.workspace = a.workspace and t.assigned_agent = a.agent_id
) r on true

-- name: list_agents
-- All agents, of one workspace if it is given.
with running as (
    select workspace, assigned_agent, array_agg(id order by started_at) as running
    from tasks where status = 'running' and ($1::text is null or workspace = $1) group by workspace, assigned_agent
)
select a.*, a.capabilities::text as capabilities_text, a.metadata::text as metadata_text, a.tags::text as tags_text,
       a.available_regions::text as available_text, a.options::text as options_text,
       a.dedicated::text as dedicated_text, a.credential::text as credential_text, r.running
from agents a left join running r on r.workspace = a.workspace and r.assigned_agent = a.agent_id
where $1::text is null or a.workspace = $1
order by a.workspace, a.agent_id

-- name: unschedulable_agents
-- All agents that get nothing new: the same condition as ``Agent.is_unschedulable``.
select workspace, agent_id from agents where intent <> 'active' or health = 'failed'

-- name: unschedulable_of
-- Those of the given agents (workspace, id) that get nothing new.
select workspace, agent_id from unnest($1::text[], $2::text[]) as k (workspace, agent_id)
join agents a using (workspace, agent_id)
where a.intent <> 'active' or a.health = 'failed'

-- name: deliberating_agents
-- Those of the given agents (workspace, id) that the contract or the panel of a deliberation names that has not ended.
select k.workspace, k.agent_id from unnest($1::text[], $2::text[]) as k (workspace, agent_id)
where exists (
    select from deliberations d
    left join deliberation_events e on e.request_id = d.request_id and e.kind = 'panel'
    where d.terminal is null and d.workspace = k.workspace
      and position('"' || k.agent_id || '"' in d.contract::text || coalesce(e.data::text, '')) > 0
)

-- name: dedicated_agents
-- Agents that have an actor of their own.
select workspace, agent_id, dedicated::text as dedicated_text from agents
where dedicated is not null order by workspace, agent_id

-- name: agents_seen
-- Stores when agents were last heard, some time after it happened. Sorted, so that all lock the rows in the same order.
with s as (
    select * from unnest($1::text[], $2::text[], $3::double precision[]) as s (workspace, agent_id, at)
    order by workspace, agent_id
)
update agents a set last_seen_at = s.at from s
where a.workspace = s.workspace and a.agent_id = s.agent_id and a.last_seen_at is distinct from s.at
  and coalesce(a.last_seen_at, 0) < s.at

-- name: agent_findings
-- How many entries the findings lists have in results of an agent's completed tasks.
select coalesce(sum(findings_of(result)), 0) from tasks
where workspace = $1 and assigned_agent = $2 and status = 'completed' and findings_of(result) is not null
