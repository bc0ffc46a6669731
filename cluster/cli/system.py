"""Starting and stopping a whole control plane on one machine."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import typer
import yaml
from pydantic import SecretStr

from aragora_worker import reasons
from cluster.embedded import model_server
from cluster.embedded.given_stores import check_given_stores
from cluster.embedded.layout import EmbeddedError, Layout
from cluster.embedded.local_http import local_client
from cluster.embedded.one_process import OneProcess
from cluster.embedded.ports import is_free, require_free
from cluster.embedded.postgres import EmbeddedPostgres
from cluster.embedded.processes import ProcessId, end, tail, wait_until
from cluster.embedded.ray_cluster import ExistingRay, RayCluster, deploy, end_session, require_dashboard
from cluster.embedded.redis import EmbeddedRedis
from cluster.embedded.restarts import Restartable, StoreWatch
from cluster.embedded.run_file import RunFile, is_held, only_one, read_run_file
from cluster.embedded.run_logs import Run, begin_run, bound_output, keep_ray_logs, runs, share_log
from cluster.embedded.safety import checked_tls, sealing_key, with_authentication
from cluster.embedded.secrets import store_secrets
from cluster.process.front import FrontTls
from cluster.process.store_passwords import weak_store_passwords
from cluster.settings import Settings
from cluster.telemetry.log_files import ACTORS, API, UP, begin_logging, end_logging
from cluster.version import VERSION

_logger = logging.getLogger(__name__)

READY_S = 150.0
#: A start that takes longer is said to be slow.
SLOW_S = 30.0
STOP_S = 60.0

#: How long the ports of a killed system may take to become free.
CLOSES_S: Final = 1.0
#: By their names in run.json, what people call the processes.
TITLES: Final = {
    "up": "This command",
    "postgres": "PostgreSQL",
    "redis": "Valkey",
    "ray": "Ray",
    "model": "The language model",
    "api": "The process of API and actors",
}

#: (what is being done, how long it took in seconds)
Report = Callable[[str, float], None]


def serve_config(settings: Settings) -> dict[str, Any]:
    """``serve_app/serve_config.yaml`` with the settings' host, port and number of API replicas."""
    spec = importlib.util.find_spec("serve_app")
    assert spec is not None
    assert spec.origin is not None
    config: dict[str, Any] = yaml.safe_load((Path(spec.origin).parent / "serve_config.yaml").read_text())
    config["http_options"].update(host=settings.http_host, port=settings.http_port)
    for deployment in config["applications"][0]["deployments"]:
        if deployment["name"] == "Api":
            deployment["num_replicas"] = settings.api_replicas
    return config


@dataclass
class System:
    """Everything that ``up`` starts. ``processes`` holds, by name, those that run; each is written to run.json at once."""

    settings: Settings
    layout: Layout
    report: Report
    #: API and actors are one process in the place of Ray.
    without_ray: bool = False
    #: The cluster that is used instead of one of its own.
    existing: ExistingRay | None = None
    processes: dict[str, ProcessId] = field(default_factory=dict)
    ray: RayCluster | None = None
    tls: FrontTls | None = None
    #: The logs of this run; None until something is started.
    run: Run | None = None
    #: What is started again when it dies, in the order of its start; ``stop`` ends it in reverse.
    _restarted: list[EmbeddedPostgres | EmbeddedRedis | OneProcess] = field(default_factory=list)
    #: One for each of these; ``look`` asks them.
    _watches: list[StoreWatch] = field(default_factory=list)

    @property
    def api_url(self) -> str:
        host = self.settings.http_host
        scheme = "https" if self.settings.tls_enabled else "http"
        every = "0.0.0.0"  # nosec B104
        return f"{scheme}://{'127.0.0.1' if host == every else host}:{self.settings.http_port}"

    def log(self, name: str) -> Path:
        """Where a process of this run logs."""
        assert self.run is not None
        return self.run.log(name)

    def say(self, sentence: str) -> None:
        """Tells whoever watches the start, and the log."""
        _logger.warning("%s", sentence)
        typer.echo(sentence, err=True)

    def start(self) -> None:
        """Starts stores, Ray and the application; returns when the API is ready.

        Raises: `EmbeddedError` if HTTPS is set without Ray, a given store or Ray cluster cannot be used, a port is taken, a part
        does not start or the API does not become ready in time.
        """
        own = ProcessId.of(os.getpid())
        assert own is not None
        if self.without_ray and self.settings.tls_enabled:
            raise EmbeddedError(
                "ARAGORA_TLS_ENABLED is true, and HTTPS is served by the front that Ray starts; unset it, or start with Ray."
            )
        self.settings = with_authentication(self.settings)
        self.tls = checked_tls(self.settings)
        check_given_stores(self.settings)
        if self.existing is not None:
            require_dashboard(self.existing.address)
        for detail, advice in weak_store_passwords(self.settings.database_url, self.settings.redis_url):
            self.say(f"warning: {detail}. {advice}")
        settle(self.layout, self.settings.log_max_bytes)
        # A process that was killed counts as ended when its first thread has; its sockets close with its last.
        wait_until(lambda: is_free(self.settings.http_host, *self._ports()), CLOSES_S)
        require_free(self.settings.http_host, self.settings.http_port, "ARAGORA_HTTP_PORT")
        if self.settings.enable_metrics:
            require_free(self.settings.http_host, self.settings.prometheus_port, "ARAGORA_PROMETHEUS_PORT")
        self._begin_run()
        self._note("up", own)
        with self._stage("stores"):
            settings = self._start_stores()
            settings.to_config_file(self.layout.config_file)
        if self.without_ray:
            self._start_one_process()
        else:
            with self._stage("Ray"):
                self._start_ray()
        with self._stage("API and actors"):
            self._wait_until_ready()

    def _begin_run(self) -> None:
        """Only now: a start that fails at a port that is taken is no run, and must not push the logs of others out."""
        self.run = begin_run(self.layout.logs, time.time())
        self.settings = self.settings.model_copy(update={"log_dir": self.run.directory})
        begin_logging(
            "up",
            UP,
            self.settings.log_level,
            directory=self.run.directory,
            most_bytes=self.settings.log_max_bytes,
            secrets=self.settings.secrets(),
        )
        _logger.info("version %s starts", VERSION)

    def _ports(self) -> list[int]:
        return [self.settings.http_port, *([self.settings.prometheus_port] if self.settings.enable_metrics else [])]

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        _logger.info("%s: up in %.1f s", name, time.monotonic() - started)
        self.report(name, time.monotonic() - started)

    def _note(self, name: str, process: ProcessId) -> None:
        self.processes[name] = process
        ray = self.ray
        given = "" if self.existing is None else self.existing.address
        RunFile(
            api_url=self.api_url,
            docs_url=f"{self.api_url}/docs",
            metrics_url=f"http://{self.settings.http_host}:{self.settings.prometheus_port}/metrics",
            dashboard_url=ray.dashboard_url if ray is not None else given,
            ray_address=ray.address if ray is not None else given,
            ray_token_path=self._ray_token_path(),
            processes={key: noted.to_json() for key, noted in self.processes.items()},
            ports={"http": self.settings.http_port, "prometheus": self.settings.prometheus_port},
            logs=str(self.run.directory) if self.run is not None else "",
            certificate=self.tls.certificate if self.tls is not None else "",
        ).write(self.layout)

    def _ray_token_path(self) -> str:
        """Where commands find the token of the cluster that is used; "" if none was named for one that ran already."""
        if self.existing is None:
            return str(self.layout.ray_token)
        return "" if self.existing.token_file is None else str(Path(self.existing.token_file).absolute())

    def _start_stores(self) -> Settings:
        """Starts the stores for which no URL is set; returns the settings with both URLs."""
        secrets = store_secrets(self.layout.secrets)
        changes: dict[str, Any] = {"embedded": True}
        if self.settings.secrets_key is None:
            changes["secrets_key"] = sealing_key(self.layout.sealing_key)
        sockets = self.layout.sockets
        if self.settings.database_url is None:
            postgres = EmbeddedPostgres(
                data=self.layout.postgres, sockets=sockets, log=self.log("postgres"), password=secrets.postgres
            )
            self._start_store("postgres", postgres)
            changes["database_url"] = SecretStr(postgres.url)
            if self.settings.log_archive_dir is None:
                changes["log_archive_dir"] = self.layout.log_archive
        if self.settings.redis_url is None:
            redis = EmbeddedRedis(
                data=self.layout.redis, sockets=sockets, log=self.log("redis"), password=secrets.redis
            )
            self._start_store("redis", redis)
            changes["redis_url"] = SecretStr(redis.url)
        return self.settings.model_copy(update=changes)

    def _start_store(self, name: str, store: EmbeddedPostgres | EmbeddedRedis) -> None:
        self._restarted.append(store)
        if not store.start():
            assert self.run is not None
            share_log(self.run, name)
        assert store.process is not None
        self._watch(name, store, store.process)

    def _start_one_process(self) -> None:
        whole = OneProcess(url=self.api_url, config_file=self.layout.config_file, log=self.log("process"))
        self._restarted.append(whole)
        self._watch("api", whole, whole.begin())

    def _watch(self, name: str, store: Restartable, process: ProcessId) -> None:
        self._note(name, process)
        self._watches.append(StoreWatch(name=name, title=TITLES[name], store=store, note=self._note))

    def _start_ray(self) -> None:
        config = serve_config(self.settings)
        if self.existing is not None:
            deploy(self.existing.address, self.existing.token(), config)
            return
        self.ray = RayCluster(
            layout=self.layout,
            log=self.log("ray"),
            http_host=self.settings.http_host,
            http_port=self.settings.http_port,
            tls=self.tls,
            origins=self.settings.cors_origins,
            started=lambda process: self._note("ray", process),
        )
        self.ray.start(self.layout.config_file, say=self.say, config=config)

    def _wait_until_ready(self) -> None:
        slow_at, deadline = time.monotonic() + SLOW_S, time.monotonic() + READY_S
        reason = ""
        with local_client(5.0, self.settings.tls_cert_file) as http:
            while time.monotonic() < deadline:
                try:
                    response = http.get(f"{self.api_url}/health")
                    if response.status_code == 200 and response.json()["status"] == "ok":
                        return
                    reason = _reason(response)
                except httpx.HTTPError as error:
                    reason = reasons.reason(error)
                if self.ray is not None:
                    self._look_at_start(self.ray, http)
                if self.without_ray and not self.processes["api"].alive():
                    log = self.log("process")
                    raise EmbeddedError(f"{TITLES['api']} has ended while it started: {tail(log)} (log: {log}).")
                if time.monotonic() > slow_at:
                    slow_at = math.inf
                    self.say(
                        f"The API is not ready after {SLOW_S:g} s ({reason}). Serve starts what gives up on a busy machine "
                        f"again; waiting {READY_S - SLOW_S:g} s more ({self._where()})."
                    )
                time.sleep(0.2)
        raise EmbeddedError(f"The API was not ready within {READY_S:g} s ({reason}); {self._where()}.")

    def _look_at_start(self, ray: RayCluster, http: httpx.Client) -> None:
        """Ends a start that cannot succeed any more.

        Raises: `EmbeddedError` if Ray has ended, or Serve has given the application up."""
        if ray.process is None or not ray.process.alive():
            raise EmbeddedError(f"Ray has ended while the API started: {tail(ray.log)} (log: {ray.log}).")
        problem = ray.application_problem(http)
        if problem:
            raise EmbeddedError(f"The application does not start: {problem.rstrip('.')} ({self._where()}).")

    def _where(self) -> str:
        return f"logs: {self.log(API)} and {self.log(ACTORS)}"

    def start_model(self) -> str:
        """Starts the small local model; returns its base URL."""
        with self._stage("language model"):
            process, url = model_server.start(self.log("model"))
            self._note("model", process)
        return url

    def look(self) -> Iterator[str]:
        """Looks after what runs: starts embedded stores again that have died. Yields sentences about what has happened.

        Raises: `EmbeddedError` if a process has ended that is not started again, or a store has died too often.
        """
        for sentence in self._look_at_stores():
            _logger.warning("%s", sentence)
            yield sentence
        if self.run is not None:
            bound_output(self.run, self.settings.log_max_bytes)
        for name in self.processes.keys() - {watch.name for watch in self._watches}:
            if not self.processes[name].alive():
                log = self.log(name)
                raise EmbeddedError(
                    f"{TITLES[name]} (process {self.processes[name].pid}) has ended: {tail(log)} (log: {log})."
                )

    def _look_at_stores(self) -> Iterator[str]:
        for watch in self._watches:
            yield from watch.look()

    def stop(self) -> None:
        if self.ray is not None:
            self.ray.stop()
            if self.run is not None:
                keep_ray_logs(self.layout.ray, self.run, self.settings.log_max_bytes)
        if "model" in self.processes:
            end([self.processes["model"]])
        for store in reversed(self._restarted):
            store.stop()
        self.layout.run_file.unlink(missing_ok=True)
        shutil.rmtree(self.layout.sockets, ignore_errors=True)


def _reason(response: httpx.Response) -> str:
    """The sentence of an error in the API's shape, else the beginning of what was answered."""
    try:
        return str(response.json()["error"]).rstrip(".")
    except (ValueError, KeyError, TypeError):
        return response.text[:300]


def settle(layout: Layout, most_log_bytes: int, *, stores: bool = False) -> None:
    """Ends what an earlier run left, by process id: Ray or the process in its place, the model, and with ``stores`` also the
    stores, which the next start would adopt otherwise."""
    left = read_run_file(layout)
    for name in ("ray", "model", "api"):
        process = left.process(name) if left is not None else None
        if process is not None:
            end_session(process)
    for run in runs(layout.logs)[:1]:
        keep_ray_logs(layout.ray, run, most_log_bytes)
    shutil.rmtree(layout.ray, ignore_errors=True)
    if stores:
        secrets = store_secrets(layout.secrets)
        EmbeddedRedis(data=layout.redis, sockets=layout.sockets, log=Path(os.devnull), password=secrets.redis).stop()
        EmbeddedPostgres(
            data=layout.postgres, sockets=layout.sockets, log=Path(os.devnull), password=secrets.postgres
        ).stop()
        layout.run_file.unlink(missing_ok=True)
        shutil.rmtree(layout.sockets, ignore_errors=True)


def stop_other(layout: Layout, most_log_bytes: int) -> bool:
    """Stops the control plane of this data directory, whoever started it; False if none was found."""
    found = layout.run_file.exists() or is_held(layout.lock_file)
    running = read_run_file(layout)
    up = running.process("up") if running is not None else None
    if is_held(layout.lock_file) and up is not None:
        end([up], grace_s=STOP_S)
        wait_until(lambda: not is_held(layout.lock_file), 10.0)
    if layout.data_dir.exists():
        settle(layout, most_log_bytes, stores=True)
    return found


@contextmanager
def running(
    settings: Settings, report: Report, *, without_ray: bool = False, existing: ExistingRay | None = None
) -> Iterator[System]:
    """A started system, which is stopped at the end, also after an error. ``existing``: the cluster that it uses."""
    layout = Layout.of(settings.data_dir)
    layout.create()
    with only_one(layout):
        system = System(settings, layout, report, without_ray, existing)
        try:
            system.start()
            yield system
        except Exception as error:
            if system.run is not None:
                _logger.error("%s", error, exc_info=None if isinstance(error, EmbeddedError) else error)
            raise
        finally:
            system.stop()
            _logger.info("stopped")
            end_logging()
