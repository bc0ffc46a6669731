"""Calls drawn from the OpenAPI document, with every role: no 5xx, no undocumented answer, nothing of another workspace.

The fixture of each test fails if an answer is not as the document says. `make fuzz` makes more calls.
"""

from __future__ import annotations

from collections import Counter

from tests.support.fuzzing import FOREIGN_WORDS, DrawnCall, Fuzzer, faults_of, fuzz, fuzzing_ground
from tests.support.stores import StoreUrls

SEED, CALLS = 16, 156


async def test_drawn_calls_of_every_role_find_no_fault(store_urls: StoreUrls) -> None:
    async with fuzzing_ground(store_urls) as ground:
        assert await fuzz(ground, SEED, CALLS) == []
        again = Fuzzer(ground, SEED)
        drawn = [again.draw(number) for number in range(CALLS)]
        assert min(Counter(call.role for call in drawn).values()) > CALLS / 20
        asked = {call.path for call in drawn if any(id in call.path for id in ground.foreign)}
        assert len(asked) > 5


async def test_the_search_for_foreign_words_finds_them(store_urls: StoreUrls) -> None:
    async with fuzzing_ground(store_urls) as ground:
        ground.keys["operator"] = await ground.door.key("operator", workspace="foreign")
        call = DrawnCall("operator", "GET", "/api/control-plane/tasks", [], None, False)
        assert any(FOREIGN_WORDS in fault for fault in await faults_of(ground, call))
