#!/usr/bin/env bash
# Subject: asyncpg 0.32.0, a pool whose `reset` does nothing, against PostgreSQL 16.2 (pgserver 0.1.4 from PyPI).
# A good guess: callers that set no session state can spare the round trip of the pool's default reset: asyncpg rolls back what is
# open before it calls `reset`, and ends what a cancelled caller began.
# Behaviour seen: not if the cancellation arrives in the same turn of the loop as the answer to the preparation of a statement.
# asyncpg prepares with Flush and leaves the Sync to the execution, which is then never sent. The server stays in a transaction of
# its own making, in which it keeps the locks of the parsed tables; asyncpg takes the connection for idle and rolls nothing back. The
# next caller sees the now() of the cancelled one, or fails when it begins a transaction with an isolation level. The default
# reset hides it, since its statement ends the transaction.
# Output seen:
#   default reset: the server has an open transaction = False
#   reset that does nothing: asyncpg says in transaction = False, the server has an open one = True
#   next statement: now() is before the cancelled statement's end = True
#   next transaction: ActiveSQLTransactionError
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check asyncpg==0.32.0 pgserver==0.1.4
cat > "$dir/run.py" <<'PY'
import asyncio
import sys

import asyncpg
import pgserver


async def cancelled_with_the_answer(pool, sql):
    """Runs a statement in a task that is cancelled in the turn of the loop in which its first answer is there."""
    holder = {}

    async def call():
        async with pool.acquire() as connection:
            holder["connection"] = connection
            await connection.fetch(sql, 1)

    task = asyncio.ensure_future(call())
    while "connection" not in holder or task._fut_waiter is None:
        await asyncio.sleep(0)
    answer = task._fut_waiter
    while not answer.done():
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return
    raise AssertionError("the call was not cancelled")


async def nothing(connection):
    pass


def pool_of_one(url, **options):
    return asyncpg.create_pool(url, min_size=1, max_size=1, server_settings={"application_name": "watched"}, **options)


async def main(url):
    watcher = await asyncpg.connect(url)
    open_ones = "select count(*) from pg_stat_activity where application_name = 'watched' and xact_start is not null"
    got = []

    async with pool_of_one(url) as pool:
        await cancelled_with_the_answer(pool, "select 'first', $1::int")
        there = await watcher.fetchval(open_ones) == 1
        got.append(f"default reset: the server has an open transaction = {there}")

    pool = await pool_of_one(url, reset=nothing)
    await cancelled_with_the_answer(pool, "select 'first', $1::int")
    ended = await watcher.fetchval("select clock_timestamp()")
    async with pool.acquire() as connection:
        inside = connection.is_in_transaction()
        there = await watcher.fetchval(open_ones) == 1
        got.append(
            f"reset that does nothing: asyncpg says in transaction = {inside}, the server has an open one = {there}"
        )
        now = await connection.fetchval("select now()")
        got.append(f"next statement: now() is before the cancelled statement's end = {now < ended}")

    await cancelled_with_the_answer(pool, "select 'second', $1::int")
    async with pool.acquire() as connection:
        try:
            async with connection.transaction(isolation="repeatable_read"):
                got.append("next transaction: begun")
        except asyncpg.PostgresError as error:
            got.append(f"next transaction: {type(error).__name__}")
    pool.terminate()
    await watcher.close()
    return got


server = pgserver.get_server(sys.argv[1])
try:
    got = asyncio.run(main(server.get_uri()))
finally:
    server.cleanup()
print("\n".join(got))
assert got == [
    "default reset: the server has an open transaction = False",
    "reset that does nothing: asyncpg says in transaction = False, the server has an open one = True",
    "next statement: now() is before the cancelled statement's end = True",
    "next transaction: ActiveSQLTransactionError",
], "the behaviour has changed"
PY
"$dir/venv/bin/python" "$dir/run.py" "$dir/data"
