"""What request handlers get cannot be asked without a workspace: every method of its stores takes one."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from typing import Any, Protocol

import pytest

from serve_app.gateway import Gateway
from serve_app.streams.hub import StreamFilter

#: Method of a port → its parameter that carries the workspace, where that has another name.
CARRIES = {
    "WorkspaceTasks.submit": "items",  # the origin of each task
    "WorkspaceTasks.list": "query",
    "WorkspaceTasks.search": "query",
    "Chunks.write": "items",
    "Chunks.marks": "tasks",
    "DeadLetterStore.list": "query",
    "DeadLetterStore.replay": "replays",  # the origin of each new task
    "WorkspaceControls.put": "control",
    "WorkspaceAgents.register": "items",  # the origin of each agent
    "WorkspaceAgents.register_within_quotas": "items",
    "WorkspaceAgents.change": "changes",
    "WorkspaceAgents.remove": "removals",
    "WorkspaceAgents.get_many": "keys",
    "WorkspaceDeliberations.admit": "items",  # the origin of each deliberation
    "WorkspaceDeliberations.search": "query",
    "WorkspaceAudit.entries": "of",
    "WorkspaceAudit.next": "of",
    "OutcomeStore.record": "items",  # the origin of each outcome
    "OutcomeStore.save": "items",
    "WorkspaceSchedules.create": "schedule",
    "WorkspaceSchedules.change": "changes",  # the schedule of each
    "WorkspaceBudgets.create": "budget",
    "WorkspaceBudgets.change": "budget",
    "WorkspaceBudgets.remove": "budget",
    "WorkspaceQuotas.put": "quotas",
    "WorkspacePolicies.create": "policy",
    "WorkspacePolicies.change": "policy",
    "WorkspacePolicies.remove": "policy",
    "WorkspacePolicies.record": "violations",  # the workspace of each
    "WorkspacePolicies.violations": "query",
    "WorkspacePolicies.change_violation": "violation",
    "WorkspaceCredentials.put": "credential",
    "WorkspaceWorkflows.apply": "workflow",
    "WorkspaceWorkflows.start": "run",
    "WorkspaceWorkflows.ask": "records",  # the workspace of each
    "WorkspaceWorkflows.signal": "record",
    "WorkspaceWorkflows.remove": "records",  # the workspace of each
    "WorkspaceHooks.put": "hook",
    "WorkspaceHooks.submit": "item",  # the origin of its task
    "WorkspaceNotifications.put_channel": "channel",
    "WorkspaceNotifications.remove_channel": "record",
    "WorkspaceNotifications.put_rule": "rule",
    "WorkspaceNotifications.remove_rule": "record",
    "WorkspaceNotifications.test": "queued",
    "WorkspaceNotifications.replay": "record",
    "WorkspacePushes.put": "push",
    "WorkspacePushes.remove": "record",
    "WorkspaceHeartbeats.record_activity": "heartbeats",
    "WorkspaceHeartbeats.forget": "agents",
    "KnownAgents.note": "agent",
}
#: Ports without a workspace: what they hold belongs to no workspace.
OF_NO_WORKSPACE = {
    "AccessStore",  # who may do what, in all workspaces: its routes ask which of them the caller manages
    "Clock",
    "Doorbell",  # topics without content
    "HeldLeases",  # names of leases, of which a handler asks for those of its workspace's agents
}


def _ports() -> list[type]:
    hints = typing.get_type_hints(Gateway)
    kinds = [hints[field.name] for field in dataclasses.fields(Gateway)]
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Protocol) and _is_port(kind)]  # type: ignore[arg-type]


def _is_port(kind: type) -> bool:
    return kind.__module__.startswith("cluster.ports.") and kind.__name__ not in OF_NO_WORKSPACE


def _methods(port: type) -> list[tuple[str, Any]]:
    return [
        (name, method)
        for kind in port.__mro__
        for name, method in vars(kind).items()
        if isinstance(method, types.FunctionType) and not name.startswith("_")
    ]


@pytest.mark.parametrize("port", _ports(), ids=lambda port: port.__name__)
def test_every_method_of_a_handlers_port_takes_a_workspace(port: type) -> None:
    for name, method in _methods(port):
        taken = inspect.signature(method).parameters
        carrier = CARRIES.get(f"{port.__name__}.{name}", "workspace")
        assert carrier in taken, f"{port.__name__}.{name} can be called without a workspace"
        assert taken[carrier].default is inspect.Parameter.empty, f"{port.__name__}.{name}"
        assert "None" not in str(taken[carrier].annotation), f"{port.__name__}.{name} takes all workspaces at once"


def test_the_stores_of_the_gateway_are_such_ports() -> None:
    assert {port.__name__ for port in _ports()} >= {
        "WorkspaceTasks",
        "WorkspaceAgents",
        "WorkspaceDeliberations",
        "WorkspaceBreakers",
        "WorkspaceControls",
        "WorkspaceHeartbeats",
        "WorkspaceLog",
        "KnownAgents",
        "OutcomeStore",
        "DeadLetterStore",
        "Answers",
    }
    known = {f"{port.__name__}.{name}" for port in _ports() for name, _ in _methods(port)}
    assert set(CARRIES) <= known


def test_a_subscriber_of_the_stream_has_a_workspace() -> None:
    with pytest.raises(TypeError):
        StreamFilter()  # type: ignore[call-arg]
