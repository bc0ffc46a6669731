"""The tables of docs/agents.md are the tables of the code."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from cluster.domain.agents.agent import STATUS_TABLE
from cluster.domain.agents.agent_health import LEVEL_TABLE
from tests.support.docs import ROOT

PAGE = (ROOT / "docs" / "agents.md").read_text()


def _cell(value: Enum | bool | None) -> str:
    if isinstance(value, bool):
        return "pulls" if value else "is called"
    return "any" if value is None else f"`{value.value}`"


def _rows(rows: Iterable[Iterable[Enum | bool | None]]) -> str:
    return "\n".join("| " + " | ".join(_cell(value) for value in row) + " |" for row in rows)


def test_the_status_table_is_that_of_the_code() -> None:
    *decided, last = STATUS_TABLE
    assert last == (None, None, None, None)
    table = _rows((intent, liveness, health, status) for liveness, intent, health, status in decided)
    assert table + "\n| any | any | any | `busy` with all its slots in use, else `ready` |\n" in PAGE


def test_the_level_table_is_that_of_the_code() -> None:
    assert _rows(LEVEL_TABLE) + "\n" in PAGE
