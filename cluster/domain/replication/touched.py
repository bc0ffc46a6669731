"""What rows of the log name of the replicated tables."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.domain.replication.tables import DATA, EACH, REPLICATED, Naming


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedRow:
    """What of a row of the log names others. All values are texts, as PostgreSQL writes them."""

    kind: str
    entity: str
    workspace: str
    at: str
    data: str


#: Values of the columns by which a table's rows are named.
Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Touched:
    """By table: the names of the rows that may have changed. A table without naming columns has one empty name."""

    names: Mapping[str, frozenset[Names]] = field(default_factory=dict)

    def has(self, table: str, names: Names) -> bool:
        return names in self.names.get(table, frozenset())


def touched(rows: Iterable[NamedRow]) -> Touched:
    """What the rows name."""
    names: dict[str, set[Names]] = {}
    for row in rows:
        for table in REPLICATED:
            if table.naming.names(row.kind):
                names.setdefault(table.name, set()).update(_names(table.naming, row))
    return Touched({table: frozenset(found) for table, found in names.items()})


def _names(naming: Naming, row: NamedRow) -> Iterable[Names]:
    """One name, or one for each entry of a list."""
    return itertools.product(*(_values(source, row) for source in naming.values.values()))


def _values(source: str, row: NamedRow) -> Sequence[str]:
    if source.startswith(EACH):
        name = source.removeprefix(EACH)
        # Most rows of tasks have no list, and their data need not be parsed to know that.
        listed = json.loads(row.data).get(name) if f'"{name}"' in row.data else None
        return [row.entity] if listed is None else [str(entry) for entry in listed]
    if source.startswith(DATA):
        data: Any = json.loads(row.data)
        return [str(data.get(source.removeprefix(DATA), ""))]
    return [str(getattr(row, source))]
