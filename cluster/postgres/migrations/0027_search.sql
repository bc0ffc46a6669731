-- Search by what submitters wrote: each task has a row here for every value of its metadata, every tag and its tenant. A term is a
-- hash, so the key is short whatever somebody wrote, and its order is that of lists: a page is a range of the key, read backwards.
--
-- Rows are written once and not with each change of a task's state, as an index of the tasks would be: every claim and every end
-- enters all its keys again, since states are part of the indexes of the tasks. Triggers write them, so that they follow from the
-- tasks whoever writes those: submits, replays, erasures, and what comes from another region. A task without metadata and tenant
-- does not even call one.

create table task_terms (
    term        bytea not null,
    at          double precision not null,
    id          text not null,
    primary key (term, at, id)
);
-- What is erased must not stay in samples of it, not even as a hash.
alter table task_terms alter column term set statistics 0;

-- Kinds: m of metadata, g a tag, t the tenant. Lengths keep what is joined apart. (Also in `cluster/postgres/search_terms.py`.)
create function search_term(p_workspace text, p_kind text, p_key text, p_value text) returns bytea language sql stable as $$
    select substr(sha256(convert_to(concat(
        p_kind, length(p_workspace), ':', p_workspace, length(p_key), ':', p_key, p_value), 'UTF8')), 1, 16)
$$;

-- The terms of metadata: the first 32 plain values, by their JSON text or as the text that they are, and the first 32 tags. What cannot
-- be read as texts (a row of an earlier build) has none: a search may miss it, a commit may not fail for it. An array, and no nested
-- functions that return sets: those cost four times as much per row.
create function metadata_terms(p_workspace text, p_metadata json) returns bytea[] language plpgsql stable as $$
declare
    v_terms bytea[] := '{}';
begin
    if p_metadata is null or json_typeof(p_metadata) <> 'object' then
        return v_terms;
    end if;
    v_terms := array(
        select search_term(p_workspace, 'm', e.key, coalesce(e.value #>> '{}', 'null')) from json_each(p_metadata) e
        where json_typeof(e.value) not in ('object', 'array') limit 32
    );
    if json_typeof(p_metadata -> 'tags') = 'array' then
        v_terms := v_terms || array(
            select search_term(p_workspace, 'g', '', e.value #>> '{}') from json_array_elements(p_metadata -> 'tags') e
            where json_typeof(e.value) = 'string' limit 32
        );
    end if;
    return v_terms;
exception when data_exception then
    return '{}';
end $$;

create function task_terms_of(p_workspace text, p_metadata json, p_rules json) returns bytea[] language plpgsql stable as $$
declare
    v_terms bytea[] := '{}';
    v_tenant text := p_rules ->> 'tenant';
begin
    if p_metadata::text <> '{}' then
        v_terms := metadata_terms(p_workspace, p_metadata);
    end if;
    if v_tenant is not null then
        v_terms := v_terms || search_term(p_workspace, 't', '', v_tenant);
    end if;
    return v_terms;
end $$;

create function keep_task_terms() returns trigger language plpgsql as $$
declare
    v_terms bytea[];
begin
    if tg_op <> 'INSERT' then
        v_terms := task_terms_of(old.workspace, old.metadata, old.rules);
        delete from task_terms k where k.term = any (v_terms) and k.at = old.created_at and k.id = old.id;
    end if;
    if tg_op <> 'DELETE' then
        v_terms := task_terms_of(new.workspace, new.metadata, new.rules);
        insert into task_terms (term, at, id) select unnest(v_terms), new.created_at, new.id on conflict do nothing;
    end if;
    return null;
end $$;
create trigger task_terms_in after insert on tasks for each row
    when (new.metadata::text <> '{}' or new.rules ->> 'tenant' is not null) execute function keep_task_terms();
create trigger task_terms_changed after update of metadata on tasks for each row
    when (old.metadata::text <> new.metadata::text) execute function keep_task_terms();
create trigger task_terms_out after delete on tasks for each row
    when (old.metadata::text <> '{}' or old.rules ->> 'tenant' is not null) execute function keep_task_terms();

create function drop_task_terms() returns trigger language plpgsql as $$
begin
    truncate task_terms;
    return null;
end $$;
create trigger task_terms_gone after truncate on tasks for each statement execute function drop_task_terms();

insert into task_terms (term, at, id)
select distinct s.term, t.created_at, t.id
from tasks t cross join lateral unnest(task_terms_of(t.workspace, t.metadata, t.rules)) as s (term)
where t.metadata::text <> '{}' or t.rules ->> 'tenant' is not null;

-- Who had a task last. A running one is in the index of running tasks; a submit and a claim do not enter one here.
create index tasks_agent on tasks (workspace, assigned_agent, created_at desc, id desc)
    where status <> 'running' and assigned_agent is not null;
