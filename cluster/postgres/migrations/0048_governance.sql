-- Lists in the order of last changes: when what is listed has ended, else begun, else was submitted. The index has what has ended, one
-- entry for each task; with an entry for each state of a task, the scheduler would write three. Ids are ordered by their bytes, so that
-- whoever merges tasks and deliberations orders them as the index does.
create index tasks_changed on tasks (workspace, status, completed_at desc, id collate "C" desc) where completed_at is not null;
create index deliberations_changed
    on deliberations (workspace, (coalesce(completed_at, admitted_at)) desc, request_id collate "C" desc);

-- Deletes versions of policies of a workspace, but for the one that counts. Returns how many.
create function remove_policy_versions(p_region text, p_epoch bigint, p_ids text[], p_versions integer[], l log_rows)
returns integer language plpgsql as $$
declare
    v_removed integer;
begin
    perform region_lock(p_region);
    delete from policy_versions v using unnest(p_ids, p_versions) as r (policy_id, version)
    where v.policy_id = r.policy_id and v.version = r.version and v.workspace = l.workspace[1]
      and not exists (select from policies p where p.id = v.policy_id and p.version = v.version);
    get diagnostics v_removed = row_count;
    if v_removed > 0 then
        perform log_append(p_region, p_epoch, array[true], l);
    end if;
    return v_removed;
end $$;

-- Deletes which levels some budgets of a workspace have reached in periods that began before p_before. Returns how many.
create function remove_budget_levels(p_region text, p_epoch bigint, p_ids text[], p_before double precision, l log_rows)
returns integer language plpgsql as $$
declare
    v_removed integer;
begin
    perform region_lock(p_region);
    delete from budget_levels b
    where b.budget_id = any (p_ids) and b.period_start < p_before and b.workspace = l.workspace[1];
    get diagnostics v_removed = row_count;
    if v_removed > 0 then
        perform log_append(p_region, p_epoch, array[true], l);
    end if;
    return v_removed;
end $$;
