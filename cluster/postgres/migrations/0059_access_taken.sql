-- Lists of keys by pages, for all and for those of one workspace; and what a client is told at its URL ends with its access.

create index api_keys_list on api_keys (created_at, id);
create index api_keys_workspaces on api_keys using gin (workspaces);
-- Each removal and revocation counts the administrators.
create index api_keys_of_administrators on api_keys (id) where '*' = any (workspaces) and 'admin' = any (grants);

-- Deletes the pushes that a subject has made in a workspace ('*': in all) until a time. Who is in a group is stored nowhere, so with
-- what a group loses go those of everybody but keys, which are in none.
-- (The table comes with a later migration, so nothing here names it before it is called.)
create function end_pushes(p_subject text, p_workspace text, p_until double precision) returns void language plpgsql as $$
begin
    delete from pushes p
    where (p_workspace = '*' or p.workspace = p_workspace) and p.created_at <= p_until
      and case when left(p_subject, 6) = 'group:' then left(p.principal, 4) <> 'key:' else p.principal = p_subject end;
end $$;

-- In the commit that takes access away, so that nothing is sent after it. A region that applies such a change has the triggers too.
create function end_pushes_of_key() returns trigger language plpgsql as $$
begin
    perform end_pushes('key:' || new.id, '*', 'infinity');
    return null;
end $$;
create trigger api_keys_end_pushes after insert or update of revoked_at on api_keys
    for each row when (new.revoked_at is not null) execute function end_pushes_of_key();

create function end_pushes_of_revoked() returns trigger language plpgsql as $$
begin
    perform end_pushes(new.subject, '*', new.not_before);
    return null;
end $$;
create trigger revocations_end_pushes after insert or update on revocations
    for each row when (left(new.subject, 4) <> 'jti:') execute function end_pushes_of_revoked();

-- At the end of the commit: a region that applies a change replaces all bindings of a subject.
create function end_pushes_of_unbound() returns trigger language plpgsql as $$
begin
    if not exists (
        select from role_bindings b where b.workspace = old.workspace and b.subject = old.subject and b.role = old.role
    ) then
        perform end_pushes(old.subject, old.workspace, 'infinity');
    end if;
    return null;
end $$;
create constraint trigger role_bindings_end_pushes after delete on role_bindings deferrable initially deferred
    for each row execute function end_pushes_of_unbound();

-- Of everybody who has a role that was narrowed, by a binding or as a key.
create function end_pushes_of_role() returns trigger language plpgsql as $$
begin
    perform end_pushes(b.subject, new.workspace, 'infinity')
    from role_bindings b where b.workspace in (new.workspace, '*') and b.role = new.name;
    perform end_pushes('key:' || k.id, new.workspace, 'infinity')
    from api_keys k where k.workspaces && array[new.workspace, '*'] and new.name = any (k.grants);
    return null;
end $$;
create trigger custom_roles_end_pushes after update of permissions on custom_roles
    for each row when (not new.permissions @> old.permissions) execute function end_pushes_of_role();

-- Nobody has access to a workspace that was deleted, so nothing is told of it any more.
create function end_pushes_of_workspace() returns trigger language plpgsql as $$
begin
    delete from pushes p where p.workspace = new.id;
    update notifications n set status = 'dead', next_at = null, ended_at = new.changed_at, error = 'The workspace was deleted.'
    where n.workspace = new.id and n.status = 'pending';
    return null;
end $$;
create trigger workspaces_end_pushes after update of state on workspaces
    for each row when (new.state = 'deleted') execute function end_pushes_of_workspace();

-- Erasing a task takes its children too, and what its clients named to be told of it.
create index tasks_children on tasks ((rules ->> 'parent')) where (rules ->> 'parent') is not null;

create function end_pushes_of_erased_task() returns trigger language plpgsql as $$
begin
    delete from pushes p where p.workspace = new.workspace and p.task_id = new.id;
    return null;
end $$;
create trigger tasks_end_pushes after update of erased_at on tasks
    for each row when (new.erased_at is not null) execute function end_pushes_of_erased_task();

create function end_pushes_of_erased_deliberation() returns trigger language plpgsql as $$
begin
    delete from pushes p where p.workspace = new.workspace and p.task_id = new.request_id;
    return null;
end $$;
create trigger deliberations_end_pushes after update of erased_at on deliberations
    for each row when (new.erased_at is not null) execute function end_pushes_of_erased_deliberation();
