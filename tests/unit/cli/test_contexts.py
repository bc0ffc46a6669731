"""Contexts: which control plane a command calls, with which credential, and that no token is shown or sent elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from stat import S_IMODE
from typing import Any

import pytest

from cluster.cli.exit_codes import MACHINE, REFUSED, UNREACHABLE, USAGE
from tests.support.system import clean_environment

COMMAND = str(Path(sys.executable).with_name("aragora-cp"))
TOKEN = "a-token-of-this-test"


class ControlPlane:
    """A server that answers every call with an empty list of agents, and keeps the calls' headers."""

    def __init__(self) -> None:
        calls: list[dict[str, str]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                calls.append({name.lower(): value for name, value in self.headers.items()})
                body = b'{"agents": [], "total": 0}'
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.calls = calls
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def planes() -> Iterator[tuple[ControlPlane, ControlPlane]]:
    both = (ControlPlane(), ControlPlane())
    yield both
    for plane in both:
        plane.close()


class CommandLine:
    """Commands of somebody whose contexts and sessions are in a directory of the test."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.file = home / "of-contexts" / "contexts.json"

    def run(self, *words: str, said: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        ours = {
            "ARAGORA_CONTEXTS_FILE": str(self.file),
            "ARAGORA_CREDENTIALS_FILE": str(self.home / "sessions.json"),
            "ARAGORA_DATA_DIR": str(self.home / "data"),
        }
        environment = clean_environment(**ours | environment)
        return subprocess.run(
            [COMMAND, *words], env=environment, input=said, capture_output=True, text=True, timeout=60
        )

    def done(self, *words: str, said: str = "", **environment: str) -> str:
        ran = self.run(*words, said=said, **environment)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def add(self, name: str, plane: ControlPlane, *words: str, said: str = "") -> None:
        self.done("context", "add", name, "--url", plane.url, *words, said=said)


@pytest.fixture
def line(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


Planes = tuple[ControlPlane, ControlPlane]


def test_the_only_context_is_taken_with_its_workspace_and_token(line: CommandLine, planes: Planes) -> None:
    line.add("prod", planes[0], "--workspace", "team-a", "--token-stdin", said=f"{TOKEN}\n")
    line.done("agents", "list")
    (call,) = planes[0].calls
    assert call["authorization"] == f"Bearer {TOKEN}"
    assert call["x-aragora-workspace"] == "team-a"


def test_of_several_the_one_in_use_is_taken_or_the_named_one(line: CommandLine, planes: Planes) -> None:
    line.add("first", planes[0])
    line.add("second", planes[1])
    line.done("agents", "list")
    assert (len(planes[0].calls), len(planes[1].calls)) == (1, 0)
    line.done("context", "use", "second")
    line.done("agents", "list")
    assert (len(planes[0].calls), len(planes[1].calls)) == (1, 1)
    line.done("--context", "first", "agents", "list")
    line.done("agents", "list", ARAGORA_CONTEXT="first")
    assert (len(planes[0].calls), len(planes[1].calls)) == (3, 1)


def test_the_variable_of_the_url_counts_before_the_context_in_use(line: CommandLine, planes: Planes) -> None:
    line.add("first", planes[0], "--token-stdin", said=TOKEN)
    line.done("agents", "list", ARAGORA_API_URL=planes[1].url)
    assert planes[0].calls == []
    assert "authorization" not in planes[1].calls[0]
    line.done("--context", "first", "agents", "list", ARAGORA_API_URL=planes[1].url)
    assert len(planes[0].calls) == 1


def test_a_key_is_not_sent_to_a_context_without_it(line: CommandLine, planes: Planes) -> None:
    line.add("bare", planes[0])
    line.done("agents", "list", ARAGORA_API_KEY=TOKEN)
    line.add("named", planes[1], "--token-env", "ARAGORA_API_KEY")
    line.done("--context", "named", "agents", "list", ARAGORA_API_KEY=TOKEN)
    assert "authorization" not in planes[0].calls[0]
    assert planes[1].calls[0]["authorization"] == f"Bearer {TOKEN}"


def test_a_token_file_is_read_at_each_use(line: CommandLine, planes: Planes, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    line.add("prod", planes[0], "--token-file", str(file))
    line.done("agents", "list")
    file.write_text("two")
    line.done("agents", "list")
    assert [call["authorization"] for call in planes[0].calls] == ["Bearer one", "Bearer two"]
    file.write_text("two words")
    ran = line.run("agents", "list")
    assert ran.returncode == MACHINE
    assert "two words" not in ran.stderr


def test_a_session_is_sent_where_its_url_is_a_contexts(line: CommandLine, planes: Planes, tmp_path: Path) -> None:
    sessions = tmp_path / "sessions.json"
    sessions.write_text(json.dumps({planes[0].url: "session-of-first"}))
    sessions.chmod(0o600)
    line.add("first", planes[0])
    line.add("second", planes[1])
    line.done("agents", "list")
    line.done("--context", "second", "agents", "list")
    assert planes[0].calls[0]["authorization"] == "Bearer session-of-first"
    assert "authorization" not in planes[1].calls[0]


def test_the_file_is_for_its_owner_and_lists_show_no_token(line: CommandLine, planes: Planes) -> None:
    line.add("prod", planes[0], "--token-stdin", said=TOKEN)
    assert S_IMODE(line.file.stat().st_mode) == 0o600
    assert S_IMODE(line.file.parent.stat().st_mode) == 0o700
    for words in (("context", "list"), ("context", "list", "--json")):
        assert TOKEN not in line.done(*words)
    assert json.loads(line.done("context", "list", "--json"))["contexts"] == [
        {"name": "prod", "url": planes[0].url, "workspace": None, "credential": "kept token", "used": True}
    ]
    line.file.chmod(0o644)
    ran = line.run("agents", "list")
    assert ran.returncode == MACHINE
    assert "chmod 600" in ran.stderr
    assert planes[0].calls == []


def test_a_removed_context_is_not_used_and_takes_its_token_along(line: CommandLine, planes: Planes) -> None:
    line.add("first", planes[0], "--token-stdin", said=TOKEN)
    line.add("second", planes[1])
    line.add("third", planes[1])
    line.done("context", "remove", "first")
    assert TOKEN not in line.file.read_text()
    ran = line.run("agents", "list")
    assert ran.returncode == MACHINE
    assert "aragora-cp context use NAME" in ran.stderr
    line.done("context", "list")
    line.done("context", "remove", "third")
    line.done("agents", "list")
    assert len(planes[1].calls) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("add", "a b", "--url", "http://127.0.0.1:1"),
        ("add", "a", "--url", "127.0.0.1:1"),
        ("add", "a", "--url", "http://u:secret@127.0.0.1:1"),
        ("add", "a", "--url", "http://127.0.0.1:1", "--workspace", "a b"),
        ("add", "a", "--url", "http://127.0.0.1:1", "--token-env", "a-token"),
        ("add", "a", "--url", "http://127.0.0.1:1", "--token-env", "A", "--token-stdin"),
    ],
    ids=lambda words: " ".join(words[2:]),
)
def test_what_is_no_context_is_refused_and_nothing_is_kept(line: CommandLine, words: tuple[str, ...]) -> None:
    ran = line.run("context", *words)
    assert ran.returncode == USAGE
    assert "secret" not in ran.stderr
    assert not line.file.exists()


def test_a_name_that_is_taken_needs_replace(line: CommandLine, planes: Planes) -> None:
    line.add("a", planes[0])
    assert line.run("context", "add", "a", "--url", planes[1].url).returncode == USAGE
    line.done("context", "add", "a", "--url", planes[1].url, "--replace")
    line.done("agents", "list")
    assert (len(planes[0].calls), len(planes[1].calls)) == (0, 1)


@pytest.mark.parametrize("words", [("use", "b"), ("remove", "b")], ids=" ".join)
def test_an_unknown_context_is_named(line: CommandLine, planes: Planes, words: tuple[str, str]) -> None:
    line.add("a", planes[0])
    ran = line.run("context", *words)
    assert ran.returncode == REFUSED
    assert "There is no context b" in ran.stderr
    ran = line.run("--context", "b", "agents", "list")
    assert ran.returncode == MACHINE
    assert "one of a" in ran.stderr


def test_an_empty_pipe_is_no_token_and_nobody_is_asked(line: CommandLine, planes: Planes) -> None:
    ran = line.run("context", "add", "a", "--url", planes[0].url, "--token-stdin")
    assert ran.returncode == MACHINE
    assert "Standard input" in ran.stderr
    assert not line.file.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"contexts": {"a": {"url": 1}}, "current": null}', '{"contexts": {}}'])
def test_a_file_that_holds_something_else_is_named_and_kept(line: CommandLine, text: str) -> None:
    line.file.parent.mkdir()
    line.file.write_text(text)
    line.file.chmod(0o600)
    ran = line.run("context", "add", "b", "--url", "http://127.0.0.1:1")
    assert ran.returncode == MACHINE
    assert str(line.file) in ran.stderr
    assert line.file.read_text() == text


def test_contexts_that_are_added_at_once_are_all_kept(line: CommandLine) -> None:
    def add(number: int) -> Any:
        return line.done("context", "add", f"c{number}", "--url", f"http://127.0.0.1:{number + 1}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    assert set(json.loads(line.file.read_text())["contexts"]) == {"c0", "c1", "c2", "c3"}


def test_a_control_plane_that_is_away_names_the_context(line: CommandLine) -> None:
    line.done("context", "add", "lab", "--url", "http://127.0.0.1:9")
    ran = line.run("agents", "list")
    assert ran.returncode == UNREACHABLE
    assert "fix: The context lab was used" in ran.stderr


def test_a_worker_sends_no_key_to_a_bare_context(line: CommandLine, planes: Planes) -> None:
    line.add("bare", planes[0])
    ran = line.run("worker", "run", "json:dumps", "--task-types", "a", ARAGORA_API_KEY=TOKEN)
    assert ran.returncode == USAGE
    assert "--token-env" in ran.stderr
    assert planes[0].calls == []
