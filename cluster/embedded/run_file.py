"""``run.json``: by it every other command finds the system that ``up`` started, and ``up`` ends what a crash has left."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cluster.embedded.layout import EmbeddedError, Layout
from cluster.embedded.processes import ProcessId
from cluster.embedded.secrets import write_private


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFile:
    """The content of ``run.json``. ``processes`` are by name (up, postgres, redis, ray, model); Ray's is its session's leader.
    ``logs`` is the directory of this run's logs. ``ray_token_path`` is empty if no token of Ray is known."""

    api_url: str
    docs_url: str
    metrics_url: str
    dashboard_url: str
    ray_address: str
    ray_token_path: str
    processes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    logs: str = ""
    #: By it alone commands of this machine know the API; empty without TLS.
    certificate: str = ""

    def process(self, name: str) -> ProcessId | None:
        """A process by its name; None if the system has no such process."""
        return ProcessId.from_json(self.processes[name]) if name in self.processes else None

    def write(self, layout: Layout) -> None:
        """Writes the file."""
        write_private(layout.run_file, json.dumps(asdict(self), indent=2))


def read_run_file(layout: Layout) -> RunFile | None:
    """The content of the file; None if there is no file. Raises: `EmbeddedError` if it is damaged."""
    try:
        return RunFile(**json.loads(layout.run_file.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise EmbeddedError(
            f"{layout.run_file} is damaged ({error}); run `aragora-cp down`, then remove it."
        ) from error


@contextmanager
def only_one(layout: Layout) -> Iterator[None]:
    """Holds the data directory's lock while ``up`` runs. Raises: `EmbeddedError`, with the URL of the system that runs, if
    another ``up`` holds it."""
    descriptor = os.open(layout.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            running = read_run_file(layout)
            where = f" at {running.api_url}" if running is not None else ""
            raise EmbeddedError(
                f"A control plane already runs on {layout.data_dir}{where}; stop it with `aragora-cp down`."
            ) from None
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether an ``up`` holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
