-- Logins with an OIDC provider, and the sessions in which they end. No secret is stored, only its SHA-256.
create table sessions (
    id         text primary key,
    digest     bytea not null,
    kind       text not null check (kind in ('browser', 'command_line')),
    issuer     text not null,
    principal  text not null,
    groups     text[] not null,
    began_at   double precision not null,
    expires_at double precision not null
);
create index sessions_expires_at on sessions (expires_at);

-- A login between its redirect and its callback. digest: the SHA-256 of its state; target: the path to which it leads.
create table logins (
    digest     bytea primary key,
    target     text not null,
    expires_at double precision not null
);
create index logins_expires_at on logins (expires_at);

-- Begins a session. Those whose time is over go.
create function begin_session(
    p_region text, p_epoch bigint, p_id text, p_digest bytea, p_kind text, p_issuer text, p_principal text, p_groups text[],
    p_began_at double precision, p_expires_at double precision, l log_rows
) returns void language plpgsql as $$
begin
    perform region_lock(p_region);
    delete from sessions s where s.expires_at <= p_began_at;
    insert into sessions values (p_id, p_digest, p_kind, p_issuer, p_principal, p_groups, p_began_at, p_expires_at);
    perform log_append(p_region, p_epoch, array[true], l);
end $$;

-- Ends a session; false if there is none.
create function end_session(p_region text, p_epoch bigint, p_id text, l log_rows) returns boolean language plpgsql as $$
begin
    perform region_lock(p_region);
    delete from sessions s where s.id = p_id;
    if not found then
        return false;
    end if;
    perform log_append(p_region, p_epoch, array[true], l);
    return true;
end $$;
