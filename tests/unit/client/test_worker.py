"""What a worker says of itself in a program that has not configured its logs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.docs import ROOT
from tests.support.system import clean_environment

PROGRAM = """
import logging
import aragora_worker.worker as kit
from aragora_worker import session
%s
session.ANNOUNCE_S = 0.05
worker = kit.Worker("w1", base_url="http://127.0.0.1:1")
worker.drain()
worker.run_forever()
"""
LINES = ["worker w1 starts for the control plane at http://127.0.0.1:1", "worker w1 has ended"]


@pytest.mark.parametrize(
    ("configured", "said"),
    [("", LINES), ("logging.basicConfig(level=logging.ERROR)", [])],
    ids=["nobody listens", "errors only"],
)
def test_a_worker_says_that_it_starts_and_ends(configured: str, said: list[str]) -> None:
    command = [sys.executable, "-c", PROGRAM % configured]
    ran = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    lines = [line.partition(" INFO ")[2] for line in ran.stderr.splitlines() if " INFO " in line]
    assert lines == said, ran.stderr
