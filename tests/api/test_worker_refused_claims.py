"""A worker whose claims are refused: for good, which ends it, or for now."""

from __future__ import annotations

import asyncio

import pytest

from cluster.domain.base.errors import CallerError
from tests.api.test_worker import ended, running, submit
from tests.api.test_worker_faults import behind, counting
from tests.support.api import Api
from tests.support.odd_proxy import CLAIM, Odd, OddProxy, own
from tests.support.probes import eventually

#: Task types that no claim may have, and a word of the sentence about them.
NO_TYPES = {
    "a control character": (["\x01"], "task_types"),
    "one of two": (["echo", "\x01"], "task_types"),
    "space": ([" "], "task_types"),
    "nothing": ([""], "task_types"),
    "no letter that is seen": (["\u200b"], "task_types"),
    "NUL": (["a\x00b"], "task_types"),
    "half a character": (["\udcff"], "half a character"),
    "too long": (["x" * 300], "task_types"),
    "too many": ([f"t{number}" for number in range(1000)], "task_types"),
}


@pytest.mark.parametrize("name", NO_TYPES)
async def test_task_types_that_no_claim_may_have_end_the_worker(api: Api, name: str) -> None:
    types, words = NO_TYPES[name]
    async with OddProxy(api.url, lambda call, number: None).running() as proxy:
        worker = behind(proxy)
        worker.handles(*types)(lambda job: None)
        with pytest.raises(CallerError, match=words):
            await asyncio.wait_for(worker.run(), 10)
        assert proxy.counts[CLAIM] <= 1, "a claim that was refused for good is not made again"


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_claim_that_is_wrong_ends_the_worker_with_its_sentence(api: Api, status: int) -> None:
    refused = Odd("refused", own(status, "invalid_request"))
    async with OddProxy(api.url, lambda call, number: refused if call == CLAIM else None).running() as proxy:
        worker = behind(proxy)
        counting(worker)
        with pytest.raises(CallerError, match="Our own invalid_request"):
            await asyncio.wait_for(worker.run(), 10)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "workspace_suspended"),
        (404, "not_found"),
        (409, "superseded"),
        (409, "conflict"),
        (429, "rate_limited"),
        (500, "internal_error"),
        (503, "unavailable"),
    ],
)
async def test_a_claim_that_is_refused_for_now_is_made_again(api: Api, status: int, code: str) -> None:
    refused = Odd("refused", own(status, code))
    async with OddProxy(
        api.url, lambda call, number: refused if call == CLAIM and number <= 2 else None
    ).running() as proxy:
        worker = behind(proxy)
        runs = counting(worker)
        task_id = await submit(api, "later")
        async with running(worker):
            assert (await ended(api, task_id))["result"] == {"said": "later"}
            await eventually(lambda: proxy.counts[CLAIM] > 2)
        assert runs[task_id] == 1
