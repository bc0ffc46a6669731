from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cluster.cli.commands.batch import submission_id
from cluster.client.batches.items import BadLine, Item, read_items, schema
from cluster.client.batches.output import Output, opened
from cluster.client.batches.progress import Pace, progress
from cluster.domain.base.errors import Conflict, InvalidRequest
from cluster.process.loops import ended


def _line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _one(**fields: Any) -> Item:
    (item,) = read_items([_line(**fields)])
    assert isinstance(item, Item), item
    return item


# --- items ------------------------------------------------------------------------------------------------------------


def test_what_is_asked_makes_the_key_and_nothing_else() -> None:
    key = _one(content="q", config={"a": 1, "b": [2]}).key
    assert _one(content="q", config={"b": [2], "a": 1}, id="mine").key == key
    assert _one(question="q", config={"a": 1, "b": [2]}, priority="normal").key == key
    assert _one(content="q", config={"a": 1, "b": [2]}, required_capabilities=["deliberation"]).key == key
    (later,) = read_items([b"\n", _line(content="q", config={"a": 1, "b": [2]})])
    assert (later.key, later.line) == (key, 2)
    (anew,) = read_items([_line(content="q", config={"a": 1, "b": [2]})], run="again")
    others = [_one(content="Q"), _one(content="q", config={"a": 2}), _one(content="q", timeout_seconds=5), anew]
    assert len({key, *(other.key for other in others)}) == 5


BAD = [
    (b"{", "not JSON"),
    (b'"text"', "valid dictionary"),
    (b"{}", "give the question"),
    (b'{"content": "a", "question": "b"}', "give the question"),
    (b'{"content": ""}', "at least 1"),
    (b'{"content": "q", "contnet": "q"}', "contnet"),
    (b'{"content": "q", "timeout_seconds": 0}', "timeout_seconds"),
    (b'{"content": "q", "config": []}', "config"),
    (b'{"content": "q", "decision_type": "gauntlet"}', "decision_type"),
    (b'{"content": "q", "config": {"a": NaN}}', "NaN"),
    (b'{"content": "q", "config": {"a": 99999999999999999999}}', "exceeds"),
    (b'{"content": "\\ud800"}', "cannot be stored"),
    (b'\xff{"content": "q"}', ""),
    (b'{"content": "q", "id": 7}', "id"),
]


@pytest.mark.parametrize(("line", "problem"), BAD)
def test_a_line_that_is_no_item_is_named_by_number_and_reason(line: bytes, problem: str) -> None:
    found = list(read_items([_line(content="good"), line + b"\n", _line(content="good")]))
    bad = found[1]
    assert isinstance(bad, BadLine)
    assert bad.line == 2
    assert problem in bad.problem
    assert [type(one) for one in found] == [Item, BadLine, Item]


@given(line=st.binary(max_size=60).filter(lambda line: b"\n" not in line))
def test_no_line_stops_the_reading(line: bytes) -> None:
    assert len(list(read_items([line, _line(content="q")]))) == (2 if line.strip() else 1)


@pytest.mark.parametrize("line", [line for line, _ in BAD[1:9] if b"timeout" not in line] + [_line(content="q")])
def test_the_published_schema_agrees(line: bytes) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    fits = jsonschema.Draft202012Validator(schema()).is_valid(json.loads(line))
    (read,) = read_items([line])
    assert fits == isinstance(read, Item)


# --- the output -------------------------------------------------------------------------------------------------------


def _entry(key: str, status: str = "decided", **more: Any) -> dict[str, Any]:
    return {"line": 1, "key": key, "status": status, "result": {"agent_calls": 3, "total_tokens": 9}, **more}


def _written(path: Path, *keys: str) -> None:
    with opened(path, resume=True) as output:
        for key in keys:
            output.write(_entry(key))


def test_what_is_finished_is_taken_once_for_each_time_it_occurs(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    _written(path, "a", "b", "a")
    with opened(path, resume=True) as output:
        assert [output.take(key) for key in ("a", "a", "a", "b", "c")] == [True, True, False, True, False]
        assert (output.summary.items, output.summary.calls, output.summary.tokens) == (3, 9, 27)


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_cut_off_and_written_again(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "out.jsonl"
    _written(path, "a", "b")
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with opened(path, resume=True) as output:
        assert output.torn
        assert [output.take("a"), output.take("b")] == [True, False]
        output.write(_entry("b"))
    assert path.read_bytes() == whole


def test_an_output_is_never_overwritten_or_shared(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    _written(path, "a")
    with pytest.raises(Conflict, match="--resume"), opened(path, resume=False):
        pass
    with opened(path, resume=True), pytest.raises(Conflict, match="Another batch"), opened(path, resume=True):
        pass
    assert path.read_bytes().count(b"\n") == 1


@pytest.mark.parametrize("line", [b"[]\n", b"{}\n", b"words\n", b'{"key": []}\n'])
def test_a_file_that_no_batch_wrote_is_left_alone(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_bytes(line)
    with pytest.raises(InvalidRequest, match="line 1"), opened(path, resume=True):
        pass
    assert path.read_bytes() == line


def test_text_that_cannot_be_encoded_is_written_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with opened(path, resume=False) as output:
        output.write(_entry("a", answer="\ud800 ä\n"))
    assert path.read_bytes().count(b"\n") == 1
    assert isinstance(json.loads(path.read_bytes()), dict)
    assert isinstance(output, Output)


# --- progress and job -------------------------------------------------------------------------------------------------


def test_a_pipe_gets_plain_lines(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        console = Console(file=file)
        with progress(console, Pace(3, 1)) as shown:
            shown("decided")
            shown("refused")
    first, last = (tmp_path / "log").read_text().splitlines()
    assert first.startswith("1 of 3 items, no estimate yet")
    assert last.startswith("3 of 3 items")
    assert "1 failed" in last


def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        console = Console(file=file, force_terminal=True, width=120)
        with progress(console, Pace(2, 0)) as shown:
            shown("decided")
            shown("decided")
    assert "2/2" in (tmp_path / "log").read_text()


def test_the_job_is_named_by_what_it_asks_and_where_it_writes(tmp_path: Path) -> None:
    one, other, out = tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "out.jsonl"
    one.write_bytes(_line(content="q"))
    other.write_bytes(_line(content="r"))
    job = submission_id(one, out, "")
    assert submission_id(one, out, "") == job
    assert len({job, submission_id(other, out, ""), submission_id(one, one, ""), submission_id(one, out, "r")}) == 4


async def test_a_worker_that_takes_a_cancellation_for_something_else_is_ended_all_the_same() -> None:
    swallowed = 0

    async def work() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed > 2:
                    raise

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await ended(task)
    assert task.cancelled()
    assert swallowed == 3
