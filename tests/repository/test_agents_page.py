"""The tables of docs/agents.md are the tables of the code."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum

import pytest

from cluster.domain.agents.agent import STATUS_TABLE
from cluster.domain.agents.agent_health import LEVEL_TABLE
from serve_app.schemas.agents import RegisterAgent
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


def test_every_field_of_a_registration_is_described_and_nothing_else_is() -> None:
    section = PAGE.partition("## An actor of its own")[0]
    described = {
        name for cell in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)
    }
    assert described == set(RegisterAgent.model_fields)


@pytest.mark.parametrize("page", ["weights.md", "deliberations.md", "agents.md", "agent-contract.md"])
@pytest.mark.parametrize("field", ["owner", "price", "rate"])
def test_no_page_puts_a_field_of_a_registration_into_its_options(page: str, field: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    assert not re.search(rf"options\.{field}|\"options\": *{{[^}}]*\"{field}\"", text)


def test_the_level_table_is_that_of_the_code() -> None:
    assert _rows(LEVEL_TABLE) + "\n" in PAGE
