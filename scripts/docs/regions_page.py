"""Writes the replicated and local tables into docs/regions.md: ``make docs``. A test compares the page with them."""

from __future__ import annotations

import sys
from pathlib import Path

from cluster.domain.replication.tables import LOCAL, LOG, REPLICATED, ReplicatedTable

BEGIN = "<!-- tables: written by `make docs` from cluster/domain/replication/tables.py -->"
END = "<!-- end of tables -->"


def tables_text() -> str:
    """All tables in Markdown: the replicated ones, what each region keeps of them, and the local ones."""
    lines = ["| Replicated table | Key | Named by | Withheld | Why |", "|---|---|---|---|---|"]
    lines += [_row(table) for table in (LOG, *REPLICATED)]
    lines += ["", "| Own column | Why each region keeps its own |", "|---|---|"]
    own = [(table.name, column, why) for table in REPLICATED for column, why in table.own.items()]
    lines += [f"| `{table}.{column}` | {why} |" for table, column, why in own]
    lines += ["", "| Local table | Why |", "|---|---|"]
    lines += [f"| `{table.name}` | {table.why} |" for table in LOCAL]
    return "\n".join(lines)


def _row(table: ReplicatedTable) -> str:
    kinds = ", ".join(f"`{kind}*`" if kind.endswith((".", "_")) else f"`{kind}`" for kind in table.naming.kinds)
    values = ", ".join(f"{column} = {source}" for column, source in table.naming.values.items())
    named = f"{kinds}: {values or 'all of it'}" if kinds else "its own rows"
    withheld = "whole rows" if table.whole_rows_withheld else ", ".join(f"`{column}`" for column in table.withheld)
    return f"| `{table.name}` | {', '.join(table.key)} | {named} | {withheld} | {table.why} |"


def with_tables(page: str) -> str:
    """The page with the present tables between its markers."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{tables_text()}\n{END}{after}"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_tables(page.read_text()))
