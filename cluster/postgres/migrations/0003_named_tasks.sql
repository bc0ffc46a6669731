-- Who comes to carry an agent looks for the tasks that wait for it by name. Only such tasks have an entry.
create index tasks_named on tasks (workspace, target_agent) where status = 'pending' and target_agent is not null;
