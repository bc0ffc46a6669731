"""The Pythons of this machine that workers may run on, and environments with the worker's package and little else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.support.docs import ROOT

VERSIONS = ("3.10", "3.11", "3.12", "3.13")
WORKER = ROOT / "clients" / "python"
_SAYS_ITS_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"


def python(version: str) -> Path | None:
    """The interpreter of a version: on the path, or of pyenv. None if this machine has none."""
    of_pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    on_path = shutil.which(f"python{version}")
    for candidate in [*([Path(on_path)] if on_path else []), *sorted(of_pyenv.glob(f"{version}.*/bin/python"))]:
        ran = subprocess.run([candidate, "-c", _SAYS_ITS_VERSION], capture_output=True, text=True, timeout=30)
        if ran.stdout.strip() == version:
            return candidate
    return None


def installed_for(interpreter: Path, directory: Path, *others: str) -> Path:
    """Makes an environment with the worker's package and others as pip installs them; returns its interpreter."""
    uv = Path(sys.executable).with_name("uv")
    made = directory / "bin" / "python"
    for command in (
        [uv, "venv", "--quiet", "--python", interpreter, directory],
        [uv, "pip", "install", "--quiet", "--python", made, "--compile-bytecode", WORKER, *others],
    ):
        subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    return made


def light_path(directory: Path) -> int:
    """Copies the worker's package, and what it needs by its own metadata, from the environment of this process. An interpreter
    that runs with ``-S`` and this directory as PYTHONPATH finds nothing else. Returns the number of bytes."""
    copied = 0
    for name in _needed("aragora-worker", set()):
        if name == "aragora-worker":
            shutil.copytree(
                WORKER / "aragora_worker", directory / "aragora_worker", ignore=shutil.ignore_patterns("*.pyc")
            )
            continue
        for file in distribution(name).files or ():
            if file.parts[0] != ".." and file.suffix != ".pyc":
                target = directory / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), target)
    copied += sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    return copied


def _needed(name: str, seen: set[str]) -> Iterator[str]:
    if name in seen:
        return
    seen.add(name)
    yield name
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield from _needed(requirement.name, seen)
