"""Whom each effort would have asked about recorded questions: what its confidence is calibrated on, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cluster.domain.consensus.effort import Asker, Effort, asking_order
from cluster.domain.consensus.outcomes import Floats, Ints, VoteTable
from cluster.domain.consensus.precedents import Precedents, lettered
from cluster.domain.consensus.waves import next_wave

Flags = NDArray[np.bool_]
Next = Callable[[Mapping[str, str | None], int], tuple[str, ...]]


def asked_by_effort(
    table: VoteTable,
    agents: Sequence[str],
    weights: Floats,
    order: Sequence[str],
    precedents: Precedents | None,
    kind: str | None,
) -> dict[str, tuple[Flags, Ints]]:
    """By effort: (``[n, a]``: whether agent a is asked about question n, ``[n]``: in how many waves). ``weights`` are those of
    the rule that decides, ``order`` has the agents with the best record first."""
    counted = {agent: float(weight) for agent, weight in zip(agents, weights, strict=True)}
    thens = {effort: next_by_effort(effort, counted, order, precedents, kind) for effort in Effort}
    return {effort.value: _asked(table, agents, then) for effort, then in thens.items() if then is not None}


def next_by_effort(
    effort: Effort, weights: Mapping[str, float], order: Sequence[str], precedents: Precedents | None, kind: str | None
) -> Next | None:
    """Says whom to ask after these answers in so many waves; None if nothing was learned to choose by."""
    if effort is Effort.ALL:
        return lambda answers, waves: next_wave(order=order, answers=answers, weights=weights, waves=waves, agree_k=0)
    return None if precedents is None else Asker(precedents, asking_order(weights, order), weights, kind, effort).next


def _asked(table: VoteTable, agents: Sequence[str], then: Next) -> tuple[Flags, Ints]:
    """Who is asked depends on who agrees, not on what is answered, so each pattern of answers is gone through once."""
    index_of = {agent: index for index, agent in enumerate(agents)}
    known: dict[tuple[int, ...], tuple[list[int], int]] = {}
    counted = np.zeros(len(table.right), dtype=np.int64)
    asked = np.zeros(table.votes.shape, dtype=bool)
    for row, votes in enumerate(table.votes.tolist()):
        pattern = lettered([None if vote < 0 else vote for vote in votes])
        if pattern not in known:
            answers: dict[str, str | None] = {}
            waves = 0
            while wave := then(answers, waves):
                for agent in wave:
                    letter = pattern[index_of[agent]]
                    answers[agent] = str(letter) if letter >= 0 else None
                waves += 1
            known[pattern] = [index_of[agent] for agent in answers], waves
        who, counted[row] = known[pattern]
        asked[row, who] = True
    return asked, counted
