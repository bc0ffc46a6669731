"""The API and the actors of one machine's system in one process, in the place of a Ray cluster (`serve_app.one_process`)."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx

from cluster.embedded.local_http import local_client
from cluster.embedded.processes import ProcessId, end, session_members, spawn
from cluster.embedded.readiness import Readiness

MODULE = "serve_app.one_process"


@dataclass(slots=True, kw_only=True)
class OneProcess:
    """``url``: of its API; ``config_file``: the settings that it reads."""

    url: str
    config_file: Path
    log: Path
    process: ProcessId | None = None

    def begin(self) -> ProcessId:
        """Starts a process, and does not wait until it answers."""
        environment = {**os.environ, "ARAGORA_CONFIG_FILE": str(self.config_file)}  # noqa: TID251 - a child inherits it
        self.process = spawn([sys.executable, "-m", MODULE], log=self.log, env=environment, cwd=self.config_file.parent)
        return self.process

    def readiness(self) -> Readiness:
        """Whether its API answers now. Before, it may wait for a copy of the log."""
        try:
            with local_client(2.0) as http:
                return Readiness.READY if http.get(f"{self.url}/health").status_code == 200 else Readiness.RECOVERING
        except httpx.HTTPError:
            return Readiness.RECOVERING

    def stop(self) -> None:
        """Ends the process."""
        if self.process is not None:
            end(session_members(self.process) or [self.process])
        self.process = None
