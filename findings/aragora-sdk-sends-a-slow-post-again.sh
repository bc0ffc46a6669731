#!/usr/bin/env bash
# Subject: aragora-sdk 2.11.0 from PyPI, against a plain loopback server of Python's standard library.
# A good guess: a POST that creates something is not sent again by itself, or under an idempotency key; an answer of 503 with
# Retry-After is what is tried again.
# Behaviour seen: the other way round. A POST whose answer does not come within `timeout` is sent three times in all, each time
# with the same body and without an Idempotency-Key header; a 429 too. A 503 with Retry-After is raised at once.
# Output seen:
#   slow answer: 3 requests, 1 body, 0 with Idempotency-Key, TimeoutError
#   status 429: 3 requests, 1 body, 0 with Idempotency-Key, RateLimitError
#   status 503: 1 request, 1 body, 0 with Idempotency-Key, ServerError
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check aragora-sdk==2.11.0
cat > "$dir/run.py" <<'PY'
import http.server
import json
import threading

from aragora_sdk import AragoraClient


def watch(name, status, holds):
    """What one `create_task` sends to a server that answers `status`, once `holds` is set."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((body, "Idempotency-Key" in self.headers))
            holds.wait()
            answer = json.dumps({"error": "later", "code": "unavailable", "trace_id": "t"}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.send_header("Retry-After", "1")
            self.end_headers()
            try:
                self.wfile.write(answer)
            except OSError:
                pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with AragoraClient(base_url=f"http://127.0.0.1:{server.server_port}", timeout=1.0) as client:
        try:
            client.control_plane.create_task(task_type="t", payload={})
            ended = "answered"
        except Exception as error:
            ended = type(error).__name__
    holds.set()
    server.shutdown()
    many = "s" if len(seen) > 1 else ""
    keyed = sum(has_key for _, has_key in seen)
    bodies = len({body for body, _ in seen})
    return f"{name}: {len(seen)} request{many}, {bodies} body, {keyed} with Idempotency-Key, {ended}"


at_once = threading.Event()
at_once.set()
got = [
    watch("slow answer", 200, threading.Event()),
    watch("status 429", 429, at_once),
    watch("status 503", 503, at_once),
]
print("\n".join(got))
assert got == [
    "slow answer: 3 requests, 1 body, 0 with Idempotency-Key, TimeoutError",
    "status 429: 3 requests, 1 body, 0 with Idempotency-Key, RateLimitError",
    "status 503: 1 request, 1 body, 0 with Idempotency-Key, ServerError",
], "the behaviour has changed"
PY
"$dir/venv/bin/python" "$dir/run.py"
