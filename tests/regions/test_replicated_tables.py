"""The declaration of the replicated tables: it has all of the schema, and the log names every change of them."""

from __future__ import annotations

import itertools

import pytest

from cluster.domain.replication.batch import TextRow, named_row
from cluster.domain.replication.tables import LOCAL, REPLICATED, TABLES, ReplicatedTable
from cluster.domain.replication.touched import Names, touched
from cluster.postgres.stores import Stores
from tests.support.replicating import RandomChanges, tables_of

#: After so many calls every table has rows, whatever the seed.
MOST_CHANGES = 1000


async def test_every_table_and_column_is_declared(stores: Stores) -> None:
    rows = await stores.pool.rows(
        "select c.table_name, c.column_name, c.data_type, c.is_nullable = 'YES' or c.column_default is not null as may_lack "
        "from information_schema.columns c join information_schema.tables t using (table_schema, table_name) "
        "where c.table_schema = current_schema() and t.table_type = 'BASE TABLE' "
        "and not (select r.relispartition from pg_class r where r.oid = format('%I.%I', c.table_schema, c.table_name)::regclass)"
    )
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["table_name"], set()).add(row["column_name"])
    assert found.keys() == TABLES.keys() | {table.name for table in LOCAL}
    for table in TABLES.values():
        assert found[table.name] == table.columns.keys() | table.own.keys(), table.name
        own = [row for row in rows if row["table_name"] == table.name and row["column_name"] in table.own]
        assert all(row["may_lack"] for row in own), "what does not travel can be left out of an insert"


async def test_declared_types_and_keys_are_the_schemas(stores: Stores) -> None:
    for table in TABLES.values():
        columns = await stores.pool.rows(
            "select a.attname, format_type(a.atttypid, a.atttypmod) as type, a.attnum = any (i.indkey) as is_key "
            "from pg_attribute a join pg_index i on i.indrelid = a.attrelid and i.indisprimary "
            "where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped",
            table.name,
        )
        types = {row["attname"]: row["type"].replace("timestamp with time zone", "timestamptz") for row in columns}
        assert {name: types[name] for name in table.columns} == dict(table.columns), table.name
        assert {row["attname"] for row in columns if row["is_key"]} == set(table.key), table.name


@pytest.mark.parametrize("seed", range(3))
async def test_the_log_names_every_change_of_a_replicated_table(stores: Stores, seed: int) -> None:
    changes = RandomChanges(stores, seed)
    await changes.begin()
    before = await tables_of(stores)
    seen: set[str] = set()
    for done in itertools.count():
        seen |= {table for table, rows in before.items() if rows}
        if done >= 200 and (seen == before.keys() or done == MOST_CHANGES):
            break
        name = await changes.change_something()
        after = await tables_of(stores)
        new = after["log"][len(before["log"]) :]
        named = touched(map(named_row, new))
        for table in REPLICATED:
            differing = set(before[table.name]) ^ set(after[table.name])
            unnamed = [row for row in differing if not named.has(table.name, _names(table, row))]
            assert unnamed == [], f"{name} changed {table.name}"
        before = after
    assert before.keys() - seen == set(), "the run changed every table"


def _names(table: ReplicatedTable, row: TextRow) -> Names:
    columns = tuple(table.columns)
    return tuple(row[columns.index(name)] or "" for name in table.naming.values)
