"""The logs of a whole system: its processes write them under their requests' trace ids, for the user alone."""

from __future__ import annotations

import asyncio
import stat

from cluster.embedded.run_logs import runs
from cluster.telemetry.log_files import OWN
from tests.support.probes import eventually
from tests.support.system import RunningSystem


async def test_one_trace_is_found_in_the_logs_of_api_and_actors(system: RunningSystem) -> None:
    headers = {"X-Request-Id": "followed-everywhere"}
    body = {"content": "Which way?", "timeout": 5}
    await asyncio.to_thread(system.call, "POST", "/api/control-plane/deliberations", body, headers=headers)
    run = runs(system.layout.logs)[0]
    assert system.run_file.logs == str(run.directory)
    await eventually(lambda: "followed-everywhere" in run.log("actors").read_text())
    await eventually(lambda: "followed-everywhere" in run.log("requests").read_text())
    found = await asyncio.to_thread(system.cli, "logs", "--trace", "followed-everywhere")
    assert found.returncode == 0, found.stderr
    assert {line.split()[2].partition(":")[0] for line in found.stdout.splitlines()} >= {"api", "deliberation-0"}
    # All that the files have of it, and nothing of others'.
    kept = {line for name in OWN for line in run.log(name).read_text().splitlines() if line.startswith("20")}
    shown_heads = {line for line in found.stdout.splitlines() if line.startswith("20")}
    assert shown_heads == {line for line in kept if line.split()[3] == "followed-everywhere"}
    assert len(kept) > len(shown_heads)
    for file in run.directory.glob("*.log"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    shown = await asyncio.to_thread(system.cli, "logs")
    # Lines of a stack trace begin with neither a date nor the process.
    written = {line.split()[2].partition(":")[0] for line in shown.stdout.splitlines() if line.startswith("20")}
    assert {"up", "api", "scheduler-0", "telemetry-0"} & written
    assert all(run.log(name).exists() for name in OWN)
