"""A region alone: no process of it loads what several regions need. One of several loads it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from actors.composition.resources import load_process_settings
from tests.support.docs import ROOT
from tests.support.system import clean_environment
from tests.unit.test_region_settings import THREE

PROGRAM = """
import importlib, sys
from actors.composition import making
for module in making._MAKERS.values():
    importlib.import_module(f"actors.composition.{module}")
import serve_app.replica
for name in sorted(sys.modules):
    several = ("cluster.log.replication_gate", "cluster.postgres.replication_statuses", "serve_app.http.replicated")
    if name.partition(".")[0] == "regions" or name in (*several, "actors.primary_only", "actors.region_member"):
        print(name)
"""


def test_no_actor_and_no_replica_loads_what_several_regions_need() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == []


def test_the_zone_of_a_region_alone_is_the_region(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ARAGORA_DATABASE_URL", "ARAGORA_REDIS_URL"):
        monkeypatch.setenv(name, "redis://h/0" if "REDIS" in name else "postgresql://h/d")
    monkeypatch.setenv("ARAGORA_REGION", "us-east-1")
    assert load_process_settings().zone == "us-east-1"
    for name, value in THREE.items():
        monkeypatch.setenv(name, value)
    assert load_process_settings().zone == "default"
