"""What ``up`` deploys follows the settings, what it says of a slow start, and what ``env`` prints is what Ray's commands read."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from cluster.cli import system as module
from cluster.cli.connection import ray_variables
from cluster.cli.main import _demo_model
from cluster.cli.system import System, serve_config
from cluster.embedded.layout import EmbeddedError, Layout
from cluster.embedded.model_server import MODEL
from cluster.embedded.processes import ProcessId
from cluster.embedded.ray_cluster import ExistingRay
from cluster.embedded.run_file import RunFile, read_run_file
from cluster.embedded.run_logs import begin_run
from cluster.settings import SettingsError, load_settings

TLS = {"ARAGORA_TLS_ENABLED": "true", "ARAGORA_TLS_CERT_FILE": "/c.pem", "ARAGORA_TLS_KEY_FILE": "/k.pem"}


def _replicas(**environ: str) -> int:
    config = serve_config(load_settings(environ))
    (api,) = [item for item in config["applications"][0]["deployments"] if item["name"] == "Api"]
    return int(api["num_replicas"])


def test_the_number_of_api_replicas_is_a_setting() -> None:
    assert _replicas() == 1
    assert _replicas(ARAGORA_API_REPLICAS="3") == 3


@pytest.mark.parametrize("value", ["0", "-1", "17", "many"])
def test_an_impossible_number_of_replicas_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="ARAGORA_API_REPLICAS"):
        load_settings({"ARAGORA_API_REPLICAS": value})


def test_the_number_of_replicas_replaces_no_actor() -> None:
    assert load_settings({"ARAGORA_API_REPLICAS": "3"}).fingerprint() == load_settings({}).fingerprint()


def test_ray_status_and_ray_job_each_get_their_address() -> None:
    running = RunFile(
        api_url="http://127.0.0.1:1",
        docs_url="",
        metrics_url="",
        dashboard_url="http://127.0.0.1:2",
        ray_address="127.0.0.1:3",
        ray_token_path="/a token",
    )
    variables = ray_variables(running)
    assert variables["RAY_ADDRESS"] == "127.0.0.1:3"
    assert variables["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert variables["RAY_API_SERVER_ADDRESS"] == variables["RAY_DASHBOARD_ADDRESS"] == "http://127.0.0.1:2"


@pytest.mark.parametrize(("token_file", "path"), [("/given/token", "/given/token"), (None, "")])
def test_the_token_of_a_given_cluster_is_the_one_it_named(tmp_path: Path, token_file: str | None, path: str) -> None:
    settings, existing = (
        load_settings({"ARAGORA_DATA_DIR": str(tmp_path)}),
        ExistingRay("http://127.0.0.1:2", token_file),
    )
    system = System(settings, Layout.of(tmp_path), lambda *_: None, existing=existing)
    own = ProcessId.of(os.getpid())
    assert own is not None
    system._note("up", own)
    running = read_run_file(Layout.of(tmp_path))
    assert running is not None
    assert ray_variables(running).get("RAY_AUTH_TOKEN_PATH", "") == running.ray_token_path == path


def test_a_system_without_ray_leaves_the_variables_of_ray_alone() -> None:
    running = RunFile(
        api_url="http://127.0.0.1:1", docs_url="", metrics_url="", dashboard_url="", ray_address="", ray_token_path=""
    )
    assert ray_variables(running) == {}


def test_https_without_the_front_of_ray_is_refused(tmp_path: Path) -> None:
    settings = load_settings({"ARAGORA_DATA_DIR": str(tmp_path), **TLS})
    with pytest.raises(EmbeddedError, match="ARAGORA_TLS_ENABLED"):
        System(settings, Layout.of(tmp_path), lambda *_: None, without_ray=True).start()


def test_a_cluster_that_runs_is_asked_before_anything_starts(tmp_path: Path) -> None:
    settings, existing = load_settings({"ARAGORA_DATA_DIR": str(tmp_path)}), ExistingRay("127.0.0.1:6379", None)
    with pytest.raises(EmbeddedError, match=r"RAY_ADDRESS=127.0.0.1:6379 must be the URL"):
        System(settings, Layout.of(tmp_path), lambda *_: None, existing=existing).start()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({"OPENAI_API_KEY": "k"}, "gpt-4o-mini"),
        ({"OPENAI_API_KEY": "k", "OPENAI_MODEL": "other"}, "other"),
        ({"ANTHROPIC_API_KEY": "k", "ANTHROPIC_MODEL": "third", "OPENAI_MODEL": "other"}, "third"),
        ({"OPENAI_MODEL": "other"}, MODEL),
    ],
    ids=["openai", "openai-named", "anthropic", "local"],
)
def test_the_demo_asks_the_model_that_the_settings_name(given: dict[str, str], asked: str) -> None:
    assert _demo_model(load_settings(given), lambda: "http://local")[1] == asked


@contextmanager
def answering(*statuses: int) -> Iterator[int]:
    """An API that answers so, one call after the other, and the last for ever. Gives its port."""
    left = list(statuses)

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b'{"status": "ok"}' if status == 200 else b"starting")

        def log_message(self, *words: object) -> None:
            """Nothing, since the test looks at stderr."""

    with HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def slow(port: int, data_dir: Path, monkeypatch: pytest.MonkeyPatch, ready_s: float) -> System:
    """A system whose API has just been deployed, and which may take so long."""
    monkeypatch.setattr(module, "SLOW_S", 0.0)
    monkeypatch.setattr(module, "READY_S", ready_s)
    layout = Layout(data_dir, data_dir)
    settings = load_settings({"ARAGORA_HTTP_PORT": str(port)})
    return System(settings, layout, lambda _, __: None, run=begin_run(layout.logs, 0.0))


def test_a_slow_start_is_said_once_with_logs_that_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(503, 503, 503, 200) as port:
        slow(port, tmp_path, monkeypatch, 60.0)._wait_until_ready()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "The API is not ready after 0 s (starting). Serve starts what gives up on a busy machine again"
    )
    assert all(path.exists() for path in named(line))


def test_a_start_that_fails_names_the_logs_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(503) as port, pytest.raises(EmbeddedError) as error:
        slow(port, tmp_path, monkeypatch, 0.1)._wait_until_ready()
    assert str(error.value).startswith("The API was not ready within 0.1 s (starting); logs: ")
    assert [path.name for path in named(str(error.value))] == ["api.log", "actors.log"]
    assert all(path.exists() for path in named(str(error.value)))


def named(sentence: str) -> list[Path]:
    """The logs that a sentence names."""
    return [Path(word.rstrip(").")) for word in sentence.split() if word.startswith("/")]
