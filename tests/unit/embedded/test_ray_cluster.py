"""Ray gives up its own start on a busy machine: it is started again, a sentence says so, and nothing else is ended.

The command ``ray`` is another program here, which gives up as Ray does, when the test wants it to.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.embedded.layout import EmbeddedError, Layout
from cluster.embedded.processes import end, session_members, spawn
from cluster.embedded.ray_cluster import STARTS, ExistingRay, RayCluster
from cluster.embedded.run_logs import begin_run

#: Each start takes the next word of a file: "gives up" ends before the node has joined, as the raylet does after 15 s, "gives up
#: late" when it is handed the application, "refuses" does not take that, and "works" takes it.
_RAY = """\
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

here = Path(__file__).parent
behaviour, *rest = json.loads((here / "starts.json").read_text())
(here / "starts.json").write_text(json.dumps(rest))
if behaviour == "gives up":
    print("The raylet was not registered in time", flush=True)
    sys.exit(1)


class Dashboard(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def do_PUT(self):
        if behaviour == "gives up late":
            print("Some Ray subprocesses exited unexpectedly", flush=True)
            os._exit(1)
        (here / "taken.json").write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()


port = next(word for word in sys.argv if word.startswith("--dashboard-port=")).partition("=")[2]
server = HTTPServer(("127.0.0.1", int(port)), Dashboard)
print("Ray runtime started", flush=True)
server.serve_forever()
"""

StartRay = Callable[..., RayCluster]


@pytest.fixture
def ray(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RayCluster]:
    """A cluster whose starts behave like this, one after the other."""

    def make(*starts: str) -> RayCluster:
        (tmp_path / "starts.json").write_text(json.dumps(starts))
        (tmp_path / "ray").write_text(f"#!{sys.executable} -SI\n{_RAY}")
        (tmp_path / "ray").chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
        run = begin_run(layout.logs, 1_800_000_000.0)
        return RayCluster(layout=layout, log=run.log("ray"), http_host="127.0.0.1", http_port=1)

    return make


@pytest.mark.parametrize(
    "before", [(), ("gives up",), ("gives up late",), ("gives up", "gives up"), ("gives up", "gives up late")]
)
def test_a_start_that_ray_gives_up_is_repeated_and_said(
    ray: StartRay, layout: Layout, tmp_path: Path, before: tuple[str, ...]
) -> None:
    bystander = spawn(["sleep", "600"], log=layout.logs / "sleep.log")
    cluster, sentences = ray(*before, "works"), list[str]()
    try:
        cluster.start(layout.config_file, sentences.append, {"applications": []})
        assert json.loads((tmp_path / "taken.json").read_text()) == {"applications": []}
        assert cluster.process is not None
        assert cluster.process.alive()
        assert bystander.alive()
    finally:
        cluster.stop()
        end([bystander])
    log = cluster.log
    assert sentences == [
        f"Ray has given up its start {number} of {STARTS}, as it does on a busy machine; trying again (log: {log})."
        for number in range(1, len(before) + 1)
    ]
    assert log.read_text().count("Ray runtime started") == 1 + before.count("gives up late")


@pytest.mark.parametrize("last", ["gives up", "gives up late"])
def test_a_ray_that_never_starts_is_an_error_with_its_last_words(ray: StartRay, layout: Layout, last: str) -> None:
    cluster, sentences, started = ray("gives up", "gives up late", last, "works"), list[str](), []
    cluster.started = started.append
    with pytest.raises(EmbeddedError, match="Ray did not start in 3 tries: ") as error:
        cluster.start(layout.config_file, sentences.append, {})
    assert len(sentences) == STARTS - 1
    assert ("not registered in time" if last == "gives up" else "exited unexpectedly") in str(error.value)
    named = Path(str(error.value).rpartition("(log: ")[2].rstrip(")."))
    assert named == cluster.log
    assert named.exists()
    assert len(started) == STARTS
    assert not any(session_members(process) for process in started)


def test_a_cluster_that_runs_is_the_one_that_rays_variables_name(tmp_path: Path) -> None:
    token, address = tmp_path / "token", "http://127.0.0.1:8265"
    token.write_text("secret\n")
    assert ExistingRay.of({"RAY_ADDRESS": "", "RAY_AUTH_TOKEN_PATH": str(token)}) is None
    without = ExistingRay.of({"RAY_ADDRESS": address, "RAY_AUTH_TOKEN_PATH": ""})
    named = ExistingRay.of({"RAY_ADDRESS": address, "RAY_AUTH_TOKEN_PATH": str(token)})
    assert without is not None
    assert named is not None
    assert (without.address, without.token()) == (address, "")
    assert (named.address, named.token()) == (address, "secret")
