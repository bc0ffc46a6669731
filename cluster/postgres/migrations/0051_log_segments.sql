-- The log in segments: partitions by number, so that its oldest rows can go by dropping a table (docs/adr/0045). The table that there
-- was becomes the first segment. Nothing is copied; attaching it reads it once, to check that its numbers are below the bound.

create table log_segments (
    number      integer primary key,
    first_seq   bigint not null,
    -- The first number that is not in it any more.
    end_seq     bigint not null unique,
    created_at  double precision not null default extract(epoch from clock_timestamp()),
    check (end_seq > first_seq)
);

drop function log_story(text, text, bigint, integer);
alter table log rename to log_1;
alter index log_pkey rename to log_1_pkey;
alter index log_entity rename to log_1_entity;
alter index log_cause rename to log_1_cause;
alter index log_led rename to log_1_led;

create table log (like log_1 including defaults) partition by range (seq);
alter table log alter column private set statistics 0;
alter table log add primary key (seq);
create index log_entity on log (entity, seq);
create index log_cause on log using brin (cause text_bloom_ops (n_distinct_per_range = 800))
    with (pages_per_range = 32, autosummarize = on);
create index log_led on log (cause) where left(cause, 1) = '#';

-- How many numbers the segment after one of p_last numbers has that was filled in p_age_s seconds: a segment should last between a
-- day and a week. So there are some dozens of them at any rate of changes, and what goes goes in pieces of about a day.
create function log_segment_length(p_last bigint, p_age_s double precision) returns bigint language sql immutable as $$
    select least(25600000, greatest(100000,
        case when p_age_s < 86400 then p_last * 2 when p_age_s > 7 * 86400 then p_last / 2 else p_last end))
$$;

-- Makes log_last() read the newest segment, p_name, whose numbers are below p_end. It costs the same however many segments there are.
-- A process that still has the function's text from before reads a segment that is full, and so all of them: right, but slower. It is
-- stable, so that within a query it is of the query's snapshot.
create function log_last_reads(p_name text, p_end bigint) returns void language plpgsql as $$
begin
    execute format($f$
        create or replace function log_last() returns bigint language plpgsql stable as $body$
        declare
            v_last bigint;
        begin
            select max(seq) into v_last from %I;
            if v_last is null or v_last >= %s - 1 then
                select coalesce(max(seq), 0) into v_last from log;
            end if;
            return v_last;
        end $body$
    $f$, p_name, p_end);
end $$;

-- Makes the next segment if p_through is not below the end of the newest one. Whoever calls it holds the region's lock. The table is
-- made first and attached then, which readers and writers do not wait for; CREATE TABLE ... PARTITION OF would lock the log.
create function log_make_room(p_through bigint) returns void language plpgsql as $$
declare
    v_newest log_segments;
    v_length bigint;
    v_end bigint;
    v_name text;
begin
    select * into v_newest from log_segments order by number desc limit 1;
    if p_through < v_newest.end_seq then
        return;
    end if;
    v_length := log_segment_length(
        v_newest.end_seq - v_newest.first_seq, extract(epoch from clock_timestamp()) - v_newest.created_at);
    v_end := v_newest.end_seq + v_length * (1 + (p_through - v_newest.end_seq) / v_length);
    v_name := 'log_' || v_newest.number + 1;
    execute format('create table %I (like log including all)', v_name);
    execute format('alter table %I alter column private set statistics 0', v_name);
    execute format('alter table log attach partition %I for values from (%s) to (%s)', v_name, v_newest.end_seq, v_end);
    insert into log_segments (number, first_seq, end_seq) values (v_newest.number + 1, v_newest.end_seq, v_end);
    perform log_last_reads(v_name, v_end);
end $$;

do $$
declare
    v_first bigint;
    v_end bigint;
begin
    select coalesce(min(seq), 1), (coalesce(max(seq), 0) / 100000 + 1) * 100000 + 1 into v_first, v_end from log_1;
    execute format('alter table log attach partition log_1 for values from (minvalue) to (%s)', v_end);
    insert into log_segments (number, first_seq, end_seq) values (1, v_first, v_end);
    perform log_last_reads('log_1', v_end);
end $$;

-- As before (0005).
create function log_story(p_workspace text, p_of text, p_after bigint, p_limit integer) returns setof log
language sql stable set enable_seqscan = off set max_parallel_workers_per_gather = 0 as $$
    with own as materialized (
        select seq, kind, cause from log where workspace = p_workspace and entity = p_of
        union
        select seq, kind, cause from log where workspace = p_workspace and cause = p_of
    ), asked as materialized (
        select cause from own where kind = 'deliberation.admitted' and cause <> '' limit 1
    ), story as (
        select seq from own
        union
        select seq from log where workspace = p_workspace and cause = (select cause from asked)
        union
        select substr(cause, 2)::bigint from own where cause ~ '^#[0-9]{1,18}$'
        union
        select seq from log
        where workspace = p_workspace and left(cause, 1) = '#' and cause = any (array(select '#' || seq from own))
    )
    select * from log
    where workspace = p_workspace and seq > p_after and seq in (select seq from story)
    order by seq
    limit p_limit
$$;

-- As before (0015), and it makes room.
create or replace function log_append(
    p_region text, p_epoch bigint, p_ok boolean[],
    l_at double precision[], l_workspace text[], l_kind text[], l_entity text[], l_attempt integer[],
    l_principal text[], l_data text[], l_digest bytea[]
) returns bigint[] language plpgsql as $$
declare
    v_state record;
    v_last bigint;
begin
    perform region_lock(p_region);
    select epoch, role, trusted_until into v_state from region_state where region = p_region;
    if v_state.epoch is distinct from p_epoch then
        raise exception 'epoch % was replaced by %', p_epoch, v_state.epoch using errcode = 'AG001';
    elsif v_state.role <> 'primary' or v_state.trusted_until <= clock_timestamp() then
        raise exception 'role %, trusted until %', v_state.role, v_state.trusted_until using errcode = 'AG005';
    end if;
    v_last := log_last();
    perform log_make_room(v_last + cardinality(p_ok));
    insert into log (seq, at, workspace, kind, entity, attempt, principal, data, digest)
    select v_last + row_number() over (order by r.ord),
           r.at, r.workspace, r.kind, r.entity, r.attempt, r.principal, r.data::json, r.digest
    from unnest(p_ok, l_at, l_workspace, l_kind, l_entity, l_attempt, l_principal, l_data, l_digest)
         with ordinality as r (ok, at, workspace, kind, entity, attempt, principal, data, digest, ord)
    where r.ok;
    return array(
        select case when o.ok then v_last + count(*) filter (where o.ok) over (order by o.ord) end
        from unnest(p_ok) with ordinality as o (ok, ord) order by o.ord
    );
end $$;

-- As before (0016), and it makes room. The end of the newest segment is read with the region's state, in the same statement.
create or replace function log_append(p_region text, p_epoch bigint, p_ok boolean[], l log_rows) returns bigint[]
language plpgsql as $$
declare
    v_state record;
    v_last bigint;
begin
    perform region_lock(p_region);
    select s.epoch, s.role, s.trusted_until, (select g.end_seq from log_segments g order by g.end_seq desc limit 1) as room
    into v_state from region_state s where s.region = p_region;
    if v_state.epoch is distinct from p_epoch then
        raise exception 'epoch % was replaced by %', p_epoch, v_state.epoch using errcode = 'AG001';
    elsif v_state.role <> 'primary' or v_state.trusted_until <= clock_timestamp() then
        raise exception 'role %, trusted until %', v_state.role, v_state.trusted_until using errcode = 'AG005';
    end if;
    v_last := log_last();
    if v_last + cardinality(p_ok) >= v_state.room then
        perform log_make_room(v_last + cardinality(p_ok));
    end if;
    if true = all (p_ok) then
        insert into log (
            seq, epoch, at, workspace, kind, entity, attempt, principal, cause, zone, data, private, private_digest, digest,
            v)
        select v_last + r.ord,
               p_epoch, r.at, r.workspace, r.kind, r.entity, r.attempt, r.principal, r.cause, p_region, r.data::json,
               r.private, r.private_digest, r.digest, l.v
        from unnest(
            l.at, l.workspace, l.kind, l.entity, l.attempt, l.principal, l.cause, l.data, l.private, l.private_digest,
            l.digest
        ) with ordinality as r (
            at, workspace, kind, entity, attempt, principal, cause, data, private, private_digest, digest, ord
        );
        return array(select v_last + n from generate_series(1, cardinality(p_ok)) n);
    end if;
    insert into log (
        seq, epoch, at, workspace, kind, entity, attempt, principal, cause, zone, data, private, private_digest, digest,
        v)
    select v_last + row_number() over (order by r.ord),
           p_epoch, r.at, r.workspace, r.kind, r.entity, r.attempt, r.principal, r.cause, p_region, r.data::json,
           r.private, r.private_digest, r.digest, l.v
    from unnest(
        p_ok, l.at, l.workspace, l.kind, l.entity, l.attempt, l.principal, l.cause, l.data, l.private, l.private_digest,
        l.digest
    ) with ordinality as r (
        ok, at, workspace, kind, entity, attempt, principal, cause, data, private, private_digest, digest, ord
    )
    where r.ok;
    return array(
        select case when o.ok then v_last + count(*) filter (where o.ok) over (order by o.ord) end
        from unnest(p_ok) with ordinality as o (ok, ord) order by o.ord
    );
end $$;

-- It joins the log to rows of it, by entity or range. Autovacuum analyzes segments, not the log as a whole, so that joins are planned
-- without statistics, and would read all of it.
alter function follow_erasures(bigint) set enable_seqscan = off;
alter function follow_erasures(bigint) set enable_hashjoin = off;
alter function follow_erasures(bigint) set enable_mergejoin = off;
