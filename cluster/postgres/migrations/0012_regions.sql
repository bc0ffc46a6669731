-- The store of a group of one region: entries and leases, with the calls that etcd has in a group of several. It is what the
-- regions agree on, and no part of the log: the raise of an epoch is.

create table group_revision (
    only_row    boolean primary key default true check (only_row),
    revision    bigint not null
);
insert into group_revision (revision) values (0);

create table group_leases (
    id          bigserial primary key,
    ttl_s       double precision not null,
    until       timestamptz not null
);

-- ``lease``: the entry ends with it. No index on it: there are a handful of entries.
create table group_entries (
    key         text primary key,
    value       text not null,
    revision    bigint not null,
    lease       bigint references group_leases (id) on delete cascade
);

-- Every change takes the group's row first, so that changes come one after the other and comparisons are exact.
create function group_change() returns bigint language sql as $$
    update group_revision set revision = revision + 1 returning revision
$$;

-- Deletes what has ended. Calls hold the group's row.
create function group_expire() returns void language sql as $$
    delete from group_leases where until <= clock_timestamp()
$$;

-- One statement, so one snapshot; the row without a key holds the revision. Entries of ended leases are not shown.
create function group_read(p_prefix text)
returns table (key text, value text, revision bigint, lease bigint) language sql stable as $$
    select e.key, e.value, e.revision, e.lease
    from group_entries e left join group_leases l on l.id = e.lease
    where starts_with(e.key, p_prefix) and (e.lease is null or l.until > clock_timestamp())
    union all
    select null, null, g.revision, null from group_revision g
$$;

-- Puts and deletes all or nothing, and returns which. A null value compares with a key that is absent, a null revision with any.
create function group_swap(
    c_key text[], c_value text[], c_revision bigint[], p_key text[], p_value text[], p_lease bigint[], d_key text[]
) returns boolean language plpgsql as $$
declare
    v_revision bigint := group_change();
begin
    perform group_expire();
    if exists (
        select from unnest(c_key, c_value, c_revision) c(key, value, revision)
        left join group_entries e on e.key = c.key
        where e.value is distinct from c.value or (c.revision is not null and coalesce(e.revision, 0) <> c.revision)
    ) or exists (
        select from unnest(p_lease) p(lease)
        where p.lease is not null and not exists (select from group_leases l where l.id = p.lease)
    ) then
        return false;
    end if;
    insert into group_entries (key, value, revision, lease)
    select p.key, p.value, v_revision, p.lease from unnest(p_key, p_value, p_lease) p(key, value, lease)
    on conflict (key) do update set value = excluded.value, revision = excluded.revision, lease = excluded.lease;
    delete from group_entries where key = any (d_key);
    return true;
end
$$;

create function group_grant(p_ttl_s double precision) returns bigint language sql as $$
    insert into group_leases (ttl_s, until) values (p_ttl_s, clock_timestamp() + make_interval(secs => p_ttl_s)) returning id
$$;

-- The time to live that begins anew; null if the lease has ended.
create function group_renew(p_lease bigint) returns double precision language plpgsql as $$
declare
    v_ttl_s double precision;
begin
    perform group_change();
    perform group_expire();
    update group_leases set until = clock_timestamp() + make_interval(secs => ttl_s) where id = p_lease
    returning ttl_s into v_ttl_s;
    return v_ttl_s;
end
$$;

create function group_revoke(p_lease bigint) returns void language plpgsql as $$
begin
    perform group_change();
    delete from group_leases where id = p_lease;
end
$$;
