"""A batch as a Ray job, as the documentation prints it: through the real Jobs API, with its token."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.system import COMMAND, RunningSystem

ITEMS = 12


class _Model(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = json.dumps(
            {"answer": "no" if body["model"] == "job-c" else "yes", "rationale": "", "confidence": "high"}
        )
        answer = json.dumps({"choices": [{"message": {"role": "assistant", "content": said}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def _shell(system: RunningSystem, folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    script = f'eval "$({COMMAND} env)"\n{line}\n'
    return subprocess.run(
        ["bash", "-ec", script], cwd=folder, env=system.environment, capture_output=True, text=True, timeout=240
    )


def test_a_batch_runs_as_a_ray_job(system: RunningSystem, endpoint: str, tmp_path: Path) -> None:
    agents = ["job-a", "job-b", "job-c"]
    for agent in agents:
        body = {"agent_id": agent, "transport": "openai", "endpoint": endpoint, "model": agent, "max_concurrency": 8}
        assert system.call("POST", "/api/control-plane/agents", body).is_success
    config = {"options": ["yes", "no"], "agents": agents, "rounds": 0, "debate_on": "always"}
    items = [{"id": f"q{n}", "content": f"Question {n}?", "config": config} for n in range(ITEMS)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))

    job = _shell(
        system,
        tmp_path,
        'ray job submit -- python -m cluster.batch run "$PWD/q.jsonl" --out "$PWD/r.jsonl" --resume',
    )
    assert job.returncode == 0, job.stdout + job.stderr
    assert f"{ITEMS} of {ITEMS} items" in job.stdout
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert sorted(row["id"] for row in lines) == sorted(item["id"] for item in items)
    assert {(row["status"], row["answer"]) for row in lines} == {("decided", "yes")}

    with (tmp_path / "r.jsonl").open("r+") as file:
        file.truncate(len("".join(json.dumps(row) for row in lines[:3])))
    printed = _shell(system, tmp_path, "aragora-cp batch submit q.jsonl --out r.jsonl --print").stdout
    first = _shell(system, tmp_path, "aragora-cp batch submit q.jsonl --out r.jsonl")
    again = _shell(system, tmp_path, "aragora-cp batch submit q.jsonl --out r.jsonl")
    for submitted in (first, again):
        assert submitted.returncode == 0, submitted.stdout + submitted.stderr
        assert printed.split("--submission-id ")[1].split()[0] in submitted.stdout
    results = {row["id"]: row["result"] for row in lines}
    resumed = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert {row["id"]: row["result"] for row in resumed} == results
