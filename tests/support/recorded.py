"""Recorded answers of four agents, as the evaluation reads them."""

from __future__ import annotations

import json
import random
from pathlib import Path

AGENTS = ("good", "fair", "poor", "odd")
ACCURACY = (0.8, 0.6, 0.5, 0.3)


def _answers(count: int) -> list[tuple[str, str]]:
    """(right option, one letter per agent)"""
    rng = random.Random(4)
    found = []
    for _ in range(count):
        right = rng.choice("ABCD")
        wrong = [option for option in "ABCD" if option != right]
        letters = [right if rng.random() < share else rng.choice([*wrong, "-"]) for share in ACCURACY]
        found.append((right, "".join(letters)))
    return found


def write_recorded(folder: Path) -> None:
    """The files of votes, panels and replay that ``aragora-cp evaluate`` reads."""
    answers = _answers(400)
    votes = [json.dumps({"kind": "header", "models": AGENTS})]
    votes += [json.dumps({"q": q, "n": 4, "g": right, "a": a}) for q, (right, a) in enumerate(answers)]
    (folder / "votes.jsonl").write_text("\n".join(votes))
    (folder / "panels.json").write_text(json.dumps({"ALL": AGENTS, "PAIR": AGENTS[:2]}))
    replay = []
    for q, (right, letters) in enumerate(answers[:60]):
        texts = {
            agent: {
                "text": "I cannot say." if letter == "-" else f"Thinking. The answer is ({letter}).",
                "answer": None,
            }
            for agent, letter in zip(AGENTS, letters, strict=True)
        }
        options = [f"option {i}" for i in range(4)]
        replay.append(json.dumps({"qid": q, "question": f"Q{q}?", "options": options, "gold": right, "agents": texts}))
    (folder / "replay.jsonl").write_text("\n".join(replay))
