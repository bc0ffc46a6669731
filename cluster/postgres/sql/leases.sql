-- name: acquire_lease
-- Takes or renews a lease and returns its fence; null while another holds it.
select acquire_lease($1, $2, $3)

-- name: release_lease
-- Ends a lease early. The row stays, so that the next holder gets a higher fence.
update leases set until = clock_timestamp() where name = $1 and holder = $2

-- name: held_leases
-- Leases with a prefix that somebody holds now.
select name from leases where starts_with(name, $1) and until > clock_timestamp() order by name

-- name: end_unrenewed_lease
-- Ends a lease that has less than $2 seconds left, as its holder did not renew it in time; null if there is none such.
update leases set until = clock_timestamp()
where name = $1 and until > clock_timestamp() and until < clock_timestamp() + make_interval(secs => $2)
returning true

-- name: forget_leases
-- Deletes leases with a prefix that ended longer than $2 seconds ago.
delete from leases where starts_with(name, $1) and until < clock_timestamp() - make_interval(secs => $2)
