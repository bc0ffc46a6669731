"""Who reads the time and the environment: a class that has the clock's port reads no other, and settings are loaded by roots."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from functools import cache

from tests.support.docs import ROOT

ROOMS = ("actors", "cluster", "regions", "serve_app")
#: Calls that read another clock than the port, or wait by one. ``asyncio.timeout`` is none: it bounds how long a peer may take.
OTHER_TIME = {
    *("time.time", "time.monotonic", "time.perf_counter", "time.sleep"),
    *("asyncio.sleep", "loop.time", "loop.call_later", "loop.call_at"),
}
#: The classes that have the port and use the loop's time beside it, and why.
BOTH = {
    "cluster/log/follower.py LogFollower": "the pause between two reads decides nothing, and readers go on while time is held",
    "cluster/rpc/exchange.py ExchangeServer": "a timer of the loop for each parked call: a task for each costs more",
    "cluster/rpc/exchange.py ExchangeClient": "asyncio's bounds, which it moves, count in the loop's time",
}
#: Where the environment is read or handed on, and how often. ruff refuses it elsewhere (TID251); each of these lines says why.
ENVIRONMENT = {
    "actors/runtime.py": 1,
    "cluster/cli/commands/batch.py": 2,
    "cluster/cli/commands/doctor.py": 1,
    "cluster/cli/connection.py": 2,
    "cluster/cli/haproxy.py": 2,
    "cluster/cli/main.py": 2,
    "cluster/cli/region_group.py": 1,
    "cluster/embedded/one_process.py": 1,
    "cluster/embedded/ray_cluster.py": 2,
    "cluster/process/haproxy.py": 2,
    "cluster/process/stopgap.py": 1,
    "cluster/settings.py": 1,
    "cluster/telemetry/tracing.py": 1,
    "serve_app/app.py": 1,
    "serve_app/http/forwarded.py": 1,
}


@cache
def modules() -> Sequence[tuple[str, ast.Module]]:
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return [(str(path.relative_to(ROOT)), ast.parse(path.read_text())) for path in paths]


def has_port(node: ast.ClassDef) -> bool:
    """Whether something of the class is annotated with the clock's port."""
    annotations = [each.annotation for each in ast.walk(node) if isinstance(each, ast.arg | ast.AnnAssign)]
    return any(isinstance(found, ast.Name) and found.id == "Clock" for found in annotations)


def other_times(node: ast.ClassDef) -> list[str]:
    found = []
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            of = "loop" if "loop" in ast.unparse(call.func.value) else ast.unparse(call.func.value)
            if f"{of}.{call.func.attr}" in OTHER_TIME and not _yields(call):
                found.append(f"{of}.{call.func.attr}")
    return found


def _yields(call: ast.Call) -> bool:
    """``asyncio.sleep(0)`` waits for no time: others get their turn."""
    return [ast.unparse(argument) for argument in call.args] == ["0"]


def test_a_class_with_the_clock_port_reads_no_other_time() -> None:
    with_port = [
        (f"{name} {node.name}", node)
        for name, module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef) and has_port(node)
    ]
    assert len(with_port) > 20
    assert {name: other_times(node) for name, node in with_port if other_times(node) and name not in BOTH} == {}
    assert {name for name, node in with_port if other_times(node)} == BOTH.keys()


def _reads(module: ast.Module) -> int:
    names = {"environ", "getenv", "putenv", "environb"}
    return sum(isinstance(node, ast.Attribute) and node.attr in names for node in ast.walk(module)) + sum(
        isinstance(node, ast.ImportFrom) and node.module == "os" and any(each.name in names for each in node.names)
        for node in ast.walk(module)
    )


def test_the_environment_is_read_where_it_is_known_to_be() -> None:
    assert Counter({name: _reads(module) for name, module in modules() if _reads(module)}) == ENVIRONMENT


#: The functions that read settings, and the modules whose business it is: roots of processes, and commands.
LOADERS = {"load_settings", "load_client_settings", "load_region_settings"}
ROOTS = ("actors/composition/", "actors/runtime.py", "cluster/cli/", "cluster/in_cluster.py", "serve_app/app.py")


def test_no_class_loads_settings_but_those_of_roots() -> None:
    loading = {
        f"{name} {node.name}"
        for name, module in modules()
        if not name.startswith(ROOTS)
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef)
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] in LOADERS
    }
    assert loading == set()


def test_what_the_look_finds_is_what_it_is_for() -> None:
    source = "class A:\n    def __init__(self, clock: Clock): ...\n    async def f(self):\n        await asyncio.sleep(WAIT_S)\n"
    (node,) = [each for each in ast.walk(ast.parse(source)) if isinstance(each, ast.ClassDef)]
    assert (has_port(node), other_times(node)) == (True, ["asyncio.sleep"])
    assert _reads(ast.parse("import os\nos.getenv('A')\nfrom os import environ")) == 2
