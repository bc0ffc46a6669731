"""`aragora-cp regions demo`: nothing acknowledged is lost with the primary, the lost region comes back, and a demo that is killed
leaves what `aragora-cp down` ends."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from cluster.cli.region_group import NAMES
from cluster.embedded.processes import ProcessId
from tests.support.etcd import needs_etcd
from tests.support.reaper import after_us_end
from tests.support.region_processes import FAST
from tests.support.system import COMMAND, clean_environment

pytestmark = [needs_etcd, pytest.mark.longer]


def test_the_primary_is_lost_and_comes_back_and_down_ends_all(tmp_path: Path) -> None:
    environment = clean_environment(**FAST)
    command = [COMMAND, "regions", "demo", "--hold", "--data-dir", str(tmp_path / "r")]
    after_us_end("system", environment | {"ARAGORA_DATA_DIR": str(tmp_path / "r")})
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        said = []
        for line in demo.stdout:
            said.append(line.rstrip())
            if line.startswith("All regions run."):
                break
        else:
            pytest.fail("\n".join(said))
        assert demo.poll() is None
        demo.kill()
    (told,) = [line for line in said if line.startswith("Acknowledged: ")]
    assert "Missing: 0. Doubled: 0. RTO: " in told
    regions = [json.loads(line) for line in said if line.startswith("{")]
    assert [region["region"] for region in regions] == list(NAMES)
    assert sorted(region["role"] for region in regions) == ["primary", "secondary", "secondary"]
    assert regions[0]["role"] == "secondary"  # it was lost
    left = [ProcessId.of(pid) for region in regions for pid in region["pids"].values()]
    assert None not in left
    assert len(left) == len(NAMES) * len(("up", "postgres", "redis", "api", "etcd"))

    down = subprocess.run(
        [COMMAND, "down", "--data-dir", str(tmp_path / "r"), "--delete-data"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (down.returncode, down.stderr) == (0, "")
    assert [process for process in left if process is not None and process.alive()] == []
    assert not (tmp_path / "r").exists()
    assert demo.returncode == -signal.SIGKILL
