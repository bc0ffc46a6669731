#!/usr/bin/env bash
# Subject: cloudevents 2.2.0 (PyPI), the CloudEvents SDK for Python, its HTTP binding.
# A good guess: reading an event gives the attributes that were sent (`time` is optional in CloudEvents 1.0), so the same message
# read twice is the same event; and a boolean extension is "true" on the wire, the canonical text of the type in the
# specification, in either mode.
# Behaviour seen: an event without a time gets that of its reading. A redelivered message has another time with each delivery, an
# old one looks new, and one that is passed on claims a time that its source never said. In binary mode a boolean is `True`, as
# Python writes it, so a filter on "true" of a broker or of another SDK does not match; structured mode has the JSON value.
# Output seen:
#   without time: read has time True, sent on has ce-time True
#   two readings of one message are equal: False
#   binary: ce-urgent 'True', read again 'True'
#   structured: "urgent": true
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check cloudevents==2.2.0
cat > "$dir/run.py" <<'PY'
import json
import re

from cloudevents.core.bindings.http import (
    HTTPMessage,
    from_binary_event,
    from_http_event,
    to_binary_event,
    to_structured_event,
)
from cloudevents.core.v1.event import CloudEvent

message = HTTPMessage({"ce-id": "1", "ce-type": "t", "ce-source": "/s", "ce-specversion": "1.0"}, b"")
once, again = from_http_event(message), from_http_event(message)
sent_on = to_binary_event(once)
event = CloudEvent({"id": "1", "type": "t", "source": "/s", "specversion": "1.0", "urgent": True}, {})
binary = to_binary_event(event)
structured = to_structured_event(event)
got = [
    f"without time: read has time {once.get_time() is not None}, sent on has ce-time {'ce-time' in sent_on.headers}",
    f"two readings of one message are equal: {once.get_attributes() == again.get_attributes()}",
    f"binary: ce-urgent {binary.headers['ce-urgent']!r}, read again {from_binary_event(binary).get_extension('urgent')!r}",
    "structured: " + re.search(r'"urgent": ?\w+', structured.body.decode())[0],
]
assert json.loads(structured.body)["urgent"] is True
print("\n".join(got))
assert got == [
    "without time: read has time True, sent on has ce-time True",
    "two readings of one message are equal: False",
    "binary: ce-urgent 'True', read again 'True'",
    'structured: "urgent": true',
], "the behaviour has changed"
PY
"$dir/venv/bin/python" "$dir/run.py"
