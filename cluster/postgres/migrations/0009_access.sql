-- Who may do what: workspaces, role bindings, custom roles, API keys and revocations. Every change is one function below, which
-- takes the region's lock first: changes of access are rare, and each is judged by what is there (the last administrator, a role in
-- use), so two of them at once must not pass each other.

create table workspaces (
    id          text primary key,
    name        text not null,
    state       text not null check (state in ('active', 'suspended', 'deleted')),
    created_at  double precision not null,
    changed_at  double precision not null
);

create table role_bindings (
    workspace   text not null,
    subject     text not null,
    role        text not null,
    created_at  double precision not null,
    created_by  text not null,
    primary key (workspace, subject, role)
);
create index role_bindings_subject on role_bindings (subject);

create table custom_roles (
    workspace   text not null,
    name        text not null,
    permissions text[] not null,
    primary key (workspace, name)
);

-- digests: SHA-256 of its secrets, the newest first. The secrets are stored nowhere.
create table api_keys (
    id            text primary key,
    name          text not null,
    workspaces    text[] not null,
    grants        text[] not null,
    digests       bytea[] not null,
    created_at    double precision not null,
    created_by    text not null,
    expires_at    double precision,
    revoked_at    double precision,
    overlap_until double precision,
    last_used_at  double precision
);

create table revocations (
    subject     text primary key,
    not_before  double precision not null,
    until       double precision not null
);

-- Workspaces were names that nobody had to make. Those that have been used go on.
insert into workspaces (id, name, state, created_at, changed_at)
select w.id, w.id, 'active', n.at, n.at
from (
    select 'default' as id
    union select workspace from tasks
    union select workspace from agents
    union select workspace from deliberations
) w, (select extract(epoch from clock_timestamp())::double precision as at) n;

create function key_is_valid(k api_keys, p_now double precision) returns boolean language sql immutable as $$
    select k.revoked_at is null and (k.expires_at is null or k.expires_at > p_now)
$$;

-- How many can administer access everywhere: keys and bindings of the role admin in all workspaces. A binding of a key counts
-- while the key does.
create function administrators(p_now double precision) returns bigint language sql stable as $$
    select (
        select count(*) from api_keys k
        where key_is_valid(k, p_now) and '*' = any (k.workspaces) and 'admin' = any (k.grants)
    ) + (
        select count(*) from role_bindings b
        where b.workspace = '*' and b.role = 'admin' and (left(b.subject, 4) <> 'key:' or exists (
            select from api_keys k
            where k.id = substr(b.subject, 5) and key_is_valid(k, p_now) and '*' = any (k.workspaces)
        ))
    )
$$;

-- What is missing in workspaces for these custom roles to be granted there; null if nothing is.
create function grant_obstacle(p_workspaces text[], p_custom text[]) returns text language sql stable as $$
    select case
        when exists (
            select from unnest(p_workspaces) as w (id)
            where w.id <> '*' and not exists (select from workspaces s where s.id = w.id and s.state <> 'deleted')
        ) then 'unknown_workspace'
        when exists (
            select from unnest(p_workspaces) as w (id), unnest(p_custom) as r (name)
            where not exists (select from custom_roles c where c.workspace = w.id and c.name = r.name)
        ) then 'unknown_role'
    end
$$;

-- Creates a workspace (p_new) or changes it. One that was deleted stays so, since its rows and its log stay.
create function put_workspace(
    p_region text, p_epoch bigint, p_new boolean, p_id text, p_name text, p_state text, p_at double precision, l log_rows
) returns text language plpgsql as $$
declare
    v_old workspaces;
begin
    perform region_lock(p_region);
    select * into v_old from workspaces w where w.id = p_id;
    if found = p_new then
        return case when p_new then 'exists' else 'absent' end;
    elsif v_old.state = 'deleted' then
        return 'absent';
    elsif (v_old.name, v_old.state) is not distinct from (p_name, p_state) then
        return 'done';
    elsif p_state = 'deleted' and (
        exists (select from tasks t where t.workspace = p_id and t.status in ('pending', 'running'))
        or exists (select from deliberations d where d.workspace = p_id and d.terminal is null)
    ) then
        return 'open_work';
    end if;
    insert into workspaces as w values (p_id, p_name, p_state, p_at, p_at)
    on conflict (id) do update set name = excluded.name, state = excluded.state, changed_at = excluded.changed_at;
    perform log_append(p_region, p_epoch, array[true], l);
    return 'done';
end $$;

create function put_binding(
    p_region text, p_epoch bigint, p_workspace text, p_subject text, p_role text, p_custom text[],
    p_at double precision, p_by text, l log_rows
) returns text language plpgsql as $$
declare
    v_obstacle text;
begin
    perform region_lock(p_region);
    v_obstacle := grant_obstacle(array[p_workspace], p_custom);
    if v_obstacle is not null then
        return v_obstacle;
    end if;
    insert into role_bindings values (p_workspace, p_subject, p_role, p_at, p_by) on conflict do nothing;
    if found then
        perform log_append(p_region, p_epoch, array[true], l);
    end if;
    return 'done';
end $$;

create function remove_binding(
    p_region text, p_epoch bigint, p_now double precision, p_workspace text, p_subject text, p_role text, l log_rows
) returns boolean language plpgsql as $$
declare
    v_before bigint;
begin
    perform region_lock(p_region);
    v_before := administrators(p_now);
    delete from role_bindings b where b.workspace = p_workspace and b.subject = p_subject and b.role = p_role;
    if not found then
        return false;
    elsif v_before > 0 and administrators(p_now) = 0 then
        raise exception 'last administrator' using errcode = 'AG004';
    end if;
    perform log_append(p_region, p_epoch, array[true], l);
    return true;
end $$;

create function put_role(
    p_region text, p_epoch bigint, p_workspace text, p_name text, p_permissions text[], l log_rows
) returns text language plpgsql as $$
begin
    perform region_lock(p_region);
    -- Not in all workspaces: each looks for its own roles only.
    if not exists (select from workspaces w where w.id = p_workspace and w.state <> 'deleted') then
        return 'unknown_workspace';
    end if;
    insert into custom_roles as r values (p_workspace, p_name, p_permissions)
    on conflict (workspace, name) do update set permissions = excluded.permissions
    where r.permissions <> excluded.permissions;
    if found then
        perform log_append(p_region, p_epoch, array[true], l);
    end if;
    return 'done';
end $$;

create function remove_role(
    p_region text, p_epoch bigint, p_now double precision, p_workspace text, p_name text, l log_rows
) returns text language plpgsql as $$
begin
    perform region_lock(p_region);
    if exists (select from role_bindings b where b.workspace = p_workspace and b.role = p_name)
        or exists (
            select from api_keys k
            where key_is_valid(k, p_now) and p_workspace = any (k.workspaces) and p_name = any (k.grants)
        ) then
        return 'in_use';
    end if;
    delete from custom_roles r where r.workspace = p_workspace and r.name = p_name;
    if not found then
        return 'absent';
    end if;
    perform log_append(p_region, p_epoch, array[true], l);
    return 'done';
end $$;

-- Creates a key (p_new), the first administrator's only if there is none (p_first).
create function create_key(
    p_region text, p_epoch bigint, p_now double precision, p_first boolean, p_id text, p_name text, p_workspaces text[],
    p_grants text[], p_custom text[], p_digests bytea[], p_created_at double precision, p_created_by text,
    p_expires_at double precision, l log_rows
) returns text language plpgsql as $$
declare
    v_obstacle text;
begin
    perform region_lock(p_region);
    if p_first and administrators(p_now) > 0 then
        return 'not_first';
    end if;
    v_obstacle := grant_obstacle(p_workspaces, p_custom);
    if v_obstacle is not null then
        return v_obstacle;
    end if;
    insert into api_keys (id, name, workspaces, grants, digests, created_at, created_by, expires_at)
    values (p_id, p_name, p_workspaces, p_grants, p_digests, p_created_at, p_created_by, p_expires_at)
    on conflict do nothing;
    if not found then
        return 'exists';
    end if;
    perform log_append(p_region, p_epoch, array[true], l);
    return 'done';
end $$;

-- Stores a rotation (two digests, the second of which is the newest of before) or, with p_revoked_at, a revocation, which
-- nothing takes back.
create function change_key(
    p_region text, p_epoch bigint, p_now double precision, p_id text, p_digests bytea[],
    p_overlap_until double precision, p_revoked_at double precision, l log_rows
) returns text language plpgsql as $$
declare
    v_old api_keys;
    v_before bigint;
begin
    perform region_lock(p_region);
    select * into v_old from api_keys k where k.id = p_id;
    if not found then
        return 'absent';
    elsif v_old.revoked_at is not null then
        return case when p_revoked_at is null then 'revoked' else 'done' end;
    elsif p_revoked_at is null and p_digests[2] is distinct from v_old.digests[1] then
        return 'rotated_meanwhile';
    end if;
    v_before := administrators(p_now);
    update api_keys k set
        digests = case when p_revoked_at is null then p_digests else k.digests end,
        overlap_until = case when p_revoked_at is null then p_overlap_until else k.overlap_until end,
        revoked_at = p_revoked_at
    where k.id = p_id;
    if v_before > 0 and administrators(p_now) = 0 then
        raise exception 'last administrator' using errcode = 'AG004';
    end if;
    perform log_append(p_region, p_epoch, array[true], l);
    return 'done';
end $$;

-- Of two revocations of one subject the stricter counts. Those that can name no valid token any more go.
create function revoke_access(
    p_region text, p_epoch bigint, p_now double precision, p_subject text, p_not_before double precision,
    p_until double precision, l log_rows
) returns void language plpgsql as $$
begin
    perform region_lock(p_region);
    delete from revocations r where r.until <= p_now;
    insert into revocations as r values (p_subject, p_not_before, p_until)
    on conflict (subject) do update set
        not_before = greatest(r.not_before, excluded.not_before), until = greatest(r.until, excluded.until);
    perform log_append(p_region, p_epoch, array[true], l);
end $$;
