"""The called agents of a picture: what they say, and where they fall silent until the picture has been taken."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from tests.support.answering import Agents, always, phase_of

PANEL = ("one", "two", "three")
PUSHED = "doer"
#: The first two refuse every call, so that the others take their places.
DUEL = ("broken-1", "broken-2", "spare-1", "spare-2")
OPTIONS = ("Postgres", "Redis")
_ANSWERS = {"two": "Redis"}

#: Questions that stop: the phase in which they stop, and who never answers there.
STOP_REASONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Stopped at the first answers?": ("PROPOSE", ("one",)),
    "Stopped at the revisions?": ("REVISE", ("one", "three")),
    "Stopped at the vote?": ("VOTE", ("two",)),
    "Stopped at the judge?": ("JUDGE", ("three",)),
    "Stopped after a replacement?": ("PROPOSE", ("spare-2",)),
}
BATCH_ITEMS, BATCH_ENDS, BATCH_AT_ONCE = 7, 2, 3


def batch_question(number: int) -> str:
    return f"Question {number:02} of the batch?"


def _is_silent(agent: str, body: Mapping[str, Any]) -> bool:
    if agent == PUSHED:
        return True
    asked = str(body["messages"])
    if any(batch_question(number) in asked for number in range(BATCH_ENDS, BATCH_ITEMS)):
        return agent == "three"
    return any(
        question in asked and phase_of(dict(body)) == phase and agent in agents
        for question, (phase, agents) in STOP_REASONS.items()
    )


def _say(agent: str, body: dict[str, Any]) -> Any:
    if agent == PUSHED:
        return "done"
    return (400, "broken") if agent.startswith("broken") else always(_ANSWERS.get(agent, "Postgres"))(agent, body)


@contextlib.asynccontextmanager
async def crew(*, talks: bool) -> AsyncIterator[Agents]:
    """Real HTTP servers. ``talks``: nobody falls silent any more."""

    def answering(agent: str, body: dict[str, Any]) -> Any:
        return None if not talks and _is_silent(agent, body) else _say(agent, body)

    async with Agents().running() as agents:
        agents.answering = dict.fromkeys((*PANEL, *DUEL, PUSHED), answering)
        yield agents
