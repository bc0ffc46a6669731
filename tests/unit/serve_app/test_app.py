"""Importing the application has no effects."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import sys

seen = []
sys.addaudithook(lambda event, args: seen.append(event) if event == "socket.connect" else None)
import serve_app.app

assert "serve_app.replica" in sys.modules
# Whoever does not serve tools for language models, or agents of others, loads nothing of what they are made of.
assert not {name.partition(".")[0] for name in sys.modules} & {"a2a", "mcp", "mcp_types", "httpx2", "sse_starlette"}
print("did", *seen)
import socket
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()).close()
server.close()
print("then", *seen)
"""


def test_importing_the_application_opens_no_connection() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    first, then = done.stdout.splitlines()
    assert first == "did"
    assert then == "then socket.connect", "the probe sees sockets at all"
