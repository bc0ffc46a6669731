-- Search of deliberations, as migration 27 has it of tasks: a row for every plain value of the context, every tag of it, its tenant, and
-- every agent of the panel of a deliberation that has ended. Triggers write them, whoever writes the deliberations.

create table deliberation_terms (
    term        bytea not null,
    at          double precision not null,
    id          text not null,
    primary key (term, at, id)
);
-- What is erased must not stay in samples of it, not even as a hash.
alter table deliberation_terms alter column term set statistics 0;

-- What cannot be read as texts has no terms: a search may miss it, a commit may not fail for it.
create function deliberation_terms_of(p_workspace text, p_contract json, p_result json) returns bytea[] language plpgsql stable as $$
declare
    v_context json := p_contract -> 'context';
    v_terms bytea[] := metadata_terms(p_workspace, v_context);
begin
    if json_typeof(v_context) = 'object' and json_typeof(v_context -> 'tenant') = 'string' then
        v_terms := v_terms || search_term(p_workspace, 't', '', v_context ->> 'tenant');
    end if;
    if json_typeof(p_result -> 'panel') = 'array' then
        v_terms := v_terms || array(
            select search_term(p_workspace, 'a', '', e.value #>> '{}') from json_array_elements(p_result -> 'panel') e
            where json_typeof(e.value) = 'string'
        );
    end if;
    return v_terms;
exception when data_exception then
    return '{}';
end $$;

create function keep_deliberation_terms() returns trigger language plpgsql as $$
declare
    v_terms bytea[];
begin
    if tg_op <> 'INSERT' then
        v_terms := deliberation_terms_of(old.workspace, old.contract, old.result);
        delete from deliberation_terms k where k.term = any (v_terms) and k.at = old.admitted_at and k.id = old.request_id;
    end if;
    if tg_op <> 'DELETE' then
        v_terms := deliberation_terms_of(new.workspace, new.contract, new.result);
        insert into deliberation_terms (term, at, id) select unnest(v_terms), new.admitted_at, new.request_id
        on conflict do nothing;
    end if;
    return null;
end $$;
create trigger deliberation_terms_in after insert on deliberations for each row
    when (new.contract ->> 'context' <> '{}' or new.result is not null) execute function keep_deliberation_terms();
create trigger deliberation_terms_erased after update of contract on deliberations for each row
    when (old.contract::text <> new.contract::text) execute function keep_deliberation_terms();
create trigger deliberation_terms_ended after update of result on deliberations for each row
    when (old.result::text is distinct from new.result::text) execute function keep_deliberation_terms();
create trigger deliberation_terms_out after delete on deliberations for each row
    when (old.contract ->> 'context' <> '{}' or old.result is not null) execute function keep_deliberation_terms();

create function drop_deliberation_terms() returns trigger language plpgsql as $$
begin
    truncate deliberation_terms;
    return null;
end $$;
create trigger deliberation_terms_gone after truncate on deliberations for each statement
    execute function drop_deliberation_terms();

insert into deliberation_terms (term, at, id)
select distinct s.term, d.admitted_at, d.request_id
from deliberations d cross join lateral unnest(deliberation_terms_of(d.workspace, d.contract, d.result)) as s (term);
