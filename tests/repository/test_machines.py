"""docs/architecture.md has every state machine, with its states, its events and where its table and its test are."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from scripts.docs.machines_page import MACHINES, Machine, with_table
from tests.support.docs import ROOT

PAGE = ROOT / "docs" / "architecture.md"
ROOMS = ("actors", "cluster", "regions", "serve_app")


def _steps() -> set[str]:
    """The files with a function ``step``."""
    return {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if any(isinstance(node, ast.FunctionDef) and node.name == "step" for node in ast.parse(path.read_text()).body)
    }


def test_the_table_on_the_page_is_that_of_the_code() -> None:
    page = PAGE.read_text()
    assert with_table(page) == page, "run make docs"


def test_every_function_step_is_the_verb_of_a_machine_in_the_table() -> None:
    verbs = {str(Path(inspect.getfile(machine.verb)).relative_to(ROOT)) for machine in MACHINES}  # type: ignore[arg-type]
    assert _steps() - verbs == set(), "add it to scripts/docs/machines_page.py"


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.decides.replace(" ", "-"))
def test_the_files_of_a_machine_are_about_it(machine: Machine) -> None:
    module = inspect.getmodule(machine.verb)
    assert module is not None
    assert machine.states.__name__ in (ROOT / machine.table).read_text()
    assert module.__name__ in (ROOT / machine.test).read_text()
    assert (ROOT / machine.shell).is_file()
