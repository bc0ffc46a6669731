-- A key may be bound to agents. In a table of its own: replicas of before, which serve beside those of now while a version is
-- replaced, read whole rows of api_keys and would not know another column.
create table api_key_agents (
    key_id text primary key,
    agents text[] not null
);

-- Creates a key that is bound to p_agents (null: to none), as create_key does.
create function create_bound_key(
    p_region text, p_epoch bigint, p_now double precision, p_first boolean, p_id text, p_name text, p_workspaces text[],
    p_grants text[], p_custom text[], p_digests bytea[], p_created_at double precision, p_created_by text,
    p_expires_at double precision, p_agents text[], l log_rows
) returns text language plpgsql as $$
declare
    v_outcome text;
begin
    v_outcome := create_key(
        p_region, p_epoch, p_now, p_first, p_id, p_name, p_workspaces, p_grants, p_custom, p_digests, p_created_at,
        p_created_by, p_expires_at, l
    );
    if v_outcome = 'done' and p_agents is not null then
        insert into api_key_agents (key_id, agents) values (p_id, p_agents);
    end if;
    return v_outcome;
end $$;
