-- name: list_channels
-- The channels of a workspace.
select c.*, c.target::text as target_text from notification_channels c where c.workspace = $1 order by c.name

-- name: rules_of
-- The rules of some workspaces. Of one that was deleted nothing is told any more, the end of its open work neither.
select r.*, r.events::text as events_text, r.channels::text as channels_text, r.quiet::text as quiet_text
from notification_rules r
where r.workspace = any ($1) and not exists (select from workspaces w where w.id = r.workspace and w.state = 'deleted')
order by r.workspace, r.name

-- name: put_channel
-- One commit of a channel.
select put_notification_channel($1, $2, $3, $4, $5)

-- name: remove_channel
-- One commit of a removal.
select remove_notification_channel($1, $2, $3)

-- name: put_rule
-- One commit of a rule.
select put_notification_rule($1, $2, $3, $4, $5)

-- name: remove_rule
-- One commit of a removal.
select remove_notification_rule($1, $2, $3)

-- name: test_channel
-- One commit of a test.
select test_notification_channel($1, $2, $3, $4)

-- name: replay_notification
-- One commit of a replay.
select replay_notification($1, $2, $3)

-- name: get_notifications
-- Some notifications by their ids; a null workspace matches all.
select n.*, n.data::text as data_text, c.kind, c.principal, c.changed_at, c.credential, c.target::text as target_text
from notifications n
left join notification_channels c on c.workspace = n.workspace and c.name = n.channel
where n.id = any ($2) and ($1::text is null or n.workspace = $1)
order by n.at, n.id

-- name: page_notifications
-- A page of the notifications of a workspace, the newest first.
select n.*, n.data::text as data_text from notifications n
where n.workspace = $1
  and ($2::text is null or n.status = $2) and ($3::text is null or n.channel = $3) and ($4::text is null or n.event = $4)
  and ($6::float8 is null or (n.created_at, n.id) < ($6, $7))
order by n.created_at desc, n.id desc limit $5

-- name: count_notifications
-- How many notifications of a workspace match.
select count(*) from notifications n
where n.workspace = $1
  and ($2::text is null or n.status = $2) and ($3::text is null or n.channel = $3) and ($4::text is null or n.event = $4)

-- name: told
-- How many notifications of each channel of a workspace are in which state.
select channel, status, count(*) as count from notifications where workspace = $1 group by channel, status order by channel

-- name: begin_notifying
-- From where to read the log under this epoch.
select begin_notifying($1, $2)

-- name: event_rows
-- Rows of some kinds after a cursor, of workspaces with rules, among the next $4; then a row without a kind that has the number up to
-- which the log was searched. Names its columns, as the two parts of a union must have the same ones.
with head as (
    select least(log_last(), $1::bigint + $4::bigint) as seq
), page as (
    select seq, at, workspace, kind, entity, attempt, principal, data::text as data, digest, epoch, cause, zone, private,
           private_digest, v
    from log
    where seq > $1::bigint and seq <= $1::bigint + $4::bigint and kind = any ($3)
      and workspace in (select r.workspace from notification_rules r)
    order by seq
    limit $2
)
select * from page
union all
select seq, null, null, null, null, null, null, null, null, null, null, null, null, null, null from head

-- name: queue_notifications
-- One commit that moves the cursor and queues what was found. The first function takes the region's lock.
select queue_notifications($1, $2, $3, $4, $5), queue_pushes($6, $7)

-- name: claim_notifications
-- One commit that begins attempts.
select claim_notifications($1, $2, $3, $4, $5, $6, $7)

-- name: settle_notifications
-- Stores what came of attempts, of those that are still the last ones. It is no commit of the log: whether somebody was told is
-- no state of what the log tells of.
with ended as (
    select * from json_populate_recordset(null::notifications, $1::json)
), locked as (
    select n.id from notifications n join ended e on e.id = n.id
    where n.status = 'pending' and n.attempts = e.attempts order by n.id for update of n
)
update notifications n set status = e.status, next_at = e.next_at, ended_at = e.ended_at, error = e.error
from ended e join locked k on k.id = e.id where n.id = e.id

-- name: forget_notifications
-- Deletes some that ended long ago, and returns how many.
with old as (
    select id from notifications where ended_at < $1 order by ended_at limit $2 for update skip locked
), removed as (
    delete from notifications n using old o where n.id = o.id returning n.id
)
select count(*) from removed
