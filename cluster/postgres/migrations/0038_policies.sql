-- Policies, all their versions, and violations.

create table policies (
    id          text primary key,
    workspace   text not null,              -- * for one of all workspaces
    version     integer not null,
    content     json not null,
    created_at  double precision not null,
    created_by  text not null,
    changed_at  double precision not null,
    changed_by  text not null
);
create index policies_of on policies (workspace);

-- Versions stay when the policy is deleted.
create table policy_versions (
    policy_id   text not null,
    version     integer not null,
    workspace   text not null,
    content     json not null,
    created_at  double precision not null,
    created_by  text not null,
    changed_at  double precision not null,
    changed_by  text not null,
    primary key (policy_id, version)
);

create table policy_violations (
    id                  text primary key,
    workspace           text not null,
    policy_id           text not null,
    policy_version      integer not null,
    policy_name         text not null,
    violation_type      text not null,
    enforcement         text not null,
    description         text not null,
    principal           text not null,
    task_type           text not null,
    task_id             text,
    agent_id            text,
    region              text,
    at                  double precision not null,
    status              text not null,
    resolved_at         double precision,
    resolved_by         text,
    resolution_notes    text not null,
    revision            integer not null
);
create index policy_violations_of on policy_violations (workspace, at desc, id desc);
create index policy_violations_by_policy on policy_violations (workspace, policy_id, at desc, id desc);
create index policy_violations_counted on policy_violations (workspace, violation_type, status);

-- What people wrote: statistics keep no samples of it.
alter table policies alter column content set statistics 0;
alter table policy_versions alter column content set statistics 0;
alter table policy_violations
    alter column policy_name set statistics 0, alter column description set statistics 0,
    alter column resolution_notes set statistics 0;

-- The functions take the region's lock first, so that all rows are locked in one order.

-- Stores a new policy; the id that is returned is an earlier call's if the key was used before.
create function create_policy(
    p_region text, p_epoch bigint, p_most integer, p_policy text, i_route text[], i_key text[], i_digest bytea[],
    l log_rows
) returns text language plpgsql as $$
declare
    v_new policies := json_populate_record(null::policies, p_policy::json);
    v_first idempotency;
begin
    perform region_lock(p_region);
    select s.* into v_first from idempotency s
    where s.workspace = l.workspace[1] and s.route = i_route[1] and s.key = i_key[1];
    if found then
        if v_first.digest <> i_digest[1] then
            raise exception 'idempotency conflict' using errcode = 'AG003';
        end if;
        return v_first.answer;
    elsif (select count(*) from policies p where p.workspace = v_new.workspace) >= p_most then
        return null;
    end if;
    perform idempotency_claim(l, i_route, i_key, i_digest, l.entity);
    insert into policies select v_new.*;
    insert into policy_versions (policy_id, version, workspace, content, created_at, created_by, changed_at, changed_by)
    values (v_new.id, v_new.version, v_new.workspace, v_new.content, v_new.created_at, v_new.created_by, v_new.changed_at,
            v_new.changed_by);
    perform log_append(p_region, p_epoch, array[true], l);
    return l.entity[1];
end $$;

-- Stores the next version of a policy; returns whether the one before was still the newest.
create function change_policy(p_region text, p_epoch bigint, p_policy text, l log_rows)
returns boolean language plpgsql as $$
declare
    v_new policies := json_populate_record(null::policies, p_policy::json);
begin
    perform region_lock(p_region);
    update policies p set
        version = v_new.version, content = v_new.content, changed_at = v_new.changed_at, changed_by = v_new.changed_by
    where p.id = v_new.id and p.workspace = v_new.workspace and p.version = v_new.version - 1;
    if not found then
        return false;
    end if;
    insert into policy_versions (policy_id, version, workspace, content, created_at, created_by, changed_at, changed_by)
    values (v_new.id, v_new.version, v_new.workspace, v_new.content, v_new.created_at, v_new.created_by, v_new.changed_at,
            v_new.changed_by);
    perform log_append(p_region, p_epoch, array[true], l);
    return true;
end $$;

-- Deletes a policy, if it has this version, and the remembered answers that show it; returns whether it did.
create function remove_policy(p_region text, p_epoch bigint, p_workspace text, p_version integer, l log_rows)
returns boolean language plpgsql as $$
begin
    perform region_lock(p_region);
    delete from policies p where p.id = l.entity[1] and p.workspace = p_workspace and p.version = p_version;
    if not found then
        return false;
    end if;
    perform forget_answers(l.workspace[1], l.entity);
    perform log_append(p_region, p_epoch, array[true], l);
    return true;
end $$;

-- Stores violations, each with its row; one that is stored already is left as it is, and has no second row.
create function record_violations(p_region text, p_epoch bigint, p_violations text, l log_rows)
returns integer language plpgsql as $$
declare
    v_new text[];
begin
    perform region_lock(p_region);
    with recorded as (
        insert into policy_violations
        select * from json_populate_recordset(null::policy_violations, p_violations::json)
        on conflict (id) do nothing
        returning id
    )
    select coalesce(array_agg(id), '{}') into v_new from recorded;
    if v_new <> '{}' then
        perform log_append(
            p_region, p_epoch,
            array(select r.id = any (v_new) from unnest(l.entity) with ordinality as r (id, ord) order by r.ord), l);
    end if;
    return cardinality(v_new);
end $$;

-- Stores what people made of a violation; returns whether nobody else had changed it meanwhile.
create function change_violation(p_region text, p_epoch bigint, p_violation text, l log_rows)
returns boolean language plpgsql as $$
declare
    v_new policy_violations := json_populate_record(null::policy_violations, p_violation::json);
begin
    perform region_lock(p_region);
    update policy_violations v set
        status = v_new.status, resolved_at = v_new.resolved_at, resolved_by = v_new.resolved_by,
        resolution_notes = v_new.resolution_notes, revision = v_new.revision
    where v.id = v_new.id and v.workspace = v_new.workspace and v.revision = v_new.revision - 1;
    if not found then
        return false;
    end if;
    perform log_append(p_region, p_epoch, array[true], l);
    return true;
end $$;
