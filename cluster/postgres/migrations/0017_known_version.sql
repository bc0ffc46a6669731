-- The last version of the group's record that this database was told, by which a restored store of the group is found.
alter table region_state add column version bigint not null default 0;
