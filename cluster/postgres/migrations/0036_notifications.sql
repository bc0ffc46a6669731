-- Notifications: channels and rules of workspaces, and what was told to whom. Secrets of channels are credentials.
create table notification_channels (
    workspace   text not null,
    name        text not null,
    kind        text not null,
    principal   text not null,
    changed_at  double precision not null,
    credential  text,
    target      json not null,
    primary key (workspace, name)
);

-- since: the row of the log that made the rule.
create table notification_rules (
    workspace       text not null,
    name            text not null,
    events          json not null,
    least           text not null,
    channels        json not null,
    principal       text not null,
    changed_at      double precision not null,
    repeat_after_s  double precision not null,
    repeat_by       text not null,
    since           bigint not null,
    primary key (workspace, name)
);

-- One event for one channel. repeat_key: what its repeats share, repeats: how many were not told because of this one.
create table notifications (
    id          text primary key,
    workspace   text not null,
    channel     text not null,
    rule        text,
    event       text not null,
    severity    text not null,
    entity      text not null,
    seq         bigint not null,
    at          double precision not null,
    data        json not null,
    repeat_key  text,
    created_at  double precision not null,
    status      text not null,
    attempts    integer not null,
    repeats     bigint not null,
    next_at     double precision,
    ended_at    double precision,
    error       text
);
create index notifications_due on notifications (next_at) where status = 'pending';
create index notifications_of on notifications (workspace, created_at desc, id desc);
create index notifications_told on notifications (workspace, channel, status);
create index notifications_repeats on notifications (workspace, channel, repeat_key, at) where repeat_key is not null;
create index notifications_ended on notifications (ended_at) where ended_at is not null;

-- Up to which row of the log notifications were queued, under which epoch. One row: whoever queues states it.
create table notification_cursors (
    region  text primary key,
    epoch   bigint not null,
    seq     bigint not null
);

-- Addresses are words, of which statistics keep no samples.
alter table notification_channels alter column target set statistics 0;
alter table notifications alter column data set statistics 0;

-- The functions take the region's lock first, so that all rows are locked in one order.

-- Makes or replaces a channel. Returns 'done' or 'too_many'.
create function put_notification_channel(p_region text, p_epoch bigint, p_most integer, p_channel text, l log_rows)
returns text language plpgsql as $$
declare
    v_new notification_channels;
begin
    perform region_lock(p_region);
    v_new := json_populate_record(null::notification_channels, p_channel::json);
    if not exists (select from notification_channels c where c.workspace = v_new.workspace and c.name = v_new.name)
       and (select count(*) from notification_channels c where c.workspace = v_new.workspace) >= p_most then
        return 'too_many';
    end if;
    perform log_append(p_region, p_epoch, array[true], l);
    insert into notification_channels select v_new.*
    on conflict (workspace, name) do update set
        kind = excluded.kind, principal = excluded.principal, changed_at = excluded.changed_at,
        credential = excluded.credential, target = excluded.target;
    return 'done';
end $$;

-- Deletes a channel, and gives up what waits for it. Returns 'done', 'missing', or 'used' if a rule names it.
create function remove_notification_channel(p_region text, p_epoch bigint, l log_rows) returns text language plpgsql as $$
begin
    perform region_lock(p_region);
    if exists (
        select from notification_rules r cross join lateral json_array_elements_text(r.channels) as c (name)
        where r.workspace = l.workspace[1] and c.name = l.entity[1]) then
        return 'used';
    end if;
    delete from notification_channels c where c.workspace = l.workspace[1] and c.name = l.entity[1];
    if not found then
        return 'missing';
    end if;
    update notifications n set status = 'dead', next_at = null, ended_at = l.at[1], error = 'The channel was deleted.'
    where n.workspace = l.workspace[1] and n.channel = l.entity[1] and n.status = 'pending';
    perform log_append(p_region, p_epoch, array[true], l);
    return 'done';
end $$;

-- Makes or replaces a rule. Returns 'done', 'too_many', or 'missing' if one of its channels is not there.
create function put_notification_rule(p_region text, p_epoch bigint, p_most integer, p_rule text, l log_rows)
returns text language plpgsql as $$
declare
    v_new notification_rules;
    v_seq bigint[];
begin
    perform region_lock(p_region);
    v_new := json_populate_record(null::notification_rules, p_rule::json);
    if exists (
        select from json_array_elements_text(v_new.channels) as n (name)
        where not exists (
            select from notification_channels c where c.workspace = v_new.workspace and c.name = n.name)) then
        return 'missing';
    elsif not exists (select from notification_rules r where r.workspace = v_new.workspace and r.name = v_new.name)
       and (select count(*) from notification_rules r where r.workspace = v_new.workspace) >= p_most then
        return 'too_many';
    end if;
    v_seq := log_append(p_region, p_epoch, array[true], l);
    v_new.since := v_seq[1];
    insert into notification_rules select v_new.*
    on conflict (workspace, name) do update set
        events = excluded.events, least = excluded.least, channels = excluded.channels, principal = excluded.principal,
        changed_at = excluded.changed_at, repeat_after_s = excluded.repeat_after_s, repeat_by = excluded.repeat_by;
    return 'done';
end $$;

-- Deletes a rule; returns whether there was one.
create function remove_notification_rule(p_region text, p_epoch bigint, l log_rows) returns boolean language plpgsql as $$
begin
    perform region_lock(p_region);
    delete from notification_rules r where r.workspace = l.workspace[1] and r.name = l.entity[1];
    if not found then
        return false;
    end if;
    perform log_append(p_region, p_epoch, array[true], l);
    return true;
end $$;

-- From where to read the log under this epoch. If rows were read under another one, it was another region's: from its last minute,
-- which it may not have told of. What it has told of is told again, under the same ids. Nobody is told of what was before any rule.
create function begin_notifying(p_region text, p_epoch bigint) returns bigint language plpgsql as $$
declare
    v_seq bigint;
    v_last double precision;
begin
    perform region_lock(p_region);
    perform log_append(p_region, p_epoch, '{}', null::log_rows);
    select c.seq into v_seq from notification_cursors c where c.region = p_region and c.epoch = p_epoch;
    if found then
        return v_seq;
    end if;
    select coalesce(max(seq), 0) into v_seq from log;
    if exists (select from notification_rules) then
        select o.at into v_last from log o where o.epoch < p_epoch order by o.seq desc limit 1;
        v_seq := least(v_seq, greatest(
            (select min(r.since) - 1 from notification_rules r),
            (select o.seq from log o where o.epoch < p_epoch and o.at < v_last - 60 order by o.seq desc limit 1)));
    end if;
    insert into notification_cursors (region, epoch, seq) values (p_region, p_epoch, v_seq)
    on conflict (region) do update set epoch = excluded.epoch, seq = excluded.seq;
    return v_seq;
end $$;

-- A notification, or one more repeat of an earlier one. One that is there already stays as it is; one whose channel was deleted
-- meanwhile is none.
create function queue_notification(n notifications, p_repeat_after_s double precision) returns void language plpgsql as $$
declare
    v_first text;
begin
    if exists (select from notifications o where o.id = n.id)
       or not exists (
           select from notification_channels c where c.workspace = n.workspace and c.name = n.channel) then
        return;
    end if;
    if n.repeat_key is not null then
        select o.id into v_first from notifications o
        where o.workspace = n.workspace and o.channel = n.channel and o.repeat_key = n.repeat_key
          and o.at > n.at - p_repeat_after_s
        order by o.at desc limit 1;
        if found then
            update notifications o set repeats = o.repeats + 1 where o.id = v_first;
            return;
        end if;
    end if;
    insert into notifications select n.*;
end $$;

-- Queues notifications and moves the cursor.
create function queue_notifications(p_region text, p_epoch bigint, p_from bigint, p_to bigint, p_queued text)
returns boolean language plpgsql as $$
begin
    perform region_lock(p_region);
    perform log_append(p_region, p_epoch, '{}', null::log_rows);
    update notification_cursors c set seq = p_to where c.region = p_region and c.epoch = p_epoch and c.seq = p_from;
    if not found then
        raise exception 'notifications were queued by another process' using errcode = 'AG002';
    end if;
    perform queue_notification(
        json_populate_record(null::notifications, q.item), (q.item ->> 'repeat_after_s')::double precision)
    from (select item from json_array_elements(p_queued::json) with ordinality as q (item, ord) order by ord) q;
    return true;
end $$;

-- Queues a test of a channel; returns whether there is the channel.
create function test_notification_channel(p_region text, p_epoch bigint, p_queued text, l log_rows)
returns boolean language plpgsql as $$
declare
    v_new notifications;
    v_seq bigint[];
begin
    perform region_lock(p_region);
    v_new := json_populate_record(null::notifications, p_queued::json);
    if not exists (
        select from notification_channels c where c.workspace = v_new.workspace and c.name = v_new.channel) then
        return false;
    end if;
    v_seq := log_append(p_region, p_epoch, array[true], l);
    v_new.seq := v_seq[1];
    insert into notifications select v_new.*;
    return true;
end $$;

-- Queues a dead notification anew; returns whether it was dead. One whose channel is deleted stays dead.
create function replay_notification(p_region text, p_epoch bigint, l log_rows) returns boolean language plpgsql as $$
begin
    perform region_lock(p_region);
    update notifications n set status = 'pending', attempts = 0, next_at = l.at[1], ended_at = null, error = null
    where n.id = l.entity[1] and n.workspace = l.workspace[1] and n.status = 'dead'
      and exists (
          select from notification_channels c where c.workspace = n.workspace and c.name = n.channel);
    if not found then
        return false;
    end if;
    perform log_append(p_region, p_epoch, array[true], l);
    return true;
end $$;

-- Begins an attempt at some notifications that are due, but for those of busy channels, and returns their ids.
create function claim_notifications(
    p_region text, p_epoch bigint, p_now double precision, p_until double precision, p_limit integer,
    b_workspace text[], b_channel text[]
) returns text[] language plpgsql as $$
declare
    v_due text[];
    v_ids text[];
begin
    -- Found without the lock, since many may wait for busy channels.
    v_due := array(
        select n.id from notifications n
        where n.status = 'pending' and n.next_at <= p_now
          and not exists (
              select from unnest(b_workspace, b_channel) as b (workspace, channel)
              where b.workspace = n.workspace and b.channel = n.channel)
        order by n.next_at, n.id limit p_limit);
    if v_due = '{}' then
        return v_due;
    end if;
    perform region_lock(p_region);
    perform log_append(p_region, p_epoch, '{}', null::log_rows);
    with claimed as (
        update notifications n set attempts = n.attempts + 1, next_at = p_until
        where n.id = any (v_due) and n.status = 'pending' and n.next_at <= p_now
        returning n.id
    )
    select coalesce(array_agg(id), '{}') into v_ids from claimed;
    return v_ids;
end $$;
