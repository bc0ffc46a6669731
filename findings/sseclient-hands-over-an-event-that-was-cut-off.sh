#!/usr/bin/env bash
# Subject: sseclient-py 1.9.0 (PyPI), a reader of server-sent events, beside httpx-sse 0.4.3.
# A good guess: both read a stream as the HTML standard says ("server-sent events", interpreting an event stream): an event whose
# blank line never came is discarded, and the id of an event holds for those after it until another id is sent.
# Behaviour seen: sseclient-py hands over what was there when the connection ended as an event like any other: half of its lines of
# data, so a cut document (JSON of several lines fails to parse, a text is short and nobody knows). And an event without an id has
# the id None: who keeps the id of the last event to resume from loses its place with the first event that has none. httpx-sse does
# both as the standard says.
# Output seen:
#   sseclient-py: ('7', 'one'), (None, 'two'), (None, 'first line of two')
#   httpx-sse: ('7', 'one'), ('7', 'two')
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check sseclient-py==1.9.0 httpx-sse==0.4.3 httpx==0.28.1
cat > "$dir/run.py" <<'PY'
import httpx
import httpx_sse
import sseclient

# What a client has of a stream whose connection ends amid its third event.
STREAM = b"id: 7\ndata: one\n\ndata: two\n\ndata: first line of two\n"


def answer(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=STREAM)


by_sseclient = [(event.id, event.data) for event in sseclient.SSEClient(iter([STREAM])).events()]
with httpx.Client(transport=httpx.MockTransport(answer)) as client:
    with httpx_sse.connect_sse(client, "GET", "http://127.0.0.1/") as source:
        by_httpx = [(event.id, event.data) for event in source.iter_sse()]
got = [
    "sseclient-py: " + ", ".join(map(str, by_sseclient)),
    "httpx-sse: " + ", ".join(map(str, by_httpx)),
]
print("\n".join(got))
assert got == [
    "sseclient-py: ('7', 'one'), (None, 'two'), (None, 'first line of two')",
    "httpx-sse: ('7', 'one'), ('7', 'two')",
], "the behaviour has changed"
PY
"$dir/venv/bin/python" "$dir/run.py"
