-- Rules of notifications may gather events: for some seconds (null: none), and in quiet hours.
alter table notification_rules add column digest_s double precision, add column quiet json;

-- Makes or replaces a rule. Returns 'done', 'too_many', or 'missing' if one of its channels is not there.
create or replace function put_notification_rule(p_region text, p_epoch bigint, p_most integer, p_rule text, l log_rows)
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
        changed_at = excluded.changed_at, repeat_after_s = excluded.repeat_after_s, repeat_by = excluded.repeat_by,
        digest_s = excluded.digest_s, quiet = excluded.quiet;
    return 'done';
end $$;

-- What a digest holds after another one: sums of its counts, and its first events.
create function joined_digest(p_first jsonb, p_second jsonb) returns json language sql immutable as $$
    select json_build_object(
        'counts', (
            select jsonb_object_agg(c.event, c.total)
            from (
                select e.key as event, sum(e.value::bigint) as total
                from (
                    select * from jsonb_each_text(p_first -> 'counts') union all select * from jsonb_each_text(p_second -> 'counts')
                ) e
                group by e.key
            ) c),
        'from', p_first -> 'from',
        'until', p_second -> 'until',
        'events', (
            select jsonb_agg(e.item order by e.ord)
            from jsonb_array_elements((p_first -> 'events') || (p_second -> 'events')) with ordinality as e (item, ord)
            where e.ord <= 100))
$$;

-- A notification, or one more repeat of an earlier one, or more events of a digest that nobody has begun to send. One that is there
-- already stays as it is; one whose channel was deleted meanwhile is none.
create or replace function queue_notification(n notifications, p_repeat_after_s double precision)
returns void language plpgsql as $$
declare
    v_first text;
    v_events bigint;
begin
    if exists (select from notifications o where o.id = n.id)
       or not exists (
           select from notification_channels c where c.workspace = n.workspace and c.name = n.channel) then
        return;
    end if;
    if n.event = 'notification.digest' then
        select sum(c.value::bigint) into v_events from json_each_text(n.data -> 'counts') c;
        update notifications o set
            repeats = o.repeats + v_events, seq = n.seq, data = joined_digest(o.data::jsonb, n.data::jsonb),
            severity = case
                when array_position(array['info', 'warning', 'error', 'critical'], n.severity)
                    > array_position(array['info', 'warning', 'error', 'critical'], o.severity)
                then n.severity else o.severity end
        where o.id = (
            select d.id from notifications d
            where d.workspace = n.workspace and d.channel = n.channel and d.repeat_key = n.repeat_key
              and d.status = 'pending' and d.attempts = 0
            order by d.at desc limit 1);
        if found then
            return;
        end if;
        n.repeats := v_events - 1;
    elsif n.repeat_key is not null then
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
