"""The same system started other ways: two side by side, and ``serve deploy`` on a bare Ray cluster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from cluster.cli.system import serve_config
from cluster.embedded.layout import Layout
from cluster.embedded.ports import free_ports
from cluster.embedded.processes import wait_until
from cluster.embedded.ray_cluster import RayCluster
from cluster.settings import load_settings
from tests.support.reaper import after_us_end
from tests.support.stores import StoreUrls, fresh_name
from tests.support.system import clean_environment, living_actors, system_ports


@pytest.fixture
def bare_ray(tmp_path: Path, store_urls: StoreUrls) -> Iterator[tuple[RayCluster, Path]]:
    """A Ray head that was told where the stores are, as a cluster's pods are by their environment."""
    http, prometheus = system_ports()
    environ = {
        "ARAGORA_DATABASE_URL": store_urls.database,
        "ARAGORA_REDIS_URL": store_urls.redis,
        "ARAGORA_DATABASE_SCHEMA": fresh_name(),
        "ARAGORA_REDIS_PREFIX": fresh_name(),
        "ARAGORA_HTTP_PORT": str(http),
        "ARAGORA_PROMETHEUS_PORT": str(prometheus),
        "ARAGORA_DATA_DIR": str(tmp_path / "data"),
        "ARAGORA_EMBEDDED": "true",
        "ARAGORA_AUTH_ENABLED": "false",
    }
    settings = load_settings(environ)
    layout = Layout.of(settings.data_dir)
    layout.create()
    settings.to_config_file(layout.config_file)
    ray = RayCluster(
        layout=layout, log=layout.logs / "ray.log", http_host=settings.http_host, http_port=settings.http_port
    )
    ray.start(layout.config_file)
    assert ray.process is not None
    after_us_end("session", ray.process.to_json())
    config = tmp_path / "serve.yaml"
    config.write_text(yaml.safe_dump(serve_config(settings)))
    try:
        yield ray, config
    finally:
        ray.stop()


def _control_plane(ray: RayCluster) -> set[str]:
    return {name for name in living_actors(ray.dashboard_url, ray.token) if name.startswith("aragora-")}


def _serve(ray: RayCluster, *words: str) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("serve")), *words],
        env=clean_environment(**ray.environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_serve_deploy_on_a_bare_cluster_starts_everything(bare_ray: tuple[RayCluster, Path]) -> None:
    """And an application that is deployed again with another setting replaces every actor and keeps what was written."""
    ray, config = bare_ray
    _serve(ray, "deploy", "--address", ray.dashboard_url, str(config))
    url = f"http://127.0.0.1:{yaml.safe_load(config.read_text())['http_options']['port']}"
    assert wait_until(lambda: _healthy(url), 120), _reason(url)
    created = httpx.post(
        f"{url}/api/control-plane/tasks", json={"task_type": "t", "required_capabilities": ["bare"]}, timeout=30
    )
    assert created.status_code == 201
    before = _control_plane(ray)
    assert before

    _serve(ray, "shutdown", "--address", ray.dashboard_url, "--yes")
    file = ray.layout.config_file
    changed = load_settings({"ARAGORA_CONFIG_FILE": str(file), "ARAGORA_HEARTBEAT_TIMEOUT": "17"})
    changed.to_config_file(file)
    _serve(ray, "deploy", "--address", ray.dashboard_url, str(config))

    def replaced() -> bool:
        after = _control_plane(ray)
        return len(after) == len(before) and not after & before

    assert wait_until(replaced, 120), (sorted(before), sorted(_control_plane(ray)))
    assert wait_until(lambda: _healthy(url), 120), _reason(url)
    task_id = created.json()["task_id"]
    agent = {"agent_id": "bare-1", "capabilities": ["bare"]}
    assert httpx.post(f"{url}/api/control-plane/agents", json=agent, timeout=30).status_code == 201
    claim = {"agent_id": "bare-1", "block_ms": 20_000}
    claimed = httpx.post(f"{url}/api/control-plane/tasks/claim", json=claim, timeout=60).json()["task"]
    assert claimed["id"] == task_id


def _healthy(url: str) -> bool:
    try:
        health = httpx.get(f"{url}/health", timeout=5)
        return health.status_code == 200 and bool(health.json()["status"] == "ok")
    except httpx.HTTPError:
        return False


def _reason(url: str) -> str:
    try:
        return httpx.get(f"{url}/health", timeout=5).text
    except httpx.HTTPError as error:
        return repr(error)


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("http://127.0.0.1:{port}", "connection refused"),
        ("127.0.0.1:{port}", "must be the URL of the cluster's dashboard"),
    ],
)
def test_a_ray_address_that_nobody_answers_is_a_clear_error(tmp_path: Path, address: str, problem: str) -> None:
    """Before anything is started: a mistyped address costs seconds."""
    (port,) = free_ports(1)
    http, prometheus = system_ports()
    environment = clean_environment(
        RAY_ADDRESS=address.format(port=port),
        ARAGORA_DATA_DIR=str(tmp_path / "data"),
        ARAGORA_HTTP_PORT=str(http),
        ARAGORA_PROMETHEUS_PORT=str(prometheus),
    )
    command = [str(Path(sys.executable).with_name("aragora-cp")), "up"]
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150, check=False)
    assert refused.returncode == 5, refused.stdout + refused.stderr
    assert f"127.0.0.1:{port}" in refused.stderr
    assert problem in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "data" / "postgres").exists()
