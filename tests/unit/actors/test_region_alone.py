"""A region alone: no process of it loads what several regions need; and with peers none starts yet."""

from __future__ import annotations

import subprocess
import sys

import pytest

from actors.composition.resources import load_process_settings
from cluster.embedded.layout import EmbeddedError
from cluster.embedded.safety import check_alone
from cluster.region_settings import NOT_YET_WITH_PEERS
from cluster.settings import Settings
from tests.support.docs import ROOT
from tests.support.system import clean_environment
from tests.unit.test_region_settings import THREE

PROGRAM = """
import importlib, sys
from actors.composition import making
for module in making._MAKERS.values():
    importlib.import_module(f"actors.composition.{module}")
import serve_app.application
print(*sorted(name for name in sys.modules if name.partition(".")[0] == "regions"))
"""


def test_no_actor_and_no_replica_loads_the_rooms_of_several_regions() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == []


def test_with_peers_nothing_starts_that_would_not_wait_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in THREE.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RuntimeError, match="do not wait for other regions"):
        load_process_settings()
    with pytest.raises(EmbeddedError) as refused:
        check_alone(Settings(region_peers=("west=h:1",)))
    assert refused.value.message == NOT_YET_WITH_PEERS
    check_alone(Settings())
