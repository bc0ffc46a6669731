"""Every port with two adapters has one suite in tests/conformance, which runs each of them."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache

import pytest

from tests.support.docs import ROOT

#: Port → its adapters in the product, and the suite that runs them. A class that hands a port's calls on is no adapter.
SUITES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "AgentTransport": (("HttpTransports", "A2ATransport", "PythonTransport"), "test_agent_transports.py"),
    "Clock": (("SystemClock", "ManualClock"), "test_clock.py"),
    "ConsensusGroup": (("GroupOfOne", "EtcdGroup"), "test_consensus_group.py"),
    "RateLimits": (("RedisRateLimits", "LocalRateLimits"), "test_rate_limits.py"),
    "ReplicationLink": (("TlsLink",), "test_replication_link.py"),
}
#: Classes with the methods of a port that are no second adapter of it, and why.
NO_ADAPTERS: Mapping[str, Mapping[str, str]] = {
    "AgentTransport": {
        "Recorder": "hands on to another, and notes it",
        "ReplayTransport": "gives recorded answers to the commands that evaluate",
    },
    "RateLimits": {"SharedLimits": "chooses between both"},
    "RegionLink": {"AskingLink": "asks one end over a link"},
    "ReplicationLink": {"AskingLink": "asks one end over a link", "_LedLink": "hands on while the primary leads"},
    "WorkspaceHeartbeats": {"BestEffortHeartbeats": "hands on to Redis, and forgets what fails"},
}
ROOMS = ("actors", "cluster", "regions", "serve_app")


def _public(node: ast.ClassDef, of: Mapping[str, ast.ClassDef]) -> dict[str, str]:
    """Public methods, also those that a class of ``of`` gives it, each with its parameters and their types."""
    found: dict[str, str] = {}
    for base in node.bases:
        if ast.unparse(base) in of:
            found |= _public(of[ast.unparse(base)], of)
    return found | {
        each.name: f"{ast.unparse(each.args)} -> {each.returns and ast.unparse(each.returns)}".replace("builtins.", "")
        for each in node.body
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and not each.name.startswith("_")
    }


@cache
def _classes() -> Mapping[str, ast.ClassDef]:
    found: dict[str, ast.ClassDef] = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if path.parent.name != "ports":
                found |= {
                    node.name: node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)
                }
    return found


@cache
def _ports() -> Mapping[str, ast.ClassDef]:
    modules = [ast.parse(path.read_text()) for path in sorted((ROOT / "cluster" / "ports").glob("*.py"))]
    classes = [node for module in modules for node in module.body if isinstance(node, ast.ClassDef)]
    return {node.name: node for node in classes if any("Protocol" in ast.unparse(base) for base in node.bases)}


def _adapters(port: ast.ClassDef) -> set[str]:
    """The classes that have all methods of a port."""
    asked = _public(port, _ports())
    return {name for name, node in _classes().items() if asked and asked.items() <= _public(node, _classes()).items()}


def test_a_port_with_two_adapters_has_a_suite() -> None:
    without: dict[str, list[str]] = {}
    for name, port in _ports().items():
        listed = set(SUITES[name][0]) if name in SUITES else set()
        others = _adapters(port) - listed - NO_ADAPTERS.get(name, {}).keys()
        if len(others) > (name not in SUITES):
            without[name] = sorted(others)
    assert without == {}, "give it a suite in tests/conformance that runs all of them"


@pytest.mark.parametrize("port", sorted(SUITES.keys() | NO_ADAPTERS.keys()))
def test_what_is_listed_has_the_methods_of_its_port(port: str) -> None:
    listed = {*SUITES.get(port, ((), ""))[0], *NO_ADAPTERS.get(port, {})}
    assert listed <= _adapters(_ports()[port])


@pytest.mark.parametrize("port", sorted(SUITES))
def test_a_suite_runs_every_adapter_of_its_port(port: str) -> None:
    adapters, suite = SUITES[port]
    text = (ROOT / "tests" / "conformance" / suite).read_text()
    helpers = "".join(path.read_text() for path in (ROOT / "tests" / "support").glob("*.py"))
    for adapter in adapters:
        assert adapter in _classes()
        assert adapter in text or (adapter in helpers and port in text), adapter
