"""Three regions with the real API and actors: nothing leaves the primary before it is replicated, and its loss loses nothing."""

from __future__ import annotations

import pytest

from tests.support.etcd import needs_etcd
from tests.support.probes import eventually
from tests.support.region_clients import Clients, History
from tests.support.region_mutants import ACKNOWLEDGE_EARLY, MUTANT
from tests.support.region_processes import NAMES, WHOLE, region_bench

pytestmark = [needs_etcd, pytest.mark.slow, pytest.mark.longer]
#: No member leaves the in-sync set while it is frozen, and no primary is replaced because the machine is busy.
CALM = {
    "ARAGORA_LEADER_ELECTION_TIMEOUT": "4",
    "ARAGORA_STALE_LEADER_THRESHOLD": "30",
    "ARAGORA_SYNC_INTERVAL": "20",
}


async def _killed_while_nobody_follows(**changes: str) -> tuple[History, list[str]]:
    """What clients were told, and what is wrong with it at the region that takes over."""
    async with region_bench(WHOLE, **CALM, **changes) as bench:
        first = await bench.primary()
        others = [name for name in NAMES if name != first]
        async with Clients(list(bench.regions.values())) as clients:
            history = clients.history
            await eventually(lambda: clients.answered > 5 and len(history.completed) > 1, 60.0, "clients are served")
            for name in others:
                bench.regions[name].freeze()
            before = clients.answered
            await eventually(
                lambda: history.refused["not_replicated"] > 2 or clients.answered > before + 10, 60.0, "nobody follows"
            )
            bench.regions[first].kill()
            for name in others:
                bench.regions[name].freeze(go_on=True)
            second = await bench.primary(others)
            after, done = clients.answered, len(history.completed)
            await eventually(lambda: clients.answered > after + 5, 60.0, "submits are answered")
            if not changes:  # an agent whose answered completion was lost has the task still, and gets no other
                await eventually(lambda: len(history.completed) > done + 2, 60.0, "tasks are completed")
                await clients.repeat_all()
        return history, await history.problems(bench.regions[second])


async def test_what_was_answered_is_at_the_next_primary() -> None:
    history, problems = await _killed_while_nobody_follows()
    assert problems == []
    assert history.refused["not_primary"] > 0


async def test_the_check_finds_answers_that_leave_early() -> None:
    _, problems = await _killed_while_nobody_follows(**{MUTANT: ACKNOWLEDGE_EARLY})
    assert any(problem.startswith("acknowledged and lost") for problem in problems)
