"""Options of commands that take JSON."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from cluster.cli.calls import json_fields
from cluster.cli.main import app

ODD = ["NaN", '{"a":NaN}', "[" * 1500 + "]" * 1500, "[" * 100 + "]" * 100, "9" * 5000, "{", '"\\ud800"']
COMMANDS = {
    "--payload": ["tasks", "submit", "t", "--payload"],
    "--payload of a replay": ["dlq", "replay", "t1", "--payload"],
    "--patch": ["dlq", "replay", "t1", "--patch"],
    "CORRECT": ["deliberations", "outcome", "d1", "--parse"],
}


@pytest.mark.parametrize("value", ODD, ids=lambda value: value[:9])
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_json_that_cannot_be_sent_is_a_usage_error(words: list[str], value: str) -> None:
    done = CliRunner().invoke(app, [*words, value])
    assert (done.exit_code, "Traceback" in done.output) == (2, False), done.output
    assert type(done.exception) is SystemExit


def test_an_option_of_nothing_is_no_option_left_out() -> None:
    fields = json_fields(a=("--a", "[]"), b=("--b", "null"), c=("--c", None), d=("--d", '{"x":1}'))
    assert fields == {"a": [], "b": None, "d": {"x": 1}}
