"""Agents for tests: real HTTP servers that speak the plain agent contract."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cluster.domain.agents.calls import AgentCall


@contextmanager
def answering_agent(answer: Mapping[str, Any]) -> Iterator[str]:
    """The URL of an agent that always gives the same typed answer."""
    body = json.dumps(answer).encode()

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _reply

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def a_call(agent_id: str, **changes: Any) -> AgentCall:
    """A turn that an agent is asked for."""
    values: dict[str, Any] = {
        "workspace": "default",
        "agent_id": agent_id,
        "messages": [{"role": "user", "content": "Which?"}],
        "schema": {"type": "object"},
        "max_tokens": 64,
        "timeout_s": 20.0,
        "key": "turn-1",
    }
    return AgentCall(**(values | changes))
