"""Nothing that a run of the tests has started outlives it, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest

from cluster.embedded.processes import wait_until

_RUN = """
import signal
from tests.support.stores import own_stores
with own_stores() as (postgres, redis):
    print(postgres.process.pid, redis.process.pid, postgres.data.parent, flush=True)
    signal.pause()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_killed_leaves_no_store_behind(number: signal.Signals) -> None:
    command = [sys.executable, "-c", _RUN]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert run.stdout is not None
    *pids, folder = run.stdout.readline().split()
    assert all(psutil.pid_exists(int(pid)) for pid in pids)
    run.send_signal(number)
    run.wait(30)
    run.stdout.close()
    assert wait_until(lambda: not any(psutil.pid_exists(int(pid)) for pid in pids), 30), pids
    assert wait_until(lambda: not Path(folder).exists(), 30), folder


@pytest.mark.slow
def test_the_files_of_shared_stores_are_deleted_after_the_run() -> None:
    run = "from tests.support.stores import running_stores\nwith running_stores() as urls: print(urls.database)"
    done = subprocess.run(
        [sys.executable, "-c", run], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True
    )
    (sockets,) = parse_qs(urlsplit(done.stdout.strip()).query)["host"]
    assert "aragora-test-" in sockets
    assert wait_until(lambda: not Path(sockets).parent.exists(), 30), sockets
