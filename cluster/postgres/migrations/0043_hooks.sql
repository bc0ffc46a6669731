-- Hooks. Their secrets are rows of the table of sealed secrets, named by secrets_id, which is another one after each rotation: so
-- a region that has been away never takes secrets for those of now that were ended elsewhere.
create table hooks (
    id              text not null,
    workspace       text not null,
    name            text not null,
    starts          json not null,
    input           json,
    rate_per_minute double precision not null,
    created_at      double precision not null,
    created_by      text not null,
    changed_at      double precision not null,
    changed_by      text not null,
    secrets_id      text not null,
    secrets_until   json not null,
    paused          boolean not null,
    revision        bigint not null,
    primary key (workspace, name)
);

-- What a hook starts has words, of which statistics keep no samples.
alter table hooks alter column starts set statistics 0, alter column input set statistics 0;

-- Stores a hook if it is still at the revision before, and its sealed secrets if they are given, instead of those of before. Returns
-- 'done', 'changed' or 'too_many'.
create function put_hook(
    p_region text, p_epoch bigint, p_most integer, p_hook text, p_sealed bytea, l log_rows
) returns text language plpgsql as $$
declare
    v_new hooks := json_populate_record(null::hooks, p_hook::json);
    v_old text;
begin
    perform region_lock(p_region);
    select h.secrets_id into v_old from hooks h
    where h.workspace = v_new.workspace and h.name = v_new.name and h.revision = v_new.revision - 1 and h.id = v_new.id;
    if v_new.revision > 1 and not found then
        return 'changed';
    elsif v_new.revision = 1 and exists (
        select from hooks h where h.workspace = v_new.workspace and h.name = v_new.name
    ) then
        return 'changed';
    elsif v_new.revision = 1 and (select count(*) from hooks h where h.workspace = v_new.workspace) >= p_most then
        return 'too_many';
    end if;
    delete from hooks h where h.workspace = v_new.workspace and h.name = v_new.name;
    insert into hooks select v_new.*;
    if p_sealed is not null then
        delete from secrets s where s.name = 'hook/' || v_old;
        insert into secrets (name, sealed) values ('hook/' || v_new.secrets_id, p_sealed);
    end if;
    perform log_append(p_region, p_epoch, array[true], l);
    return 'done';
end $$;

-- Deletes hooks with their secrets, and the remembered answers that show them; returns the names of those that there were.
create function remove_hooks(p_region text, p_epoch bigint, l log_rows) returns text[] language plpgsql as $$
declare
    v_done text[];
    v_ids text[];
begin
    perform region_lock(p_region);
    with removed as (
        delete from hooks h using unnest(l.entity, l.workspace) as r (name, workspace)
        where h.name = r.name and h.workspace = r.workspace
        returning h.name, h.id, h.secrets_id
    ), unsealed as (
        delete from secrets s using removed r where s.name = 'hook/' || r.secrets_id
    )
    select coalesce(array_agg(name), '{}'), coalesce(array_agg(id), '{}') into v_done, v_ids from removed;
    if v_done = '{}' then
        return v_done;
    end if;
    perform forget_answers(l.workspace[1], v_ids);
    perform log_append(
        p_region, p_epoch,
        array(select r.name = any (v_done) from unnest(l.entity) with ordinality as r (name, ord) order by r.ord), l);
    return v_done;
end $$;

-- Fails if a task exists or has existed. The lock makes the commits of one webhook that arrives at several replicas at once wait for
-- each other. Idempotency keys are no help: they tell a repeat by its id, which is another one for each call of a submit, and they are
-- forgotten after a day, while senders repeat for longer.
create function start_once(p_region text, p_id text) returns boolean language plpgsql as $$
begin
    perform region_lock(p_region);
    if exists (select from tasks t where t.id = p_id) or exists (select from task_stubs s where s.id = p_id) then
        raise exception 'the task has started before' using errcode = 'AG010';
    end if;
    return true;
end $$;
