"""Clients that break their connections while the whole path lies between them and the scheduler."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

from tests.support.system import RunningSystem

CP = "/api/control-plane"
ROUNDS = 10


def _open_claim(system: RunningSystem, agent_id: str) -> socket.socket:
    """A claim on its way, whose answer nobody has read yet."""
    url = urlsplit(system.api_url)
    body = json.dumps({"agent_id": agent_id, "block_ms": 20_000}).encode()
    head = f"POST {CP}/tasks/claim HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Type: application/json\r\n"
    connection = socket.create_connection((str(url.hostname), url.port or 80))
    connection.sendall(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def _events(system: RunningSystem, task_id: str) -> list[tuple[str, Any]]:
    found = system.call("GET", f"{CP}/tasks/{task_id}/events").json()["events"]
    return [(event["type"], event["data"].get("reason")) for event in found]


def test_a_client_that_hangs_up_on_a_claim_takes_no_task(system: RunningSystem) -> None:
    for agent_id in ("gone", "here"):
        assert system.call("POST", f"{CP}/agents", {"agent_id": agent_id, "capabilities": ["hang-up"]}).is_success
    lives = []
    for _ in range(ROUNDS):
        _open_claim(system, "gone").close()
        task = {"task_type": "hang-up", "required_capabilities": ["hang-up"]}
        task_id = system.call("POST", f"{CP}/tasks", task).json()["task_id"]
        claim = {"agent_id": "here", "block_ms": 20_000}
        lease = system.call("POST", f"{CP}/tasks/claim", claim).json()["task"]
        assert lease["id"] == task_id
        report = {"lease_token": lease["lease_token"]}
        assert system.call("POST", f"{CP}/tasks/{task_id}/complete", report).is_success
        lives.append(_events(system, task_id))
    assert not [life for life in lives if ("requeued", "lease_expired") in life], lives
