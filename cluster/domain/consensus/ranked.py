"""Borda and Schulze over weak orders: an option that a ballot does not name ties for last on it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import permutations
from typing import TypeAlias

from cluster.domain.consensus.ballots import Ballot

Pairwise: TypeAlias = dict[str, dict[str, float]]


def ranks(ballot: Ballot, options: Sequence[str]) -> dict[str, int]:
    """Option → rank of its group, 0 is best; options that the ballot leaves out share the last rank."""
    order = ballot.order()
    rank = {option: depth for depth, group in enumerate(order) for option in group}
    return {option: rank.get(option, len(order)) for option in options}


def pairwise(ballots: Iterable[tuple[Ballot, float]], options: Sequence[str]) -> Pairwise:
    """``[a][b]`` = total weight of ballots that put a strictly above b."""
    terms: dict[tuple[str, str], list[float]] = {pair: [] for pair in permutations(options, 2)}
    for ballot, weight in ballots:
        rank = ranks(ballot, options)
        for (a, b), collected in terms.items():
            if rank[a] < rank[b]:
                collected.append(weight)
    return {a: {b: math.fsum(terms[a, b]) for b in options if b != a} for a in options}


def borda(ballots: Iterable[tuple[Ballot, float]], options: Sequence[str]) -> dict[str, float]:
    """Option → its points: from each ballot one point per option below it, and half a point per equal."""
    points: dict[str, list[float]] = {option: [] for option in options}
    for ballot, weight in ballots:
        rank = ranks(ballot, options)
        for option in options:
            below = sum(rank[other] > rank[option] for other in options)
            equal = sum(rank[other] == rank[option] for other in options) - 1
            points[option].append(weight * (below + equal / 2))
    return {option: math.fsum(given) for option, given in points.items()}


def schulze_paths(preferences: Pairwise) -> Pairwise:
    """Strength of the strongest path by winning votes (Schulze 2011, Floyd-Warshall over the max-min semiring)."""
    options = list(preferences)
    strength = {
        a: {b: (won if won > preferences[b][a] else 0.0) for b, won in row.items()} for a, row in preferences.items()
    }
    for via in options:
        for a in options:
            if a == via:
                continue
            for b in options:
                if b not in (a, via):
                    strength[a][b] = max(strength[a][b], min(strength[a][via], strength[via][b]))
    return strength


def schulze_wins(preferences: Pairwise) -> dict[str, float]:
    """Option → against how many others it is at least as strong as they are against it; a winner is against all."""
    paths = schulze_paths(preferences)
    return {a: float(sum(paths[a][b] >= paths[b][a] for b in row)) for a, row in paths.items()}
