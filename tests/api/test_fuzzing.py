"""Calls drawn from the OpenAPI document, with every role: no 5xx, no undocumented answer, nothing of another workspace.

The ground of each test fails if an answer is not as the document says. Our own draws are odd values that no schema suggests;
Schemathesis draws what fits the schema, and what just misses it. `make fuzz` makes more calls.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support.drawn_by_schema import drawn_by_schema, read_by_peers
from tests.support.fuzzing import FOREIGN_WORDS, DrawnCall, Fuzzer, faults_of, fuzz, fuzzing_ground
from tests.support.stores import StoreUrls

SEED, CALLS = 16, 156


async def test_drawn_calls_of_every_role_find_no_fault(store_urls: StoreUrls) -> None:
    async with fuzzing_ground(store_urls) as ground:
        found = await fuzz(ground, SEED, CALLS)
        assert not found, "\n".join(found)
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


async def test_calls_that_schemathesis_draws_find_no_fault_with_any_role(store_urls: StoreUrls, tmp_path: Path) -> None:
    async with fuzzing_ground(store_urls) as ground:
        options = ("--seed", str(SEED), "--max-examples", "1", "--phases", "fuzzing")
        found = await drawn_by_schema(ground, tmp_path, *options)
        assert not found, found


async def test_schemathesis_names_the_role_that_sees_or_may_too_much(store_urls: StoreUrls, tmp_path: Path) -> None:
    async with fuzzing_ground(store_urls) as ground:
        ground.keys["auditor"] = await ground.door.key("auditor", workspace="foreign")
        ground.keys["viewer"] = await ground.door.key("operator", workspace="own")
        paths = ("--include-path", "/api/control-plane/audit-logs", "--include-path", "/api/control-plane/agents")
        found = await drawn_by_schema(ground, tmp_path, "--phases", "fuzzing", "--max-examples", "3", *paths)
        assert f"it shows {ground.foreign[0]}" in found
        assert "viewer POST /agents" in found
        assert "it may not make this call" in found


@pytest.mark.longer
async def test_all_phases_of_schemathesis_find_no_fault_with_any_role(store_urls: StoreUrls, tmp_path: Path) -> None:
    async with fuzzing_ground(store_urls) as ground:
        options = (
            "--seed",
            str(SEED),
            "--max-examples",
            "10",
            "--phases",
            "coverage,fuzzing,stateful",
            "--max-time",
            "240",
        )
        found = await drawn_by_schema(ground, tmp_path, *options)
        assert not found, found


@pytest.mark.longer
async def test_no_peer_reads_what_the_other_has_made(store_urls: StoreUrls, tmp_path: Path) -> None:
    async with fuzzing_ground(store_urls) as ground:
        found = await read_by_peers(ground, tmp_path, "--seed", str(SEED), "--max-time", "60")
        assert not found, found
