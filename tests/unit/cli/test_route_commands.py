"""What the API can do has a command, or a reason why not: each command is run against a server that notes its calls."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli.main import app
from serve_app.application import PREFIXES
from tests.support.api import CP
from tests.support.routes import http_routes

#: Route → a command that calls it. Below PREFIXES[0] unless the path begins with two slashes.
COMMANDS = {
    "GET //health/detailed": "status",
    "POST /tasks": "tasks submit review",
    "POST /tasks/batch": "tasks import lines.jsonl",
    "POST /tasks/{}/cancel": "tasks cancel t",
    "POST /tasks/{}/children": "tasks submit review --parent t --lease-token l",
    "GET /tasks": "tasks list",
    "GET /tasks/history": "tasks history",
    "GET /tasks/{}": "tasks show t",
    "GET /tasks/{}/events": "tasks events t",
    "GET /tasks/{}/explain": "tasks explain t",
    "GET /tasks/{}/chunks/stream": "tasks follow t",
    "GET /questions": "questions list",
    "POST /tasks/{}/answer": "questions approve t",
    "POST /agents": "agents register a",
    "POST /agents/batch": "agents import lines.jsonl",
    "GET /agents": "agents list",
    "GET /agents/{}": "agents show a",
    "GET /health/{}": "agents show a",
    "GET /agents/{}/metrics": "agents show a",
    "DELETE /agents/{}": "agents remove a",
    "POST /agents/{}/pause": "agents pause a",
    "POST /agents/{}/drain": "agents drain a",
    "POST /agents/{}/resume": "agents resume a",
    "GET /health": "agents health",
    "GET /breakers": "agents breakers",
    "GET /queue": "queue jobs",
    "GET /queue/metrics": "queue metrics",
    "POST /queue/prioritize": "queue prioritize t high",
    "GET /queue/controls": "queue controls",
    "PUT /queue/controls": "queue weight tenant 2",
    "POST /queue/pause": "queue pause q",
    "POST /queue/resume": "queue resume q",
    "GET /dead-letter": "dlq list",
    "GET /dead-letter/{}": "dlq show t",
    "POST /dead-letter/replay": "dlq replay t",
    "POST /dead-letter/purge": "dlq purge --all",
    "POST /deliberations": "deliberate Which?",
    "GET /deliberations": "deliberations list",
    "GET /deliberations/{}": "deliberations show d",
    "GET /deliberations/{}/transcript": "deliberations transcript d",
    "POST /deliberations/{}/cancel": "deliberations cancel d",
    "POST /deliberations/{}/outcome": "deliberations outcome d tea",
    "GET /deliberations/{}/receipt": "receipts get d",
    "GET /receipts/keys": "receipts keys",
    "POST /outcomes/batch": "outcomes import outcomes.jsonl",
    "GET /weights": "weights",
    "GET /weights/alarms": "weights alarms",
    "GET /weights/{}": "weights show s",
    "GET /schedules": "schedules list",
    "POST /schedules": "schedules create --every 60",
    "GET /schedules/{}": "schedules show s",
    "PUT /schedules/{}": "schedules update s --name n",
    "DELETE /schedules/{}": "schedules delete s",
    "POST /schedules/{}/pause": "schedules pause s",
    "POST /schedules/{}/resume": "schedules resume s",
    "POST /schedules/{}/run": "schedules run s",
    "GET /schedules/{}/preview": "schedules preview s",
    "GET /credentials": "credentials list",
    "GET /credentials/{}": "credentials show c",
    "POST /credentials": "credentials set c --file secret",
    "POST /credentials/{}/rotate": "credentials rotate c --file secret",
    "DELETE /credentials/{}": "credentials delete c",
    "GET /workflow-schema": "workflows schema",
    "GET /workflows": "workflows list",
    "POST /workflows": "workflows apply workflow.json",
    "GET /workflows/{}": "workflows show w",
    "DELETE /workflows/{}": "workflows delete w",
    "POST /workflows/{}/runs": "workflows run w",
    "GET /workflow-runs": "workflows runs",
    "GET /workflow-runs/{}": "workflows status r",
    "POST /workflow-runs/{}/cancel": "workflows cancel r",
    "POST /workflow-runs/{}/replay": "workflows replay r",
    "POST /workflow-runs/{}/signals/{}": "workflows signal r s",
    "GET /hooks": "hooks list",
    "POST /hooks": "hooks create h --workflow w",
    "GET /hooks/{}": "hooks show h",
    "PUT /hooks/{}": "hooks update h --workflow w",
    "POST /hooks/{}/rotate": "hooks rotate h",
    "POST /hooks/{}/pause": "hooks pause h",
    "POST /hooks/{}/resume": "hooks resume h",
    "DELETE /hooks/{}": "hooks delete h",
    "GET /notifications": "notifications list",
    "GET /notifications/stats": "notifications stats",
    "GET /notifications/channels": "notifications channels list",
    "POST /notifications/channels": "notifications channels set c --kind slack",
    "DELETE /notifications/channels/{}": "notifications channels delete c",
    "POST /notifications/channels/{}/test": "notifications channels test c",
    "GET /notifications/rules": "notifications rules list",
    "POST /notifications/rules": "notifications rules set r --event * --channel c",
    "DELETE /notifications/rules/{}": "notifications rules delete r",
    "GET /notifications/{}": "notifications show n",
    "POST /notifications/{}/replay": "notifications replay n",
    "GET /policies": "policies list",
    "POST /policies": "policies create --name p",
    "POST /policies/dry-run": "policies create --name p --dry-run",
    "GET /policies/{}": "policies show p",
    "PUT /policies/{}": "policies update p --name n",
    "DELETE /policies/{}": "policies delete p",
    "GET /policies/{}/versions": "policies versions p",
    "POST /policies/{}/rollback": "policies rollback p 1",
    "GET /policies/violations": "policies violations list",
    "GET /policies/violations/stats": "policies violations stats",
    "GET /policies/violations/{}": "policies violations show v",
    "PATCH /policies/violations/{}": "policies violations set v resolved",
    "GET /budgets": "budgets list",
    "POST /budgets": "budgets create b --limit 1 --estimate 1",
    "GET /budgets/{}": "budgets show b",
    "PUT /budgets/{}": "budgets update b --limit 2",
    "DELETE /budgets/{}": "budgets delete b",
    "GET /spending": "budgets spending",
    "GET /quotas": "quotas show",
    "PUT /quotas": "quotas set --agents 5",
    "GET /stats": "metrics fleet",
    "GET /metrics": "metrics today",
    "GET /metrics/system": "metrics system",
    "GET /metrics/tasks": "metrics tasks",
    "GET /story/{}": "story t",
    "GET /audit": "audit list",
    "GET /audit/stats": "audit stats",
    "GET /audit/verify": "audit check",
    "GET /audit-logs/{}": "audit entry 1",
    "POST /erasures": "erase --task t --yes",
    "GET /retention": "retention show",
    "PUT /retention": "retention set --task-days 1",
    "POST /retention/run": "retention run --yes",
    "GET /stream": "events --after 0",
    "GET /workspaces": "workspaces list",
    "POST /workspaces": "workspaces create w",
    "PATCH /workspaces/{}": "workspaces suspend w",
    "DELETE /workspaces/{}": "workspaces delete w",
    "GET /workspaces/{}/members": "members list w",
    "PUT /workspaces/{}/members": "members add w user:a@b.de viewer",
    "DELETE /workspaces/{}/members": "members remove w user:a@b.de viewer",
    "GET /roles": "roles list",
    "PUT /roles/{}": "roles set r controlplane:tasks.read",
    "DELETE /roles/{}": "roles delete r",
    "POST /keys": "keys create k --grants viewer",
    "GET /keys": "keys list",
    "POST /keys/{}/rotate": "keys rotate k",
    "DELETE /keys/{}": "keys revoke k",
    "POST /auth/device": "login",
    "POST /auth/device/token": "login",
    "POST /auth/logout": "logout",
    "GET /auth/caller": "whoami",
}

_WORKER = "The holder of a lease calls it: `aragora-cp worker run`, and the kits of workers."
_BROWSER = "Browsers call it on the way of a login."
#: Route → why no command calls it.
WITHOUT = {
    **dict.fromkeys(
        (
            *("POST /tasks/claim", "POST /tasks/complete", "POST /tasks/fail", "POST /tasks/{}/complete"),
            *("POST /tasks/{}/fail", "POST /tasks/{}/stopped", "POST /tasks/{}/extend", "POST /tasks/{}/chunks"),
            *("POST /tasks/{}/ask", "POST /tasks/{}/park", "POST /agents/heartbeats", "POST /agents/{}/heartbeat"),
        ),
        _WORKER,
    ),
    **dict.fromkeys(("GET /auth/login", "GET /auth/callback", "GET /auth/session", "POST /auth/ticket"), _BROWSER),
    "GET //health": "Kubernetes and load balancers ask it; `status` says more.",
    "GET //health/live": "Kubernetes asks it; `status` says more.",
    "GET //metrics": "Prometheus reads it; `metrics` has the numbers as JSON.",
    "GET /health/detailed": "The same as at the root, where `status` asks.",
    "GET /metrics/agents/{}": "An older path of /agents/{}/metrics.",
    "GET /regions": "`region status` asks the leader itself, which answers also while the API and its database are away.",
    "GET /audit-logs": "An older path of /audit.",
    "GET /tasks/{}/chunks": "`tasks follow` reads the same chunks as a stream, which begins with those that there are.",
    "POST /dead-letter/{}/replay": "`dlq replay ID` replays one as it replays many.",
    "GET /deliberations/{}/status": "`deliberations show` has the status.",
    "GET /spending/export": "`budgets spending --csv` prints the same lines.",
    "GET /audit/export": "For collectors, which read it as it grows; `audit list` has the same entries.",
    "POST /hooks/{}": "The sender of a webhook calls it, with a signature.",
}

#: What makes a command go on after its first call.
ANSWER = {
    "last_event_id": 0,
    "device_code": "d",
    "user_code": "u",
    "verification_uri": "https://example.com",
    "interval": 1,
    "expires_in": 60,
    "token": "t",
    "principal": "user:a@b.de",
    "ended": True,
}


def _template(path: str) -> str:
    short = path.removeprefix(PREFIXES[0]) if path.startswith(f"{CP}/") else f"/{path}"
    return re.sub(r"\{[^}]*\}", "{}", short)


ROUTES = {
    f"{route.method} {_template(route.path)}" for route in http_routes() if not route.path.startswith(PREFIXES[1])
}


class _Noting(BaseHTTPRequestHandler):
    calls: list[str]

    def _answer(self) -> None:
        self.calls.append(f"{self.command} {self.path.partition('?')[0]}")
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        streams = "event-stream" in self.headers.get("Accept", "")
        body = b'{"error": "None.", "code": "not_found", "trace_id": "t"}' if streams else json.dumps(ANSWER).encode()
        self.send_response(404 if streams else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """The calls that a control plane got, which is the one that the environment names. The directory at hand has what commands
    read."""
    handler = type("Handler", (_Noting,), {"calls": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARAGORA_API_URL", url)
    monkeypatch.setenv("ARAGORA_CREDENTIALS_FILE", str(tmp_path / "sessions.json"))
    (tmp_path / "sessions.json").write_text(json.dumps({url: "session"}))
    (tmp_path / "sessions.json").chmod(0o600)
    (tmp_path / "lines.jsonl").write_text('{"task_type": "review", "agent_id": "a"}\n')
    (tmp_path / "outcomes.jsonl").write_text('{"id": "q", "votes": {"a": "x"}, "correct": "x"}\n')
    (tmp_path / "secret").write_text("a secret")
    (tmp_path / "workflow.json").write_text('{"name": "w", "steps": []}')
    yield handler.calls
    server.shutdown()
    serving.join()
    server.server_close()


def test_every_route_has_a_command_or_a_reason() -> None:
    assert set(COMMANDS) & set(WITHOUT) == set()
    assert set(COMMANDS) | set(WITHOUT) == ROUTES


@pytest.mark.parametrize("route", sorted(COMMANDS))
def test_the_command_of_a_route_calls_it(route: str, calls: list[str]) -> None:
    CliRunner().invoke(app, COMMANDS[route].split())
    method, path = route.split(" ")
    whole = path[1:] if path.startswith("//") else PREFIXES[0] + path
    pattern = f"{method} " + re.escape(whole).replace(r"\{\}", "[^/]+")
    assert any(re.fullmatch(pattern, call) for call in calls), calls
