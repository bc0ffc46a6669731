"""Identifiers are made of the field's words (docs/glossary.md), and names of tests and variables say what they are about.

Names on the wire and in storage are texts, which this test does not look at: they stay as they are.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docs import ROOT

ROOMS = ("actors", "clients", "cluster", "regions", "scripts", "serve_app")
MOST_WORDS = 12
#: Word of an earlier build → what is written instead.
INSTEAD = {
    "place": "order_key, QueueEntry, host_slot, index or cursor",
    "mind": "core",
    "ring": "WakeTopic, notify",
    "signs": "heartbeat, last_activity",
    "beat": "heartbeat",
    "speak": "record_activity",
    "worked": "last_activity",
    "holders": "the lease table; slot_holders",
    "let_go": "release",
    "give_back": "release",
    "lane": "SubQueue, commit_queue",
    "carrier": "owner_host",
    "carries": "owns",
    "wanted": "ClaimRequest, is_published, desired",
    "died": "on_fatal",
    "gone": "expired, replaced",
    "orphan": "late_reply",
    "patient": "long_poll",
    "aside": "set_aside",
    "came_back": "readmitted",
    "picky": "restricted",
    "fresh": "newly_ready, recent",
    "freed": "slots_freed",
    "draw_lots": "seed",
    "unseen": "unresolved",
    "resting": "unschedulable",
    "only_asked_for": "explicit_only",
    "own_claim_id": "client_claim_id",
    "standing": "QueuePosition, ProvisionalResult",
    "happening": "Event",
    "made": "plan",
    "said": "answers",
    "reach": "ActorResolver",
    "machinery": "ActorBackend",
}
#: Terms that hold one of these words and mean what the field means by them.
TERMS = ("set_aside", "slots_freed", "slot_holders", "connection_made")


def _files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def _identifiers(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg | ast.keyword) and node.arg is not None:
            yield node.arg


def _old_words(identifier: str) -> set[str]:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", identifier).lower().strip("_")
    for term in TERMS:
        snake = re.sub(rf"(?<![a-z]){term}(?![a-z])", "", snake)
    return {word for word in INSTEAD if re.search(rf"(?<![a-z]){word}s?(?![a-z])", snake)}


@pytest.mark.parametrize("room", ROOMS)
def test_identifiers_hold_no_private_word(room: str) -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name}": [f"{word}: {INSTEAD[word]}" for word in sorted(words)]
        for path in _files(room)
        for name in _identifiers(path.read_text())
        if (words := _old_words(name))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("identifier", "words"),
    [
        ("_own_places", {"place"}),
        ("PlaceOf", {"place"}),
        ("replace", set()),
        ("RingFor", {"ring"}),
        ("string", set()),
        ("_set_aside_in", set()),
        ("_put_aside", {"aside"}),
        ("GiveBackRequest", {"give_back"}),
        ("_holders", {"holders"}),
        ("holder", set()),
        ("slot_holders", set()),
        ("SignsIfThere", {"signs"}),
        ("sign", set()),
    ],
)
def test_a_private_word_is_found_in_either_spelling(identifier: str, words: set[str]) -> None:
    assert _old_words(identifier) == words


def _loop_variables(source: str) -> Iterator[tuple[int, str]]:
    """Names that a loop, a comprehension, a lambda or a signature binds, each with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            yield from ((name.lineno, name.id) for name in ast.walk(node.target) if isinstance(name, ast.Name))
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


@pytest.mark.parametrize("room", [*ROOMS, "bench", "tests"])
def test_loop_variables_and_parameters_are_nouns(room: str) -> None:
    """``one`` says nothing of what the thing is."""
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in _files(room)
        for line, name in _loop_variables(path.read_text())
        if name == "one"
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "for one in tasks: pass",
        "for _, (one, _) in tasks: pass",
        "async def f():\n async for one in tasks: pass",
        "[one for one in tasks]",
        "{one: 1 for task in tasks for one in task}",
        "lambda one: 1",
        "def f(*, one): pass",
    ],
)
def test_a_loop_variable_is_found_in_every_form(source: str) -> None:
    assert "one" in {name for _, name in _loop_variables(source)}


def _test_names(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name


def test_names_of_tests_have_at_most_a_dozen_words() -> None:
    names = [(path.relative_to(ROOT), name) for path in _files("tests") for name in _test_names(path.read_text())]
    assert len(names) > 900
    assert [f"{path}: {name}" for path, name in names if name.removeprefix("test_").count("_") >= MOST_WORDS] == []
