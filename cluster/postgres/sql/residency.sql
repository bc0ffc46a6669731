-- name: samples
-- The newest tasks of the workspaces that are resident in a zone, with what was written in them as text. A region outside has none
-- of it: there the texts are null, or JSON's null.
select t.id, t.payload::text as payload, t.result::text as result
from tasks t join workspace_zones z on z.workspace = t.workspace
where z.zone = $1
order by t.created_at desc
limit $2
