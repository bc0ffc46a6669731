-- A deliberation that was asked for again under its key and its request id lost the key: it stood for other calls from then on.

create or replace function admit_deliberations(
    p_region text, p_epoch bigint, p_now double precision, p_soft_s double precision,
    d_task_id text[], d_deadline_at double precision[], d_contract text[], d_contract_digest bytea[], d_mode text[],
    i_route text[], i_key text[], i_digest bytea[], l log_rows
) returns table (request_id text, seq bigint, replayed boolean, conflict boolean) language plpgsql as $$
declare
    d_request_id text[] := l.entity;
    d_workspace text[] := l.workspace;
    d_principal text[] := l.principal;
    d_admitted_at double precision[] := l.at;
    v_ok boolean[];
    v_new text[];
    v_seq bigint[];
begin
    delete from idempotency s
    using unnest(d_workspace, i_route, i_key) as i (workspace, route, key), deliberations d
    where s.workspace = i.workspace and s.route = i.route and s.key = i.key and s.route = 'deliberations:body'
      and d.request_id = s.answer and d.completed_at < p_now - p_soft_s;
    v_ok := idempotency_claim(l, i_route, i_key, i_digest, d_request_id);
    with inserted as (
        insert into deliberations (
            request_id, task_id, workspace, principal, admitted_at, deadline_at, contract, contract_digest, mode,
            state, cause)
        select d.request_id, d.task_id, d.workspace, d.principal, d.admitted_at, d.deadline_at, d.contract::json,
               d.contract_digest, d.mode, 'ADMITTED', d.cause
        from unnest(
            v_ok, d_request_id, d_task_id, d_workspace, d_principal, d_admitted_at, d_deadline_at, d_contract,
            d_contract_digest, d_mode, l.cause
        ) as d (
            ok, request_id, task_id, workspace, principal, admitted_at, deadline_at, contract, contract_digest, mode,
            cause
        )
        where d.ok
        order by d.request_id
        on conflict do nothing
        returning deliberations.task_id
    )
    select array(select i.task_id from inserted i) into v_new;
    -- Only an admission is remembered: a key of a call that admitted nothing would be a change without a row. A repeat under the
    -- key and the request id of the first call claims the key of that one, which stays.
    delete from idempotency s
    using unnest(v_ok, d_task_id, d_workspace, d_admitted_at, i_route, i_key)
          as i (new, task_id, workspace, at, route, key)
    where i.new and not i.task_id = any (v_new)
      and s.workspace = i.workspace and s.route = i.route and s.key = i.key and s.created_at = i.at;
    v_seq := log_append(
        p_region, p_epoch,
        array(select t = any (v_new) from unnest(d_task_id) with ordinality as t (t, ord) order by ord),
        l);
    return query
        select coalesce(s.answer, i.request_id), v_seq[i.ord],
               not i.task_id = any (v_new)
                   and (case when s.digest is not null then s.digest = i.digest
                        else e.workspace = i.workspace and e.contract_digest = i.contract_digest end),
               not i.task_id = any (v_new)
                   and (case when s.digest is not null then s.digest <> i.digest
                        else e.workspace <> i.workspace or e.contract_digest <> i.contract_digest end)
        from unnest(d_request_id, d_task_id, d_workspace, d_contract_digest, i_route, i_key, i_digest)
             with ordinality as i (request_id, task_id, workspace, contract_digest, route, key, digest, ord)
        left join idempotency s on s.workspace = i.workspace and s.route = i.route and s.key = i.key
        left join deliberations e on e.request_id = i.request_id
        order by i.ord;
end $$;
