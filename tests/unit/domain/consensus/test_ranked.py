"""Borda and Schulze against definitions so literal that they are plainly right, on 1,000 random profiles."""

from __future__ import annotations

import random
from itertools import combinations, permutations
from itertools import pairwise as neighbours

import pytest

from cluster.domain.consensus.ballots import Ballot, approval, choice, ranking, scored
from cluster.domain.consensus.ranked import Pairwise, borda, pairwise, schulze_paths, schulze_wins

PROFILES = 1_000


def _above(ballot: Ballot, a: str, b: str) -> bool:
    """Strictly preferred: named before it, or named while it is not."""
    groups = ballot.order()
    place_a = next((i for i, group in enumerate(groups) if a in group), len(groups))
    place_b = next((i for i, group in enumerate(groups) if b in group), len(groups))
    return place_a < place_b


def _random_ballot(rng: random.Random, options: list[str]) -> Ballot:
    named = rng.sample(options, rng.randint(1, len(options)))
    kind = rng.randrange(4)
    if kind == 0:
        return choice(named[0])
    if kind == 1:
        return approval(*named)
    if kind == 2:
        return scored({option: float(rng.randint(0, 3)) for option in named})
    return ranking(*named)


def _profile(seed: int) -> tuple[list[tuple[Ballot, float]], list[str]]:
    rng = random.Random(seed)
    options = list("abcde"[: rng.randint(2, 5)])
    voters = rng.randint(1, 9)
    return [(_random_ballot(rng, options), float(rng.choice((1, 1, 1, 2, 0.5)))) for _ in range(voters)], options


def _brute_borda(cast: list[tuple[Ballot, float]], options: list[str]) -> dict[str, float]:
    points = dict.fromkeys(options, 0.0)
    for ballot, weight in cast:
        for a, b in combinations(options, 2):
            if _above(ballot, a, b):
                points[a] += weight
            elif _above(ballot, b, a):
                points[b] += weight
            else:
                points[a] += weight / 2
                points[b] += weight / 2
    return points


def _brute_strength(preferences: Pairwise, start: str, end: str) -> float:
    """Over every simple path: the weakest of its links; a link exists where its start beats its end."""
    between = [option for option in preferences if option not in (start, end)]
    best = 0.0
    for length in range(len(between) + 1):
        for middle in permutations(between, length):
            path = (start, *middle, end)
            links = [preferences[a][b] if preferences[a][b] > preferences[b][a] else 0.0 for a, b in neighbours(path)]
            best = max(best, min(links))
    return best


def test_borda_and_schulze_equal_brute_force() -> None:
    for seed in range(PROFILES):
        cast, options = _profile(seed)
        preferences = pairwise(cast, options)
        for a, b in permutations(options, 2):
            assert preferences[a][b] == sum(weight for ballot, weight in cast if _above(ballot, a, b)), seed
        assert borda(cast, options) == pytest.approx(_brute_borda(cast, options)), seed
        paths = schulze_paths(preferences)
        brute = {a: {b: _brute_strength(preferences, a, b) for b in options if b != a} for a in options}
        assert paths == brute, seed
        wins = schulze_wins(preferences)
        assert wins == {a: sum(brute[a][b] >= brute[b][a] for b in brute[a]) for a in options}, seed
        assert max(wins.values()) == len(options) - 1, "a Schulze winner always exists"


def test_schulze_decides_the_published_example() -> None:
    """45 voters, 5 candidates: Schulze (2011), example 1; E wins."""
    counts = {"acbed": 5, "adecb": 5, "bedac": 8, "cabed": 3, "caebd": 7, "cbade": 2, "dceba": 7, "ebadc": 8}
    cast = [(ranking(*order), float(n)) for order, n in counts.items()]
    wins = schulze_wins(pairwise(cast, list("abcde")))
    assert max(wins, key=lambda option: wins[option]) == "e"
    assert sorted(wins.values()) == [0.0, 1.0, 2.0, 3.0, 4.0]
