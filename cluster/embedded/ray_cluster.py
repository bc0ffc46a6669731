"""A Ray head on loopback with token authentication. HAProxy, on loopback too unless told otherwise, is in front of Serve."""

from __future__ import annotations

import os
import resource
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

import cluster
from aragora_worker.reasons import reason
from cluster.domain.base.urls import safe_url
from cluster.embedded.layout import EmbeddedError, Layout
from cluster.embedded.local_http import local_client
from cluster.embedded.ports import free_window
from cluster.embedded.processes import ProcessId, end, session_members, spawn, tail, wait_until
from cluster.embedded.secrets import write_private
from cluster.process.front import PROOF_FILE, FrontTls
from cluster.process.haproxy import FILES, bundled_haproxy
from cluster.process.waits import DRAINING_EMBEDDED_S, HAPROXY_HARD_STOP_S, PROXY_CHECK_S, PROXY_READY_S

READY_S = 120.0
STARTS = 3
#: What `ray start` prints when the node has joined.
STARTED = "Ray runtime started"
OBJECT_STORE_BYTES = 100_000_000
WORKER_PORTS = 200
LOG_BYTES = 5_242_880
#: The last tasks of Ray that its dashboard shows.
RAY_TASKS = 2_000
APPLICATION = "aragora"


@dataclass(slots=True, kw_only=True)
class RayCluster:
    """One Ray cluster of this machine. ``environment`` is what its processes get in addition to the caller's own variables."""

    layout: Layout
    log: Path
    http_host: str
    http_port: int
    tls: FrontTls | None = None
    #: Origins of pages that may read the answers of its HAProxy.
    origins: tuple[str, ...] = ()
    process: ProcessId | None = None
    dashboard_port: int = 0
    gcs_port: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    #: Gets the process of each start at once: what a killed caller leaves is found by it.
    started: Callable[[ProcessId], None] = lambda _: None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.gcs_port}"

    @property
    def dashboard_url(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"

    @property
    def token(self) -> str:
        return self.layout.ray_token.read_text().strip()

    def start(
        self, config_file: Path, say: Callable[[str], None] = lambda _: None, config: Mapping[str, Any] | None = None
    ) -> None:
        """Starts Ray and, with ``config``, hands the application to it, several times if need be: Ray gives its own parts 30 s to
        start, which may be too short on a busy machine. ``say`` gets a sentence whenever it is tried again.

        Raises: `EmbeddedError` if it does not start, or does not take the application."""
        if not self.layout.ray_token.exists():
            write_private(self.layout.ray_token, secrets.token_hex(32))
        for number in range(1, STARTS + 1):
            if self._start(config_file) and (config is None or self.deploy(config)):
                return
            if number < STARTS:
                say(
                    f"Ray has given up its start {number} of {STARTS}, as it does on a busy machine; "
                    f"trying again (log: {self.log})."
                )
        raise EmbeddedError(f"Ray did not start in {STARTS} tries: {tail(self.log)} (log: {self.log}).")

    def _start(self, config_file: Path) -> bool:
        # 16 ports for this head's servers, the rest for Serve's replicas and for workers, so that clusters share none.
        first = free_window(16 + 100 + WORKER_PORTS)
        singles = iter(range(first, first + 16))
        serve_first, worker_first = first + 16, first + 116
        self.gcs_port, self.dashboard_port, stats, metrics, *fallback = (next(singles) for _ in range(6))
        self.environment = self._environment(config_file, stats, metrics, serve_first) | {
            # HAProxy's last resort while no replica is up. Its fixed default is shared by every cluster of a machine
            # (SO_REUSEPORT), which would then answer for each other.
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback[0]),
            "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback[1]),
        }
        command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"]
        options = {
            "node-ip-address": "127.0.0.1",
            "port": self.gcs_port,
            "dashboard-host": "127.0.0.1",
            "dashboard-port": self.dashboard_port,
            "ray-client-server-port": next(singles),
            "dashboard-agent-listen-port": next(singles),
            "dashboard-agent-grpc-port": next(singles),
            "runtime-env-agent-port": next(singles),
            "metrics-export-port": next(singles),
            "node-manager-port": next(singles),
            "object-manager-port": next(singles),
            "min-worker-port": worker_first,
            "max-worker-port": worker_first + WORKER_PORTS - 1,
            "object-store-memory": OBJECT_STORE_BYTES,
            "temp-dir": self.layout.ray,
            "log-style": "record",
        }
        command += [f"--{name}={value}" for name, value in options.items()] + ["--disable-usage-stats"]
        # One machine has nothing to scale, and no driver prints what workers log: two processes less to start.
        command += ["--no-monitor", "--include-log-monitor=false"]
        log = self.log
        offset = log.stat().st_size if log.exists() else 0
        started = spawn(command, log=log, env={**os.environ, **self.environment}, cwd=self.layout.data_dir)  # noqa: TID251 - a child inherits it
        self.process = started
        self.started(started)
        with local_client(2.0) as http:

            def serves() -> bool:
                """Whether the node has joined and answers. The dashboard alone answers earlier, when Ray may still give up."""
                with log.open(errors="replace") as text:
                    text.seek(offset)
                    return STARTED in text.read() and self._answers(http)

            if wait_until(lambda: serves() or not started.alive(), READY_S) and started.alive():
                return True
        self.stop()
        return False

    def _environment(self, config_file: Path, stats: int, metrics: int, serve_first: int) -> dict[str, str]:
        binaries = str(Path(sys.executable).parent)
        haproxy = self.layout.sockets / "h"
        haproxy.mkdir(mode=0o700, exist_ok=True)
        write_private(haproxy / PROOF_FILE, secrets.token_hex(32))
        return {
            # Jobs and workers look for `python` on PATH.
            "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}",  # noqa: TID251 - a child inherits it
            "ARAGORA_CONFIG_FILE": str(config_file),
            "RAY_USAGE_STATS_ENABLED": "0",
            # Ray's default of 15 puts the API and the actors behind the stores and everything else on the machine.
            "RAY_worker_niceness": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.layout.ray_token),
            # Makes every Ray server listen on the node's address, 127.0.0.1, instead of on all interfaces.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            # The GCS keeps events of its last 100,000 tasks, and ids of a million that it has dropped. What actors ask of each
            # other all day counts as tasks too, so its memory grows for many hours.
            "RAY_task_events_max_num_task_in_gcs": str(RAY_TASKS),
            "RAY_task_events_max_dropped_task_attempts_tracked_per_job_in_gcs": str(RAY_TASKS),
            "RAY_SERVE_LOG_TO_STDERR": "0",
            "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "1000",
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(DRAINING_EMBEDDED_S),
            "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(serve_first),
            "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(serve_first + 49),
            "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(serve_first + 50),
            "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(serve_first + 99),
            "RAY_SERVE_HAPROXY_BINARY_PATH": str(_wrapper(haproxy, self)),
            "RAY_SERVE_HAPROXY_MAXCONN": str(_connections()),
            "RAY_SERVE_HAPROXY_NBTHREAD": "1",
            "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "a.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "m.sock"),
            "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(HAPROXY_HARD_STOP_S),
            "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": str(PROXY_CHECK_S),
            "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": str(PROXY_READY_S),
            "RAY_DEDUP_LOGS": "0",
            # Of each of its processes' logs. Ray's own bound is 100 times as large, and it has none for workers' output.
            "RAY_ROTATION_MAX_BYTES": str(LOG_BYTES),
            "RAY_ROTATION_BACKUP_COUNT": "1",
        }

    def _answers(self, http: httpx.Client) -> bool:
        try:
            response = http.get(f"{self.dashboard_url}/api/version", headers=self._headers())
            return response.status_code == 200
        except httpx.HTTPError:
            return False

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def deploy(self, config: Mapping[str, Any]) -> bool:
        """Hands the application to the cluster. False if the cluster ends meanwhile, as Ray may still do on a slow machine; what
        is left of it is ended.

        Raises: `EmbeddedError` if the cluster does not take the application."""
        process = self.process
        assert process is not None
        try:
            deploy(self.dashboard_url, self.token, config, alive=process.alive)
        except EmbeddedError:
            if process.alive():
                raise
            self.stop()
            return False
        return True

    def application_problem(self, http: httpx.Client) -> str | None:
        """Why the application cannot be deployed; None while it may still start."""
        try:
            response = http.get(f"{self.dashboard_url}/api/serve/applications/", headers=self._headers())
            application = response.json()["applications"].get(APPLICATION, {})
        except (httpx.HTTPError, ValueError, KeyError):
            return None
        # Not UNHEALTHY: on a busy machine a deployment is, for a while, and becomes healthy.
        if application.get("status") == "DEPLOY_FAILED":
            return str(application.get("message", ""))[-1500:]
        return None

    def stop(self) -> None:
        """Ends every process of the cluster's session by id. None of them has state that must be saved."""
        if self.process is not None:
            end_session(self.process)
        self.process = None


def deploy(
    dashboard_url: str,
    token: str,
    config: Mapping[str, Any],
    timeout_s: float = 60.0,
    alive: Callable[[], bool] = lambda: True,
) -> None:
    """Hands the configuration to the cluster and returns, as ``serve deploy`` does.

    Repeats the call for ``timeout_s``; the last one may take twice as long again. Raises: `EmbeddedError` if the cluster does
    not take the configuration in this time, or is not ``alive`` any more.
    """
    deadline = time.monotonic() + timeout_s
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    while True:
        try:
            url = f"{dashboard_url.rstrip('/')}/api/serve/applications/"
            response = httpx.put(url, headers=headers, json=dict(config), timeout=2 * timeout_s)
            if response.status_code == 200:
                return
            problem = response.text[:300]
        except httpx.HTTPError as error:
            problem = reason(error)
        if time.monotonic() > deadline or not alive():
            raise EmbeddedError(f"The Ray cluster at {dashboard_url} does not take the application: {problem}.")
        time.sleep(0.2)


@dataclass(frozen=True, slots=True)
class ExistingRay:
    """A cluster that runs already: the URL of its dashboard, and the file of its token (None: it asks for none)."""

    address: str
    token_file: str | None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> ExistingRay | None:
        """The cluster that Ray's own variables name. They stay its own: every tool of Ray reads them."""
        address = environ.get("RAY_ADDRESS")
        return cls(address, environ.get("RAY_AUTH_TOKEN_PATH") or None) if address else None

    def token(self) -> str:
        """What the file holds now, "" without one. Raises: `OSError` if it cannot be read."""
        return "" if self.token_file is None else Path(self.token_file).read_text().strip()


def require_dashboard(url: str, timeout_s: float = 5.0) -> None:
    """Finds a wrong address of a running cluster at once: `deploy` repeats its call for as long as a cluster may need to start.

    Raises: `EmbeddedError` if the address is no URL, or nobody answers there within ``timeout_s``."""
    if not url.startswith(("http://", "https://")):
        raise EmbeddedError(
            f"RAY_ADDRESS={safe_url(url)} must be the URL of the cluster's dashboard, like http://127.0.0.1:8265; "
            "applications are deployed through it."
        )
    try:
        httpx.get(f"{url.rstrip('/')}/api/version", timeout=timeout_s)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise EmbeddedError(
            f"RAY_ADDRESS={safe_url(url)}: the dashboard of a Ray cluster does not answer there ({reason(error)}). "
            "Start the cluster, or correct the address."
        ) from error


def end_session(leader: ProcessId) -> None:
    """Ends all processes of a session. Raises: `EmbeddedError` if one does not end."""
    members = session_members(leader)
    end([leader], grace_s=5.0)
    # Workers outlive their raylet for a moment, and may start others meanwhile.
    for _ in range(5):
        members = [*members, *session_members(leader)]
        end(list(dict.fromkeys(members)), grace_s=2.0)
        if not session_members(leader):
            return


def _connections() -> int:
    """How many connections HAProxy may have. It needs two descriptors for each and some more, and does not start if the
    machine allows fewer."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    return min(12_000, max(100, (files - 200) // 3))


def _wrapper(directory: Path, ours: RayCluster) -> Path:
    """Writes the program that stands in for HAProxy (`cluster.process.haproxy`), with our address in it. ``-S``: it runs at
    every change of replicas, and without site-packages it is there in a quarter of the time."""
    binary = bundled_haproxy()
    if binary is None:
        raise EmbeddedError("The HAProxy that ray[serve] brings is missing; reinstall ray[serve].")
    script = directory / "haproxy"
    script.write_text(f"""#!{sys.executable} -S
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(cluster.__file__).parents[1])!r})
from cluster.process.front import FrontTls, proof_of
from cluster.process.haproxy import run
tls = {None if ours.tls is None else tuple(ours.tls)!r}
proof = proof_of({{}}, Path({str(directory)!r}))
run({str(binary)!r}, sys.argv[1:], {ours.http_host!r}, {ours.http_port}, tls and FrontTls(*tls), proof, {ours.origins!r})
""")
    script.chmod(0o700)
    return script
