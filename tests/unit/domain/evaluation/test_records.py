"""Reading votes and panels: what is accepted, what is left out, and which line is at fault."""

from __future__ import annotations

import hashlib

import pytest

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.evaluation.records import Panel, check_panel, is_calibration, read_panels, read_votes, split

HEADER = '{"kind": "header", "models": ["x", "y", "z"]}'


def test_malformed_answers_abstain_and_absent_agents_drop_a_question() -> None:
    lines = [HEADER, '{"q": 1, "n": 3, "g": "B", "a": "AB-"}', "", '{"q": 2, "n": 3, "g": "C", "a": "A.C"}']
    first, second = read_votes(lines)
    assert (first.id, first.votes, first.right, first.options) == (
        "1",
        {"x": "A", "y": "B", "z": None},
        "B",
        ("A", "B", "C"),
    )
    assert (first.complete, second.complete) == (True, False)
    assert first.outcome(["z", "x"]).votes == {"z": None, "x": "A"}
    assert [q.id for half in split([first, second]) for q in half] == ["1"]


def test_the_split_is_a_hash_of_the_id() -> None:
    for number in range(200):
        assert is_calibration(str(number)) == (hashlib.sha256(str(number).encode()).digest()[0] < 51)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "is empty"),
        (["{}"], "Line 1 must be a header"),
        (['{"models": ["x", "x"]}'], "name each model only once"),
        ([HEADER, "nonsense"], "Line 2 is not a JSON object"),
        ([HEADER, '{"q": 1, "n": 3, "g": "B", "a": "AB"}'], "Line 2 .*2 answers of 3"),
        ([HEADER, "", '{"q": 1, "n": 2, "g": "C", "a": "ABC"}'], "Line 3 .* right answer 'C'"),
        ([HEADER, '{"q": 1, "n": "many", "g": "C", "a": "ABC"}'], "Line 2"),
        ([HEADER, '{"n": 3, "g": "C", "a": "ABC"}'], "Line 2"),
    ],
)
def test_a_bad_line_is_named(lines: list[str], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        read_votes(lines)


def test_panels_of_a_reference_table_and_of_a_plain_mapping() -> None:
    expected = [Panel(name="P", agents=("x", "y"))]
    assert read_panels('{"split": "s", "rows": [{"panel": "P", "agents": ["x", "y"], "n_cal": 1}]}') == expected
    assert read_panels('{"P": ["x", "y"]}') == expected
    for text in ("[", "[]", "{}", '{"P": []}', '{"P": ["x", "x"]}', '{"P": [1]}', '{"rows": [{"agents": ["x"]}]}'):
        with pytest.raises(InvalidRequest):
            read_panels(text)
    with pytest.raises(InvalidRequest, match="names 'y'"):
        check_panel(expected[0], ["x"])
