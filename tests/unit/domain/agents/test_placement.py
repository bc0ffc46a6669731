"""Which host owns an agent."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from cluster.domain.agents.agent import Dedicated
from cluster.domain.agents.placement import is_owner, owner_host, watched_host
from tests.support.samples import an_agent

AGENTS = [f"a{i}" for i in range(2000)]


def test_agents_are_spread_evenly_and_only_those_of_a_lost_host_move() -> None:
    before = {name: owner_host("w", name, [0, 1, 2, 3]) for name in AGENTS}
    shares = Counter(before.values())
    assert all(400 <= share <= 600 for share in shares.values()), shares
    after = {name: owner_host("w", name, [0, 1, 3]) for name in AGENTS}
    assert {name for name in AGENTS if before[name] != after[name]} == {n for n in AGENTS if before[n] == 2}
    assert owner_host("w", "a", []) is None


def test_each_agent_has_one_owner_or_an_actor_to_itself() -> None:
    agents = [an_agent(name, workspace="w") for name in AGENTS[:50]]
    for agent in agents:
        assert sum(is_owner(agent, index=index, alone=None, alive=[0, 1, 2]) for index in (0, 1, 2)) == 1
        assert not is_owner(agent, index=0, alone=("w", agent.agent_id), alive=[0])
    alone = replace(agents[0], dedicated=Dedicated())
    assert not any(is_owner(alone, index=index, alone=None, alive=[0, 1, 2]) for index in (0, 1, 2))
    assert is_owner(alone, index=0, alone=("w", "a0"), alive=[])
    assert not is_owner(alone, index=0, alone=("w", "a1"), alive=[])
    assert not is_owner(alone, index=0, alone=("v", "a0"), alive=[])


@pytest.mark.parametrize(
    ("owner", "held", "watched"),
    [
        ("p1", {"p0": 0, "p1": 1, "p2": 2}, (2, "p2")),
        ("p2", {"p0": 0, "p1": 1, "p2": 2}, (0, "p0")),
        ("p0", {"p0": 0, "p3": 3}, (3, "p3")),
        ("p0", {"p0": 0, "twin": 0}, None),  # an earlier process of the same host: Ray ends it
        ("p0", {"p0": 0}, None),
        ("stranger", {"p0": 0, "p1": 1}, None),
    ],
)
def test_a_host_watches_the_next_one(owner: str, held: dict[str, int], watched: tuple[int, str] | None) -> None:
    assert watched_host(owner, held) == watched
