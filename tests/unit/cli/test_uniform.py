"""``--json`` and ``--watch`` of every command, and questions that a pipe is not asked."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cluster.cli.exit_codes import INTERRUPTED, REFUSED, UNREACHABLE, USAGE
from cluster.cli.uniform import READING, WITHOUT_JSON, WITHOUT_WATCH
from tests.support.system import clean_environment
from tests.unit.cli.test_usage import LEAVES

COMMAND = str(Path(sys.executable).with_name("aragora-cp"))


class Answering:
    """A server that gives the answer at hand to every call, with its status."""

    def __init__(self) -> None:
        self.status, self.answer = 200, dict[str, Any]()
        self.calls: list[str] = []
        self.asked = threading.Condition()
        ours = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = json.dumps(ours.answer).encode()
                self.send_response(ours.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                with ours.asked:
                    ours.calls.append(f"{self.command} {self.path}")
                    ours.asked.notify_all()

            do_GET = do_POST = do_DELETE = _answer

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = clean_environment(ARAGORA_API_URL=self.url)
        return subprocess.run(
            [COMMAND, *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )

    def started(self, *words: str) -> subprocess.Popen[str]:
        environment = clean_environment(ARAGORA_API_URL=self.url)
        # Whoever runs the tests in the background may have them ignore what ^C sends, and a child inherits that.
        return subprocess.Popen(
            [COMMAND, *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )


@pytest.fixture
def api() -> Iterator[Answering]:
    server = Answering()
    yield server
    server.close()


def test_every_command_has_json_but_those_that_are_named() -> None:
    without = {
        path
        for path, command in LEAVES.items()
        if "--json" not in [opt for each in command.params for opt in each.opts]
    }
    assert without == WITHOUT_JSON


def test_every_command_that_only_reads_can_be_watched() -> None:
    watched = {path for path, command in LEAVES.items() if "watch" in {each.name for each in command.params}}
    assert watched == {path for path in LEAVES if path[-1] in READING} - WITHOUT_WATCH
    assert {("tasks", "list"), ("tasks", "show"), ("agents", "list"), ("deliberations", "show"), ("status",)} <= watched


def test_json_prints_the_answer_and_nothing_else(api: Answering) -> None:
    api.answer = {"id": "a", "paused": True}
    ran = api.run("queue", "pause", "q", "--json")
    assert (ran.returncode, json.loads(ran.stdout)) == (0, api.answer)
    assert api.run("queue", "pause", "q").stdout == "Paused queue q.\n"


def test_json_of_a_command_that_prints_json_is_the_same(api: Answering) -> None:
    api.answer = {"id": "t", "words": "ü"}
    ran = api.run("tasks", "show", "t", "--json")
    assert ran.stdout == api.run("tasks", "show", "t").stdout
    assert json.loads(ran.stdout) == api.answer


def test_json_of_several_calls_tells_all(api: Answering) -> None:
    api.answer = {"revoked": True}
    ran = api.run("keys", "revoke", "k1", "k2", "--json")
    assert json.loads(ran.stdout) == {"revoked": [api.answer, api.answer]}


def test_json_keeps_the_exit_code_of_a_refusal_and_prints_nothing(api: Answering) -> None:
    api.status, api.answer = 404, {"error": "There is none.", "code": "not_found", "trace_id": "t"}
    ran = api.run("queue", "pause", "q", "--json")
    assert (ran.returncode, ran.stdout) == (REFUSED, "")
    assert "There is none." in ran.stderr


def test_local_commands_print_json_too(tmp_path: Path) -> None:
    environment = clean_environment(ARAGORA_DATA_DIR=str(tmp_path))
    for words, name in ((("version",), "version"), (("secrets", "generate"), "ARAGORA_SECRETS_KEY")):
        ran = subprocess.run([COMMAND, *words, "--json"], env=environment, capture_output=True, text=True, timeout=60)
        assert json.loads(ran.stdout)[name], ran.stderr


def _ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    process.send_signal(signal.SIGINT)
    output, problems = process.communicate(timeout=60)
    return process.returncode, output + problems


def test_a_watch_prints_each_change_as_one_line_of_json(api: Answering) -> None:
    api.answer = {"id": "t", "status": "pending"}
    process = api.started("tasks", "show", "t", "--watch", "--interval", "0.2", "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline()) == {"id": "t", "status": "pending"}
    with api.asked:
        seen = len(api.calls)
        assert api.asked.wait_for(lambda: len(api.calls) >= seen + 2, 60)
    api.answer = {"id": "t", "status": "running"}
    assert json.loads(process.stdout.readline())["status"] == "running"
    assert _ended(process) == (INTERRUPTED, "")


def test_a_watch_goes_on_over_an_outage_and_says_so_once(api: Answering) -> None:
    api.status, api.answer = 503, {"error": "The database is away.", "code": "store_unavailable", "trace_id": "t"}
    process = api.started("queue", "metrics", "--watch", "--interval", "0.2")
    with api.asked:
        assert api.asked.wait_for(lambda: len(api.calls) >= 3, 60)
    api.answer, api.status = {"pending": 7}, 200
    assert process.stdout is not None
    assert process.stdout.readline() == "{\n"
    code, rest = _ended(process)
    assert code == INTERRUPTED
    assert rest.count("The database is away.") == 1


def test_a_watch_of_what_is_refused_ends(api: Answering) -> None:
    api.status, api.answer = 404, {"error": "There is no task t.", "code": "not_found", "trace_id": "t"}
    assert api.run("tasks", "show", "t", "--watch").returncode == REFUSED


def test_a_status_that_is_not_healthy_is_watched_on(api: Answering) -> None:
    api.answer = {"status": "degraded", "version": "1", "uptime_seconds": 1, "components": []}
    assert api.run("status", "--json").returncode == UNREACHABLE
    process = api.started("status", "--watch", "--interval", "0.2", "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["status"] == "degraded"
    api.answer = {**api.answer, "status": "healthy"}
    assert json.loads(process.stdout.readline())["status"] == "healthy"
    assert _ended(process)[0] == INTERRUPTED


@pytest.mark.parametrize("words", [("erase", "--task", "t"), ("retention", "run")], ids=" ".join)
def test_a_pipe_is_asked_nothing(api: Answering, words: tuple[str, ...]) -> None:
    ran = api.run(*words)
    assert ran.returncode == USAGE
    assert "--yes" in ran.stderr
    assert api.calls == []


def test_a_terminal_is_asked_and_no_ends_it(api: Answering) -> None:
    ours, theirs = pty.openpty()
    environment = clean_environment(ARAGORA_API_URL=api.url)
    process = subprocess.Popen(
        [COMMAND, "erase", "--task", "t"], env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, b"n\n")
    assert process.wait(60) == 1
    assert api.calls == []
    assert b"Go on?" in os.read(ours, 4096)
    os.close(ours)
