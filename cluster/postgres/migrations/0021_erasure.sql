-- Erasure: what people and agents wrote goes, what the chain of the audit covers stays. Each function below is a commit that
-- changes what its rows name and nothing else, so repeats change nothing, and an erasure that broke off goes on.

-- When the words of a task or a deliberation were erased; null if they were not.
alter table tasks add column erased_at double precision;
alter table deliberations add column erased_at double precision;

-- PostgreSQL keeps samples of texts in its statistics, from which nothing erases them: ANALYZE leaves those of a table that has become
-- empty. No plan needs them of words. To state the type again drops what there is, and rewrites nothing.
alter table tasks alter column error type text, alter column error set statistics 0;
alter table log alter column private type text, alter column private set statistics 0;
alter table outcomes alter column right_answer type text, alter column right_answer set statistics 0;
alter table idempotency alter column answer type text, alter column answer set statistics 0;
alter table agent_probes alter column error type text, alter column error set statistics 0;

-- Deletes the words of rows about entities of a workspace. Their hashes stay, and the digests cover those.
create function forget_words(p_workspace text, p_entity text[]) returns void language sql as $$
    update log set private = null where entity = any (p_entity) and workspace = p_workspace and private is not null
$$;

-- Deletes the error texts of a workspace's probes, which quote what agents answered.
create function forget_probes(p_workspace text) returns void language sql as $$
    update agent_probes set error = null where workspace = p_workspace and error is not null
$$;

-- Deletes remembered answers of a workspace that name one of these ids; all of them if there are none. An answer that is an id
-- alone stays: it is no word, and without it a late repeat of a submit would be a second task.
create function forget_answers(p_workspace text, p_id text[]) returns void language sql as $$
    delete from idempotency i
    where i.workspace = p_workspace and left(i.answer, 1) = '{'
      and (p_id is null or exists (select from unnest(p_id) as e (id) where strpos(i.answer, e.id) > 0))
$$;

-- Erases tasks that have ended. An entry of the dead letter leaves it, since it cannot be replayed any more. Returns the ids of those
-- that were erased now.
create function erase_tasks(p_region text, p_epoch bigint, l log_rows) returns text[] language plpgsql as $$
declare
    v_done text[];
begin
    with erased as (
        update tasks t set
            payload = 'null', metadata = '{}', result = null, error = null, erased_at = r.at,
            purged_at = case when t.status_detail in ('dead_lettered', 'timeout') then coalesce(t.purged_at, r.at)
                        else t.purged_at end
        from (select * from unnest(l.entity, l.workspace, l.at) as r (id, workspace, at) order by r.id) r
        where t.id = r.id and t.workspace = r.workspace and t.status not in ('pending', 'running')
          and t.erased_at is null
        returning t.id
    )
    select coalesce(array_agg(id), '{}') into v_done from erased;
    if v_done = '{}' then
        return v_done;
    end if;
    perform forget_words(l.workspace[1], v_done);
    perform forget_answers(l.workspace[1], v_done);
    perform log_append(
        p_region, p_epoch,
        array(select r.id = any (v_done) from unnest(l.entity) with ordinality as r (id, ord) order by r.ord), l);
    return v_done;
end $$;

-- Erases a deliberation that has ended, its journal and its outcome. p_data: what is left of each event, by its number. The second row
-- is that of the outcome.
create function erase_deliberation(
    p_region text, p_epoch bigint, p_contract text, p_n integer[], p_data text[], l log_rows
) returns boolean language plpgsql as $$
declare
    v_id text := l.entity[1];
    v_workspace text := l.workspace[1];
    v_outcome boolean;
begin
    update deliberations d set contract = p_contract::json, result = null, erased_at = l.at[1]
    where d.request_id = v_id and d.workspace = v_workspace and d.terminal is not null and d.erased_at is null;
    if not found then
        return false;
    end if;
    update deliberation_events e set data = r.data::json
    from unnest(p_n, p_data) as r (n, data)
    where e.request_id = v_id and e.n = r.n;
    delete from outcomes o where o.workspace = v_workspace and o.id = v_id;
    v_outcome := found;
    perform forget_words(v_workspace, array[v_id]);
    perform forget_answers(v_workspace, array[v_id]);
    perform log_append(p_region, p_epoch, array[true, v_outcome], l);
    return true;
end $$;

-- Deletes outcomes of a workspace. What was learned from them stays: numbers of agents.
create function erase_outcomes(p_region text, p_epoch bigint, l log_rows) returns integer language plpgsql as $$
declare
    v_done text[];
begin
    with erased as (
        delete from outcomes o using unnest(l.entity) as r (id)
        where o.workspace = l.workspace[1] and o.id = r.id
        returning o.id
    )
    select coalesce(array_agg(id), '{}') into v_done from erased;
    perform forget_words(l.workspace[1], v_done);
    perform log_append(
        p_region, p_epoch,
        array(select r.id = any (v_done) from unnest(l.entity) with ordinality as r (id, ord) order by r.ord), l);
    return cardinality(v_done);
end $$;

-- Deletes the words of all rows of a workspace with numbers after p_after and up to p_through, which the appended row names. Returns
-- how many rows had some; without any nothing is written.
create function erase_log_words(
    p_region text, p_epoch bigint, p_after bigint, p_through bigint, l log_rows
) returns bigint language plpgsql as $$
declare
    v_rows bigint;
begin
    update log set private = null
    where seq > p_after and seq <= p_through and workspace = l.workspace[1] and private is not null;
    get diagnostics v_rows = row_count;
    if v_rows > 0 then
        perform log_append(p_region, p_epoch, array[true], l);
    end if;
    return v_rows;
end $$;

-- What another region erased, which its rows after p_after tell: the words of its rows before are this region's to delete.
create function follow_erasures(p_after bigint) returns void language sql as $$
    update log l set private = null from log e
    where e.seq > p_after and e.kind in ('task.erased', 'deliberation.erased', 'outcome.erased')
      and l.entity = e.entity and l.workspace = e.workspace and l.private is not null;
    update log l set private = null from log e
    where e.seq > p_after and e.kind = 'erasure.words'
      and l.seq > (e.data ->> 'after')::bigint and l.seq <= (e.data ->> 'through')::bigint
      and l.workspace = e.workspace and l.private is not null;
$$;
