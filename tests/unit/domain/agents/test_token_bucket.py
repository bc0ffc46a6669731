"""How often an agent is called."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.agents.options import Rate
from cluster.domain.agents.token_bucket import TokenBucket, take


@given(st.lists(st.floats(0, 30), min_size=1, max_size=60), st.integers(1, 600), st.integers(1, 10))
def test_a_rate_is_never_exceeded_over_any_span(gaps: list[float], per_minute: int, burst: int) -> None:
    bucket = TokenBucket.of(Rate(per_minute=per_minute, burst=burst), 0.0)
    now, used = 0.0, []
    for gap in gaps:
        now += gap
        bucket, wait_s = take(bucket, now)
        used.append(now + wait_s)
    for first in range(len(used)):
        for last in range(first, len(used)):
            allowed = burst + (used[last] - used[first]) * per_minute / 60
            assert last - first + 1 <= allowed + 1e-6
