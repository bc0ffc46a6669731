#!/usr/bin/env bash
# Subject: Ray Serve 2.60.0 (PyPI ray[serve]), code that runs in a replica, with RAY_SERVE_LOG_TO_STDERR=0 (logs go to files alone).
# A good guess: Serve redirects what a replica prints to its log and leaves print(..., file=f) alone, as the docstring of its
# replacement says ("call the builtin print"), so libraries that write to files or buffers of their own are not touched.
# Behaviour seen: the replacement hands its arguments to the builtin as one tuple. In a replica print("a", "b", file=f) writes the
# tuple's repr, in every file. So does all that prints to a buffer: traceback.print_exc(file=f), and logging.Formatter, which makes
# the text of an exception that way. A handler of one's own therefore logs each stack trace as one line of reprs with \n in them.
# Neither sep nor the lines are left. traceback.format_exception does not print, and is right.
# Output seen:
#   print to a buffer: ('a', 'b')\n
#   logging.Formatter, lines: 1, begins with: ('Traceback (most recent call last):\n',)('
#   traceback.format_exception, lines: 4
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'ray[serve]==2.60.0'
cat > "$dir/run.py" <<'PY'
import io
import logging
import sys
import traceback

import ray
from ray import serve


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Printer:
    def found(self) -> list[str]:
        buffer = io.StringIO()
        print("a", "b", file=buffer)
        try:
            raise KeyError("k")
        except KeyError:
            raised = sys.exc_info()
        formatted = logging.Formatter().formatException(raised)
        right = "".join(traceback.format_exception(*raised)).rstrip("\n")
        return [buffer.getvalue(), formatted, right]


ray.init(include_dashboard=False, log_to_driver=False, num_cpus=1, configure_logging=False)
printed, formatted, right = serve.run(Printer.bind(), route_prefix=None).found.remote().result()
serve.shutdown()
ray.shutdown()
print(f"print to a buffer: {printed.encode('unicode_escape').decode()!s}")
print(f"logging.Formatter, lines: {len(formatted.splitlines())}, begins with: {formatted[:43]}")
print(f"traceback.format_exception, lines: {len(right.splitlines())}")
assert printed == "('a', 'b')\n", printed
assert formatted.startswith("('Traceback (most recent call last):\\n',)"), formatted
assert len(formatted.splitlines()) == 1, formatted
assert right.startswith("Traceback (most recent call last):\n"), right
assert len(right.splitlines()) > 1, right
PY
cd "$dir"
HOME="$dir" RAY_SERVE_LOG_TO_STDERR=0 RAY_USAGE_STATS_ENABLED=0 RAY_TMPDIR="$dir" "$dir/venv/bin/python" run.py
