"""Recorded answers as read from files: questions, panels, and the split that keeps fitting and judging apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.consensus.outcomes import Outcome

#: A question is for calibration if the first byte of the hash of its id is below this (a fifth of them), else for the test.
CALIBRATION_BELOW = 51
MALFORMED, ABSENT = "-", "."
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredQuestion:
    """A question with its right answer and what each agent of the file answered: its option, None for an answer without
    one. ``complete``: every agent of the file was asked. ``kind``: what kind of question it is, if the file says."""

    id: str
    votes: Mapping[str, str | None]
    right: str
    options: tuple[str, ...]
    complete: bool = True
    kind: str | None = None

    def outcome(self, agents: Sequence[str], *, by_kind: bool = False) -> Outcome:
        votes = {agent: self.votes[agent] for agent in agents}
        return Outcome(votes=votes, right=self.right, options=self.options, kind=self.kind if by_kind else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    name: str
    agents: tuple[str, ...]


def is_calibration(question_id: str) -> bool:
    return hashlib.sha256(question_id.encode()).digest()[0] < CALIBRATION_BELOW


def read_votes(lines: Iterable[str]) -> list[AnsweredQuestion]:
    """Reads the format of votes: a header with ``models``, then one question a line. Raises: ``InvalidRequest``, which
    names the line, if a line is not of this format."""
    models: list[str] | None = None
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        value = _object(line, number)
        if models is None:
            models = _models(value, number)
            continue
        try:
            found.append(_question(value, models))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InvalidRequest(
                f"Line {number} is not a question with q, n, g and one letter per model in a ({error}).",
                "invalid_votes",
            ) from None
    if models is None:
        raise InvalidRequest(
            "The file of votes is empty; begin it with a header that lists the models.", "invalid_votes"
        )
    return found


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidRequest(f"Line {number} is not a JSON object.", "invalid_votes")
    return value


def _models(value: Mapping[str, Any], number: int) -> list[str]:
    models = value.get("models")
    if not isinstance(models, list) or not models or not all(isinstance(model, str) for model in models):
        raise InvalidRequest(f"Line {number} must be a header that lists the models.", "invalid_votes")
    if len(set(models)) != len(models):
        raise InvalidRequest("The header must name each model only once.", "invalid_votes")
    return models


def _question(value: Mapping[str, Any], models: Sequence[str]) -> AnsweredQuestion:
    letters, count, right = str(value["a"]), int(value["n"]), str(value["g"])
    options = tuple(_LETTERS[:count])
    if len(letters) != len(models):
        raise ValueError(f"{len(letters)} answers of {len(models)} models")
    if right not in options:
        raise ValueError(f"the right answer {right!r} is not an option")
    votes = {
        model: None if letter in (MALFORMED, ABSENT) else letter for model, letter in zip(models, letters, strict=True)
    }
    return AnsweredQuestion(
        id=str(value["q"]),
        votes=votes,
        right=right,
        options=options,
        complete=ABSENT not in letters,
        kind=_kind(value.get("c")),
    )


def _kind(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError("c must be a text, the kind of the question")
    return value or None


def read_panels(text: str) -> list[Panel]:
    """Reads ``{"rows": [{"panel", "agents"}, ...]}`` as in a reference table, or ``{"name": [agents]}``. Raises:
    ``InvalidRequest`` if the text is neither."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRequest("The file of panels must be JSON.", "invalid_panels") from None
    pairs: list[tuple[Any, Any]] = []
    if isinstance(value, dict) and isinstance(value.get("rows"), list):
        pairs = [(row.get("panel"), row.get("agents")) for row in value["rows"] if isinstance(row, dict)]
    elif isinstance(value, dict):
        pairs = list(value.items())
    if not pairs:
        raise InvalidRequest("The file of panels must name at least one panel.", "invalid_panels")
    return [_panel(name, agents) for name, agents in pairs]


def _panel(name: Any, agents: Any) -> Panel:
    fits = isinstance(name, str) and isinstance(agents, list) and len(agents) > 0
    if not fits or not all(isinstance(agent, str) for agent in agents) or len(set(agents)) != len(agents):
        raise InvalidRequest(f"Panel {name!r} must have a name and a list of distinct agents.", "invalid_panels")
    return Panel(name=name, agents=tuple(agents))


def split(questions: Iterable[AnsweredQuestion]) -> tuple[list[AnsweredQuestion], list[AnsweredQuestion]]:
    """(calibration questions, test questions). Questions that some agent of the file was not asked are in neither."""
    complete = [question for question in questions if question.complete]
    return (
        [question for question in complete if is_calibration(question.id)],
        [question for question in complete if not is_calibration(question.id)],
    )


def check_panel(panel: Panel, known: Iterable[str]) -> None:
    """Raises: ``InvalidRequest`` if an agent of the panel is not ``known``."""
    strangers = sorted(set(panel.agents) - set(known))
    if strangers:
        raise InvalidRequest(f"Panel {panel.name} names {strangers[0]!r}, which has no answers.", "unknown_agent")
