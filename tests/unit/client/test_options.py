"""Options that no worker can have are refused before it begins."""

from __future__ import annotations

import math
from typing import Any

import pytest

from aragora_worker.base.bounds import MAX_CONCURRENCY
from aragora_worker.base.errors import InvalidRequest
from aragora_worker.worker import Worker

NO_COUNTS: list[Any] = [0, -1, 1.5, math.nan, math.inf, True, "4", None]
NO_TIMES: list[Any] = [-1, -0.001, math.nan, math.inf, -math.inf, True, "4", None]
CASES = [
    *[("concurrency", value) for value in [*NO_COUNTS, MAX_CONCURRENCY + 1, 10**30]],
    *[("batch", value) for value in NO_COUNTS],
    *[("drain_s", value) for value in NO_TIMES],
    *[("heartbeat_s", value) for value in [0, 0.0, *NO_TIMES]],
]


@pytest.mark.parametrize(("name", "value"), CASES)
def test_a_number_that_no_worker_can_have_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=rf"^{name} of a worker must be .*; change it\.$"):
        Worker("w1", **{name: value})


def test_numbers_at_the_bounds_are_taken() -> None:
    Worker("w1", concurrency=1, batch=1, drain_s=0, heartbeat_s=0.01)
    Worker("w" * 128, concurrency=MAX_CONCURRENCY, batch=10**9)


@pytest.mark.parametrize("agent_id", ["a b", "-a", "a" * 129, "claim", "é", "a\n", 7])
def test_an_id_that_no_agent_can_have_is_refused(agent_id: Any) -> None:
    with pytest.raises(InvalidRequest, match="agent_id must"):
        Worker(agent_id)


@pytest.mark.parametrize("handler", [math, 7, "f", None, {}], ids=lambda handler: type(handler).__name__)
def test_a_handler_that_cannot_be_called_is_refused(handler: Any) -> None:
    with pytest.raises(InvalidRequest, match=type(handler).__name__):
        Worker("w1").handles("x")(handler)
