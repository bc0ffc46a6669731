-- What a region's leader tells the other processes of its region. Not logged, so that a watermark costs no write to the disk: after a
-- crash of the server the table is empty, nothing leaves the region, and the leader writes it anew at its next heartbeat.

-- ``watermark``: under ``epoch``, the row up to which every region of the in-sync set holds the log. ``primary_region``: the zone's
-- primary, as the region knows it. ``refusal``: the code with which writes are refused before they are committed. ``heard_at``: when
-- the region last heard of its primary.
create unlogged table replication_status (
    zone            text primary key,
    epoch           bigint not null,
    watermark       bigint not null,
    primary_region  text,
    refusal         text,
    heard_at        timestamptz
);

-- How many full copies this database has begun. Whoever has read rows before one forgets them.
alter table replicas add column copies bigint not null default 0;
