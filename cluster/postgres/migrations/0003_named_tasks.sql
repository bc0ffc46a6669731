-- Who comes to carry an agent looks for the open tasks that name it. Only such tasks have an entry.
create index tasks_named on tasks (workspace, target_agent) where status in ('pending', 'running') and target_agent is not null;
