"""Whom each effort would have asked about recorded questions: what its confidence is calibrated on, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cluster.domain.consensus.effort import Asker, Effort, asking_order
from cluster.domain.consensus.outcomes import Floats, Ints, VoteTable
from cluster.domain.consensus.precedents import Precedents, lettered
from cluster.domain.consensus.waves import next_wave

Flags = NDArray[np.bool_]


class Next(Protocol):
    """Says whom to ask after these answers in so many waves; ``itself`` is as for `Asker.next`."""

    def __call__(self, answers: Mapping[str, str | None], waves: int, *, itself: int = -1) -> tuple[str, ...]: ...


def asked_by_effort(
    table: VoteTable,
    agents: Sequence[str],
    weights: Floats,
    order: Sequence[str],
    precedents: Precedents | None,
    kind: str | None,
    itself: Ints | None = None,
) -> dict[str, tuple[Flags, Ints]]:
    """By effort: (``[n, a]``: whether agent a is asked about question n, ``[n]``: in how many waves). ``weights`` are those of
    the rule that decides, ``order`` has the agents with the best record first. ``itself``: the place of each question in the
    precedents, if they were made of these questions: each is asked as if it had not been among them."""
    counted = {agent: float(weight) for agent, weight in zip(agents, weights, strict=True)}
    thens = {effort: next_by_effort(effort, counted, order, precedents, kind) for effort in Effort}
    apart = {effort: None if effort is Effort.ALL else itself for effort in Effort}
    return {e.value: _asked(table, agents, then, apart[e]) for e, then in thens.items() if then is not None}


def next_by_effort(
    effort: Effort, weights: Mapping[str, float], order: Sequence[str], precedents: Precedents | None, kind: str | None
) -> Next | None:
    """None if nothing was learned to choose by."""

    def everybody(answers: Mapping[str, str | None], waves: int, *, itself: int = -1) -> tuple[str, ...]:
        return next_wave(order=order, answers=answers, weights=weights, waves=waves, agree_k=0)

    if effort is Effort.ALL:
        return everybody
    return None if precedents is None else Asker(precedents, asking_order(weights, order), weights, kind, effort).next


def _asked(table: VoteTable, agents: Sequence[str], then: Next, itself: Ints | None) -> tuple[Flags, Ints]:
    """Who is asked depends on who agrees, not on what is answered, so each pattern of answers is gone through once."""
    places = [-1] * len(table.right) if itself is None else itself.tolist()
    index_of = {agent: index for index, agent in enumerate(agents)}
    known: dict[tuple[tuple[int, ...], int], tuple[list[int], int]] = {}
    counted = np.zeros(len(table.right), dtype=np.int64)
    asked = np.zeros(table.votes.shape, dtype=bool)
    for row, (votes, place) in enumerate(zip(table.votes.tolist(), places, strict=True)):
        pattern = lettered([None if vote < 0 else vote for vote in votes])
        key = pattern, place
        if key not in known:
            answers: dict[str, str | None] = {}
            waves = 0
            while wave := then(answers, waves, itself=place):
                for agent in wave:
                    letter = pattern[index_of[agent]]
                    answers[agent] = str(letter) if letter >= 0 else None
                waves += 1
            known[key] = [index_of[agent] for agent in answers], waves
        who, counted[row] = known[key]
        asked[row, who] = True
    return asked, counted
