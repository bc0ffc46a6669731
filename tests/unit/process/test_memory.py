from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from cluster.process.memory import GC_THRESHOLD, settle_memory


@pytest.fixture
def collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.mark.usefixtures("collector")
def test_what_a_process_starts_with_is_left_out_of_collections() -> None:
    started_with = [[number] for number in range(1000)]
    settle_memory()
    frozen = gc.get_freeze_count()
    assert frozen >= len(started_with)
    assert not any(found is started_with for found in gc.get_objects())
    later: list[object] = []
    later.append(later)
    assert any(found is later for found in gc.get_objects()), "what comes later is collected"
    assert gc.get_threshold()[0] == GC_THRESHOLD
