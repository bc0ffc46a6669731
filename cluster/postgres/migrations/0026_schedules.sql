-- Schedules. next_due and fire_at are null if no run is due any more; fire_at also while the schedule is paused.
create table schedules (
    id          text primary key,
    workspace   text not null,
    principal   text not null,
    name        text not null,
    plan        json not null,
    template    json not null,
    created_at  double precision not null,
    changed_at  double precision not null,
    next_due    bigint,
    fire_at     double precision,
    paused      boolean not null,
    revision    bigint not null,
    changed_row bigint not null,
    last_due    bigint,
    last_run    text,
    runs        json not null,
    fired       bigint not null
);
create index schedules_due on schedules (fire_at) where fire_at is not null;
create index schedules_of on schedules (workspace, created_at desc, id desc);

-- Templates and names are words, of which statistics keep no samples.
alter table schedules alter column name set statistics 0, alter column template set statistics 0;

-- The functions take the region's lock first, so that all rows are locked in one order.

-- Stores a new schedule; the id that is returned is an earlier call's if the key was used before.
create function create_schedule(
    p_region text, p_epoch bigint, p_most integer, p_schedule text, i_route text[], i_key text[], i_digest bytea[],
    l log_rows
) returns text language plpgsql as $$
declare
    v_seq bigint[];
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
    elsif (select count(*) from schedules s where s.workspace = l.workspace[1]) >= p_most then
        raise exception 'too many schedules' using errcode = 'AG006';
    end if;
    perform idempotency_claim(l, i_route, i_key, i_digest, l.entity);
    v_seq := log_append(p_region, p_epoch, array[true], l);
    insert into schedules select * from json_populate_record(null::schedules, p_schedule::json);
    update schedules s set changed_row = v_seq[1] where s.id = l.entity[1];
    return l.entity[1];
end $$;

-- Replaces schedules by their next revisions, all or none. p_defined: those whose cause of runs becomes their row of this commit.
create function change_schedules(p_region text, p_epoch bigint, p_schedules text, p_defined text[], l log_rows)
returns boolean language plpgsql as $$
declare
    v_changed integer;
    v_seq bigint[];
begin
    perform region_lock(p_region);
    v_seq := log_append(p_region, p_epoch, array(select true from unnest(l.entity)), l);
    update schedules s set
        principal = n.principal, name = n.name, plan = n.plan, template = n.template, changed_at = n.changed_at,
        next_due = n.next_due, fire_at = n.fire_at, paused = n.paused, revision = n.revision, last_due = n.last_due,
        last_run = n.last_run, runs = n.runs, fired = n.fired,
        changed_row = case when s.id = any (p_defined) then v_seq[array_position(l.entity, s.id)] else s.changed_row end
    from json_populate_recordset(null::schedules, p_schedules::json) n
    where s.id = n.id and s.workspace = n.workspace and s.revision = n.revision - 1;
    get diagnostics v_changed = row_count;
    if v_changed <> json_array_length(p_schedules::json) then
        raise exception 'a schedule was changed' using errcode = 'AG007';
    end if;
    return true;
end $$;

-- Deletes schedules and the remembered answers that show them; returns the ids of those that there were.
create function remove_schedules(p_region text, p_epoch bigint, l log_rows) returns text[] language plpgsql as $$
declare
    v_done text[];
begin
    perform region_lock(p_region);
    with removed as (
        delete from schedules s using unnest(l.entity, l.workspace) as r (id, workspace)
        where s.id = r.id and s.workspace = r.workspace
        returning s.id
    )
    select coalesce(array_agg(id), '{}') into v_done from removed;
    if v_done = '{}' then
        return v_done;
    end if;
    perform forget_answers(l.workspace[1], v_done);
    perform log_append(
        p_region, p_epoch,
        array(select r.id = any (v_done) from unnest(l.entity) with ordinality as r (id, ord) order by r.ord), l);
    return v_done;
end $$;
