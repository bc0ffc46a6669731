-- name: acquire_lease
-- The fence if the lease is ours now, null while another holds it.
select acquire_lease($1, $2, $3)

-- name: release_lease
-- Gives a lease up early; its fence stays for the next holder to exceed.
update leases set until = clock_timestamp() where name = $1 and holder = $2

-- name: held_leases
-- Leases with a prefix that somebody holds now.
select name from leases where starts_with(name, $1) and until > clock_timestamp() order by name

-- name: end_unrenewed_lease
-- Ends a lease whose holder has not renewed it in time; null if it is over already, or has been.
update leases set until = clock_timestamp()
where name = $1 and until > clock_timestamp() and until < clock_timestamp() + make_interval(secs => $2)
returning true

-- name: forget_leases
-- Drops what has been over for long.
delete from leases where starts_with(name, $1) and until < clock_timestamp() - make_interval(secs => $2)
