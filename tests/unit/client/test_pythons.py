"""The tests of the worker's package on each Python that it is for. Which of them this machine has, the outcomes say."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.docs import ROOT
from tests.support.pythons import VERSIONS, WORKER, installed_for, python
from tests.support.system import clean_environment

#: Of this room, those that need nothing of the control plane.
TESTS = [
    f"tests/unit/client/test_{name}.py"
    for name in (
        *("api", "children", "client_settings", "command", "job_progress", "jobs"),
        *("options", "outage", "repeating", "reports", "sending", "tasks"),
    )
]
NEEDS = ("pytest", "pytest-asyncio", "pytest-timeout", "hypothesis", "psutil")


@pytest.mark.longer
@pytest.mark.parametrize("version", VERSIONS)
def test_the_package_works_on_this_python(version: str, tmp_path: Path) -> None:
    interpreter = python(version)
    if interpreter is None:
        pytest.skip(f"this machine has no Python {version}")
    made = installed_for(interpreter, tmp_path / "env", *NEEDS)
    options = ["-q", "--noconftest", "-p", "no:cacheprovider", "-c", WORKER / "pyproject.toml", "--rootdir", ROOT]
    ran = subprocess.run(
        [made, "-m", "pytest", *options, *TESTS],
        cwd=ROOT,
        env=clean_environment(PYTHONPATH=str(ROOT), PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
