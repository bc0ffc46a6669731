"""Which host owns an agent."""

from __future__ import annotations

from collections import Counter

from cluster.domain.agents.placement import owner_host

AGENTS = [f"a{i}" for i in range(2000)]


def test_agents_are_spread_evenly_and_only_those_of_a_lost_host_move() -> None:
    before = {name: owner_host("w", name, [0, 1, 2, 3]) for name in AGENTS}
    shares = Counter(before.values())
    assert all(400 <= share <= 600 for share in shares.values()), shares
    after = {name: owner_host("w", name, [0, 1, 3]) for name in AGENTS}
    assert {name for name in AGENTS if before[name] != after[name]} == {n for n in AGENTS if before[n] == 2}
    assert owner_host("w", "a", []) is None
