"""Submits of children by a worker, to a control plane of today and to one from before the call for them."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from aragora_worker import ControlPlaneClient
from aragora_worker.base.errors import NotFound
from aragora_worker.calls import WorkerCalls
from aragora_worker.repeating import Patience
from tests.support.endpoints import serving

NOT_FOUND = httpx.Response(404, json={"error": "There is nothing here.", "code": "not_found", "trace_id": "t"})
NO_TASK = httpx.Response(404, json={"error": "There is no task.", "code": "task_not_found", "trace_id": "t"})
TAKEN = httpx.Response(201, json={"task_ids": ["task_2"], "total": 1})
TASKS = [{"task_type": "part", "parent_task_id": "task_1"}]


async def _submitted(**answers: httpx.Response) -> tuple[list[str], list[tuple[str, Any, str]]]:
    """The ids, and what the server was sent: path, body and key. ``answers`` by the last part of the path."""
    sent: list[tuple[str, Any, str]] = []

    async def answer(request: Any) -> httpx.Response:
        last = request.url.path.rpartition("/")[2]
        sent.append((last, json.loads(await request.body()), request.headers["idempotency-key"]))
        return answers[last]

    async with serving(answer) as url, ControlPlaneClient(url) as client:
        calls = WorkerCalls(Patience(), lambda error: None)
        calls.client = client
        return list(await calls.submit("task_1", "lt1.x", TASKS, "k")), sent


async def test_children_are_submitted_with_the_lease() -> None:
    assert await _submitted(children=TAKEN) == (
        ["task_2"],
        [("children", {"tasks": TASKS, "lease_token": "lt1.x"}, "k")],
    )


async def test_an_older_control_plane_gets_them_as_a_batch() -> None:
    ids, sent = await _submitted(children=NOT_FOUND, batch=TAKEN)
    assert (ids, sent[1]) == (["task_2"], ("batch", {"tasks": TASKS}, "k"))


async def test_what_refuses_them_is_no_older_control_plane() -> None:
    with pytest.raises(NotFound) as refused:
        await _submitted(children=NO_TASK, batch=TAKEN)
    assert refused.value.code == "task_not_found"
