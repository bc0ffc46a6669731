"""The path of a newcomer: the demo, ``up``, commands from another process, a clean stop."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from actors.roles import KINDS
from cluster.embedded.processes import session_members
from tests.support.agents import answering_agent
from tests.support.planted import SECRETS, STORES, planted, written_forms
from tests.support.system import COMMAND, RunningSystem, clean_environment, new_text, system_ports


def test_the_demo_decides_with_real_language_models_and_leaves_nothing_behind(tmp_path: Path) -> None:
    http, prometheus = system_ports()
    environment = clean_environment(
        ARAGORA_DATA_DIR=str(tmp_path / "data"), ARAGORA_HTTP_PORT=str(http), ARAGORA_PROMETHEUS_PORT=str(prometheus)
    )
    demo = subprocess.run([COMMAND, "demo"], env=environment, capture_output=True, text=True, timeout=300, check=False)
    words = demo.stdout
    assert demo.returncode in (0, 3), words + demo.stderr
    for stage in ("stores: up", "Ray: up", "API and actors: up", "agents registered:", "proposes:", "Confidence:"):
        assert stage in words, words
    assert re.search(r"Cost: +\d+ calls, [1-9]\d* tokens", words), words
    assert f"http://127.0.0.1:{http}/docs" in words
    left = [p.pid for p in psutil.process_iter() if str(tmp_path) in " ".join(_cmdline(p))]
    assert left == []


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def test_actors_are_called_past_ray_and_through_ray_alike(system: RunningSystem) -> None:
    environment = system.environment | {
        "RAY_ADDRESS": system.run_file.ray_address,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": system.run_file.ray_token_path,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # as the system's Ray: 127.0.0.1 is a node's address
        "ARAGORA_CONFIG_FILE": str(system.layout.config_file),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.every_actor"],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ways = json.loads(done.stdout.splitlines()[-1])
    assert {kind.rsplit("-", 1)[0] for kind in ways} == set(KINDS)
    for role, way in ways.items():
        assert way["channel"], (role, way)
        assert way["direct"] == way["over_ray"], (role, way)


def test_every_listener_is_on_loopback(system: RunningSystem) -> None:
    found = [
        (member.pid, connection.laddr)
        for member in system.members()
        for connection in _listening(member.pid)
        if not connection.laddr.ip.removeprefix("::ffff:").startswith("127.") and connection.laddr.ip != "::1"
    ]
    assert found == []
    assert any(_listening(member.pid) for member in system.members()), "the probe sees listeners at all"


def _listening(pid: int) -> list[psutil._common.pconn]:
    try:
        return [
            connection
            for connection in psutil.Process(pid).net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
    except psutil.Error:
        return []


def test_secrets_are_private(system: RunningSystem) -> None:
    layout = system.layout
    for path in (layout.run_file, layout.ray_token, layout.secrets, layout.config_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    for path in (layout.data_dir, layout.sockets):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
    commands = "\n".join(" ".join(member.command()) for member in system.members())
    for secret in json.loads(layout.secrets.read_text()).values():
        assert secret not in commands


def test_commands_find_the_system_by_its_data_directory(system: RunningSystem) -> None:
    status = system.cli("status", "--json")
    assert status.returncode == 0, status.stderr
    assert json.loads(status.stdout)["status"] == "healthy"
    registered = system.cli("agents", "register", "cli-1", "--capabilities", "cli-work")
    assert registered.returncode == 0, registered.stderr
    submitted = system.cli("tasks", "submit", "review", "--payload", '{"pr": 1}', "--capabilities", "cli-other")
    assert submitted.returncode == 0, submitted.stderr
    assert system.cli("tasks", "get", "unknown-task").returncode == 1
    variables = system.cli("env").stdout
    assert f"ARAGORA_API_URL={system.api_url}" in variables.replace("'", "")
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        assert f"export {name}=" in variables


@pytest.mark.parametrize("command", ["ray status", "ray job list", "serve status"])
def test_the_variables_of_env_are_what_rays_commands_need(system: RunningSystem, command: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f'eval "$({COMMAND} env)" && {command}'],
        env=system.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_deliberation_is_followed_live_from_another_process(system: RunningSystem) -> None:
    with answering_agent({"answer": "yes", "rationale": "because", "confidence": "high"}) as endpoint:
        for index in range(3):
            body = {
                "agent_id": f"voter-{index}",
                "capabilities": ["debate"],
                "endpoint": endpoint,
                "transport": "http",
            }
            assert system.call("POST", "/api/control-plane/agents", body).status_code == 201
        names = "voter-0,voter-1,voter-2"
        asked = system.cli("deliberate", "Ship it?", "--options", "yes,no", "--agents", names)
    assert asked.returncode == 0, asked.stdout + asked.stderr
    for word in ("voter-0", "voter-1", "voter-2", "because", "Decision:", "yes"):
        assert word in asked.stdout, asked.stdout


def test_a_second_up_on_one_data_directory_is_refused_with_the_url(system: RunningSystem) -> None:
    second = system.cli("up")
    assert second.returncode == 5
    assert system.api_url in second.stderr
    assert "Traceback" not in second.stderr


def test_a_taken_port_is_a_clear_error(system: RunningSystem, tmp_path: Path) -> None:
    environment = system.environment | {"ARAGORA_DATA_DIR": str(tmp_path / "other")}
    refused = subprocess.run([COMMAND, "up"], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 5
    assert "ARAGORA_HTTP_PORT" in refused.stderr
    assert not (tmp_path / "other" / "postgres").exists(), "nothing half-started stays behind"


def test_a_job_finds_its_python_and_the_control_plane(system: RunningSystem) -> None:
    script = 'import os, sys, cluster; print("job-python", sys.executable, os.environ["ARAGORA_CONFIG_FILE"][-11:])'
    shell = f'eval "$({COMMAND} env)" && ray job submit --address "{system.run_file.dashboard_url}" -- python -c \'{script}\''
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    job = subprocess.run(
        ["bash", "-c", shell],
        env=system.environment | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert job.returncode == 0, job.stdout + job.stderr
    assert "job-python" in job.stdout


def test_wrong_calls_get_the_error_shape_and_leave_no_stack_trace(system: RunningSystem) -> None:
    before = system.logs()
    base = "/api/control-plane"
    wrong = {
        400: [
            ("POST", f"{base}/tasks", {"task_type": "t", "priority": "soon"}),
            ("POST", f"{base}/tasks", {}),
            ("POST", f"{base}/agents", {"agent_id": "claim"}),
        ],
        404: [("GET", f"{base}/tasks/none", None), ("GET", f"{base}/agents/none", None), ("GET", "/nowhere", None)],
        405: [("PUT", f"{base}/tasks", {})],
    }
    for status, calls in wrong.items():
        for method, path, body in calls:
            _assert_error(system.call(method, path, body), status)
    raw = {"content": b'{"task_type": ', "headers": {"Content-Type": "application/json"}}
    _assert_error(httpx.post(f"{system.api_url}{base}/tasks", **raw, timeout=30), 400)
    large = {"task_type": "t", "payload": "x" * 5_000_000}
    _assert_error(system.call("POST", f"{base}/tasks", large), 413)
    for path, text in new_text(before, system.logs()):
        assert "Traceback" not in text, (path, text[-2000:])


def _assert_error(response: httpx.Response, status: int) -> None:
    body = response.json()
    assert response.status_code == status, body
    assert isinstance(body["error"], str)
    assert isinstance(body["code"], str)
    assert body["trace_id"]


def test_metrics_are_the_same_on_both_ports(system: RunningSystem) -> None:
    for url in (f"{system.api_url}/metrics", system.metrics_url):
        text = httpx.get(url, timeout=30).raise_for_status().text
        for name in ("aragora_cp_agents_active", "aragora_cp_tasks_submitted_total", "aragora_http_requests_total"):
            assert f"# TYPE {name.removesuffix('_total')}" in text, (url, name)


def test_no_secret_is_in_what_the_system_has_printed_and_written(system: RunningSystem) -> None:
    """Of every setting, in what the tests before have made it say too. Its own settings are in the one file that is for them."""
    layout = system.layout
    status = system.cli("status")
    assert status.returncode == 0, status.stderr
    needles = {name: planted(name) for name in SECRETS if name not in STORES}
    needles.update(json.loads(layout.secrets.read_text()))
    assert all(planted(name) in layout.config_file.read_text() for name in ("jwt_secret", "audit_signing_key"))
    private = {layout.config_file, layout.secrets, layout.data_dir / "redis" / "valkey.conf"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    written = [
        path
        for base in (layout.data_dir, layout.sockets)
        for path in base.rglob("*")
        if path.is_file() and not path.is_symlink() and path not in private
    ]
    assert {"api.log", "actors.log", "haproxy.cfg"} <= {path.name for path in written}
    found = [
        (name, "what it said")
        for name, secret in needles.items()
        for form in written_forms(secret)
        if form in "".join(system.told)
    ]
    for path in written:
        with contextlib.suppress(FileNotFoundError):  # the stores' own come and go
            content = path.read_bytes()
            found += [
                (name, str(path))
                for name, secret in needles.items()
                for form in written_forms(secret)
                if form.encode() in content
            ]
    assert found == []


def test_down_ends_everything(started_system: RunningSystem) -> None:
    """Last of this file: the shared system is started again by whoever needs it next."""
    leaders = started_system.processes()
    stopped = started_system.cli("down")
    assert stopped.returncode == 0, stopped.stderr
    assert started_system.process is not None
    assert started_system.process.wait(30) == 0, started_system.output
    assert [member for leader in leaders.values() for member in session_members(leader)] == []
    assert not started_system.layout.run_file.exists()
    assert not started_system.layout.sockets.exists()
