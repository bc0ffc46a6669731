from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.planted import planted_variables
from tests.support.system import RunningSystem

#: Longer than any socket's path may be (107 bytes), HAProxy's (97) included.
PATH_CHARS = 120


@pytest.fixture(scope="session")
def started_system() -> Iterator[RunningSystem]:
    base = tempfile.mkdtemp(prefix="aragora-e2e-")
    data_dir = Path(base) / ("d" * (PATH_CHARS - len(base) - 1))
    assert len(os.fsencode(data_dir)) == PATH_CHARS
    system = RunningSystem(data_dir, {"ARAGORA_HEARTBEAT_TIMEOUT": "10", **planted_variables()})
    try:
        system.start()
        yield system
    finally:
        system.clean_up()
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def system(started_system: RunningSystem) -> RunningSystem:
    """Healthy, whatever the test before did to it."""
    assert started_system.process is not None
    if started_system.process.poll() is not None:
        started_system.start()
    started_system.wait_healthy()
    return started_system


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
