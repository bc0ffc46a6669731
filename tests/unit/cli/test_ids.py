"""Commands that take an id, against a server that notes the paths it is asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import typer
from typer.core import TyperArgument as Argument
from typer.core import TyperGroup as Group
from typer.testing import CliRunner

from cluster.cli.main import app
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.ids import path_segment

ODD = "victim?x=1#y"
ENCODED = "victim%3Fx%3D1%23y"
#: Arguments that are ids, but for `deliberations outcome`, whose other argument is free.
IDS = {"agent_id", "task_id", "request_id", "workspace", "key_id", "key_ids", "snapshot_id", "subject_id"}
#: Commands that send the id in a body.
IN_BODY = {("workspaces", "create"), ("queue", "prioritize"), ("agents", "register")}


class _Noting(BaseHTTPRequestHandler):
    paths: list[str]

    def _answer(self) -> None:
        self.paths.append(self.path)
        body = b'{"error": "There is none.", "code": "not_found", "trace_id": "t"}'
        self.send_response(404)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The paths that a control plane was asked for, which is the one that the environment names."""
    handler = type("Handler", (_Noting,), {"paths": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    monkeypatch.setenv("ARAGORA_API_URL", f"http://127.0.0.1:{server.server_port}")
    yield handler.paths
    server.shutdown()
    serving.join()
    server.server_close()


def _commands(group: Group, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if isinstance(command, Group):
            yield from _commands(command, *names, name)
        else:
            yield (*names, name), command


def _with_ids() -> dict[tuple[str, ...], list[Argument]]:
    root = typer.main.get_command(app)
    assert isinstance(root, Group)
    found = {}
    for names, command in _commands(root):
        arguments = [parameter for parameter in command.params if isinstance(parameter, Argument)]
        if any(argument.name in IDS for argument in arguments) and names not in IN_BODY:
            found[names] = arguments
    return found


@pytest.mark.parametrize("names", sorted(_with_ids()), ids=" ".join)
def test_a_command_asks_for_the_id_it_was_given(names: tuple[str, ...], paths: list[str]) -> None:
    words = [ODD if argument.name in IDS else "true" for argument in _with_ids()[names]]
    CliRunner().invoke(app, [*names, *words])
    assert paths
    assert all(ENCODED in path.split("?")[0].split("/") for path in paths), paths


def test_the_walk_finds_the_commands_with_ids() -> None:
    assert len(_with_ids()) >= 20, sorted(_with_ids())


@pytest.mark.parametrize("odd", ["", ".", "..", "a/explain", "\udc80"])
def test_what_no_path_can_name_is_refused(odd: str) -> None:
    with pytest.raises(InvalidRequest, match="is not an id"):
        path_segment(odd)
