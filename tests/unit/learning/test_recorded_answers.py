"""Recorded answers: how they are parsed, and the server that gives them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.cli.commands.evaluate import loopback_transport
from cluster.learning.recorded_answers import ask_everybody, parse_answer, read_replay, replay_server
from tests.support.recorded import write_recorded

SHARED = Path(__file__).resolve().parents[5] / "shared" / "data"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_recorded(tmp_path)
    return tmp_path


async def test_every_recorded_text_comes_back_over_http(files: Path) -> None:
    recorded = read_replay(files / "replay.jsonl")
    heard = await ask_everybody(recorded, loopback_transport)
    for question, answers in zip(recorded, heard, strict=True):
        for agent, text in question.texts.items():
            assert answers[agent].option == parse_answer(text, question.options)
            assert answers[agent].tokens > 0


async def test_the_server_knows_only_what_was_recorded(files: Path) -> None:
    recorded = read_replay(files / "replay.jsonl")
    async with replay_server(recorded) as url, httpx.AsyncClient() as client:
        body: dict[str, Any] = {"model": "good", "messages": [{"role": "user", "content": recorded[0].prompt}]}
        answer = await client.post(f"{url}/chat/completions", json=body)
        assert answer.json()["choices"][0]["message"]["content"] == recorded[0].texts["good"]
        for wrong in ({**body, "model": "nobody"}, {"messages": []}, [], "text"):
            assert (await client.post(f"{url}/chat/completions", json=wrong)).status_code == 404


def test_answers_are_read_as_the_dataset_reads_them() -> None:
    options = ("A", "B", "C")
    assert parse_answer("... so the answer is (B).", options) == "B"
    assert parse_answer("The answer is C", options) == "C"
    assert parse_answer("The answer is (Z).", options) is None
    assert parse_answer("It is B.", options) is None


@pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded answers (../shared/data) are not on this machine")
def test_the_parser_reads_recorded_texts_as_they_were_read_then() -> None:
    questions = read_replay(SHARED / "mmlupro_replay.jsonl")
    pairs = [
        (parse_answer(text, question.options), question.recorded[agent], len(text))
        for question in questions
        for agent, text in question.texts.items()
    ]
    different = [pair for pair in pairs if pair[0] != pair[1]]
    print(f"{len(different)} of {len(pairs)} answers read differently: {different}")
    assert len(different) < len(pairs) / 100, "texts that were cut before their answer, and a few odd wordings"
    assert all(ours is None for ours, _, _ in different), "never another option"
