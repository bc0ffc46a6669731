from __future__ import annotations

import pytest

from cluster.domain.replication.timers import RegionTimers


def test_the_timers_of_the_guide_fit() -> None:
    assert RegionTimers(election_s=10.0, stale_s=60.0, sync_s=5.0).problems() == []


@pytest.mark.parametrize(
    ("timers", "named"),
    [
        (RegionTimers(heartbeat_s=10.0, election_s=10.0), "heartbeat"),
        (RegionTimers(election_s=60.0, stale_s=60.0), "ARAGORA_STALE_LEADER_THRESHOLD"),
        (RegionTimers(heartbeat_s=0.5, election_s=1.0, margin_s=0.1), "shortest lease"),
        (RegionTimers(election_s=3.0, margin_s=2.0), "margin"),
        (RegionTimers(sync_s=0.0), "ARAGORA_SYNC_INTERVAL"),
    ],
)
def test_each_contradiction_is_one_sentence(timers: RegionTimers, named: str) -> None:
    (problem,) = timers.problems()
    assert named in problem


def test_trust_ends_a_margin_before_the_lease_that_the_renewal_began() -> None:
    assert RegionTimers(margin_s=1.0).trusted_until(started=100.0, ttl_s=10.0) == 109.0
