-- name: get_hook
-- One hook, with its sealed secrets if they are in this region.
select h.*, h.starts::text as starts_text, coalesce(h.input::text, 'null') as input_text, h.secrets_until::text as until_text, s.sealed
from hooks h left join secrets s on s.name = 'hook/' || h.secrets_id
where h.workspace = $1 and h.name = $2

-- name: list_hooks
-- Every hook of a workspace.
select h.*, h.starts::text as starts_text, coalesce(h.input::text, 'null') as input_text, h.secrets_until::text as until_text, s.sealed
from hooks h left join secrets s on s.name = 'hook/' || h.secrets_id
where h.workspace = $1 order by h.name

-- name: hooks_of_subject
-- Hooks that start a subject's work; a null subject chooses all.
select name from hooks
where workspace = $1
  and ($2::text is null or starts -> 'task' -> 'metadata' ->> 'subject' = $2 or starts -> 'metadata' ->> 'subject' = $2)
order by name limit $3

-- name: start_once
-- Goes before a submit in one statement, which fails if the task exists or has existed.
select start_once($1, $2)

-- name: put_hook
-- One commit of a hook.
select put_hook($1, $2, $3, $4, $5, $6)

-- name: remove_hooks
-- One commit of deletions.
select remove_hooks($1, $2, $3)
