-- What kind of question an outcome is of; null if nobody said, as for all that were recorded before.
alter table outcomes add column kind text;

-- As record_outcomes, which an older process goes on calling: new outcomes get their kinds in the same transaction. A repeat changes
-- nothing, so the kind of an outcome is that of the call that recorded it.
create function record_outcomes_of_kinds(
    p_region text, p_epoch bigint,
    o_source text[], o_panel text[], o_votes text[], o_right text[], o_options text[], o_content bytea[], o_kind text[], l log_rows
) returns table (seq bigint, replayed boolean, conflict boolean) language plpgsql as $$
declare
    v_seq bigint[];
    v_replayed boolean[];
    v_conflict boolean[];
begin
    select array_agg(r.r_seq order by r.ord), array_agg(r.r_replayed order by r.ord), array_agg(r.r_conflict order by r.ord)
    into v_seq, v_replayed, v_conflict
    from record_outcomes(p_region, p_epoch, o_source, o_panel, o_votes, o_right, o_options, o_content, l)
         with ordinality as r (r_seq, r_replayed, r_conflict, ord);
    update outcomes o set kind = k.kind
    from unnest(l.workspace, l.entity, o_kind, v_seq) as k (workspace, id, kind, new_seq)
    where o.workspace = k.workspace and o.id = k.id and k.new_seq is not null and k.kind is not null;
    return query select * from unnest(v_seq, v_replayed, v_conflict);
end $$;
