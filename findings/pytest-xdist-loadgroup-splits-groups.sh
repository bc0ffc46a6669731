#!/usr/bin/env bash
# Subject: pytest-xdist 3.8.0 (PyPI) with pytest 9.2.0, --dist loadgroup.
# A good guess: tests that are marked @pytest.mark.xdist_group("system") run in one worker, as the documentation says, and an option
# that could not do that would fail or warn.
# Behaviour seen: the run passes, nothing is said, and the tests of one group are spread over all workers: --dist loadgroup behaves as
# --dist load. Tests that share a server or a port by their group then run at the same time. A scheduler of one's own (the hook
# pytest_xdist_make_scheduler with a LoadScopeScheduling whose _split_scope reads the test's id) does keep a group together.
# Output seen:
#   workers of the group: 2, tests: 12
#   workers with a scheduler of one's own: 1, tests: 12
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check pytest==9.2.0 pytest-xdist==3.8.0
mkdir "$dir/tests"
cat > "$dir/tests/test_group.py" <<'PY'
import time
from pathlib import Path

import pytest


@pytest.mark.xdist_group("system")
@pytest.mark.parametrize("number", range(12))
def test_member(number: int, worker_id: str) -> None:
    time.sleep(0.1)  # long enough for the other worker to take its share
    with (Path(__file__).parent / "workers.txt").open("a") as file:
        file.write(worker_id + "\n")
PY
run() {
    rm -f "$dir/tests/workers.txt"
    (cd "$dir/tests" && "$dir/venv/bin/python" -m pytest -q -p no:cacheprovider -n 2 --dist "$1" . >/dev/null)
    workers=$(sort -u "$dir/tests/workers.txt" | wc -l)
    tests=$(wc -l < "$dir/tests/workers.txt")
}
run loadgroup
echo "workers of the group: $workers, tests: $tests"
[ "$workers" -eq 2 ] && [ "$tests" -eq 12 ]
cat > "$dir/tests/conftest.py" <<'PY'
import pytest
from xdist.scheduler import LoadScopeScheduling


class Together(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return "system"


@pytest.hookimpl
def pytest_xdist_make_scheduler(config, log):
    return Together(config, log)
PY
run loadscope
echo "workers with a scheduler of one's own: $workers, tests: $tests"
[ "$workers" -eq 1 ] && [ "$tests" -eq 12 ]
