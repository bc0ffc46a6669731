"""Ends what a run left that was killed: servers in sessions of their own, which outlive whoever started them.

One process per run hears of its end by a pipe that closes, however the run ended. After a clean end it only deletes the files
of the stores that the tests shared.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

_ROOT = Path(__file__).parents[2]


@functools.cache
def _pipe() -> IO[str]:
    """Its other end is the reaper's; children of the run do not inherit it."""
    reaper = subprocess.Popen(
        [sys.executable, "-m", "tests.support.reaper"],
        stdin=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
        start_new_session=True,  # Ctrl-C is for the run
    )
    reaper.returncode = 0  # it ends after us: keeps Popen from warning about a child that lives
    assert reaper.stdin is not None
    return reaper.stdin


def after_us_end(kind: str, value: Any) -> None:
    """``stores``: their directory. ``files``: the same, when they have ended. ``system``: the environment of an
    ``aragora-cp up``. ``session``: its leader, as ``ProcessId.to_json`` has it."""
    _pipe().write(json.dumps([kind, value]) + "\n")
    _pipe().flush()


def _end_stores(base: Path) -> None:
    from tests.support.stores import stores_in

    for store in reversed(stores_in(base)):
        store.stop()


def _end_system(environment: Mapping[str, str]) -> None:
    from tests.support.system import COMMAND

    subprocess.run([COMMAND, "down"], env=dict(environment), check=False, capture_output=True)


def _end_session(leader: Mapping[str, Any]) -> None:
    from cluster.embedded.processes import ProcessId, end, session_members

    end(session_members(ProcessId.from_json(leader)), first=signal.SIGKILL)


def _main() -> None:
    sessions: list[Any] = []
    #: What has to be ended before a folder is deleted: the stores in it, or the system with this environment.
    folders: dict[Path, Callable[[], None] | None] = {}
    for line in sys.stdin:
        kind, value = json.loads(line)
        if kind == "session":
            sessions.append(value)
        elif kind == "system":
            folders[Path(value["ARAGORA_DATA_DIR"])] = functools.partial(_end_system, value)
        else:
            folders[Path(value)] = functools.partial(_end_stores, Path(value)) if kind == "stores" else None
    for leader in sessions:
        if os.path.exists(f"/proc/{leader['pid']}"):
            _end_session(leader)
    left = [folder for folder in reversed(folders) if folder.exists()]
    for folder in left:
        end = folders[folder]
        if end is not None:
            end()
    # Whoever reads the output of the run does not wait for the deletion.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _main()
