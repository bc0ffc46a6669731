-- As before, but who paused an agent is kept apart. What an agent says of itself never replaces what an operator said,
-- however old the copy was that it was judged by; an operator who says what the agent had said already makes it the
-- operator's, which is a change although the intent is the same.
create or replace function change_agents(
    p_region text, p_epoch bigint,
    c_workspace text[], c_agent_id text[], c_intent text[], c_intent_by text[], c_liveness text[], c_health text[],
    l_at double precision[], l_kind text[], l_principal text[], l_data text[], l_digest bytea[]
) returns boolean[] language plpgsql as $$
declare
    v_known boolean[];
    v_changed text[];
begin
    with c as (
        select * from unnest(c_workspace, c_agent_id, c_intent, c_intent_by, c_liveness, c_health, l_at)
             as c (workspace, agent_id, intent, intent_by, liveness, health, at)
        order by c.workspace, c.agent_id
    ), changed as (
        update agents a set
            intent = coalesce(c.intent, a.intent), liveness = coalesce(c.liveness, a.liveness),
            health = coalesce(c.health, a.health), updated_at = c.at,
            -- Nobody holds an active agent back, so nobody is remembered for it.
            intent_by = case when coalesce(c.intent, a.intent) = 'active' then 'operator'
                             else coalesce(c.intent_by, a.intent_by) end
        from c
        where a.workspace = c.workspace and a.agent_id = c.agent_id
          and (coalesce(c.intent_by, 'operator') = 'operator' or a.intent_by = 'agent' or a.intent = 'active')
          and (coalesce(c.intent, a.intent), coalesce(c.liveness, a.liveness), coalesce(c.health, a.health),
               case when coalesce(c.intent, a.intent) = 'active' then 'operator'
                    else coalesce(c.intent_by, a.intent_by) end)
              is distinct from (a.intent, a.liveness, a.health, a.intent_by)
        returning a.workspace || ':' || a.agent_id as key
    )
    select array(select key from changed) into v_changed;
    v_known := array(
        select a.agent_id is not null
        from unnest(c_workspace, c_agent_id) with ordinality as i (workspace, agent_id, ord)
        left join agents a using (workspace, agent_id)
        order by i.ord
    );
    perform log_append(
        p_region, p_epoch,
        array(
            select i.workspace || ':' || i.agent_id = any (v_changed)
            from unnest(c_workspace, c_agent_id) with ordinality as i (workspace, agent_id, ord) order by i.ord
        ),
        l_at, c_workspace, l_kind, c_agent_id, array(select null::integer from unnest(c_agent_id)),
        l_principal, l_data, l_digest);
    return v_known;
end $$;

-- Left by agents that said ready.
update agents set intent_by = 'operator' where intent = 'active' and intent_by <> 'operator';
