"""The command line loads what a command needs: the time that it takes to start is that of its imports, which are counted here."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.docs import ROOT
from tests.support.system import clean_environment

#: What takes long to load and no plain command needs: Ray, drivers, servers, arithmetic, cryptography, checks of schemas.
HEAVY = (
    *(
        "a2a",
        "asyncpg",
        "celpy",
        "cryptography",
        "fastapi",
        "grpc",
        "httpx2",
        "jsonschema",
        "matplotlib",
        "mcp",
        "numpy",
        "prometheus_client",
        "textual",
    ),
    *("ray", "redis", "starlette", "uvicorn"),
)
#: All modules together, of which some 350 are the standard library's and some 200 typer's, pydantic's and httpx's.
MOST = 776

PROGRAM = """
import sys
from cluster.cli.main import main
sys.argv = ["aragora-cp", *sys.argv[1:]]
try:
    main()
finally:
    roots = {name.partition(".")[0] for name in sys.modules}
    print(len(sys.modules), *sorted(roots & set(%r)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "words",
    [["--version"], ["--help"], ["tasks", "list"], ["agents", "list"], ["deliberate", "Which?"], ["batch", "--help"]],
    ids=" ".join,
)
def test_a_plain_command_loads_no_drivers_and_no_arithmetic(words: list[str], tmp_path: object) -> None:
    environment = {**clean_environment(), "ARAGORA_API_URL": "http://127.0.0.1:1", "ARAGORA_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-c", PROGRAM % (HEAVY,), *words]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    count, *heavy = ran.stderr.splitlines()[-1].split()
    assert heavy == []
    assert int(count) < MOST
